package review

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/ggufplan/ggufplan/planner/manifest"
)

// writeDifference prints what changed between two plans.
func WriteDifference(w io.Writer, d *manifest.Difference) {
	for _, section := range []struct {
		title  string
		fields []manifest.FieldChange
	}{{"inputs", d.Inputs}, {"policy", d.Policy}, {"totals", d.Totals}} {
		if len(section.fields) > 0 {
			fmt.Fprintf(w, "%s\n", section.title)
		}
		for _, f := range section.fields {
			fmt.Fprintf(w, "  %s: %s -> %s%s\n", f.Field, f.Old, f.New, deltaText(f))
		}
	}
	writeTensorMoves(w, d.Tensors)
	writeExpertMoves(w, d.Experts)
	if len(d.Added)+len(d.Removed) > 0 {
		fmt.Fprintln(w, "findings")
	}
	for _, f := range d.Removed {
		fmt.Fprintf(w, "  - %s\n", Printable(f.Code+": "+f.Subject+": "+f.Message))
	}
	for _, f := range d.Added {
		fmt.Fprintf(w, "  + %s\n", Printable(f.Code+": "+f.Subject+": "+f.Message))
	}
}

// deltaText says by how much a size moved.
func deltaText(f manifest.FieldChange) string {
	if !strings.HasSuffix(f.Field, "_bytes") {
		return ""
	}
	old, err1 := strconv.ParseInt(string(f.Old), 10, 64)
	now, err2 := strconv.ParseInt(string(f.New), 10, 64)
	switch {
	case err1 != nil || err2 != nil:
		return ""
	case now >= old:
		return fmt.Sprintf(" (+%s)", Size(uint64(now-old)))
	}
	return fmt.Sprintf(" (-%s)", Size(uint64(old-now)))
}

// A group is a set of moves that read the same.
type group struct {
	label   string
	members []string
}

// grouped collects members under their labels, in order of first appearance.
type grouped struct {
	groups []group
	index  map[string]int
}

func (g *grouped) add(label, member string) {
	if g.index == nil {
		g.index = map[string]int{}
	}
	i, ok := g.index[label]
	if !ok {
		i = len(g.groups)
		g.index[label] = i
		g.groups = append(g.groups, group{label: label})
	}
	g.groups[i].members = append(g.groups[i].members, member)
}

// write lists each group with its first few members.
func (g *grouped) write(w io.Writer, one, many string) {
	const shown = 4
	for _, gr := range g.groups {
		list := strings.Join(gr.members[:min(shown, len(gr.members))], ", ")
		if more := len(gr.members) - shown; more > 0 {
			list += fmt.Sprintf(" and %d more", more)
		}
		fmt.Fprintf(w, "  %s: %d %s: %s\n", Printable(gr.label), len(gr.members), Plural(len(gr.members), one, many), Printable(list))
	}
}

func writeTensorMoves(w io.Writer, changes []manifest.TensorChange) {
	if len(changes) == 0 {
		return
	}
	fmt.Fprintln(w, "tensors")
	var g grouped
	for _, t := range changes {
		switch {
		case t.OldType == nil:
			g.add(t.Role+" added as "+*t.NewType, t.Name)
		case t.NewType == nil:
			g.add(t.Role+" removed, was "+*t.OldType, t.Name)
		case *t.OldType != *t.NewType:
			g.add(fmt.Sprintf("%s %s -> %s", t.Role, *t.OldType, *t.NewType), t.Name)
		default:
			g.add(t.Role+" split plan only", t.Name)
		}
	}
	g.write(w, "tensor", "tensors")
}

func writeExpertMoves(w io.Writer, changes []manifest.ExpertChange) {
	if len(changes) == 0 {
		return
	}
	fmt.Fprintln(w, "experts")
	var g grouped
	for _, e := range changes {
		label := ValueOr(e.OldTier, "none") + " -> " + ValueOr(e.NewTier, "none")
		if e.OldTier == nil && e.NewTier == nil || e.OldTier != nil && e.NewTier != nil && *e.OldTier == *e.NewTier {
			label = ValueOr(e.OldType, "none") + " -> " + ValueOr(e.NewType, "none")
		}
		g.add(label, fmt.Sprintf("blk.%d expert %d", e.Layer, e.Expert))
	}
	g.write(w, "expert", "experts")
}
