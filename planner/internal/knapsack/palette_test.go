package knapsack

import (
	"math/bits"
	"math/rand/v2"
	"testing"
	"time"
)

// bruteForcePalette tries every set of kinds.
func bruteForcePalette(groups [][]Option, kinds [][]uint8, count, most int, budget uint64) (cost uint64, ok bool) {
	for set := range uint64(1) << count {
		if bits.OnesCount64(set) > most {
			continue
		}
		left := make([][]Option, len(groups))
		for g := range groups {
			for i, o := range groups[g] {
				if set>>kinds[g][i]&1 != 0 {
					left[g] = append(left[g], o)
				}
			}
		}
		if c, fits := bruteForce(left, budget); fits && (!ok || c < cost) {
			cost, ok = c, true
		}
	}
	return cost, ok
}

// randomPalette names the kinds of random groups: no kind twice in a group.
func randomPalette(rng *rand.Rand, groups [][]Option, count int) [][]uint8 {
	kinds := make([][]uint8, len(groups))
	for g := range groups {
		for _, k := range rng.Perm(count)[:len(groups[g])] {
			kinds[g] = append(kinds[g], uint8(k))
		}
	}
	return kinds
}

func TestSolvePaletteAgainstBruteForce(t *testing.T) {
	const count = 6
	rng := rand.New(rand.NewPCG(5, 6))
	found, none, tight := 0, 0, 0
	for n := range 3000 {
		groups := randomGroups(rng, n%families, 1+rng.IntN(5), 5)
		kinds := randomPalette(rng, groups, count)
		least, size := totals(groups)
		for most := 1; most <= 4; most++ {
			budget := least + rng.Uint64N(size-least+1)
			sol, smallest, err := SolvePalette(groups, kinds, most, budget, ExactLimits)
			if err != nil {
				t.Fatal(err)
			}
			want, ok := bruteForcePalette(groups, kinds, count, most, budget)
			if ok != (sol != nil) {
				t.Fatalf("problem %d: %d kinds in %d bytes: found %v, brute force %v", n, most, budget, sol != nil, ok)
			}
			if !ok {
				none++
				for _, bytes := range []uint64{smallest, smallest - 1} {
					if _, fits := bruteForcePalette(groups, kinds, count, most, bytes); smallest > 0 && fits != (bytes == smallest) {
						t.Fatalf("problem %d: %d kinds: the least size is said to be %d, and %d fits: %v", n, most, smallest, bytes, fits)
					}
				}
				if _, fits := bruteForcePalette(groups, kinds, count, most, size); smallest == 0 && fits {
					t.Fatalf("problem %d: %d kinds are said to be too few", n, most)
				}
				continue
			}
			found++
			checkSolution(t, groups, budget, sol.Solution)
			var used uint64
			for g, c := range sol.Choice {
				used |= 1 << kinds[g][c]
			}
			if used != sol.Kinds || bits.OnesCount64(used) > most {
				t.Fatalf("problem %d: kinds %b, of the choice %b, at most %d", n, sol.Kinds, used, most)
			}
			if sol.Cost != want || sol.Bound != want {
				t.Fatalf("problem %d: %d kinds in %d bytes: cost %d, bound %d, brute force %d", n, most, budget, sol.Cost, sol.Bound, want)
			}
			if free, _ := bruteForce(groups, budget); free < want {
				tight++
			}
		}
	}
	if found < 1000 || none < 1000 || tight < 300 {
		t.Errorf("%d problems solved, %d without a solution, %d where the bound costs something", found, none, tight)
	}
}

// modelGroups is a problem of the shape of a large model's: layers of the same
// tensors, 25 types of convex cost with a few percent of noise.
func modelGroups(layers int) (groups [][]Option, kinds [][]uint8) {
	rng := rand.New(rand.NewPCG(7, 8))
	for range layers {
		for _, weights := range []uint64{1 << 24, 1 << 24, 1 << 24, 1 << 17, 1 << 17, 1 << 16, 1 << 18, 1 << 15, 1 << 16, 1 << 17} {
			sensitivity := rng.Float64() + 0.1
			var list []Option
			var of []uint8
			for k := range 25 {
				bits := 1.6 + 0.28*float64(k)
				cost := sensitivity * (0.9 + 0.2*rng.Float64())
				for range int(bits * 10) {
					cost /= 1.14
				}
				list = append(list, Option{weights / 256 * uint64(bits*32), uint64(cost * (1 << 50))})
				of = append(of, uint8(k))
			}
			groups, kinds = append(groups, list), append(kinds, of)
		}
	}
	return groups, kinds
}

func TestSolvePaletteOfALargeModel(t *testing.T) {
	groups, kinds := modelGroups(61)
	least, size := totals(groups)
	for _, most := range []int{2, 3, 4, 6, 10} {
		start := time.Now()
		sol, _, err := SolvePalette(groups, kinds, most, least+(size-least)*2/5, ExactLimits)
		if err != nil || sol == nil {
			t.Fatal(most, sol, err)
		}
		t.Logf("%d kinds %025b: cost %d, bound %d below, %v", most, sol.Kinds, sol.Cost, sol.Cost-sol.Bound, time.Since(start))
		if sol.Bound != sol.Cost {
			t.Errorf("%d kinds: cost %d is not proved: bound %d", most, sol.Cost, sol.Bound)
		}
	}
}
