package knapsack

import (
	"math/bits"
	"math/rand/v2"
	"testing"
)

func randomSets(rng *rand.Rand) ([]Set, int) {
	sets := make([]Set, 1+rng.IntN(2))
	kinds := 2 + rng.IntN(4)
	for i := range sets {
		s := &sets[i]
		for range kinds {
			s.SizeBytes = append(s.SizeBytes, 32*(1+rng.Uint64N(40)))
		}
		for g := range 2 + rng.IntN(3) {
			weight := 1 + rng.Uint64N(50)
			costs := make([]uint64, kinds)
			for k := range costs {
				costs[k] = weight * (1 << 50) / s.SizeBytes[k] / (1 + s.SizeBytes[k]/64) * (90 + rng.Uint64N(20)) / 100
			}
			s.Cost = append(s.Cost, costs)
			has := uint64(1)<<kinds - 1
			if rng.IntN(3) == 0 {
				has &^= 1 << (g % kinds)
			}
			s.Has = append(s.Has, has)
		}
		if rng.IntN(2) == 0 {
			s.OverheadBytes = []uint64{0, rng.Uint64N(3), 40, 90, 140}
		}
	}
	return sets, kinds
}

// bestOfKinds tries every choice.
func bestOfKinds(sets []Set, limit int, budget uint64) (best uint64, ok bool) {
	var try func(set, group int, used, size, cost uint64)
	try = func(set, group int, used, size, cost uint64) {
		if size > budget || ok && cost >= best {
			return
		}
		if set == len(sets) {
			best, ok = cost, true
			return
		}
		s := &sets[set]
		if group == len(s.Cost) {
			n := bits.OnesCount64(used)
			if n <= limit {
				if s.OverheadBytes != nil {
					size += s.OverheadBytes[n]
				}
				try(set+1, 0, 0, size, cost)
			}
			return
		}
		for k := range s.SizeBytes {
			if s.has(group, k) {
				try(set, group+1, used|1<<k, size+s.SizeBytes[k], cost+s.Cost[group][k])
			}
		}
	}
	try(0, 0, 0, 0, 0)
	return best, ok
}

// solveKinds is what the planner makes of a choice of kinds.
func solveKinds(sets []Set, best *uint64) func([]uint64, uint64) (uint64, uint64, bool) {
	return func(kinds []uint64, budget uint64) (cost, bound uint64, ok bool) {
		var groups [][]Option
		for i := range sets {
			for g := range sets[i].Cost {
				var options []Option
				for k, size := range sets[i].SizeBytes {
					if kinds[i]>>k&1 != 0 && sets[i].has(g, k) {
						options = append(options, Option{size, sets[i].Cost[g][k]})
					}
				}
				if len(options) == 0 {
					return 0, 0, false
				}
				groups = append(groups, options)
			}
		}
		k, err := New(groups)
		if err != nil {
			return 0, 0, false
		}
		sol, ok := k.Solve(budget, ExactLimits)
		if !ok {
			return 0, 0, false
		}
		*best = min(*best, sol.Cost)
		return sol.Cost, sol.Bound, true
	}
}

func TestKindLimitAgainstBruteForce(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	exact, missed, solved := 0, 0, 0
	const problems = 3000
	for n := range problems {
		sets, kinds := randomSets(rng)
		var most uint64
		for i := range sets {
			for range sets[i].Cost {
				most += 32 * 40
			}
		}
		budget := most/20 + rng.Uint64N(most)
		limit := 1 + rng.IntN(kinds)
		want, feasible := bestOfKinds(sets, limit, budget)
		got := uint64(1) << 63
		l := &KindLimit{Sets: sets, Kinds: limit, BudgetBytes: budget, Solve: solveKinds(sets, &got), MaxSolves: 200}
		bound, ok := l.Choose()
		if !ok {
			// A plan at the edge of the budget may be missed; none may be invented.
			if feasible {
				missed++
			}
			continue
		}
		if !feasible || got < want || bound > want {
			t.Fatalf("problem %d: cost %d, bound %d, the best is %d (%v)", n, got, bound, want, feasible)
		}
		solved++
		if got == want && bound == want {
			exact++
		} else if testing.Verbose() && got != want {
			t.Logf("problem %d: limit %d of %d, cost %d, bound %d, the best is %d", n, limit, kinds, got, bound, want)
		}
	}
	t.Logf("%d of %d proved the best, %d missed", exact, solved, missed)
	if exact < solved*99/100 || missed > 0 {
		t.Errorf("%d of %d proved the best, %d missed", exact, solved, missed)
	}
}
