package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/ggufplan/ggufplan/planner/review"
	"github.com/ggufplan/ggufplan/planner/verify"
)

// A differenceGroup is differences that say the same of several tensors.
type differenceGroup struct {
	verify.Difference
	layers  []int    // of its tensors, ascending
	names   []string // its tensors within a block
	tensors int
}

// groupDifferences joins the differences that say the same: of a tensor in
// several blocks, and then of several tensors in the same blocks. A type says
// all about the bytes that differ with it.
func groupDifferences(list []verify.Difference) []differenceGroup {
	typed := map[string]bool{}
	for _, d := range list {
		typed[d.Subject] = typed[d.Subject] || d.Kind == verify.KindType
	}
	type says struct{ kind, want, got, name string }
	at := map[says]int{}
	var groups []differenceGroup
	for _, d := range list {
		if d.Kind == verify.KindBytes && typed[d.Subject] {
			continue
		}
		layer, name, inBlock := blockTensor(d.Subject)
		key := says{d.Kind, d.Want, d.Got, name}
		i, known := at[key]
		if !inBlock || !known {
			i = len(groups)
			groups = append(groups, differenceGroup{Difference: d})
			if inBlock {
				at[key] = i
				groups[i].names = []string{name}
			}
		}
		groups[i].tensors++
		if inBlock {
			groups[i].layers = append(groups[i].layers, layer)
		}
	}
	var joined []differenceGroup
	for _, g := range groups {
		slices.Sort(g.layers)
		i := slices.IndexFunc(joined, func(o differenceGroup) bool {
			return g.names != nil && o.Kind == g.Kind && o.Want == g.Want && o.Got == g.Got && slices.Equal(o.layers, g.layers)
		})
		if i < 0 {
			joined = append(joined, g)
			continue
		}
		joined[i].names = append(joined[i].names, g.names...)
		joined[i].tensors += g.tensors
	}
	return joined
}

// blockTensor takes blk.3.ffn_up.weight apart.
func blockTensor(name string) (layer int, within string, ok bool) {
	rest, ok := strings.CutPrefix(name, "blk.")
	number, within, found := strings.Cut(rest, ".")
	layer, err := strconv.Atoi(number)
	return layer, within, ok && found && err == nil && layer >= 0
}

// String says the difference once for all its tensors.
func (g differenceGroup) String() string {
	if g.tensors == 1 {
		return g.Difference.String()
	}
	names := g.names[0]
	if len(g.names) > 1 {
		names = "{" + strings.Join(g.names, ",") + "}"
		if !slices.ContainsFunc(g.names, func(n string) bool { return !strings.HasSuffix(n, ".weight") }) {
			names = strings.ReplaceAll(names, ".weight", "") + ".weight"
		}
	}
	d := g.Difference
	d.Subject = fmt.Sprintf("blk.%s.%s", strings.ReplaceAll(review.Ranges(g.layers), ", ", ","), names)
	return fmt.Sprintf("%s (%d tensors)", d, g.tensors)
}

// writeReport prints a comparison for a person; without verbose what repeats is
// said once, and no more than fits a screen.
func writeReport(w io.Writer, report *verify.Report, verbose bool) {
	if verbose {
		for _, d := range report.Differences {
			fmt.Fprintln(w, review.Printable(d.String()))
		}
	} else {
		var lines []string
		for _, g := range groupDifferences(report.Differences) {
			lines = append(lines, review.Printable(g.String()))
		}
		review.WriteFirst(w, lines, review.Limit{Lines: screenLines, All: "--verbose lists every difference"})
	}
	sum := fmt.Sprintf("%s of %s tensors are as planned", review.Count(uint64(report.Matching)), review.Count(uint64(report.Tensors)))
	if report.FoundBytes != nil {
		sum += fmt.Sprintf(", %d bytes", *report.FoundBytes)
		if *report.FoundBytes != report.PlannedBytes {
			sum += fmt.Sprintf(" where %d were planned", report.PlannedBytes)
		}
	}
	switch {
	case report.DataRead:
		sum += "; every block was read"
	case report.FoundBytes != nil:
		sum += "; headers were read (--data reads every block)"
	}
	fmt.Fprintln(w, sum) // in one piece: lines are fitted as they are written
	for _, n := range report.Notes {
		fmt.Fprintln(w, n)
	}
	if n := len(report.Differences); n > 0 {
		fmt.Fprintf(w, "%s %s from the plan\n", review.Count(uint64(n)), review.Plural(n, "difference", "differences"))
	}
}
