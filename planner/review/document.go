package review

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ggufplan/ggufplan/planner/manifest"
)

// A review is the summary of a plan that a person judges it by, before it is
// written in one language or another.
type review struct {
	title    string
	verdict  [][2]string
	facts    [][2]string // how it was made
	sections []section
}

type section struct {
	title string
	note  string // a sentence under the title, or ""
	open  bool   // shown where others are folded
	table *Table
}

// Sections that a page shows in another way.
const (
	baselineTitle = "Beside llama-quantize's file types"
	roleTitle     = "Tensors by role"
	findingTitle  = "Findings"
	ownRow        = "this plan"
)

func newReview(m *manifest.Manifest) *review {
	r := &review{title: "Quantization plan for " + m.Model.Name, verdict: Verdict(m)}
	fact := func(name, format string, args ...any) {
		r.facts = append(r.facts, [2]string{name, fmt.Sprintf(format, args...)})
	}
	fact("model", "%s, %s weights in %d tensors, %d layers with %d experts each", m.Model.Architecture, Count(m.Model.Parameters), m.Model.TensorCount, m.Model.MoELayerCount, m.Model.ExpertCount)
	fact("target", "%s v%s", m.Target.Engine, m.Target.Version)
	policy := []string{policyInWords(&m.Policy), "base " + m.Policy.Base}
	for _, pin := range m.Policy.Pins {
		policy = append(policy, fmt.Sprintf("%s pinned to %s", pin.Pattern, pin.Type))
	}
	fact("policy", "%s", strings.Join(policy, "; "))
	if text := splitFileInWords(m); text != "" {
		fact("split file", "%s", text)
	}
	fact("statistics", "%s", statisticsInWords(m.Statistics))
	r.add(baselineSection(m), runSection(m), tierSection(m), roleSection(m), layerSection(m), lossSection(m))
	r.add(stepSections(m)...)
	r.add(findingSection(m))
	return r
}

// add keeps the sections that have something to say.
func (r *review) add(sections ...section) {
	for _, s := range sections {
		if len(s.table.rows) > 0 {
			r.sections = append(r.sections, s)
		}
	}
}

func statisticsInWords(s *manifest.Statistics) string {
	if s == nil {
		return "none"
	}
	var names []string
	for _, in := range s.Inputs {
		names = append(names, in.Name)
	}
	text := fmt.Sprintf("%s (%s counts)", strings.Join(names, ", "), s.CountsKind)
	if s.Tokens != nil {
		text += fmt.Sprintf(", %d tokens", *s.Tokens)
	}
	return fmt.Sprintf("%s, %d layers with counts, %d without", text, s.LayersWithCounts, len(s.LayersWithoutCounts))
}

// baselineSection puts the plan beside whole models of one file type, in size
// and in what damage is known.
func baselineSection(m *manifest.Manifest) section {
	s := section{title: baselineTitle, open: true}
	if len(m.Totals.Baselines) == 0 {
		s.table = NewTable()
		return s
	}
	columns := []string{"whole model as", ">tensors", ">bits per weight", ">the plan is"}
	damages := slices.ContainsFunc(m.Totals.Baselines, func(b manifest.Baseline) bool { return b.Damage != nil })
	if damages {
		columns = append(columns, ">predicted damage", ">times the plan's")
	}
	predicted := m.Totals.PredictedKLD != nil
	if predicted {
		columns = append(columns, ">predicted KL divergence")
	}
	if m.Measured != nil {
		columns = append(columns, ">measured")
	}
	s.table = NewTable(columns...)
	row := func(name string, bytes uint64, than string, damage *float64, kld *manifest.PredictedKLD, measured *manifest.Measured) {
		cells := []string{name, Size(bytes), BitsPerWeight(bytes, m.Model.Parameters), than}
		if damages {
			cells = append(cells, optionalDamage(damage), besideDamage(damage, m.Totals.Damage))
		}
		if predicted {
			cells = append(cells, PredictedKLD(kld))
		}
		if m.Measured != nil {
			cells = append(cells, measuredKLD(measured))
		}
		s.table.Add(cells...)
	}
	planned := m.Totals.PlannedBytes
	row(ownRow, planned, "", m.Totals.Damage, m.Totals.PredictedKLD, m.Measured)
	list := slices.Clone(m.Totals.Baselines)
	slices.SortStableFunc(list, func(a, b manifest.Baseline) int { return cmp.Compare(a.TensorBytes, b.TensorBytes) })
	for _, b := range list {
		row(b.Name, b.TensorBytes, difference(planned, b.TensorBytes), b.Damage, b.PredictedKLD, nil)
	}
	return s
}

func optionalDamage(damage *float64) string {
	if damage == nil {
		return "-"
	}
	return Damage(*damage)
}

// besideDamage writes a damage as a multiple of the plan's.
func besideDamage(damage, plan *float64) string {
	if damage == nil || plan == nil || *plan == 0 {
		return "-"
	}
	return times(*damage / *plan)
}

func tierSection(m *manifest.Manifest) section {
	s := section{title: "Tiers", table: NewTable("tier", ">experts", ">activations", ">split plan")}
	for _, t := range m.Totals.Tiers {
		share := "unknown"
		if t.ActivationShare != nil {
			share = fractionPercent(*t.ActivationShare)
		}
		s.table.Add(t.Tier, strconv.FormatUint(t.Experts, 10), share, Size(t.SplitPlannedBytes))
	}
	return s
}

func roleSection(m *manifest.Manifest) section {
	s := section{title: roleTitle, table: NewTable("role", ">tensors", ">source", ">planned", "types")}
	groups := groupRoles(m)
	for _, g := range groups {
		s.table.Add(g.role, strconv.Itoa(g.tensors), Size(g.source), Size(g.planned), strings.Join(countedNames(g.types), ", "))
	}
	return s
}

// A roleGroup sums the tensors of one role.
type roleGroup struct {
	role                     string
	source, planned, weights uint64
	tensors                  int
	types                    map[string]int
}

// groupRoles sums by role, the one that takes most bytes first.
func groupRoles(m *manifest.Manifest) []*roleGroup {
	var groups []*roleGroup
	for i := range m.Tensors {
		t := &m.Tensors[i]
		k := slices.IndexFunc(groups, func(g *roleGroup) bool { return g.role == t.Role })
		if k < 0 {
			k = len(groups)
			groups = append(groups, &roleGroup{role: t.Role, types: map[string]int{}})
		}
		g := groups[k]
		g.tensors++
		g.source += t.SourceBytes
		g.planned += t.PlannedBytes
		g.weights += t.Parameters
		g.types[t.PlannedType]++
	}
	slices.SortStableFunc(groups, func(a, b *roleGroup) int { return cmp.Compare(b.planned, a.planned) })
	return groups
}

func layerSection(m *manifest.Manifest) section {
	s := section{title: "Layers", note: "Types are those of the fused plan, one per expert tensor of the layer.",
		table: NewTable(">layer", ">activations", ">hot", ">warm", ">cold", ">unseen", "types")}
	types := map[int][]string{}
	for i := range m.Tensors {
		t := &m.Tensors[i]
		if t.Layer == nil || t.ExpertTypes == nil || t.Expert != nil && *t.Expert > 0 {
			continue
		}
		types[*t.Layer] = append(types[*t.Layer], strings.TrimPrefix(t.Role, "expert_")+" "+t.PlannedType)
	}
	for _, l := range m.Layers {
		activations, tiers, unseen := "unknown", map[string]int{}, 0
		if l.Activations != nil {
			activations = strconv.FormatUint(*l.Activations, 10)
		}
		for _, e := range l.Experts {
			if e.Tier != nil {
				tiers[*e.Tier]++
			}
			if e.Flag != nil && *e.Flag == "unseen" {
				unseen++
			}
		}
		s.table.Add(strconv.Itoa(l.Layer), activations, strconv.Itoa(tiers["hot"]), strconv.Itoa(tiers["warm"]),
			strconv.Itoa(tiers["cold"]), strconv.Itoa(unseen), strings.Join(types[l.Layer], ", "))
	}
	return s
}

func lossSection(m *manifest.Manifest) section {
	s := section{title: "What one type per tensor loses", note: "A GGUF tensor has one type. Where the split plan differs, these experts get another.",
		table: NewTable("tensor", "all get", ">experts that differ", "split plan")}
	for _, l := range Losses(m) {
		s.table.Add(l.Tensor, l.Type, strconv.Itoa(l.Experts), strings.Join(l.Split, ", "))
	}
	return s
}

func findingSection(m *manifest.Manifest) section {
	s := section{title: findingTitle, table: NewTable("code", "subject", "message")}
	for _, f := range m.Findings {
		s.table.Add(f.Code, f.Subject, f.Message)
	}
	return s
}

// difference writes how a size compares with another.
func difference(planned, other uint64) string {
	switch {
	case planned < other:
		return Size(other-planned) + " smaller"
	case planned > other:
		return Size(planned-other) + " larger"
	}
	return "as large"
}

// fractionPercent writes a fraction as a percentage.
func fractionPercent(fraction float64) string { return decimals(100*fraction, 1) + " %" }

func decimals(v float64, n int) string { return strconv.FormatFloat(v, 'f', n, 64) }
