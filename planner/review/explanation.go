package review

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/ggufplan/ggufplan/planner/manifest"
)

// An Explanation is the part of a manifest that a question is about.
type Explanation struct {
	Policy  manifest.Policy   `json:"policy"`
	Layers  []manifest.Layer  `json:"layers"`
	Tensors []manifest.Tensor `json:"tensors"`

	Expert int `json:"-"` // explained alone, -1 for all
}

// WriteTensor prints one tensor's facts.
func (x *Explanation) WriteTensor(w io.Writer) {
	t := &x.Tensors[0]
	fact := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-13s%s\n", name, Printable(fmt.Sprintf(format, args...)))
	}
	fact("tensor", "%s", t.Name)
	fact("role", "%s", strings.ReplaceAll(t.Role, "_", " "))
	fact("shape", "%s, %s weights", Shape(t.Shape), Count(t.Parameters))
	fact("source", "%s, %s bytes", t.SourceType, Count(t.SourceBytes))
	fact("fused plan", "%s, %s bytes: %s", t.PlannedType, Count(t.PlannedBytes), t.Reason)
	if t.ExpertTypes != nil && t.Expert == nil {
		what := typeCounts(t.ExpertTypes)
		if x.Expert >= 0 {
			what = fmt.Sprintf("%s for expert %d", t.ExpertTypes[0], x.Expert)
		}
		fact("split plan", "%s, %s bytes", what, Count(t.SplitPlannedBytes))
	}
	for _, s := range []struct {
		name string
		*manifest.Step
	}{{"step up", t.StepUp}, {"step down", t.StepDown}} {
		if s.Step != nil {
			fact(s.name, "%s: %s bytes, %+.4g damage", s.Type, SignedCount(s.Bytes), s.Damage)
		}
	}
	if t.Sensitivity != nil && t.SensitivityFrom != nil {
		fact("sensitivity", "%.4g, %s", *t.Sensitivity, *t.SensitivityFrom)
	}
	if len(x.Layers) > 0 {
		fact("layer", "%s", x.Thresholds(&x.Layers[0]))
	}
}

// typeCounts writes how many experts get each type.
func typeCounts(types []string) string {
	var names []string
	counts := map[string]int{}
	for _, t := range types {
		if counts[t] == 0 {
			names = append(names, t)
		}
		counts[t]++
	}
	for i, n := range names {
		names[i] = fmt.Sprintf("%d x %s", counts[n], n)
	}
	return strings.Join(names, ", ")
}

// Thresholds says what a layer saw and where its tiers begin.
func (x *Explanation) Thresholds(l *manifest.Layer) string {
	switch {
	case l.HotThreshold != nil:
		return fmt.Sprintf("blk.%d: %s activations, hot from %s, cold below %s", l.Layer,
			OptionalCount(l.Activations), Count(*l.HotThreshold), Count(*l.ColdThreshold))
	case l.Activations != nil:
		return fmt.Sprintf("blk.%d: %s activations", l.Layer, Count(*l.Activations))
	case slices.ContainsFunc(l.Experts, func(e manifest.Expert) bool { return e.Share != nil || e.Tier != nil }):
		return fmt.Sprintf("blk.%d: traffic without counts", l.Layer)
	}
	return fmt.Sprintf("blk.%d: no statistics", l.Layer)
}

// WriteExperts prints the experts of the selected layers and why each has its
// tier.
func (x *Explanation) WriteExperts(w io.Writer) {
	t := NewTable(">layer", ">expert", ">count", ">share", ">of the largest", "tier", "type", "flag", "why")
	for i := range x.Layers {
		l := &x.Layers[i]
		for j := range l.Experts {
			e := &l.Experts[j]
			typ := ValueOr(e.Type, "-")
			if len(x.Tensors) == 1 && x.Tensors[0].Expert == nil && j < len(x.Tensors[0].ExpertTypes) {
				typ = x.Tensors[0].ExpertTypes[j] // in this very tensor
			}
			t.Add(strconv.Itoa(l.Layer), strconv.Itoa(e.Expert), OptionalCount(e.Count), OptionalPercent(e.Share), OptionalPercent(e.Relative),
				ValueOr(e.Tier, "-"), Printable(typ), ValueOr(e.Flag, "-"), x.why(l, e))
		}
	}
	t.Write(w, "")
}

// why says what put an expert into its tier.
func (x *Explanation) why(l *manifest.Layer, e *manifest.Expert) string {
	p := &x.Policy
	switch {
	case e.Tier == nil && p.Name == "frequency":
		return "no statistics: hot type"
	case e.Tier == nil:
		return "the budget decides"
	case l.HotThreshold != nil && e.Count != nil:
		switch {
		case *e.Count == 0:
			return "never used" + protected(*e.Tier, "cold")
		case *e.Count >= *l.HotThreshold:
			return fmt.Sprintf("%s >= %s", Count(*e.Count), Count(*l.HotThreshold))
		case *e.Count >= *l.ColdThreshold:
			return fmt.Sprintf("%s <= %s < %s", Count(*l.ColdThreshold), Count(*e.Count), Count(*l.HotThreshold)) + protected(*e.Tier, "warm")
		}
		return fmt.Sprintf("%s < %s", Count(*e.Count), Count(*l.ColdThreshold)) + protected(*e.Tier, "cold")
	case p.TiersBy != nil && *p.TiersBy == "rank":
		return "by its rank"
	case p.TiersBy != nil && *p.TiersBy == "traffic":
		return "by its place in the traffic"
	}
	return "by its share of the largest weight"
}

// protected notes an expert that is in a tier for another reason than its
// count.
func protected(tier, byCount string) string {
	if tier == byCount {
		return ""
	}
	return ", but protected as a super expert"
}

// WriteTensors prints the selected tensors and their reasons.
func (x *Explanation) WriteTensors(w io.Writer) {
	t := NewTable("tensor", "source", "fused plan", ">bytes", "split plan", ">bytes", "reason")
	for i := range x.Tensors {
		n := &x.Tensors[i]
		split, bytes := "", ""
		if n.ExpertTypes != nil {
			split = typeCounts(n.ExpertTypes)
			if x.Expert >= 0 {
				split = n.ExpertTypes[0]
			} else {
				bytes = Count(n.SplitPlannedBytes)
			}
		}
		t.Add(Printable(n.Name), n.SourceType, Printable(n.PlannedType), Count(n.PlannedBytes), Printable(split), bytes, Printable(n.Reason))
	}
	t.Write(w, "")
}

// WriteFindings prints the findings about what was selected.
func (x *Explanation) WriteFindings(w io.Writer, m *manifest.Manifest, limit Limit) {
	subjects := map[string]bool{}
	for i := range x.Layers {
		subjects[fmt.Sprintf("blk.%d", x.Layers[i].Layer)] = true
	}
	for i := range x.Tensors {
		subjects[x.Tensors[i].Name] = true
	}
	var list []manifest.Finding
	for _, f := range m.Findings {
		if subjects[f.Subject] {
			list = append(list, f)
		}
	}
	if len(list) > 0 {
		fmt.Fprintln(w)
		WriteFindings(w, list, limit)
	}
}
