package review

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/ggufplan/ggufplan/planner/manifest"
)

// WritePlan prints a manifest for a person, its findings up to a limit.
func WritePlan(w io.Writer, m *manifest.Manifest, limit Limit) {
	showHead(w, m)
	fmt.Fprintln(w)
	showTotals(w, m)
	if m.Policy.Run != nil {
		fmt.Fprintln(w)
		WritePlanRun(w, m)
	}
	if len(m.Totals.Tiers) > 0 {
		fmt.Fprintln(w)
		showTiers(w, m)
	}
	if len(m.Layers) > 0 {
		fmt.Fprintln(w)
		showLayers(w, m)
	}
	fmt.Fprintln(w)
	showOthers(w, m)
	showSteps(w, m)
	if len(m.Findings) > 0 {
		fmt.Fprintln(w)
		WriteFindings(w, m.Findings, limit)
	}
}

func showHead(w io.Writer, m *manifest.Manifest) {
	fact := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-12s%s\n", name, Printable(fmt.Sprintf(format, args...)))
	}
	model := fmt.Sprintf("%s, %s, %d blocks", m.Model.Name, m.Model.Architecture, m.Model.BlockCount)
	if m.Model.MoELayerCount > 0 {
		model += fmt.Sprintf(", %d with %d experts", m.Model.MoELayerCount, m.Model.ExpertCount)
	}
	fact("model", "%s", model)
	for _, f := range Verdict(m) {
		fact(f[0], "%s", f[1])
	}
	if st := m.Statistics; st != nil {
		var names []string
		for _, in := range st.Inputs {
			names = append(names, in.Name+" ("+in.Format+")")
		}
		fact("statistics", "%s, counts %s", strings.Join(names, ", "), st.CountsKind)
		coverage := fmt.Sprintf("%d of %d layers have counts", st.LayersWithCounts, len(m.Layers))
		if st.Tokens != nil {
			coverage = Count(*st.Tokens) + " tokens, " + coverage
		}
		fact("", "%s; %d experts unseen, %d scarce", coverage, st.UnseenExperts, st.ScarceExperts)
	}
	fact("policy", "%s", policyInWords(&m.Policy))
	if text := splitFileInWords(m); text != "" {
		fact("split file", "%s", text)
	}
	fact("base", "%s", m.Policy.Base)
	for _, p := range m.Policy.Pins {
		fact("pin", "%s=%s", p.Pattern, p.Type)
	}
	for _, d := range m.Policy.DefinedTypes {
		fact("type", "%s: %d weights in %d bytes", d.Name, d.WeightsPerBlock, d.BytesPerBlock)
	}
	fact("target", "%s %s", m.Target.Engine, m.Target.Version)
}

// splitFileInWords is the size of the split plan's file and what bounds its
// types; "" where neither is known.
func splitFileInWords(m *manifest.Manifest) string {
	size, most := m.Totals.SplitFileBytes, m.Policy.MaxTiers
	switch {
	case size == nil || most == nil:
		return ""
	case *most == 0:
		return Count(*size) + " bytes, any number of types to a tensor"
	case *most == 1:
		return Count(*size) + " bytes, one type to a tensor"
	}
	return fmt.Sprintf("%s bytes, at most %d types to a tensor", Count(*size), *most)
}

func policyInWords(p *manifest.Policy) string {
	if p.Name != "frequency" {
		if b := p.Budget; b != nil {
			value := strconv.FormatFloat(b.TargetValue, 'f', -1, 64)
			return fmt.Sprintf("%s: %s %s, objective %s, %s errors", p.Name, b.Target, value, b.Objective, b.Errors.Kind)
		}
		return p.Name
	}
	number := func(v *float64) string { return strconv.FormatFloat(*v, 'g', -1, 64) }
	errors := ""
	if x := p.Prediction; x != nil {
		errors = ", " + x.Errors.Kind + " errors"
	}
	if p.HotShare != nil && p.ColdShare != nil {
		return fmt.Sprintf("%s, preset %s: the busiest experts up to %s of the traffic %s, the idlest up to %s %s, else %s; tiers by %s per %s, fused by %s%s",
			p.Name, *p.Preset, number(p.HotShare), p.HotType, number(p.ColdShare), *p.ColdType, *p.WarmType, *p.TiersBy, *p.Scope, *p.Fuse, errors)
	}
	return fmt.Sprintf("%s, preset %s: hot from %s %s, cold below %s %s, else warm %s; tiers by %s per %s, fused by %s%s",
		p.Name, *p.Preset, number(p.HotPercentile), p.HotType, number(p.ColdPercentile), *p.ColdType, *p.WarmType,
		*p.TiersBy, *p.Scope, *p.Fuse, errors)
}

// showTotals puts the plan beside the source and the baselines.
func showTotals(w io.Writer, m *manifest.Manifest) {
	t := &m.Totals
	columns := []string{"", ">size", ">bits per weight", ">saved", ">of the source", ">experts"}
	if t.Damage != nil {
		columns = append(columns, ">damage")
	}
	predicted := t.PredictedKLD != nil
	if predicted {
		columns = append(columns, ">KL divergence")
	}
	sizes := NewTable(columns...)
	row := func(name string, bytes uint64, saved int64, experts string, damage *float64, kld *manifest.PredictedKLD) {
		cells := []string{name, Size(bytes), BitsPerWeight(bytes, m.Model.Parameters), SignedSize(saved), Percent(bytes, t.SourceBytes), experts}
		if t.Damage != nil {
			cells = append(cells, optionalDamage(damage))
		}
		if predicted {
			cells = append(cells, PredictedKLD(kld))
		}
		sizes.Add(cells...)
	}
	row("source", t.SourceBytes, 0, Size(t.RoutedExperts.SourceBytes), new(float64), nil)
	row("fused plan", t.PlannedBytes, t.SavedBytes, Size(t.RoutedExperts.PlannedBytes), t.Damage, t.PredictedKLD)
	row("split plan", t.SplitPlannedBytes, t.SplitSavedBytes, Size(t.RoutedExperts.SplitPlannedBytes), t.SplitDamage, t.SplitPredictedKLD)
	for _, b := range t.Baselines {
		row(Printable(b.Name), b.TensorBytes, b.SavedBytes, "", b.Damage, b.PredictedKLD)
	}
	sizes.Write(w, "")
}

func showTiers(w io.Writer, m *manifest.Manifest) {
	types := map[string]string{"hot": m.Policy.HotType}
	if m.Policy.WarmType != nil && m.Policy.ColdType != nil {
		types["warm"], types["cold"] = *m.Policy.WarmType, *m.Policy.ColdType
	}
	tiers := NewTable("tier", "type", ">experts", ">activations", ">split plan")
	for _, t := range m.Totals.Tiers {
		tiers.Add(t.Tier, types[t.Tier], Count(t.Experts), OptionalPercent(t.ActivationShare), Size(t.SplitPlannedBytes))
	}
	tiers.Write(w, "")
}

// showLayers prints a line per MoE layer.
func showLayers(w io.Writer, m *manifest.Manifest) {
	type sums struct {
		types          []string
		planned, split uint64
	}
	byLayer := map[int]*sums{}
	for i := range m.Tensors {
		t := &m.Tensors[i]
		if t.ExpertTypes == nil || t.Layer == nil {
			continue
		}
		s := byLayer[*t.Layer]
		if s == nil {
			s = &sums{}
			byLayer[*t.Layer] = s
		}
		s.planned += t.PlannedBytes
		s.split += t.SplitPlannedBytes
		text := strings.TrimPrefix(t.Role, "expert_") + " " + t.PlannedType
		if t.Expert == nil && !slices.Contains(s.types, text) {
			s.types = append(s.types, text)
		}
	}
	t := NewTable("layer", ">activations", ">hot", ">warm", ">cold", ">fused plan", ">split plan", "fused types")
	for i := range m.Layers {
		l := &m.Layers[i]
		tiers := map[string]int{}
		for _, x := range l.Experts {
			if x.Tier != nil {
				tiers[*x.Tier]++
			}
		}
		number := func(tier string) string {
			if len(tiers) == 0 {
				return "-"
			}
			return strconv.Itoa(tiers[tier])
		}
		s := byLayer[l.Layer]
		if s == nil {
			s = &sums{}
		}
		types := strings.Join(s.types, ", ")
		if types == "" {
			types = "one tensor per expert"
		}
		t.Add(strconv.Itoa(l.Layer), OptionalCount(l.Activations), number("hot"), number("warm"), number("cold"),
			Size(s.planned), Size(s.split), types)
	}
	t.Write(w, "")
}

// showOthers sums up the tensors that are not routed experts by role and type.
func showOthers(w io.Writer, m *manifest.Manifest) {
	type group struct {
		role, from, to string
		tensors        int
		source, bytes  uint64
	}
	var groups []group
	for i := range m.Tensors {
		t := &m.Tensors[i]
		if t.ExpertTypes != nil {
			continue
		}
		k := slices.IndexFunc(groups, func(g group) bool {
			return g.role == t.Role && g.from == t.SourceType && g.to == t.PlannedType
		})
		if k < 0 {
			k = len(groups)
			groups = append(groups, group{role: t.Role, from: t.SourceType, to: t.PlannedType})
		}
		groups[k].tensors++
		groups[k].source += t.SourceBytes
		groups[k].bytes += t.PlannedBytes
	}
	slices.SortStableFunc(groups, func(a, b group) int {
		return slices.Index(manifest.Roles, a.role) - slices.Index(manifest.Roles, b.role)
	})
	t := NewTable("other tensors", ">tensors", "source", "planned", ">source size", ">planned size")
	for _, g := range groups {
		t.Add(g.role, strconv.Itoa(g.tensors), g.from, g.to, Size(g.source), Size(g.bytes))
	}
	t.Write(w, "")
}

// WriteFindings prints findings, those of one code that say the same in one
// line, at most limit lines.
func WriteFindings(w io.Writer, findings []manifest.Finding, limit Limit) {
	fmt.Fprintln(w, "findings")
	var lines []string
	for i := 0; i < len(findings); {
		f := findings[i]
		j := i + 1
		for j < len(findings) && findings[j].Code == f.Code && findings[j].Message == f.Message {
			j++
		}
		subject := Printable(f.Subject)
		if j-i > 1 {
			subject += fmt.Sprintf(" and %d more", j-i-1)
		}
		lines = append(lines, fmt.Sprintf("  %s: %s: %s", Printable(f.Code), subject, Printable(f.Message)))
		i = j
	}
	WriteFirst(w, lines, limit)
}
