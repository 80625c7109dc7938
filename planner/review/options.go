package review

import (
	"fmt"
	"slices"

	"github.com/ggufplan/ggufplan/planner/manifest"
)

// Options are what a document may show beside the plan.
type Options struct {
	Gates    []Gate
	Frontier *Chart // with its lines and file types; the plan is marked in it
}

// A Gate is a condition on a plan and what became of it.
type Gate struct {
	Name, Wanted, Got string
	Passed            bool
}

// Result says "pass" or "fail".
func (g Gate) Result() string {
	if g.Passed {
		return "pass"
	}
	return "fail"
}

// Missed counts the gates that are not passed.
func Missed(gates []Gate) int {
	n := 0
	for _, g := range gates {
		if !g.Passed {
			n++
		}
	}
	return n
}

// headline is a plan's verdict in one sentence or two.
func headline(m *manifest.Manifest) string {
	t := &m.Totals
	text := fmt.Sprintf("%s become %s, %s bits per weight", Size(t.SourceBytes), Size(t.PlannedBytes), decimals(t.PlannedBitsPerWeight, 2))
	nearest := slices.IndexFunc(t.Baselines, func(manifest.Baseline) bool { return true })
	distance := func(b manifest.Baseline) uint64 {
		return max(b.TensorBytes, t.PlannedBytes) - min(b.TensorBytes, t.PlannedBytes)
	}
	for i := range t.Baselines {
		if distance(t.Baselines[i]) < distance(t.Baselines[nearest]) {
			nearest = i
		}
	}
	if nearest >= 0 {
		b := t.Baselines[nearest]
		how := "as large as"
		if d := distance(b); d > 0 && b.TensorBytes > 0 {
			word := " larger than "
			if t.PlannedBytes < b.TensorBytes {
				word = " smaller than "
			}
			how = Percent(d, b.TensorBytes) + word[:len(word)-1]
		}
		text += fmt.Sprintf(": %s the nearest file type, %s", how, b.Name)
	}
	return text + "."
}
