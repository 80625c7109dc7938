package planner

import (
	"fmt"
	"math"
	"strconv"

	"github.com/ggufplan/ggufplan/planner/internal/knapsack"
	"github.com/ggufplan/ggufplan/planner/manifest"
)

// setPrice notes what damage a byte saved where the fused plan's budget broke
// off: the price that other steps compare with.
func (w *weighing) setPrice(budget uint64) error {
	k, err := knapsack.New(optionsOf(w.fusedGroups(w.whole(), nil)))
	if err != nil {
		return err
	}
	w.price = nil
	if rate, cut := k.CutRate(budget); cut {
		w.price = new(w.damageOf(rate.Cost) / float64(rate.Bytes))
	}
	return nil
}

// steps finds each cell's best step up and its cheapest step down from the fused
// plan, among the steps of all that share its choice. Ablations do not choose by
// damage, so they have none.
func (w *weighing) steps(fused *assignment) (up, down []*manifest.Step) {
	up, down = make([]*manifest.Step, len(w.cells)), make([]*manifest.Step, len(w.cells))
	if o := w.budget.Objective; o == ObjectiveUniform || o == ObjectiveRandom {
		return up, down
	}
	for _, g := range w.fusedGroups(w.whole(), nil) {
		from := g.optionOf(fused)
		if from < 0 {
			continue
		}
		larger, smaller := bestSteps(g.options, from)
		for m, c := range g.members {
			cell := &w.cells[c]
			step := func(to int) *manifest.Step {
				if to < 0 {
					return nil
				}
				a, b := g.picks[from][m], g.picks[to][m]
				s := &manifest.Step{Type: cell.candidates[b].Type.Name, Bytes: int64(cell.candidates[b].SizeBytes) - int64(cell.candidates[a].SizeBytes)}
				for e := range cell.cost {
					s.Damage += w.damageOf(cell.cost[e][b]) - w.damageOf(cell.cost[e][a])
				}
				return s
			}
			up[c], down[c] = step(larger), step(smaller)
		}
	}
	return up, down
}

// optionOf returns the option that an assignment takes, -1 for none.
func (g *group) optionOf(a *assignment) int {
	for i, picks := range g.picks {
		same := true
		for m, c := range g.members {
			same = same && a.choice[c][0] == picks[m]
		}
		if same {
			return i
		}
	}
	return -1
}

// bestSteps returns the larger option that saves most cost per byte and the
// smaller one that adds least, of equals the nearer; -1 for none.
func bestSteps(options []knapsack.Option, from int) (larger, smaller int) {
	larger, smaller = -1, -1
	at := options[from]
	var most, least knapsack.Rate
	for i, o := range options {
		switch {
		case o.SizeBytes > at.SizeBytes && o.Cost < at.Cost:
			r := knapsack.Rate{Cost: at.Cost - o.Cost, Bytes: o.SizeBytes - at.SizeBytes}
			if c := knapsack.CompareRates(r, most); larger < 0 || c > 0 || c == 0 && r.Bytes < most.Bytes {
				larger, most = i, r
			}
		case o.SizeBytes < at.SizeBytes && o.Cost > at.Cost:
			r := knapsack.Rate{Cost: o.Cost - at.Cost, Bytes: at.SizeBytes - o.SizeBytes}
			if c := knapsack.CompareRates(r, least); smaller < 0 || c < 0 || c == 0 && r.Bytes < least.Bytes {
				smaller, least = i, r
			}
		}
	}
	return larger, smaller
}

// pricedReason says why a tensor has its type: what other types come to beside
// the price.
func (w *weighing) pricedReason(reason string, up, down *manifest.Step) string {
	if w.price == nil || *w.price == 0 {
		return reason
	}
	times := func(s *manifest.Step) string {
		return strconv.FormatFloat(math.Abs(s.Damage/float64(s.Bytes)) / *w.price, 'f', 2, 64) + " times"
	}
	switch {
	case up != nil && down != nil:
		return fmt.Sprintf("%s: %s saves %s the price per byte, %s costs %s", reason, up.Type, times(up), down.Type, times(down))
	case up != nil:
		return fmt.Sprintf("%s: %s saves %s the price per byte", reason, up.Type, times(up))
	case down != nil:
		return fmt.Sprintf("%s: %s costs %s the price per byte", reason, down.Type, times(down))
	}
	return reason
}
