package knapsack

import (
	"math/bits"
	"math/rand/v2"
	"testing"
)

// largeSet makes up what experts of one tensor cost in types of 2 to 9 bits: by
// their traffic, and each a little otherwise.
func largeSet(rng *rand.Rand, groups, kinds int) *Set {
	s := &Set{OverheadBytes: []uint64{0, 31, 4000, 9000}}
	for k := range kinds {
		s.SizeBytes = append(s.SizeBytes, 1<<20+uint64(k)<<19)
	}
	for range groups {
		weight := float64(uint64(1) << (30 + rng.Uint64N(12)))
		costs := make([]uint64, kinds)
		for k := range costs {
			costs[k] = uint64(weight * (0.9 + 0.2*rng.Float64()))
			weight *= 0.5
		}
		s.Cost = append(s.Cost, costs)
		has := uint64(1)<<kinds - 1
		if rng.IntN(8) == 0 {
			has &^= 1
		}
		s.Has = append(s.Has, has)
	}
	return s
}

func kindSetOf(s *Set, limit int, bounded bool) *kindSet {
	sets := make([]kindSet, 1)
	sets[0].init(s, limit)
	sets[0].kindWork = newKindWork(sets)
	if bounded {
		sets[0].tree = newKindTree(len(sets[0].useful), sets[0].limit)
	}
	return &sets[0]
}

// Bounds from other rates are below what kinds are worth, and change no choice.
// Near rates that were looked at few kinds are.
func TestKindBounds(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 1))
	const limit = 3
	all, visited := 0, 0
	for n := range 40 {
		s := largeSet(rng, 40+rng.IntN(200), 4+rng.IntN(8))
		with, without := kindSetOf(s, limit, true), kindSetOf(s, limit, false)
		near := uint64(1) << (20 + rng.IntN(6))
		for i, rate := range []uint64{0, near, near + near/4, near + near/8, near - near/3, near + near/16, near + near/16 + 1, near, 4 * near} {
			got, want := with.choose(rate), without.choose(rate)
			if got != want {
				t.Fatalf("set %d, rate %d: %+v with bounds, %+v without", n, rate, got, want)
			}
			if i > 2 && i < 8 {
				all, visited = all+without.visits, visited+with.visits
			}
			with.startBounds(rate * 9 / 8)
			with.weigh(rate * 9 / 8)
			for i, node := range with.tree {
				var kinds uint64
				for j, k := range with.useful {
					kinds |= node.set >> j & 1 << k
				}
				if value := with.valueOf(kinds, rate*9/8); value < unavailable && with.bounds.least[i] > value {
					t.Fatalf("set %d, rate %d: kinds %b are worth %d, bound %d", n, rate*9/8, kinds, value, with.bounds.least[i])
				}
			}
			if a, b := countWithin(with, rate, got.value/100), countWithin(without, rate, got.value/100); a != b {
				t.Fatalf("set %d, rate %d: %d sets of kinds within 1 %% with bounds, %d without", n, rate, a, b)
			}
		}
	}
	t.Logf("%d visits, %d with bounds", all, visited)
	if visited > all/3 {
		t.Errorf("%d visits, %d with bounds", all, visited)
	}
}

// Where kinds are alike those that come first are found.
func TestKindBoundsOfTies(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 2))
	for n := range 2000 {
		s := largeSet(rng, 3+rng.IntN(6), 5+rng.IntN(5))
		if n%2 == 0 {
			s.OverheadBytes = nil
		}
		limit := 2 + rng.IntN(4)
		with, without := kindSetOf(s, limit, true), kindSetOf(s, limit, false)
		near := uint64(1) << (20 + rng.IntN(6))
		for _, rate := range []uint64{0, near, near + near/4, near + near/8, near - near/3, near + near/16, near + near/16 + 1, near, 4 * near} {
			if got, want := with.choose(rate), without.choose(rate); got != want {
				t.Fatalf("set %d, rate %d: %+v with bounds, %+v without", n, rate, got, want)
			}
		}
	}
}

func countWithin(s *kindSet, rate uint64, margin int64) int {
	list, _ := s.within(rate, margin)
	return len(list)
}

// A tree has every set of kinds once, each before what adds to it.
func TestKindTree(t *testing.T) {
	for kinds := 1; kinds <= 7; kinds++ {
		for limit := 1; limit <= kinds; limit++ {
			tree := newKindTree(kinds, limit)
			seen := map[uint64]bool{}
			for i, n := range tree {
				seen[n.set] = true
				if bits.OnesCount64(n.set) > limit || n.first != bits.TrailingZeros64(n.set) {
					t.Errorf("node %+v", n)
				}
				for j := range tree {
					adds := j > i && j < n.end
					if above := tree[j].set&n.set == n.set && tree[j].set>>bits.Len64(n.set) != 0; adds && !above {
						t.Errorf("%b is among those that add to %b", tree[j].set, n.set)
					}
				}
			}
			want := 0
			for set := uint64(1); set < 1<<kinds; set++ {
				if bits.OnesCount64(set) <= limit {
					want++
				}
			}
			if len(seen) != want || len(tree) != want {
				t.Errorf("%d of %d kinds: %d nodes, %d sets, want %d", limit, kinds, len(tree), len(seen), want)
			}
		}
	}
	if newKindTree(20, 8) != nil {
		t.Error("a tree of more sets than are tried")
	}
}
