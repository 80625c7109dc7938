// Package knapsack solves the multiple-choice knapsack problem exactly.
//
// The multiple-choice knapsack: one option of every group, at the least total
// cost whose total size keeps within a budget. Costs and sizes are integers, so
// that the optimum is exact and a larger budget never costs more.
//
// The method is a dynamic program over a core. The groups' lower convex hulls,
// walked in order of cost saved per byte, give the relaxed optimum; the step at
// which the budget breaks off splits every group's options into a base and
// deviations from it. Groups then enter the program one by one, those first
// whose next step is worth most nearly what the break step is. A state is the
// size and cost of a choice among the groups entered, all others at their base;
// one that is larger and no cheaper than another goes, and so does one that
// cannot beat the best plan known even if its excess could be traded for cost
// at the rate of the best step that is left. What remains is small: tens to
// thousands of states for the shapes of real models. The worst case is that of
// the problem (exponential, or groups × options × distinct sizes): a few hundred
// groups of random 44-bit sizes with all options on one line of size and cost
// take seconds and reach the limits, 600 MB of states under [ExactLimits] and 150
// MB under [SplitLimits]. A search that they cut short says so by a bound below
// its cost.
package knapsack

import (
	"fmt"
	"math"
	"math/bits"
)

// An Option is one candidate of a group.
type Option struct {
	SizeBytes uint64
	Cost      uint64
}

// A Solution is a choice of one option per group.
type Solution struct {
	Choice    []int // index into each group
	SizeBytes uint64
	Cost      uint64
	Bound     uint64 // no choice within the budget costs less; equal to cost where proved optimal
}

// Limits say how far a search goes before it settles for what it has.
type Limits struct {
	maxStates int
	maxNodes  int // deviations kept before those that no state leads to go
	maxWork   int // states generated
	// settleWork is the work after which a solution within settleGap (a
	// fraction of its cost) of the bound is good enough.
	settleWork int
	settleGap  float64
}

var (
	ExactLimits = Limits{maxStates: 1 << 20, maxNodes: 1 << 23, maxWork: 1 << 31, settleWork: 1 << 31}
	SplitLimits = Limits{maxStates: 1 << 18, maxNodes: 1 << 22, maxWork: 1 << 30, settleWork: 1 << 25, settleGap: 1e-5}
)

// MaxTotal bounds the sum of sizes and the sum of costs of a problem.
const MaxTotal = 1 << 62

// A Knapsack is a problem made ready to be solved for any budget.
type Knapsack struct {
	room  *Room
	order order  // all groups' hull steps
	Least uint64 // total size of the smallest options
}

// A PackedGroup is a group without options that another option of no larger
// size and no higher cost replaces: by ascending size and descending cost.
type PackedGroup struct {
	Options []packedOption
	hull    []int32 // positions in options of the lower convex hull's corners
}

// A packedSpan is where a group's options begin, as its hull does, and how many
// there are of each.
type packedSpan struct{ first, options, corners int32 }

func (k *Knapsack) group(i int) PackedGroup {
	at := k.room.groups[i]
	return PackedGroup{k.room.packed[at.first:][:at.options:at.options], k.room.hulls[at.first:][:at.corners:at.corners]}
}

type packedOption struct {
	Size, cost int64
	Index      int32 // in the group as given
}

// A Rate is cost per byte.
type Rate struct{ Cost, Bytes uint64 }

// A Room is the memory that a knapsack lies in. The next one takes its place.
type Room struct {
	groups []packedSpan
	packed []packedOption
	hulls  []int32
	steps  []step
	fits   []step // those that are looked at to fill what room a budget has left
}

// New makes the problem ready.
func New(groups [][]Option) (*Knapsack, error) {
	return new(Room).New(len(groups), func(i int) []Option { return groups[i] })
}

// New is the same in the room; it asks for each group's options twice.
func (r *Room) New(groups int, optionsOf func(group int) []Option) (*Knapsack, error) {
	var sizes, costs uint64
	count := 0
	for i := range groups {
		count += len(optionsOf(i))
	}
	if count > math.MaxInt32 {
		return nil, fmt.Errorf("%d options", count)
	}
	r.groups, r.packed, r.hulls = Resized(r.groups, groups), Resized(r.packed, count), Resized(r.hulls, count)
	r.steps = Resized(r.steps, max(0, count-groups))[:0]
	k := &Knapsack{room: r}
	first := 0
	for i := range groups {
		options := optionsOf(i)
		n := len(options)
		if n == 0 {
			return nil, fmt.Errorf("group %d has no options", i)
		}
		var size, cost uint64
		for _, o := range options {
			size, cost = max(size, o.SizeBytes), max(cost, o.Cost)
		}
		if size > MaxTotal || cost > MaxTotal {
			return nil, fmt.Errorf("group %d: size or cost over the limit of 2^62", i)
		}
		if sizes, costs = sizes+size, costs+cost; sizes > MaxTotal || costs > MaxTotal {
			return nil, fmt.Errorf("total size or cost over the limit of 2^62")
		}
		g := packGroup(options, r.packed[first:][:n], r.hulls[first:first:first+n])
		r.groups[i] = packedSpan{int32(first), int32(len(g.Options)), int32(len(g.hull))}
		first += n
		k.Least += uint64(g.Options[0].Size)
		for c := 1; c < len(g.hull); c++ {
			from, to := g.Options[g.hull[c-1]], g.Options[g.hull[c]]
			r.steps = append(r.steps, step{uint64(from.cost - to.cost), uint64(to.Size - from.Size), int32(i), int32(c)})
		}
	}
	k.order = newOrder(r.steps)
	return k, nil
}

// Resized returns a list of n elements, of any value, in the memory of another
// if they have room there.
func Resized[T any](list []T, n int) []T {
	if cap(list) < n {
		return make([]T, n)
	}
	return list[:n]
}

func PackGroup(options []Option) PackedGroup {
	return packGroup(options, make([]packedOption, len(options)), make([]int32, 0, len(options)))
}

// packGroup is PackGroup with memory for as many options and corners.
func packGroup(options []Option, sorted []packedOption, hull []int32) PackedGroup {
	for i, o := range options {
		// Few options, and mostly in order as they come.
		x := packedOption{int64(o.SizeBytes), int64(o.Cost), int32(i)}
		j := i
		for ; j > 0 && (x.Size < sorted[j-1].Size || x.Size == sorted[j-1].Size && x.cost < sorted[j-1].cost); j-- {
			sorted[j] = sorted[j-1]
		}
		sorted[j] = x
	}
	kept := sorted[:1]
	for _, o := range sorted[1:] {
		if o.cost < kept[len(kept)-1].cost {
			kept = append(kept, o)
		}
	}
	for i := range kept {
		for len(hull) >= 2 {
			a, b, c := kept[hull[len(hull)-2]], kept[hull[len(hull)-1]], kept[i]
			// b is a corner only if a to b saves more per byte than b to c.
			if CompareRates(Rate{uint64(a.cost - b.cost), uint64(b.Size - a.Size)}, Rate{uint64(b.cost - c.cost), uint64(c.Size - b.Size)}) > 0 {
				break
			}
			hull = hull[:len(hull)-1]
		}
		hull = append(hull, int32(i))
	}
	return PackedGroup{Options: kept, hull: hull}
}

// CompareRates compares two rates exactly.
func CompareRates(a, b Rate) int { return compareProducts(a.Cost, b.Bytes, b.Cost, a.Bytes) }

// compareProducts compares a*b with c*d exactly.
func compareProducts(a, b, c, d uint64) int {
	h1, l1 := bits.Mul64(a, b)
	h2, l2 := bits.Mul64(c, d)
	switch {
	case h1 > h2 || h1 == h2 && l1 > l2:
		return 1
	case h1 == h2 && l1 == l2:
		return 0
	}
	return -1
}

// Solve finds the cheapest choice within budgetBytes, and reports false when
// even the smallest options, of k.least bytes together, exceed it.
func (k *Knapsack) Solve(budgetBytes uint64, lim Limits) (*Solution, bool) {
	if k.Least > budgetBytes {
		return nil, false
	}
	s := &search{k: k, lim: lim, budget: int64(min(budgetBytes, MaxTotal)), base: make([]int32, len(k.room.groups))}
	s.relax()
	s.run()
	sol := s.result()
	s.swapAlike(sol)
	return sol, true
}

// CutRate is the cost that a byte saves at the relaxed optimum, where the budget
// breaks off; false where everything fits.
func (k *Knapsack) CutRate(budgetBytes uint64) (Rate, bool) {
	cut := k.order.cut(budgetBytes - min(k.Least, budgetBytes))
	if cut == k.count() {
		return Rate{0, 1}, false
	}
	return k.rate(cut), true
}

func (k *Knapsack) count() int { return len(k.room.steps) }

func (k *Knapsack) rate(i int) Rate {
	st := k.order.at(i)
	return Rate{st.saves, st.bytes}
}
