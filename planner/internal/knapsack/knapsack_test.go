package knapsack

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// bruteForce returns the least cost within the budget, by trying everything.
func bruteForce(groups [][]Option, budget uint64) (cost uint64, ok bool) {
	if len(groups) == 0 {
		return 0, true
	}
	for _, o := range groups[0] {
		if o.SizeBytes > budget {
			continue
		}
		if rest, fits := bruteForce(groups[1:], budget-o.SizeBytes); fits && (!ok || o.Cost+rest < cost) {
			cost, ok = o.Cost+rest, true
		}
	}
	return cost, ok
}

// randomGroups draws a problem of a family: the families differ in what makes
// a knapsack hard.
func randomGroups(rng *rand.Rand, family, groups, options int) [][]Option {
	out := make([][]Option, groups)
	for i := range out {
		out[i] = make([]Option, 1+rng.IntN(options))
		unit := uint64(1 + rng.IntN(5))
		for j := range out[i] {
			o := &out[i][j]
			switch family {
			case 0: // unrelated
				*o = Option{uint64(rng.IntN(40)), uint64(rng.IntN(40))}
			case 1: // few sizes, many ties
				*o = Option{uint64(rng.IntN(4)) * 6, uint64(rng.IntN(3))}
			case 2: // cost against size on one line: every step is worth the same
				size := uint64(rng.IntN(20))
				*o = Option{size, 100 - 3*size}
			case 3: // as models are: sizes in units of the tensor, convex cost
				size := uint64(j + 1)
				*o = Option{size * unit * 32, 1 << 40 / (size * size) * uint64(90+rng.IntN(20)) * unit}
			case 4: // identical groups
				*o = Option{uint64(j) * 7, uint64((options - j) * (options - j))}
			case 5: // large numbers
				*o = Option{rng.Uint64N(1 << 50), rng.Uint64N(1 << 55)}
			}
		}
	}
	return out
}

const families = 6

func totals(groups [][]Option) (least, most uint64) {
	for _, g := range groups {
		small, large := g[0].SizeBytes, g[0].SizeBytes
		for _, o := range g {
			small, large = min(small, o.SizeBytes), max(large, o.SizeBytes)
		}
		least, most = least+small, most+large
	}
	return least, most
}

func checkSolution(t *testing.T, groups [][]Option, budget uint64, sol *Solution) {
	t.Helper()
	var size, cost uint64
	for i, c := range sol.Choice {
		size += groups[i][c].SizeBytes
		cost += groups[i][c].Cost
	}
	if size != sol.SizeBytes || cost != sol.Cost {
		t.Fatalf("the choice has size %d and cost %d, stated %d and %d", size, cost, sol.SizeBytes, sol.Cost)
	}
	if size > budget {
		t.Fatalf("size %d exceeds the budget %d", size, budget)
	}
	if sol.Bound > sol.Cost {
		t.Fatalf("bound %d above cost %d", sol.Bound, sol.Cost)
	}
}

func TestKnapsackAgainstBruteForce(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for n := range 6000 {
		groups := randomGroups(rng, n%families, 1+rng.IntN(6), 5)
		k, err := New(groups)
		if err != nil {
			t.Fatal(err)
		}
		least, most := totals(groups)
		if least != k.Least {
			t.Fatalf("smallest size %d, want %d", k.Least, least)
		}
		for _, budget := range []uint64{least, least + rng.Uint64N(most-least+1), most} {
			sol, ok := k.Solve(budget, ExactLimits)
			want, _ := bruteForce(groups, budget)
			if !ok {
				t.Fatalf("problem %d: no plan for a budget of %d, the smallest has %d", n, budget, least)
			}
			checkSolution(t, groups, budget, sol)
			if sol.Cost != want || sol.Bound != want {
				t.Fatalf("problem %d %v: budget %d: cost %d, bound %d, brute force %d", n, groups, budget, sol.Cost, sol.Bound, want)
			}
		}
		if least > 0 {
			if _, ok := k.Solve(least-1, ExactLimits); ok {
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
		k, err := New(groups)
		if err != nil {
			t.Fatal(err)
		}
		least, most := totals(groups)
		budget := least + rng.Uint64N(most-least+1)
		lim := Limits{maxStates: 1 + rng.IntN(6), maxNodes: 100, maxWork: 1 + rng.IntN(60), settleWork: rng.IntN(10), settleGap: 0.01}
		sol, _ := k.Solve(budget, lim)
		want, _ := bruteForce(groups, budget)
		checkSolution(t, groups, budget, sol)
		if sol.Cost < want || sol.Bound > want {
			t.Fatalf("problem %d %v: budget %d: cost %d and bound %d do not enclose %d", n, groups, budget, sol.Cost, sol.Bound, want)
		}
		if sol.Bound < sol.Cost {
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
	lim := ExactLimits
	lim.maxNodes = 8
	for n := range 300 {
		groups := randomGroups(rng, n%families, 30, 6)
		k, err := New(groups)
		if err != nil {
			t.Fatal(err)
		}
		least, most := totals(groups)
		budget := least + rng.Uint64N(most-least+1)
		want, _ := k.Solve(budget, ExactLimits)
		got, _ := k.Solve(budget, lim)
		checkSolution(t, groups, budget, got)
		if got.Cost != want.Cost || got.Bound != want.Bound {
			t.Fatalf("problem %d: cost %d, bound %d, want %d and %d", n, got.Cost, got.Bound, want.Cost, want.Bound)
		}
	}
}

func TestKnapsackBreaksTiesByOrder(t *testing.T) {
	alike := []Option{{10, 9}, {20, 1}}
	groups := [][]Option{alike, alike, {{5, 3}}, alike, alike}
	k, err := New(groups)
	if err != nil {
		t.Fatal(err)
	}
	sol, _ := k.Solve(69, ExactLimits) // 45 for the smallest, 10 for each of two upgrades
	if got := fmt.Sprint(sol.Choice); got != "[1 1 0 0 0]" {
		t.Errorf("choice %s, want the first two upgraded", got)
	}
	// Of two options alike in size and cost the first is taken.
	k, err = New([][]Option{{{20, 2}, {10, 5}, {10, 5}, {20, 2}}})
	if err != nil {
		t.Fatal(err)
	}
	for budget, want := range map[uint64]int{10: 1, 20: 0} {
		if sol, _ := k.Solve(budget, ExactLimits); sol.Choice[0] != want {
			t.Errorf("budget %d: option %d, want %d", budget, sol.Choice[0], want)
		}
	}
}

func TestKnapsackRefuses(t *testing.T) {
	for name, groups := range map[string][][]Option{
		"no options":   {{{1, 1}}, {}},
		"one size":     {{{1<<62 + 1, 1}}},
		"total size":   {{{1 << 62, 1}}, {{1, 1}}},
		"total cost":   {{{1, 1 << 62}}, {{1, 1}}},
		"wrapped size": {{{1 << 63, 0}}, {{1 << 63, 0}}},
	} {
		if _, err := New(groups); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestKnapsackMoreBudgetNeverCostsMore(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	for family := range families {
		groups := randomGroups(rng, family, 60, 8)
		k, err := New(groups)
		if err != nil {
			t.Fatal(err)
		}
		least, most := totals(groups)
		last := uint64(1) << 63
		for i := range uint64(101) {
			budget := least + (most-least)/100*i
			sol, ok := k.Solve(budget, ExactLimits)
			if !ok || sol.Cost != sol.Bound || sol.Cost > last {
				t.Fatalf("family %d, budget %d: cost %d (bound %d) after %d", family, budget, sol.Cost, sol.Bound, last)
			}
			checkSolution(t, groups, budget, sol)
			last = sol.Cost
		}
	}
}
