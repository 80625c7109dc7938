package planner

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// bruteForce returns the least cost within the budget, by trying everything.
func bruteForce(groups [][]option, budget uint64) (cost uint64, ok bool) {
	if len(groups) == 0 {
		return 0, true
	}
	for _, o := range groups[0] {
		if o.sizeBytes > budget {
			continue
		}
		if rest, fits := bruteForce(groups[1:], budget-o.sizeBytes); fits && (!ok || o.cost+rest < cost) {
			cost, ok = o.cost+rest, true
		}
	}
	return cost, ok
}

// randomGroups draws a problem of a family: the families differ in what makes
// a knapsack hard.
func randomGroups(rng *rand.Rand, family, groups, options int) [][]option {
	out := make([][]option, groups)
	for i := range out {
		out[i] = make([]option, 1+rng.IntN(options))
		unit := uint64(1 + rng.IntN(5))
		for j := range out[i] {
			o := &out[i][j]
			switch family {
			case 0: // unrelated
				*o = option{uint64(rng.IntN(40)), uint64(rng.IntN(40))}
			case 1: // few sizes, many ties
				*o = option{uint64(rng.IntN(4)) * 6, uint64(rng.IntN(3))}
			case 2: // cost against size on one line: every step is worth the same
				size := uint64(rng.IntN(20))
				*o = option{size, 100 - 3*size}
			case 3: // as models are: sizes in units of the tensor, convex cost
				size := uint64(j + 1)
				*o = option{size * unit * 32, 1 << 40 / (size * size) * uint64(90+rng.IntN(20)) * unit}
			case 4: // identical groups
				*o = option{uint64(j) * 7, uint64((options - j) * (options - j))}
			case 5: // large numbers
				*o = option{rng.Uint64N(1 << 50), rng.Uint64N(1 << 55)}
			}
		}
	}
	return out
}

const families = 6

func totals(groups [][]option) (least, most uint64) {
	for _, g := range groups {
		small, large := g[0].sizeBytes, g[0].sizeBytes
		for _, o := range g {
			small, large = min(small, o.sizeBytes), max(large, o.sizeBytes)
		}
		least, most = least+small, most+large
	}
	return least, most
}

func checkSolution(t *testing.T, groups [][]option, budget uint64, sol *solution) {
	t.Helper()
	var size, cost uint64
	for i, c := range sol.choice {
		size += groups[i][c].sizeBytes
		cost += groups[i][c].cost
	}
	if size != sol.sizeBytes || cost != sol.cost {
		t.Fatalf("the choice has size %d and cost %d, stated %d and %d", size, cost, sol.sizeBytes, sol.cost)
	}
	if size > budget {
		t.Fatalf("size %d exceeds the budget %d", size, budget)
	}
	if sol.bound > sol.cost {
		t.Fatalf("bound %d above cost %d", sol.bound, sol.cost)
	}
}

func TestKnapsackAgainstBruteForce(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for n := range 6000 {
		groups := randomGroups(rng, n%families, 1+rng.IntN(6), 5)
		k, err := newKnapsack(groups)
		if err != nil {
			t.Fatal(err)
		}
		least, most := totals(groups)
		if least != k.least {
			t.Fatalf("smallest size %d, want %d", k.least, least)
		}
		for _, budget := range []uint64{least, least + rng.Uint64N(most-least+1), most} {
			sol, ok := k.solve(budget, exactLimits)
			want, _ := bruteForce(groups, budget)
			if !ok {
				t.Fatalf("problem %d: no plan for a budget of %d, the smallest has %d", n, budget, least)
			}
			checkSolution(t, groups, budget, sol)
			if sol.cost != want || sol.bound != want {
				t.Fatalf("problem %d %v: budget %d: cost %d, bound %d, brute force %d", n, groups, budget, sol.cost, sol.bound, want)
			}
		}
		if least > 0 {
			if _, ok := k.solve(least-1, exactLimits); ok {
				t.Fatalf("problem %d: a plan of less than the smallest size", n)
			}
		}
	}
}

// A search that may not go on still keeps the budget and a true bound.
func TestKnapsackCutShort(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	open := 0
	for n := range 3000 {
		groups := randomGroups(rng, n%families, 7, 5)
		k, err := newKnapsack(groups)
		if err != nil {
			t.Fatal(err)
		}
		least, most := totals(groups)
		budget := least + rng.Uint64N(most-least+1)
		lim := limits{maxStates: 1 + rng.IntN(6), maxNodes: 100, maxWork: 1 + rng.IntN(60), settleWork: rng.IntN(10), settleGap: 0.01}
		sol, _ := k.solve(budget, lim)
		want, _ := bruteForce(groups, budget)
		checkSolution(t, groups, budget, sol)
		if sol.cost < want || sol.bound > want {
			t.Fatalf("problem %d %v: budget %d: cost %d and bound %d do not enclose %d", n, groups, budget, sol.cost, sol.bound, want)
		}
		if sol.bound < sol.cost {
			open++
		}
	}
	if open < 100 {
		t.Errorf("only %d searches were cut short", open)
	}
}

// Nodes that no state leads to are dropped without losing the best plan.
func TestKnapsackCompacts(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	lim := exactLimits
	lim.maxNodes = 8
	for n := range 300 {
		groups := randomGroups(rng, n%families, 30, 6)
		k, err := newKnapsack(groups)
		if err != nil {
			t.Fatal(err)
		}
		least, most := totals(groups)
		budget := least + rng.Uint64N(most-least+1)
		want, _ := k.solve(budget, exactLimits)
		got, _ := k.solve(budget, lim)
		checkSolution(t, groups, budget, got)
		if got.cost != want.cost || got.bound != want.bound {
			t.Fatalf("problem %d: cost %d, bound %d, want %d and %d", n, got.cost, got.bound, want.cost, want.bound)
		}
	}
}

func TestKnapsackBreaksTiesByOrder(t *testing.T) {
	alike := []option{{10, 9}, {20, 1}}
	groups := [][]option{alike, alike, {{5, 3}}, alike, alike}
	k, err := newKnapsack(groups)
	if err != nil {
		t.Fatal(err)
	}
	sol, _ := k.solve(69, exactLimits) // 45 for the smallest, 10 for each of two upgrades
	if got := fmt.Sprint(sol.choice); got != "[1 1 0 0 0]" {
		t.Errorf("choice %s, want the first two upgraded", got)
	}
	// Of two options alike in size and cost the first is taken.
	k, err = newKnapsack([][]option{{{20, 2}, {10, 5}, {10, 5}, {20, 2}}})
	if err != nil {
		t.Fatal(err)
	}
	for budget, want := range map[uint64]int{10: 1, 20: 0} {
		if sol, _ := k.solve(budget, exactLimits); sol.choice[0] != want {
			t.Errorf("budget %d: option %d, want %d", budget, sol.choice[0], want)
		}
	}
}

func TestKnapsackRefuses(t *testing.T) {
	for name, groups := range map[string][][]option{
		"no options":   {{{1, 1}}, {}},
		"one size":     {{{1<<62 + 1, 1}}},
		"total size":   {{{1 << 62, 1}}, {{1, 1}}},
		"total cost":   {{{1, 1 << 62}}, {{1, 1}}},
		"wrapped size": {{{1 << 63, 0}}, {{1 << 63, 0}}},
	} {
		if _, err := newKnapsack(groups); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestKnapsackMoreBudgetNeverCostsMore(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	for family := range families {
		groups := randomGroups(rng, family, 60, 8)
		k, err := newKnapsack(groups)
		if err != nil {
			t.Fatal(err)
		}
		least, most := totals(groups)
		last := uint64(1) << 63
		for i := range uint64(101) {
			budget := least + (most-least)/100*i
			sol, ok := k.solve(budget, exactLimits)
			if !ok || sol.cost != sol.bound || sol.cost > last {
				t.Fatalf("family %d, budget %d: cost %d (bound %d) after %d", family, budget, sol.cost, sol.bound, last)
			}
			checkSolution(t, groups, budget, sol)
			last = sol.cost
		}
	}
}
