package manifest

import (
	"fmt"
	"math"
	"math/bits"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"
)

// Vocabulary of the fields that hold one of a few words. Types and finding
// codes are open: users declare types, later versions add codes.
var (
	Roles = []string{"expert_gate", "expert_up", "expert_down", "expert_gate_up", "router", "shared_expert",
		"attention", "dense_ffn", "embedding", "output", "norm", "other"}
	Tiers        = []string{"hot", "warm", "cold"}
	Flags        = []string{"unseen", "scarce", "low", "ok", "good"}
	CountsKinds  = []string{"exact", "scaled", "relative", "rank", "none"}
	Policies     = []string{"frequency", "budget"}
	TiersBy      = []string{"max", "rank", "traffic"}
	Scopes       = []string{"layer", "model"}
	Fuses        = []string{"activations", "hottest", "bytes"}
	Targets      = []string{"size", "bpw", "expert-bpw", "memory"}
	Objectives   = []string{"output-share", "traffic", "relative", "mse", "uniform", "random", "inverse-traffic"}
	TensorScopes = []string{"all", "experts"}
	ErrorKinds   = []string{"measured", "typical"}

	SensitivityKinds = []string{"typical", "table", "probe", "none"}
)

// Check tests whether the manifest agrees with itself: lists are there, sums
// are the sums of what is listed, words are from their vocabulary. The error,
// a [*FieldError], names the first value that does not agree. What needs the
// type table or the tier rule is checked by planner.CheckManifest.
func (m *Manifest) Check() error {
	for _, spell := range []bool{false, true} {
		c := &checker{spell: spell}
		c.all(m)
		if c.err == nil || spell {
			return c.err
		}
	}
	return nil
}

// A checker remembers the first fault. One that does not spell leaves the paths
// of list elements empty, which saves most of the time; who needs them for a
// message checks again.
type checker struct {
	err   error
	spell bool
}

func (c *checker) all(m *Manifest) {
	c.text(reflect.ValueOf(m).Elem(), "")
	for _, part := range []func(*Manifest){c.header, c.policy, c.layers, c.statistics, c.tensors, c.totals, c.run, c.model, c.traffic} {
		if part(m); c.err != nil {
			return
		}
	}
}

// at is the path of an element of a list.
func (c *checker) at(list string, i int) string {
	if !c.spell {
		return ""
	}
	return fmt.Sprintf("%s[%d]", list, i)
}

// in is the path of a field of what has a path.
func (c *checker) in(path, key string) string {
	if !c.spell {
		return ""
	}
	return path + key
}

// key is the path of a field of an element.
func (c *checker) key(list string, i int, key string) string {
	if !c.spell {
		return ""
	}
	return fmt.Sprintf("%s[%d]%s", list, i, key)
}

func (c *checker) failf(path, format string, args ...any) {
	if c.err == nil {
		c.err = &FieldError{path, fmt.Errorf(format, args...)}
	}
}

func (c *checker) equal(path string, got, want uint64, what string) {
	if got != want {
		c.failf(path, "%d, but %s %d", got, what, want)
	}
}

func (c *checker) oneOf(path, got string, words []string) {
	if !slices.Contains(words, got) {
		c.failf(path, "%q: want one of %s", got, strings.Join(words, ", "))
	}
}

func (c *checker) fraction(path string, v *float64) {
	if v != nil && !(*v >= 0 && *v <= 1) {
		c.failf(path, "%v: want 0 to 1", *v)
	}
}

// sum adds, or fails at the path where the sum leaves what the format can
// hold: differences of two sums must have a sign.
func (c *checker) sum(path string, dst *uint64, n uint64) {
	s, carry := bits.Add64(*dst, n, 0)
	if carry != 0 || s > math.MaxInt64 {
		c.failf(path, "%d: the sum up to here is over 2^63-1", n)
	}
	*dst = s
}

// text refuses what JSON cannot spell: nil lists, numbers that are not finite,
// strings that are not UTF-8.
func (c *checker) text(v reflect.Value, path string) {
	if c.err != nil {
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			c.text(v.Elem(), path)
		}
	case reflect.Struct:
		if r, ok := addressed(v).(row); ok && !c.spell && rowIsJSON(r) {
			return
		}
		for i, f := range fieldsOf(v.Type()) {
			if v.Field(i).Kind() == reflect.Slice && v.Field(i).IsNil() && !f.nullAllowed {
				c.failf(join(path, f.key), "no list")
			}
			c.text(v.Field(i), join(path, f.key))
		}
	case reflect.Slice:
		switch v.Type().Elem().Kind() {
		case reflect.Uint64, reflect.Int:
			return
		}
		for i := range v.Len() {
			c.text(v.Index(i), c.at(path, i))
		}
	case reflect.String:
		if !utf8.ValidString(v.String()) {
			c.failf(path, "%q is not UTF-8 text", v.String())
		}
		if !isText(v.String()) {
			c.failf(path, "%q holds what does not print", v.String())
		}
	case reflect.Float64:
		if f := v.Float(); math.IsNaN(f) || math.IsInf(f, 0) {
			c.failf(path, "%v is not a number that JSON has", f)
		}
	}
}

func addressed(v reflect.Value) any {
	if !v.CanAddr() {
		return nil
	}
	return v.Addr().Interface()
}

func (c *checker) header(m *Manifest) {
	if _, err := parseVersion(m.FormatVersion); err != nil {
		c.err = err
		return
	}
	var size, parameters, bytes uint64
	for i, f := range m.Model.Files {
		path := c.at("model.files", i)
		c.baseName(path+".name", f.Name)
		c.sum(path+".size_bytes", &size, f.SizeBytes)
		c.digest(path+".header_sha256", f.HeaderSHA256)
	}
	for i := range m.Tensors {
		t := &m.Tensors[i]
		c.sum(c.key("tensors", i, ".parameters"), &parameters, t.Parameters)
		c.sum(c.key("tensors", i, ".source_bytes"), &bytes, t.SourceBytes)
	}
	c.equal("model.tensor_count", m.Model.TensorCount, uint64(len(m.Tensors)), "tensors lists")
	c.equal("model.parameters", m.Model.Parameters, parameters, "tensors[].parameters add up to")
	c.equal("model.tensor_bytes", m.Model.TensorBytes, bytes, "tensors[].source_bytes add up to")
	c.equal("model.file_bytes", m.Model.FileBytes, size, "model.files[].size_bytes add up to")
	c.equal("model.moe_layer_count", m.Model.MoELayerCount, uint64(len(m.Layers)), "layers lists")
	for i, f := range m.Findings {
		if f.Code == "" {
			c.failf(c.key("findings", i, ".code"), "is empty")
		}
	}
}

// baseName wants a name without folders: a manifest says nothing of the machine
// it was made on.
func (c *checker) baseName(path, name string) {
	if name == "" || strings.Contains(name, "/") {
		c.failf(path, "%q is not the base name of a file", name)
	}
}

// digest wants 64 lower-case hexadecimal digits.
func (c *checker) digest(path, s string) {
	if len(s) != 64 || strings.Trim(s, "0123456789abcdef") != "" {
		c.failf(path, "%q: want a SHA-256 in 64 lower-case hexadecimal digits", s)
	}
}

func (c *checker) policy(m *Manifest) {
	p := &m.Policy
	c.oneOf("policy.name", p.Name, Policies)
	frequency := p.Name == "frequency"
	traffic := p.TiersBy != nil && *p.TiersBy == "traffic"
	for _, f := range []struct {
		key  string
		set  bool
		want bool
	}{{"hot_percentile", p.HotPercentile != nil, frequency && !traffic}, {"cold_percentile", p.ColdPercentile != nil, frequency && !traffic},
		{"hot_share", p.HotShare != nil, traffic}, {"cold_share", p.ColdShare != nil, traffic}} {
		if f.set != f.want {
			c.failf("policy."+f.key, "the %s policy %s it", p.Name, map[bool]string{true: "needs", false: "does not use"}[f.want])
		}
	}
	for _, f := range []struct {
		key string
		set bool
	}{
		{"preset", p.Preset != nil}, {"tiers_by", p.TiersBy != nil}, {"scope", p.Scope != nil}, {"fuse", p.Fuse != nil},
		{"warm_type", p.WarmType != nil}, {"cold_type", p.ColdType != nil},
	} {
		if f.set != frequency {
			c.failf("policy."+f.key, "the %s policy %s it", p.Name, map[bool]string{true: "needs", false: "does not use"}[frequency])
		}
	}
	if (p.Budget != nil) == frequency {
		c.failf("policy.budget", "the %s policy %s it", p.Name, map[bool]string{true: "does not use", false: "needs"}[frequency])
	}
	if frequency && m.Statistics == nil {
		c.failf("statistics", "null, but the frequency policy needs them")
	}
	if n := p.MaxTiers; n != nil && *n < 0 {
		c.failf("policy.max_tiers", "%d: want 0 or more", *n)
	}
	c.fraction("policy.hot_percentile", p.HotPercentile)
	c.fraction("policy.cold_percentile", p.ColdPercentile)
	c.fraction("policy.hot_share", p.HotShare)
	c.fraction("policy.cold_share", p.ColdShare)
	if hot, cold := p.HotPercentile, p.ColdPercentile; hot != nil && cold != nil && !(*hot > *cold) {
		c.failf("policy.hot_percentile", "%v is not above the cold percentile %v", *hot, *cold)
	}
	for _, f := range []struct {
		path  string
		value *string
		words []string
	}{{"policy.tiers_by", p.TiersBy, TiersBy}, {"policy.scope", p.Scope, Scopes}, {"policy.fuse", p.Fuse, Fuses}} {
		if f.value != nil {
			c.oneOf(f.path, *f.value, f.words)
		}
	}
	if p.Budget != nil {
		c.budget(p.Budget)
	}
	if x := p.Prediction; x != nil {
		c.errors("policy.prediction.errors", &x.Errors)
		c.sensitivity("policy.prediction.sensitivity", &x.Sensitivity)
	}
}

func (c *checker) budget(b *Budget) {
	c.oneOf("policy.budget.target", b.Target, Targets)
	if !(b.TargetValue > 0) {
		c.failf("policy.budget.target_value", "%v: want more than 0", b.TargetValue)
	}
	if b.Like != nil && b.Target != "size" {
		c.failf("policy.budget.like", "%q, but the target is %s", *b.Like, b.Target)
	}
	if b.MaxTypes != nil && *b.MaxTypes < 1 {
		c.failf("policy.budget.max_types", "%d: want 1 or more", *b.MaxTypes)
	}
	if b.PricePerByte != nil && !(*b.PricePerByte >= 0) {
		c.failf("policy.budget.price_per_byte", "%v: want 0 or more", *b.PricePerByte)
	}
	c.oneOf("policy.budget.objective", b.Objective, Objectives)
	c.oneOf("policy.budget.scope_tensors", b.ScopeTensors, TensorScopes)
	c.errors("policy.budget.errors", &b.Errors)
	if b.Sensitivity != nil {
		c.sensitivity("policy.budget.sensitivity", b.Sensitivity)
	}
}

func (c *checker) errors(path string, e *ErrorSource) {
	c.oneOf(path+".kind", e.Kind, ErrorKinds)
	if measured := e.Kind == "measured"; measured != (e.Name != nil) || measured != (e.SHA256 != nil) {
		c.failf(path, "%s errors: a name and a digest are for measured ones", e.Kind)
	}
	if e.SHA256 != nil {
		c.digest(path+".sha256", *e.SHA256)
	}
}

func (c *checker) sensitivity(path string, s *Sensitivity) {
	c.oneOf(path+".kind", s.Kind, SensitivityKinds)
	if file := s.Kind == "table" || s.Kind == "probe"; file != (s.Name != nil) || file != (s.SHA256 != nil) {
		c.failf(path, "%s sensitivities: a name and a digest are for those of a file", s.Kind)
	}
	if s.SHA256 != nil {
		c.digest(path+".sha256", *s.SHA256)
	}
	if (s.Floor == nil) != (s.FloorRule == nil) {
		c.failf(path+".floor_rule", "a floor without its rule, or a rule without a floor")
	}
}

func (c *checker) layers(m *Manifest) {
	for i := range m.Layers {
		l := &m.Layers[i]
		path := c.at("layers", i)
		if i > 0 && l.Layer <= m.Layers[i-1].Layer {
			c.failf(path+".layer", "%d does not follow %d", l.Layer, m.Layers[i-1].Layer)
		}
		if (l.HotThreshold == nil) != (l.ColdThreshold == nil) {
			c.failf(path+".cold_threshold", "one threshold without the other")
		}
		var activations uint64
		experts := path + ".experts"
		for e := range l.Experts {
			x := &l.Experts[e]
			at := c.at(experts, e)
			c.expert(at, m, x, e)
			if (x.Count == nil) != (l.Activations == nil) {
				c.failf(at+".count", "null or not unlike the layer's activations")
			}
			if x.Count != nil {
				var carry uint64
				if activations, carry = bits.Add64(activations, *x.Count, 0); carry != 0 {
					c.failf(at+".count", "%d: the sum up to here is over 2^64-1", *x.Count)
				}
			}
		}
		if l.Activations != nil {
			c.equal(path+".activations", *l.Activations, activations, "its experts' counts add up to")
			for e := range l.Experts {
				x := &l.Experts[e]
				if want := float64(*orZero(x.Count)) / float64(activations); x.Share == nil || *x.Share != want {
					c.failf(c.key(experts, e, ".share"), "not count / activations, which is %v", want)
				}
			}
		}
		if c.err != nil {
			return
		}
	}
}

func orZero(v *uint64) *uint64 {
	if v == nil {
		return new(uint64)
	}
	return v
}

// expert checks one entry of a layer by itself.
func (c *checker) expert(path string, m *Manifest, x *Expert, e int) {
	if x.Expert != e {
		c.failf(path+".expert", "%d: want %d", x.Expert, e)
	}
	c.fraction(c.in(path, ".share"), x.Share)
	c.fraction(c.in(path, ".relative"), x.Relative)
	if x.Flag != nil {
		c.oneOf(c.in(path, ".flag"), *x.Flag, Flags)
	}
	if x.Tier == nil {
		return
	}
	c.oneOf(c.in(path, ".tier"), *x.Tier, Tiers)
	if m.Policy.Name != "frequency" {
		c.failf(path+".tier", "%q: the %s policy has no tiers", *x.Tier, m.Policy.Name)
		return
	}
	if want := m.Policy.typeOf(*x.Tier); want != nil && (x.Type == nil || *x.Type != *want) {
		c.failf(path+".type", "not %s, the type of its tier", *want)
	}
}

// typeOf returns the type of a tier.
func (p *Policy) typeOf(tier string) *string {
	switch tier {
	case "hot":
		return &p.HotType
	case "warm":
		return p.WarmType
	case "cold":
		return p.ColdType
	}
	return nil
}

func (c *checker) statistics(m *Manifest) {
	s := m.Statistics
	if s == nil {
		return
	}
	c.oneOf("statistics.counts_kind", s.CountsKind, CountsKinds)
	if s.Deff != nil && !(*s.Deff > 0) {
		c.failf("statistics.deff", "%v: want more than 0", *s.Deff)
	}
	for i, in := range s.Inputs {
		c.baseName(c.key("statistics.inputs", i, ".name"), in.Name)
		c.digest(c.key("statistics.inputs", i, ".sha256"), in.SHA256)
	}
	var activations, unseen, scarce uint64
	counted := false
	for i := range m.Layers {
		l := &m.Layers[i]
		if l.Activations != nil {
			counted = true
			var carry uint64
			if activations, carry = bits.Add64(activations, *l.Activations, 0); carry != 0 {
				c.failf(c.key("layers", i, ".activations"), "%d: the sum up to here is over 2^64-1", *l.Activations)
			}
		}
		for e := range l.Experts {
			if f := l.Experts[e].Flag; f != nil && *f == "unseen" {
				unseen++
			} else if f != nil && *f == "scarce" {
				scarce++
			}
		}
	}
	if counted != (s.Activations != nil) || counted && *s.Activations != activations {
		c.failf("statistics.activations", "not the sum of layers[].activations, %d", activations)
	}
	c.equal("statistics.unseen_experts", s.UnseenExperts, unseen, "flags say")
	c.equal("statistics.scarce_experts", s.ScarceExperts, scarce, "flags say")
	c.equal("statistics.layers_with_counts", s.LayersWithCounts+uint64(len(s.LayersWithoutCounts)), uint64(len(m.Layers)),
		"with layers_without_counts; layers lists")
}
