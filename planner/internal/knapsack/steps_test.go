package knapsack

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// Wherever an order is looked at, it is that of its steps sorted.
func TestOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 1))
	for n := range 300 {
		steps := make([]step, rng.IntN(2000))
		var total uint64
		for i := range steps {
			// Few values, so that many rates are the same.
			steps[i] = step{saves: 1 + rng.Uint64N(20), bytes: 1 + rng.Uint64N(20), group: int32(i), corner: 1}
			total += steps[i].bytes
		}
		sorted := slices.Clone(steps)
		slices.SortFunc(sorted, compareSteps)
		if n%3 == 0 {
			slices.Reverse(sorted)
			steps = slices.Clone(sorted) // the worst for a pivot is no worse
			slices.Reverse(sorted)
		}
		rng.Shuffle(len(steps)*(n%2), func(i, j int) { steps[i], steps[j] = steps[j], steps[i] })
		o := newOrder(steps)
		for range 20 {
			room := rng.Uint64N(total + 2)
			want, used := 0, uint64(0)
			for want < len(sorted) && used+sorted[want].bytes <= room {
				used += sorted[want].bytes
				want++
			}
			if got := o.cut(room); got != want {
				t.Fatalf("order %d: %d of %d steps fit in %d, want %d", n, got, len(steps), room, want)
			}
			if len(steps) == 0 {
				continue
			}
			if i := rng.IntN(len(steps)); *o.at(i) != sorted[i] {
				t.Fatalf("order %d: step %d of %d is %v, want %v", n, i, len(steps), *o.at(i), sorted[i])
			}
		}
	}
}

// Of many steps a budget's answer sorts few.
func TestOrderSortsFew(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 2))
	steps := make([]step, 1<<17)
	for i := range steps {
		steps[i] = step{saves: 1 + rng.Uint64N(1<<40), bytes: 1 + rng.Uint64N(1<<20), group: int32(i), corner: 1}
	}
	o := newOrder(steps)
	o.at(o.cut(1 << 35))
	sorted := 0
	for i, p := range o.parts {
		if p.sorted {
			sorted += p.end - o.start(i)
		}
	}
	if sorted > 2*smallPart {
		t.Errorf("%d of %d steps are sorted", sorted, len(steps))
	}
}

// A room that held another problem makes no difference.
func TestRoom(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 3))
	var r Room
	for range 200 {
		groups := make([][]Option, 1+rng.IntN(40))
		for g := range groups {
			for range 1 + rng.IntN(5) {
				groups[g] = append(groups[g], Option{1 + rng.Uint64N(50), rng.Uint64N(50)})
			}
		}
		own, err := New(groups)
		if err != nil {
			t.Fatal(err)
		}
		other, err := r.New(len(groups), func(i int) []Option { return groups[i] })
		if err != nil {
			t.Fatal(err)
		}
		budget := own.Least + rng.Uint64N(500)
		a, _ := own.Solve(budget, ExactLimits)
		b, _ := other.Solve(budget, ExactLimits)
		if a.Cost != b.Cost || a.Bound != b.Bound || !slices.Equal(a.Choice, b.Choice) {
			t.Fatalf("%+v in a room of its own, %+v in one used before", a, b)
		}
	}
}

// Of groups with the same options the earlier ones have the larger choices.
func TestAlikeGroups(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 4))
	mixed := 0
	for n := range 2000 {
		some := make([][]Option, 3)
		for g := range some {
			for range 3 {
				some[g] = append(some[g], Option{1 + rng.Uint64N(60), rng.Uint64N(60)})
			}
		}
		groups, kind := [][]Option{}, []int{}
		for range 5 + rng.IntN(15) {
			kind = append(kind, rng.IntN(len(some)))
			groups = append(groups, some[kind[len(kind)-1]])
		}
		k, err := New(groups)
		if err != nil {
			t.Fatal(err)
		}
		sol, _ := k.Solve(k.Least+rng.Uint64N(400), ExactLimits)
		last := map[int]uint64{}
		for i, c := range sol.Choice {
			size := groups[i][c].SizeBytes
			if before, ok := last[kind[i]]; ok && before < size {
				t.Fatalf("problem %d: group %d takes %d bytes, one like it before %d", n, i, size, before)
			} else if ok && before > size {
				mixed++
			}
			last[kind[i]] = size
		}
	}
	if mixed < 500 {
		t.Errorf("only %d choices differ from those of groups alike", mixed)
	}
}
