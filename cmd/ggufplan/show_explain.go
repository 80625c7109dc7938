package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/ggufplan/ggufplan/planner"
	"github.com/ggufplan/ggufplan/planner/manifest"
)

// An explanation is the part of a manifest that a question is about.
type explanation struct {
	Policy  manifest.Policy   `json:"policy"`
	Layers  []manifest.Layer  `json:"layers"`
	Tensors []manifest.Tensor `json:"tensors"`
	Choices []planner.Choice  `json:"alternatives,omitempty"` // with measured errors

	expert int // explained alone, -1 for all
}

// ofTensor selects a tensor and, for a routed expert's, its layer.
func (x *explanation) ofTensor(m *manifest.Manifest, name string) error {
	x.expert = -1
	i := slices.IndexFunc(m.Tensors, func(t manifest.Tensor) bool { return t.Name == name })
	if i < 0 {
		return hinted(fmt.Errorf("no tensor %q", name), "ggufplan show PLAN --layer 0 lists the names")
	}
	t := m.Tensors[i]
	x.Tensors = append(x.Tensors, t)
	if t.ExpertTypes != nil && t.Layer != nil {
		for _, l := range m.Layers {
			if l.Layer == *t.Layer {
				x.Layers = append(x.Layers, l)
			}
		}
	}
	return nil
}

// ofLayers selects one layer or all of them, with their expert tensors.
func (x *explanation) ofLayers(m *manifest.Manifest, layer int, one bool) error {
	x.expert = -1
	for _, l := range m.Layers {
		if !one || l.Layer == layer {
			x.Layers = append(x.Layers, l)
		}
	}
	for _, t := range m.Tensors {
		if t.Layer != nil && (one && *t.Layer == layer || !one && t.ExpertTypes != nil) {
			x.Tensors = append(x.Tensors, t)
		}
	}
	if one && len(x.Tensors) == 0 {
		return hinted(fmt.Errorf("no block %d", layer), "--layer 0")
	}
	return nil
}

// onlyExpert drops what is not about one expert.
func (x *explanation) onlyExpert(expert int) error {
	x.expert = expert
	largest := -1
	layers := []manifest.Layer{}
	for _, l := range x.Layers {
		largest = max(largest, len(l.Experts)-1)
		if expert >= 0 && expert < len(l.Experts) {
			l.Experts = l.Experts[expert : expert+1]
			layers = append(layers, l)
		}
	}
	if len(layers) == 0 {
		if largest < 0 {
			return fmt.Errorf("no expert %d: nothing there is a routed expert's", expert)
		}
		return hinted(fmt.Errorf("no expert %d", expert), fmt.Sprintf("--expert %d is the last", largest))
	}
	x.Layers = layers
	tensors := []manifest.Tensor{}
	for _, t := range x.Tensors {
		if t.ExpertTypes == nil || t.Expert != nil && *t.Expert != expert {
			continue
		}
		if t.Expert == nil {
			if expert >= len(t.ExpertTypes) {
				continue
			}
			t.ExpertTypes = t.ExpertTypes[expert : expert+1]
		}
		tensors = append(tensors, t)
	}
	if len(tensors) == 0 && len(x.Tensors) == 1 && x.Tensors[0].Expert != nil {
		t := &x.Tensors[0]
		return hinted(fmt.Errorf("no expert %d: %s holds expert %d alone", expert, t.Name, *t.Expert), fmt.Sprintf("--expert %d", *t.Expert))
	}
	x.Tensors = tensors
	return nil
}

func (x *explanation) write(w io.Writer, m *manifest.Manifest, flags *pflag.FlagSet) {
	switch {
	case flags.Changed("tensor"):
		x.writeTensor(w)
		if len(x.Layers) > 0 {
			fmt.Fprintln(w)
			x.writeExperts(w)
		}
	case flags.Changed("expert"):
		x.writeExperts(w)
		fmt.Fprintln(w)
		x.writeTensors(w)
	default:
		for i := range x.Layers {
			fmt.Fprintln(w, x.thresholds(&x.Layers[i]))
			fmt.Fprintln(w)
			x.writeExperts(w)
			fmt.Fprintln(w)
		}
		x.writeTensors(w)
	}
	x.writeFindings(w, m)
}

// writeTensor prints one tensor's facts.
func (x *explanation) writeTensor(w io.Writer) {
	t := &x.Tensors[0]
	fact := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-13s%s\n", name, printable(fmt.Sprintf(format, args...)))
	}
	fact("tensor", "%s", t.Name)
	fact("role", "%s", strings.ReplaceAll(t.Role, "_", " "))
	fact("shape", "%s, %s weights", formatShape(t.Shape), formatCount(t.Parameters))
	fact("source", "%s, %s bytes", t.SourceType, formatCount(t.SourceBytes))
	fact("fused plan", "%s, %s bytes: %s", t.PlannedType, formatCount(t.PlannedBytes), t.Reason)
	if t.ExpertTypes != nil && t.Expert == nil {
		what := typeCounts(t.ExpertTypes)
		if x.expert >= 0 {
			what = fmt.Sprintf("%s for expert %d", t.ExpertTypes[0], x.expert)
		}
		fact("split plan", "%s, %s bytes", what, formatCount(t.SplitPlannedBytes))
	}
	if len(x.Layers) > 0 {
		fact("layer", "%s", x.thresholds(&x.Layers[0]))
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

func (x *explanation) thresholds(l *manifest.Layer) string {
	switch {
	case l.HotThreshold != nil:
		return fmt.Sprintf("blk.%d: %s activations, hot from %s, cold below %s", l.Layer,
			optionalCount(l.Activations), formatCount(*l.HotThreshold), formatCount(*l.ColdThreshold))
	case l.Activations != nil:
		return fmt.Sprintf("blk.%d: %s activations", l.Layer, formatCount(*l.Activations))
	case slices.ContainsFunc(l.Experts, func(e manifest.Expert) bool { return e.Share != nil || e.Tier != nil }):
		return fmt.Sprintf("blk.%d: traffic without counts", l.Layer)
	}
	return fmt.Sprintf("blk.%d: no statistics", l.Layer)
}

// writeExperts prints the experts of the selected layers and why each has its
// tier.
func (x *explanation) writeExperts(w io.Writer) {
	t := newTable(">layer", ">expert", ">count", ">share", ">of the largest", "tier", "type", "flag", "why")
	for i := range x.Layers {
		l := &x.Layers[i]
		for j := range l.Experts {
			e := &l.Experts[j]
			typ := valueOr(e.Type, "-")
			if len(x.Tensors) == 1 && x.Tensors[0].Expert == nil && j < len(x.Tensors[0].ExpertTypes) {
				typ = x.Tensors[0].ExpertTypes[j] // in this very tensor
			}
			t.add(strconv.Itoa(l.Layer), strconv.Itoa(e.Expert), optionalCount(e.Count), optionalPercent(e.Share), optionalPercent(e.Relative),
				valueOr(e.Tier, "-"), printable(typ), valueOr(e.Flag, "-"), x.why(l, e))
		}
	}
	t.write(w, "")
}

// why says what put an expert into its tier.
func (x *explanation) why(l *manifest.Layer, e *manifest.Expert) string {
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
			return fmt.Sprintf("%s >= %s", formatCount(*e.Count), formatCount(*l.HotThreshold))
		case *e.Count >= *l.ColdThreshold:
			return fmt.Sprintf("%s <= %s < %s", formatCount(*l.ColdThreshold), formatCount(*e.Count), formatCount(*l.HotThreshold)) + protected(*e.Tier, "warm")
		}
		return fmt.Sprintf("%s < %s", formatCount(*e.Count), formatCount(*l.ColdThreshold)) + protected(*e.Tier, "cold")
	case p.TiersBy != nil && *p.TiersBy == "rank":
		return "by its rank"
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

// writeTensors prints the selected tensors and their reasons.
func (x *explanation) writeTensors(w io.Writer) {
	t := newTable("tensor", "source", "fused plan", ">bytes", "split plan", ">bytes", "reason")
	for i := range x.Tensors {
		n := &x.Tensors[i]
		split, bytes := "", ""
		if n.ExpertTypes != nil {
			split = typeCounts(n.ExpertTypes)
			if x.expert >= 0 {
				split = n.ExpertTypes[0]
			} else {
				bytes = formatCount(n.SplitPlannedBytes)
			}
		}
		t.add(printable(n.Name), n.SourceType, printable(n.PlannedType), formatCount(n.PlannedBytes), printable(split), bytes, printable(n.Reason))
	}
	t.write(w, "")
}

// writeFindings prints the findings about what was selected.
func (x *explanation) writeFindings(w io.Writer, m *manifest.Manifest) {
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
		showFindings(w, list)
	}
}
