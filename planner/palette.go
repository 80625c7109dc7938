package planner

import (
	"fmt"
	"slices"

	"github.com/ggufplan/ggufplan/planner/frequency"
	"github.com/ggufplan/ggufplan/planner/internal/knapsack"
)

// A TypeLimitError reports tensors that so few types cannot serve: rows of some
// widths divide into the blocks of few types.
type TypeLimitError struct{ MaxTypes, Needed int }

func (e *TypeLimitError) Error() string {
	return fmt.Sprintf("at most %d types: the tensors need %d", e.MaxTypes, e.Needed)
}

// limitTypes returns the problem with the candidates that the best fused plan of
// at most Budget.MaxTypes types draws on, where there is such a bound. The split
// plan draws on the same.
func (w *weighing) limitTypes(d *decision) (*weighing, error) {
	most := w.budget.MaxTypes
	if most == 0 {
		return w, nil
	}
	fixed, err := w.fixedBytes(d)
	if err != nil {
		return nil, err
	}
	groups := w.fusedGroups(w.whole(), nil)
	var types []frequency.Type
	kinds := make([][]uint8, len(groups))
	for g := range groups {
		first := &w.cells[groups[g].members[0]]
		for _, picks := range groups[g].picks {
			t := first.candidates[picks[0]].Type
			k := slices.Index(types, t)
			if k < 0 {
				k = len(types)
				types = append(types, t)
			}
			kinds[g] = append(kinds[g], uint8(k))
		}
	}
	if len(types) > knapsack.MaxKinds {
		return nil, fmt.Errorf("%d candidate types, more than %d", len(types), knapsack.MaxKinds)
	}
	budget := w.budget.budgetBytes(w.frame)
	options := optionsOf(groups)
	sol, least, err := knapsack.SolvePalette(options, kinds, most, budget-min(fixed, budget), knapsack.ExactLimits)
	switch {
	case err != nil:
		return nil, err
	case sol == nil && least == 0:
		return nil, w.typesNeeded(options, kinds, most)
	case sol == nil:
		return nil, &UnreachableError{fixed + least, budget}
	}
	limited := w.only(func(t frequency.Type) bool {
		k := slices.Index(types, t)
		return k >= 0 && sol.Kinds>>k&1 != 0
	})
	limited.paletteBound = &sol.Bound
	return limited, nil
}

// solveLimited solves both plans with at most Budget.MaxTypes types.
func (w *weighing) solveLimited(d *decision) (*plans, error) {
	w, err := w.limitTypes(d)
	if err != nil {
		return nil, err
	}
	return w.solve(d)
}

// typesNeeded finds how many types serve all tensors.
func (w *weighing) typesNeeded(options [][]knapsack.Option, kinds [][]uint8, tooFew int) error {
	for n := tooFew + 1; n <= knapsack.MaxKinds; n++ {
		if sol, _, err := knapsack.SolvePalette(options, kinds, n, knapsack.MaxTotal, knapsack.ExactLimits); err != nil || sol != nil {
			return &TypeLimitError{tooFew, n}
		}
	}
	return w.checkTies()
}

// only returns the problem with some of the candidates.
func (w *weighing) only(keep func(frequency.Type) bool) *weighing {
	own := *w
	own.cells, own.sets = slices.Clone(w.cells), nil
	for c := range own.cells {
		own.cells[c] = own.cells[c].only(keep)
	}
	own.tie()
	return &own
}

// only returns the cell with some of its candidates.
func (c cell) only(keep func(frequency.Type) bool) cell {
	all, cost := c.candidates, c.cost
	c.candidates, c.cost = nil, make([][]uint64, len(cost))
	for i := range all {
		if !keep(all[i].Type) {
			continue
		}
		c.candidates = append(c.candidates, all[i])
		for e := range cost {
			c.cost[e] = append(c.cost[e], cost[e][i])
		}
	}
	c.addUp()
	return c
}
