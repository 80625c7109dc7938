package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/ggufplan/ggufplan/planner/review"
	"github.com/ggufplan/ggufplan/planner/verify"
)

// groupText says the difference once for all its tensors.
func groupText(g *verify.Group) string {
	if g.Tensors == 1 {
		return g.Difference.String()
	}
	names := g.Names[0]
	if len(g.Names) > 1 {
		names = "{" + strings.Join(g.Names, ",") + "}"
		if !slices.ContainsFunc(g.Names, func(n string) bool { return !strings.HasSuffix(n, ".weight") }) {
			names = strings.ReplaceAll(names, ".weight", "") + ".weight"
		}
	}
	d := g.Difference
	d.Subject = fmt.Sprintf("blk.%s.%s", strings.ReplaceAll(review.Ranges(g.Layers), ", ", ","), names)
	return fmt.Sprintf("%s (%d tensors)", d, g.Tensors)
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
		for _, g := range verify.Groups(report.Differences) {
			lines = append(lines, review.Printable(groupText(&g)))
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
