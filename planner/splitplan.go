package planner

import (
	"errors"
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
	s := &splitting{w: w, fused: fused, windows: make(cellWindows, len(w.cells))}
	experts := 0
	for c := range w.cells {
		if cell := &w.cells[c]; cell.splits() && has(c) {
			experts += len(cell.cost)
		}
	}
	w.room.windows = knapsack.Resized(w.room.windows, experts)
	free := w.room.windows
	for c := range w.cells {
		cell := &w.cells[c]
		if cell.splits() && has(c) {
			s.windows[c] = take(&free, len(cell.cost))
			w.cap(s.windows[c], cell, fused.choice[c][0], layers)
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
		s.guards[i].raise(s.windows, w.cells[p.cell].expertBytes(fused.choice[p.cell][0]))
	}
	var bound uint64
	if w.frame.problem.Policy.MaxTiers == 0 && !w.paysForTiers() {
		cost, least, ok := s.solve(nil, budget)
		if !ok {
			return nil, errors.Join(s.err, errNoSplit)
		}
		s.cost, bound = cost, least
	} else {
		limit := &knapsack.KindLimit{Sets: s.sets(), Kinds: w.maxTiers(), BudgetBytes: budget, Solve: s.solve, MaxSolves: max(1, maxSolvedGroups/experts)}
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

// maxTiers is how many types a tensor's experts may have.
func (w *weighing) maxTiers() int {
	if n := w.frame.problem.Policy.MaxTiers; n > 0 {
		return n
	}
	return knapsack.MaxKinds
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
	windows cellWindows
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
		windows, guards = slices.Clone(windows), slices.Clone(guards)
		for c := range windows {
			windows[c] = slices.Clone(windows[c])
		}
	}
	a := &assignment{choice: slices.Clone(s.fused.choice)}
	for c := range a.choice {
		if s.windows[c] != nil {
			a.choice[c] = make([]int, len(s.windows[c]))
		}
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
func (s *splitting) sets() []knapsack.Set {
	var out []knapsack.Set
	all := s.w.splitSets()
	s.w.room.has = knapsack.Resized(s.w.room.has, len(s.w.room.windows))
	free := s.w.room.has
	for i, t := range s.w.ties {
		if s.windows[t.members[0]] != nil {
			set := all[i]
			set.Has = s.has(&t, &free)
			out = append(out, set)
		}
	}
	return out
}

// has says which kinds each expert of a tie may have.
func (s *splitting) has(t *tie, free *[]uint64) []uint64 {
	out := take(free, len(s.windows[t.members[0]]))
	for e := range out {
		out[e] = 0
		if e > 0 && s.alike(t, e) {
			out[e] = out[e-1]
			continue
		}
		for _, picks := range t.picks {
			fits := true
			for m, c := range t.members {
				fits = fits && s.windows[c][e].holds(s.w.cells[c].expertBytes(picks[m]))
			}
			if fits {
				out[e] |= 1 << picks[0]
			}
		}
	}
	return out
}

// alike reports whether an expert may have what the one before it may.
func (s *splitting) alike(t *tie, e int) bool {
	for _, c := range t.members {
		if s.windows[c][e] != s.windows[c][e-1] {
			return false
		}
	}
	return true
}

// splitSets returns the ties of tensors whose experts are split, as sets of which
// any kind may be had; they are the same whatever the budget. The others are
// empty.
func (w *weighing) splitSets() []knapsack.Set {
	if w.sets == nil {
		w.sets = make([]knapsack.Set, len(w.ties))
		for i := range w.ties {
			if t := &w.ties[i]; w.cells[t.members[0]].splits() {
				w.sets[i] = w.splitSet(t)
			}
		}
	}
	return w.sets
}

func (w *weighing) splitSet(t *tie) knapsack.Set {
	first := &w.cells[t.members[0]]
	// Kinds are the first member's candidates, so that its costs are at hand.
	kinds := len(first.candidates)
	set := knapsack.Set{SizeBytes: make([]uint64, kinds), Cost: first.cost}
	if len(t.members) > 1 {
		set.Cost = grid[uint64](len(first.cost), kinds)
	}
	for _, picks := range t.picks {
		k := picks[0]
		for m, c := range t.members {
			cell := &w.cells[c]
			set.SizeBytes[k] += cell.expertBytes(picks[m])
			if len(t.members) > 1 {
				for e := range cell.cost {
					set.Cost[e][k] += cell.cost[e][picks[m]]
				}
			}
		}
	}
	set.Units = knapsack.Units(set.Cost)
	if w.paysForTiers() {
		align := w.frame.problem.Model.Files[0].AlignmentBytes
		if w.budget.Target == TargetMemory {
			align = max(align, memory.GPUAlignment)
		}
		for _, c := range t.members {
			cell := &w.cells[c]
			var bytes []uint64
			for i := range cell.candidates {
				bytes = append(bytes, cell.expertBytes(i))
			}
			n := min(w.maxTiers(), kinds, len(cell.cost))
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
