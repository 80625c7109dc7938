package manifest

import (
	"math/bits"
	"slices"
	"strings"
)

func (c *checker) tensors(m *Manifest) {
	names := make(map[string]int, len(m.Tensors))
	experts := make(map[int]int, len(m.Layers))
	for i := range m.Layers {
		experts[m.Layers[i].Layer] = len(m.Layers[i].Experts)
	}
	for i := range m.Tensors {
		t := &m.Tensors[i]
		path := c.at("tensors", i)
		if j, ok := names[t.Name]; ok {
			c.failf(path+".name", "%q is also the name of tensors[%d]", t.Name, j)
		}
		names[t.Name] = i
		c.tensor(path, t)
		if t.ExpertTypes != nil {
			c.expertTensor(path, t, experts)
		}
		if c.err != nil {
			return
		}
	}
}

func (c *checker) tensor(path string, t *Tensor) {
	c.oneOf(path+".role", t.Role, Roles)
	parameters, over := uint64(1), false
	for _, n := range t.Shape {
		hi, lo := bits.Mul64(parameters, n)
		parameters, over = lo, over || hi != 0
	}
	if over || len(t.Shape) == 0 {
		c.failf(path+".shape", "%v has no size", t.Shape)
	}
	c.equal(path+".parameters", t.Parameters, parameters, "the shape has")
	c.saved(path+".saved_bytes", t.SavedBytes, t.SourceBytes, t.PlannedBytes, "source_bytes - planned_bytes")
	if t.SourceType == "" {
		c.failf(path+".source_type", "is empty")
	}
	if t.PlannedType == "" {
		c.failf(path+".planned_type", "is empty")
	}
	if t.SourceType == t.PlannedType {
		c.equal(path+".planned_bytes", t.PlannedBytes, t.SourceBytes, "the type stays and takes")
	}
	if t.Name == "" {
		c.failf(path+".name", "is empty")
	}
	if t.Expert != nil && t.ExpertTypes == nil {
		c.failf(path+".expert", "%d for a tensor without expert_types", *t.Expert)
	}
	if t.ExpertTypes == nil {
		c.equal(path+".split_planned_bytes", t.SplitPlannedBytes, t.PlannedBytes, "without expert types it is planned_bytes,")
	}
	if t.Reason == "" {
		c.failf(path+".reason", "is empty")
	}
}

func (c *checker) expertTensor(path string, t *Tensor, experts map[int]int) {
	if !strings.HasPrefix(t.Role, "expert_") {
		c.failf(path+".expert_types", "a tensor of role %s has none", t.Role)
		return
	}
	if t.Layer == nil {
		c.failf(path+".layer", "null for a routed expert's tensor")
		return
	}
	n, ok := experts[*t.Layer]
	switch {
	case !ok:
		c.failf(path+".layer", "layers does not list %d", *t.Layer)
	case t.Expert == nil && len(t.ExpertTypes) != n:
		c.failf(path+".expert_types", "%d types, but the layer has %d experts", len(t.ExpertTypes), n)
	case t.Expert != nil && (*t.Expert < 0 || *t.Expert >= n):
		c.failf(path+".expert", "%d, but the layer has %d experts", *t.Expert, n)
	case t.Expert != nil && len(t.ExpertTypes) != 1:
		c.failf(path+".expert_types", "%d types for one expert", len(t.ExpertTypes))
	}
	uniform := true
	for e, typ := range t.ExpertTypes {
		if typ == "" {
			c.failf(c.at(path+".expert_types", e), "is empty")
		}
		uniform = uniform && typ == t.PlannedType
	}
	if uniform {
		c.equal(path+".split_planned_bytes", t.SplitPlannedBytes, t.PlannedBytes, "all experts have the planned type, which takes")
	}
}

func (c *checker) saved(path string, got int64, source, planned uint64, what string) {
	if want := int64(source) - int64(planned); got != want {
		c.failf(path, "%d, but %s is %d", got, what, want)
	}
}

func (c *checker) totals(m *Manifest) {
	t := &m.Totals
	var source, planned, split uint64
	var routed ExpertTotals
	for i := range m.Tensors {
		x := &m.Tensors[i]
		path := c.at("tensors", i)
		c.sum(path+".source_bytes", &source, x.SourceBytes)
		c.sum(path+".planned_bytes", &planned, x.PlannedBytes)
		c.sum(path+".split_planned_bytes", &split, x.SplitPlannedBytes)
		if most := m.Policy.MaxTiers; most != nil && *most > 0 && x.Expert == nil && distinct(x.ExpertTypes) > *most {
			c.failf(c.key("tensors", i, ".expert_types"), "%d types, policy.max_tiers is %d", distinct(x.ExpertTypes), *most)
		}
		if x.ExpertTypes != nil {
			routed.SourceBytes += x.SourceBytes
			routed.PlannedBytes += x.PlannedBytes
			routed.SplitPlannedBytes += x.SplitPlannedBytes
		}
	}
	c.equal("totals.source_bytes", t.SourceBytes, source, "tensors add up to")
	c.equal("totals.planned_bytes", t.PlannedBytes, planned, "tensors add up to")
	c.equal("totals.split_planned_bytes", t.SplitPlannedBytes, split, "tensors add up to")
	c.equal("totals.routed_experts.source_bytes", t.RoutedExperts.SourceBytes, routed.SourceBytes, "tensors add up to")
	c.equal("totals.routed_experts.planned_bytes", t.RoutedExperts.PlannedBytes, routed.PlannedBytes, "tensors add up to")
	c.equal("totals.routed_experts.split_planned_bytes", t.RoutedExperts.SplitPlannedBytes, routed.SplitPlannedBytes, "tensors add up to")
	c.saved("totals.saved_bytes", t.SavedBytes, source, planned, "source_bytes - planned_bytes")
	c.saved("totals.split_saved_bytes", t.SplitSavedBytes, source, split, "source_bytes - split_planned_bytes")
	c.ratio("totals.saved_fraction", t.SavedFraction, float64(t.SavedBytes), float64(source))
	c.ratio("totals.planned_bits_per_weight", t.PlannedBitsPerWeight, 8*float64(planned), float64(m.Model.Parameters))
	c.ratio("totals.split_bits_per_weight", t.SplitBitsPerWeight, 8*float64(split), float64(m.Model.Parameters))
	if f := t.PlannedFileBytes; f != nil && *f < planned {
		c.failf("totals.planned_file_bytes", "%d, less than its tensors' %d", *f, planned)
	}
	if f := t.SplitFileBytes; f != nil && *f < split {
		c.failf("totals.split_file_bytes", "%d, less than its tensors' %d", *f, split)
	}
	c.damage(m)
	if r := t.SplitRatio; r != nil && !(*r >= 0) {
		c.failf("totals.split_damage_ratio", "%v: want 0 or more", *r)
	}
	for i, b := range t.Baselines {
		c.saved(c.key("totals.baselines", i, ".saved_bytes"), b.SavedBytes, source, b.TensorBytes, "source_bytes - tensor_bytes")
		if b.Damage != nil && !(*b.Damage >= 0) {
			c.failf(c.key("totals.baselines", i, ".damage"), "%v: want 0 or more", *b.Damage)
		}
		c.predicted(c.key("totals.baselines", i, ".predicted_kld"), m, b.PredictedKLD)
	}
	c.predicted("totals.predicted_kld", m, t.PredictedKLD)
	c.predicted("totals.split_predicted_kld", m, t.SplitPredictedKLD)
	if x := m.Measured; x != nil {
		if !(x.KLD >= 0) || !(x.StandardError >= 0) {
			c.failf("measured", "%v with a standard error of %v: want 0 or more", x.KLD, x.StandardError)
		}
		if x.TextSHA256 != nil {
			c.digest("measured.text_sha256", *x.TextSHA256)
		}
	}
	c.tiers(m)
}

// damage compares what the plans lose with what it was predicted from.
func (c *checker) damage(m *Manifest) {
	t, b := &m.Totals, m.Policy.Budget
	for _, f := range []struct {
		key  string
		v    *float64
		want func() float64
	}{{"damage", t.Damage, func() float64 { return b.Damage }}, {"split_damage", t.SplitDamage, func() float64 { return b.SplitDamage }}} {
		switch path := "totals." + f.key; {
		case f.v != nil && !(*f.v >= 0):
			c.failf(path, "%v: want 0 or more", *f.v)
		case b != nil && (f.v == nil || *f.v != f.want()):
			c.failf(path, "not policy.budget.%s, which is %v", f.key, f.want())
		}
	}
	switch predicted := m.Policy.Prediction != nil; {
	case b != nil && predicted:
		c.failf("policy.prediction", "a budget says itself what its damage is predicted from")
	case b == nil && (t.Damage != nil) != predicted:
		c.failf("policy.prediction", "want it null where totals.damage is null, and only there")
	case t.Damage == nil && t.SplitDamage != nil:
		c.failf("totals.split_damage", "%v, but totals.damage is null", *t.SplitDamage)
	}
}

func (c *checker) predicted(path string, m *Manifest, p *PredictedKLD) {
	if p == nil {
		return
	}
	from := m.Policy.Prediction
	if b := m.Policy.Budget; b != nil && b.Sensitivity != nil {
		from = &Prediction{Sensitivity: *b.Sensitivity}
	}
	if from == nil || from.Sensitivity.Kind != "probe" {
		c.failf(path, "only a probe's sensitivities predict one")
	}
	if !(p.Low >= 0 && p.Low <= p.KLD && p.KLD <= p.High) {
		c.failf(path, "%v lies outside %v to %v", p.KLD, p.Low, p.High)
	}
}

func distinct(types []string) int {
	seen := make([]string, 0, 8)
	for _, t := range types {
		if !slices.Contains(seen, t) {
			seen = append(seen, t)
		}
	}
	return len(seen)
}

// ratio wants the float64 nearest a/b, and 0 where b is 0.
func (c *checker) ratio(path string, got, a, b float64) {
	want := 0.0
	if b > 0 {
		want = a / b
	}
	if got != want {
		c.failf(path, "%v: want %v", got, want)
	}
}

func (c *checker) tiers(m *Manifest) {
	tiers := m.Totals.Tiers
	if m.Policy.Name != "frequency" {
		if len(tiers) != 0 {
			c.failf("totals.tiers", "the %s policy has no tiers", m.Policy.Name)
		}
		return
	}
	if len(tiers) != len(Tiers) {
		c.failf("totals.tiers", "%d tiers: want %s", len(tiers), strings.Join(Tiers, ", "))
		return
	}
	counts := make([]uint64, len(Tiers))
	all := true
	for i := range m.Layers {
		for e := range m.Layers[i].Experts {
			if tier := m.Layers[i].Experts[e].Tier; tier != nil {
				counts[slices.Index(Tiers, *tier)]++
			} else {
				all = false
			}
		}
	}
	var split uint64
	for i, tier := range tiers {
		path := c.at("totals.tiers", i)
		if tier.Tier != Tiers[i] {
			c.failf(path+".tier", "%q: want %q", tier.Tier, Tiers[i])
		}
		c.equal(path+".experts", tier.Experts, counts[i], "layers lists")
		c.fraction(path+".activation_share", tier.ActivationShare)
		c.sum(path+".split_planned_bytes", &split, tier.SplitPlannedBytes)
	}
	if routed := m.Totals.RoutedExperts.SplitPlannedBytes; all && split != routed || split > routed {
		c.failf("totals.tiers", "split_planned_bytes add up to %d, but those of routed experts are %d", split, routed)
	}
}
