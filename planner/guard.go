package planner

import (
	"slices"

	"github.com/ggufplan/ggufplan/planner/internal/knapsack"
)

// A guard keeps super experts up: of one projection of a layer, they get no
// type smaller than the largest that its experts get. That ties choices
// together in a way a knapsack cannot say, so it is reached in rounds: the
// super experts' least type goes up to the largest that others got, until it
// holds. Where the budget does not allow it, or after maxRounds, the others are
// held at what the super experts had.
type guard struct {
	super  []place
	others []place
	floor  uint64 // bytes that super experts take at least
	had    uint64 // bytes of the smallest super expert in the last plan
	raised bool   // in the last round
}

// A place is one expert of a cell.
type place struct{ cell, expert int }

const maxRounds = 8

// guards lists the projections that have super experts among the chosen cells.
func (w *weighing) guards(chosen func(*cell) bool, windows cellWindows) []guard {
	type key struct{ layer, projection int }
	at := map[key]int{}
	var out []guard
	for c := range w.cells {
		cell := &w.cells[c]
		if !chosen(cell) || windows[c] == nil {
			continue
		}
		l := &w.frame.layers[cell.slot.layer]
		if l.evidence == nil || len(l.evidence.SuperExperts) == 0 {
			continue
		}
		k := key{cell.slot.layer, projection(cell.slot.tensor.Role)}
		i, ok := at[k]
		if !ok {
			i = len(out)
			at[k] = i
			out = append(out, guard{})
		}
		for j := range cell.cost {
			if slices.Contains(l.evidence.SuperExperts, expertOf(cell.slot.tensor, j)) {
				out[i].super = append(out[i].super, place{c, j})
			} else {
				out[i].others = append(out[i].others, place{c, j})
			}
		}
	}
	return slices.DeleteFunc(out, func(g guard) bool { return len(g.super) == 0 })
}

// raise sets the bytes that super experts take at least.
func (g *guard) raise(windows cellWindows, floor uint64) {
	g.floor = floor
	for _, p := range g.super {
		x := &windows[p.cell][p.expert]
		x.least = max(x.least, floor)
	}
}

// hold gives super experts what the smallest of them had, and keeps the others
// at or below it. The last plan, cut down to that, still fits.
func (g *guard) hold(windows cellWindows) {
	for _, p := range g.super {
		windows[p.cell][p.expert] = window{g.had, g.had}
	}
	for _, p := range g.others {
		windows[p.cell][p.expert].most = g.had
	}
	g.floor = g.had
}

// broken reports whether some expert got a larger type than a super expert,
// and which type that is. It notes what the super experts have.
func (g *guard) broken(w *weighing, a *assignment) (largest uint64, broken bool) {
	bytes := func(p place) uint64 { return w.cells[p.cell].expertBytes(a.choice[p.cell][p.expert]) }
	g.had = knapsack.MaxTotal
	for _, p := range g.super {
		g.had = min(g.had, bytes(p))
		largest = max(largest, bytes(p))
	}
	for _, p := range g.others {
		largest = max(largest, bytes(p))
	}
	return largest, g.had < largest
}

// solveGuarded solves the groups that build makes of the windows, and again
// until every guard holds. The plan goes into a.
func (w *weighing) solveGuarded(a *assignment, guards []guard, windows cellWindows, budget uint64, lim knapsack.Limits, build func() []group) (*knapsack.Solution, error) {
	for round := 0; ; round++ {
		groups := build()
		k, err := w.room.knapsack.New(len(groups), func(i int) []knapsack.Option { return groups[i].options })
		if err != nil {
			return nil, err
		}
		if k.Least > budget {
			if round == 0 {
				return nil, &UnreachableError{k.Least, budget}
			}
			for i := range guards {
				if guards[i].raised {
					guards[i].raised = false
					guards[i].hold(windows)
				}
			}
			continue
		}
		sol := w.choose(k, groups, budget, lim)
		w.apply(a, groups, sol)
		again := false
		for i := range guards {
			g := &guards[i]
			largest, broken := g.broken(w, a)
			g.raised = broken && round < maxRounds
			switch {
			case g.raised:
				g.raise(windows, largest)
			case broken:
				g.hold(windows)
			}
			again = again || broken
		}
		if !again {
			return sol, nil
		}
	}
}
