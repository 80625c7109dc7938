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

// maxKinds is how many types a palette can be chosen among.
const maxKinds = 64

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
	if len(types) > maxKinds {
		return nil, fmt.Errorf("%d candidate types, more than %d", len(types), maxKinds)
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
	limited := *w
	limited.paletteBound = &sol.Bound
	limited.cells = slices.Clone(w.cells)
	for c := range limited.cells {
		limited.cells[c] = limited.cells[c].only(func(t frequency.Type) bool {
			k := slices.Index(types, t)
			return k >= 0 && sol.Kinds>>k&1 != 0
		})
	}
	return &limited, nil
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
	for n := tooFew + 1; n <= maxKinds; n++ {
		if sol, _, err := knapsack.SolvePalette(options, kinds, n, knapsack.MaxTotal, knapsack.ExactLimits); err != nil || sol != nil {
			return &TypeLimitError{tooFew, n}
		}
	}
	return w.checkTies()
}

// only returns the cell with some of its candidates.
func (c cell) only(keep func(frequency.Type) bool) cell {
	all, damage, cost := c.candidates, c.damage, c.cost
	c.candidates, c.damage, c.cost = nil, make([][]float64, len(damage)), make([][]uint64, len(cost))
	for i := range all {
		if !keep(all[i].Type) {
			continue
		}
		c.candidates = append(c.candidates, all[i])
		for e := range cost {
			c.damage[e] = append(c.damage[e], damage[e][i])
			c.cost[e] = append(c.cost[e], cost[e][i])
		}
	}
	return c
}
