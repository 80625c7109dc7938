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
	facts    [][2]string
	sections []section
}

type section struct {
	title string
	note  string // a sentence under the title, or ""
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
	r := &review{title: "Quantization plan for " + m.Model.Name}
	for _, f := range Verdict(m) {
		r.facts = append(r.facts, [2]string{strings.ToUpper(f[0][:1]) + f[0][1:], f[1]})
	}
	fact := func(name, format string, args ...any) {
		r.facts = append(r.facts, [2]string{name, fmt.Sprintf(format, args...)})
	}
	fact("Model", "%s, %d tensors, %d layers with %d experts each", m.Model.Architecture, m.Model.TensorCount, m.Model.MoELayerCount, m.Model.ExpertCount)
	fact("Target", "%s v%s", m.Target.Engine, m.Target.Version)
	policy := []string{policyInWords(&m.Policy), "base " + m.Policy.Base}
	for _, pin := range m.Policy.Pins {
		policy = append(policy, fmt.Sprintf("%s pinned to %s", pin.Pattern, pin.Type))
	}
	fact("Policy", "%s", strings.Join(policy, "; "))
	fact("Statistics", "%s", statisticsInWords(m.Statistics))
	r.add(baselineSection(m), tierSection(m), roleSection(m), layerSection(m), lossSection(m), findingSection(m))
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

func baselineSection(m *manifest.Manifest) section {
	s := section{title: baselineTitle,
		table: NewTable("whole model as", ">tensors", ">bits per weight", ">the plan is")}
	planned := m.Totals.PlannedBytes
	s.table.Add(ownRow, Size(planned), decimals(m.Totals.PlannedBitsPerWeight, 3), "")
	for _, b := range m.Totals.Baselines {
		bits := "0"
		if m.Model.Parameters > 0 {
			bits = decimals(8*float64(b.TensorBytes)/float64(m.Model.Parameters), 3)
		}
		s.table.Add(b.Name, Size(b.TensorBytes), bits, difference(planned, b.TensorBytes))
	}
	if len(m.Totals.Baselines) == 0 {
		s.table.rows = nil
	}
	return s
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
