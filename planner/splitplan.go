package planner

import (
	"errors"
	"maps"
	"slices"

	"github.com/ggufplan/ggufplan/planner/internal/knapsack"
	"github.com/ggufplan/ggufplan/planner/memory"
)

// maxSolvedGroups bounds the work of choosing which types a tensor's experts
// share: experts over all plans tried. Small models get an exact answer, large
// ones one plan, which the bound shows to be as good.
const maxSolvedGroups = 1 << 16

// solveSplit gives every expert of a fused tensor a candidate of its own, at
// most Policy.MaxTiers types to a tensor, within the bytes that the fused plan
// leaves for them. All other cells stay as the fused plan has them.
func (w *weighing) solveSplit(fused *assignment, budget uint64, layers []LayerPlan) (*assignment, error) {
	return w.splitPart(fused, func(int) bool { return true }, budget, layers)
}

// splitPart does so for those of the cells that has says.
func (w *weighing) splitPart(fused *assignment, has func(c int) bool, budget uint64, layers []LayerPlan) (*assignment, error) {
	s := &splitting{w: w, fused: fused, windows: map[int][]window{}}
	experts := 0
	for c := range w.cells {
		cell := &w.cells[c]
		if cell.splits() && has(c) {
			s.windows[c] = w.cap(cell, fused.choice[c][0], layers)
			experts += len(cell.cost)
			s.cost += w.costOf(cell, fused.choice[c])
			continue
		}
		s.others += w.costOf(cell, fused.choice[c])
	}
	out := &assignment{choice: slices.Clone(fused.choice), cost: fused.cost, bound: fused.bound}
	if experts == 0 {
		return out, nil
	}
	s.guards = w.guards(func(c *cell) bool { return c.splits() }, s.windows)
	for i := range s.guards {
		// All experts at their tensor's fused type is a plan that holds.
		p := s.guards[i].super[0]
		s.guards[i].raise(w, s.windows, w.cells[p.cell].expertBytes(fused.choice[p.cell][0]))
	}
	most := w.frame.problem.Policy.MaxTiers
	var bound uint64
	if most == 0 && !w.paysForTiers() {
		cost, least, ok := s.solve(nil, budget)
		if !ok {
			return nil, errors.Join(s.err, errNoSplit)
		}
		s.cost, bound = cost, least
	} else {
		if most == 0 {
			most = 64
		}
		limit := &knapsack.KindLimit{Sets: s.sets(most), Kinds: most, BudgetBytes: budget, Solve: s.solve, MaxSolves: max(1, maxSolvedGroups/experts)}
		bound, _ = limit.Choose()
	}
	if s.err != nil {
		return nil, s.err
	}
	if s.best != nil {
		out.choice, out.cost = s.best, s.others+s.cost
	} else {
		out.cost = s.others + s.cost // all experts at their tensor's fused type
	}
	out.bound = min(s.others+bound, out.cost)
	return out, nil
}

// paysForTiers reports whether the names and tables of tiers count against the
// budget.
func (w *weighing) paysForTiers() bool {
	return w.budget.Target == TargetSize || w.budget.Target == TargetMemory
}

var errNoSplit = errors.New("internal error: the fused plan's types do not fit the split plan")

// costOf adds up what a cell's experts cost.
func (w *weighing) costOf(c *cell, choice []int) uint64 {
	var total uint64
	for e, i := range choice {
		total += c.cost[e][i]
	}
	return total
}

// A splitting is the state of solving a split plan.
type splitting struct {
	w       *weighing
	fused   *assignment
	windows map[int][]window
	guards  []guard
	others  uint64 // cost of what the split plan does not decide

	best [][]int // the cheapest choice yet; nil for the fused plan's
	cost uint64
	err  error
}

// solve solves for some types of each tensor and keeps the plan if it is the
// cheapest yet.
func (s *splitting) solve(kinds []uint64, budget uint64) (cost, bound uint64, ok bool) {
	windows, guards := s.windows, s.guards
	if len(guards) > 0 { // they narrow the windows
		windows, guards = maps.Clone(windows), slices.Clone(guards)
		for c := range windows {
			windows[c] = slices.Clone(windows[c])
		}
	}
	a := &assignment{choice: make([][]int, len(s.w.cells))}
	for c := range a.choice {
		a.choice[c] = slices.Clone(s.fused.choice[c])
	}
	sol, err := s.w.solveGuarded(a, guards, windows, budget, knapsack.SplitLimits, func() []group { return s.w.splitGroups(windows, kinds) })
	var unreachable *UnreachableError
	switch {
	case errors.As(err, &unreachable):
		return 0, 0, false
	case err != nil:
		s.err = err
		return 0, 0, false
	}
	if s.best == nil && sol.Cost <= s.cost || sol.Cost < s.cost {
		s.best, s.cost = a.choice, sol.Cost
	}
	return sol.Cost, sol.Bound, true
}

// sets lists the tensors, tied ones together, as sets of experts that share
// types.
func (s *splitting) sets(most int) []knapsack.Set {
	var out []knapsack.Set
	for _, members := range s.w.tied() {
		if s.windows[members[0]] != nil {
			out = append(out, s.set(members, most))
		}
	}
	return out
}

func (s *splitting) set(members []int, most int) knapsack.Set {
	w := s.w
	first := &w.cells[members[0]]
	// Kinds are the first member's candidates, so that its costs are at hand.
	kinds := len(first.candidates)
	set := knapsack.Set{SizeBytes: make([]uint64, kinds), Cost: first.cost, Has: make([]uint64, len(first.cost))}
	common := w.common(members)
	if len(members) > 1 {
		set.Cost = make([][]uint64, len(first.cost))
		for e := range set.Cost {
			set.Cost[e] = make([]uint64, kinds)
		}
	}
	for _, picks := range common {
		k := picks[0]
		for m, c := range members {
			cell := &w.cells[c]
			set.SizeBytes[k] += cell.expertBytes(picks[m])
			for e := range cell.cost {
				if len(members) > 1 {
					set.Cost[e][k] += cell.cost[e][picks[m]]
				}
			}
		}
		for e := range set.Has {
			fits := true
			for m, c := range members {
				fits = fits && s.windows[c][e].holds(w.cells[c].expertBytes(picks[m]))
			}
			if fits {
				set.Has[e] |= 1 << k
			}
		}
	}
	if w.paysForTiers() {
		align := w.frame.problem.Model.Files[0].AlignmentBytes
		if w.budget.Target == TargetMemory {
			align = max(align, memory.GPUAlignment)
		}
		for _, c := range members {
			cell := &w.cells[c]
			var bytes []uint64
			for i := range cell.candidates {
				bytes = append(bytes, cell.expertBytes(i))
			}
			n := min(most, kinds, len(cell.cost))
			list := tierOverheadBytes(cell.slot.tensor, n, align, bytes)
			if set.OverheadBytes == nil {
				set.OverheadBytes = make([]uint64, n+1)
			}
			for i := range list {
				set.OverheadBytes[i] += list[i]
			}
		}
	}
	return set
}
