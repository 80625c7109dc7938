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
	"cmp"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
)

// An option is one candidate of a group.
type Option struct {
	SizeBytes uint64
	Cost      uint64
}

// A solution is a choice of one option per group.
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

// A knapsack is a problem made ready to be solved for any budget.
type Knapsack struct {
	groups []PackedGroup
	steps  []step // all groups' hull steps, most cost saved per byte first
	Least  uint64 // total size of the smallest options
}

// A packedGroup is a group without options that another option of no larger
// size and no higher cost replaces: by ascending size and descending cost.
type PackedGroup struct {
	Options []packedOption
	hull    []int32 // positions in options of the lower convex hull's corners
}

type packedOption struct {
	Size, cost int64
	Index      int32 // in the group as given
}

// A step goes from one corner of a group's hull to the next larger one.
type step struct {
	group  int32
	saves  uint64 // cost
	bytes  uint64
	corner int32 // the larger one
}

// A rate is cost per byte.
type Rate struct{ Cost, Bytes uint64 }

func New(groups [][]Option) (*Knapsack, error) {
	k := &Knapsack{groups: make([]PackedGroup, len(groups))}
	var sizes, costs uint64
	count := 0
	for _, options := range groups {
		count += len(options)
	}
	k.steps = make([]step, 0, count)
	for i, options := range groups {
		if len(options) == 0 {
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
		k.groups[i] = PackGroup(options)
		g := &k.groups[i]
		k.Least += uint64(g.Options[0].Size)
		for c := 1; c < len(g.hull); c++ {
			from, to := g.Options[g.hull[c-1]], g.Options[g.hull[c]]
			k.steps = append(k.steps, step{int32(i), uint64(from.cost - to.cost), uint64(to.Size - from.Size), int32(c)})
		}
	}
	slices.SortFunc(k.steps, func(a, b step) int {
		if c := CompareRates(Rate{b.saves, b.bytes}, Rate{a.saves, a.bytes}); c != 0 {
			return c
		}
		return cmp.Or(cmp.Compare(a.group, b.group), cmp.Compare(a.corner, b.corner))
	})
	return k, nil
}

func PackGroup(options []Option) PackedGroup {
	sorted := make([]packedOption, len(options))
	for i, o := range options {
		sorted[i] = packedOption{int64(o.SizeBytes), int64(o.Cost), int32(i)}
	}
	slices.SortStableFunc(sorted, func(a, b packedOption) int {
		return cmp.Or(cmp.Compare(a.Size, b.Size), cmp.Compare(a.cost, b.cost))
	})
	kept := sorted[:1]
	for _, o := range sorted[1:] {
		if o.cost < kept[len(kept)-1].cost {
			kept = append(kept, o)
		}
	}
	hull := make([]int32, 0, len(kept))
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
	return cmp.Or(cmp.Compare(h1, h2), cmp.Compare(l1, l2))
}

// Solve finds the cheapest choice within budgetBytes, and reports false when
// even the smallest options, of k.least bytes together, exceed it.
func (k *Knapsack) Solve(budgetBytes uint64, lim Limits) (*Solution, bool) {
	if k.Least > budgetBytes {
		return nil, false
	}
	s := &search{k: k, lim: lim, budget: int64(min(budgetBytes, MaxTotal)), base: make([]int32, len(k.groups))}
	s.relax()
	s.run()
	sol := s.result()
	k.swapAlike(sol)
	return sol, true
}

// CutRate is the cost that a byte saves at the relaxed optimum, where the budget
// breaks off; false where everything fits.
func (k *Knapsack) CutRate(budgetBytes uint64) (Rate, bool) {
	size := k.Least
	for _, st := range k.steps {
		if size += st.bytes; size > budgetBytes {
			return Rate{st.saves, st.bytes}, true
		}
	}
	return Rate{0, 1}, false
}

// A search is the state of one solve.
type search struct {
	k      *Knapsack
	lim    Limits
	budget int64

	base     []int32 // corner of each group's hull at the relaxed optimum, rounded down
	baseSize int64
	baseCost int64
	cut      int // the first step that no longer fits; len(k.steps) if all do

	best     int64   // cost of the best plan known
	bestBase []int32 // its corners, where greedy filling found it
	bestNode int32   // its deviations from base, where a state found it

	entered []bool // groups that the program decides
	up      int    // the next step up of a group that has not entered
	down    int    // the next step down
	states  []state
	nodes   []node
	work    int
}

// A state is a choice among the groups that entered.
type state struct {
	excess int64 // size over the budget, negative where room is left
	cost   int64
	node   int32 // its deviations from base, -1 for none
	option int16 // while merging: the option just taken, -1 for the base
}

// A node is one deviation and those before it.
type node struct {
	parent int32
	group  int32
	option int16
}

// relax walks the steps while they fit and then fills what room is left.
func (s *search) relax() {
	for i := range s.k.groups {
		first := s.k.groups[i].Options[0]
		s.baseSize += first.Size
		s.baseCost += first.cost
	}
	steps := s.k.steps
	for s.cut < len(steps) && s.baseSize+int64(steps[s.cut].bytes) <= s.budget {
		s.take(s.base, steps[s.cut], &s.baseSize, &s.baseCost)
		s.cut++
	}
	s.bestBase, s.bestNode = slices.Clone(s.base), -1
	size := s.baseSize
	s.best = s.baseCost
	for _, st := range steps[s.cut:] {
		if s.bestBase[st.group] == st.corner-1 && size+int64(st.bytes) <= s.budget {
			s.take(s.bestBase, st, &size, &s.best)
		}
	}
}

func (s *search) take(corners []int32, st step, size, cost *int64) {
	corners[st.group] = st.corner
	*size += int64(st.bytes)
	*cost -= int64(st.saves)
}

// run enters groups until no state can beat the best plan.
func (s *search) run() {
	if s.cut == len(s.k.steps) {
		return // everything fits
	}
	s.entered = make([]bool, len(s.k.groups))
	s.up, s.down = s.cut, s.cut-1
	s.states = []state{{excess: s.baseSize - s.budget, cost: s.baseCost, node: -1}}
	cut := Rate{s.k.steps[s.cut].saves, s.k.steps[s.cut].bytes}
	upNext := true
	for len(s.states) > 0 {
		s.settle()
		group := int32(-1)
		if s.up < len(s.k.steps) && (upNext || s.down < 0) {
			group = s.k.steps[s.up].group
		} else if s.down >= 0 {
			group = s.k.steps[s.down].group
		}
		if group < 0 {
			s.states = nil // every group has entered, and feasible states were taken
			return
		}
		upNext = !upNext
		deviations := s.deviations(group, cut)
		if len(deviations) > 0 && s.exhausted(len(deviations)) {
			return
		}
		s.entered[group] = true
		s.settle()
		if len(deviations) > 0 {
			s.enter(group, deviations)
		}
	}
}

// settle moves the cursors to groups that have not entered.
func (s *search) settle() {
	for s.up < len(s.k.steps) && s.entered[s.k.steps[s.up].group] {
		s.up++
	}
	for s.down >= 0 && s.entered[s.k.steps[s.down].group] {
		s.down--
	}
}

// exhausted reports whether the search may not go on.
func (s *search) exhausted(deviations int) bool {
	next := (deviations + 1) * len(s.states)
	if next > 4*s.lim.maxStates || s.work+next > s.lim.maxWork {
		return true
	}
	return s.work > s.lim.settleWork && float64(s.best-s.bound()) <= s.lim.settleGap*float64(s.best)
}

// deviations lists the options of a group, other than its base, that a plan
// better than the best known may hold.
func (s *search) deviations(group int32, cut Rate) []int16 {
	g := &s.k.groups[group]
	at := g.hull[s.base[group]]
	from := g.Options[at]
	var out []int16
	for i, o := range g.Options {
		if int32(i) == at {
			continue
		}
		if !s.beaten(s.baseCost+o.cost-from.cost, s.baseSize+o.Size-from.Size-s.budget, cut, cut) {
			out = append(out, int16(i))
		}
	}
	return out
}

// beaten reports whether a cost, plus excess bytes removed at the rate down or
// less room sold at the rate up, comes to the best known cost or more.
func (s *search) beaten(cost, excess int64, up, down Rate) bool {
	if excess >= 0 {
		return cost >= s.best || compareProducts(uint64(excess), down.Cost, uint64(s.best-cost), down.Bytes) >= 0
	}
	return cost >= s.best && compareProducts(uint64(cost-s.best), up.Bytes, uint64(-excess), up.Cost) >= 0
}

// rates returns what the best steps of groups that have not entered give for a
// byte (0 where none is left) and take for one (without end where none is).
func (s *search) rates() (up, down Rate) {
	up, down = Rate{0, 1}, Rate{1, 0}
	if s.up < len(s.k.steps) {
		up = Rate{s.k.steps[s.up].saves, s.k.steps[s.up].bytes}
	}
	if s.down >= 0 {
		down = Rate{s.k.steps[s.down].saves, s.k.steps[s.down].bytes}
	}
	return up, down
}

// enter merges the states with each deviation of a group.
func (s *search) enter(group int32, deviations []int16) {
	g := &s.k.groups[group]
	from := g.Options[g.hull[s.base[group]]]
	merged := slices.Clone(s.states)
	for i := range merged {
		merged[i].option = -1
	}
	var scratch []state
	for _, d := range deviations {
		o := g.Options[d]
		scratch = mergeStates(scratch[:0], merged, s.states, o.Size-from.Size, o.cost-from.cost, d)
		merged, scratch = scratch, merged
		s.work += len(merged)
	}
	winner := -1
	for i, st := range merged {
		if st.excess <= 0 && st.cost < s.best {
			s.best, winner = st.cost, i
		}
	}
	up, down := s.rates()
	kept := s.states[:0]
	for i, st := range merged {
		drop := s.beaten(st.cost, st.excess, up, down)
		if drop && i != winner {
			continue
		}
		if st.option >= 0 {
			s.nodes = append(s.nodes, node{st.node, group, st.option})
			st.node = int32(len(s.nodes) - 1)
		}
		if i == winner {
			s.bestBase, s.bestNode = nil, st.node
		}
		if !drop {
			kept = append(kept, st)
		}
	}
	s.states = kept
	if len(s.nodes) > s.lim.maxNodes {
		s.compact()
	}
}

// mergeStates appends to dst the states of a and those of b moved by one
// option, by ascending excess, without those that another one replaces. Of two
// alike the one of a stays.
func mergeStates(dst, a, b []state, size, cost int64, option int16) []state {
	least := int64(MaxTotal) + 1
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		var next state
		fromA := i < len(a)
		if fromA && j < len(b) {
			excess, moved := b[j].excess+size, b[j].cost+cost
			fromA = a[i].excess < excess || a[i].excess == excess && a[i].cost <= moved
		}
		if fromA {
			next = a[i]
			i++
		} else {
			next = state{b[j].excess + size, b[j].cost + cost, b[j].node, option}
			j++
		}
		if next.cost < least {
			least = next.cost
			dst = append(dst, next)
		}
	}
	return dst
}

// compact drops nodes that no state leads to.
func (s *search) compact() {
	place := make([]int32, len(s.nodes))
	mark := func(n int32) {
		for ; n >= 0 && place[n] == 0; n = s.nodes[n].parent {
			place[n] = 1
		}
	}
	for _, st := range s.states {
		mark(st.node)
	}
	mark(s.bestNode)
	kept := s.nodes[:0]
	moved := func(n int32) int32 {
		if n < 0 {
			return n
		}
		return place[n]
	}
	for i, n := range s.nodes {
		if place[i] == 1 {
			n.parent = moved(n.parent)
			place[i] = int32(len(kept))
			kept = append(kept, n)
		}
	}
	s.nodes = kept
	for i := range s.states {
		s.states[i].node = moved(s.states[i].node)
	}
	s.bestNode = moved(s.bestNode)
}

// bound returns a cost below which no plan is.
func (s *search) bound() int64 {
	bound := s.best
	if s.entered == nil {
		return bound
	}
	up, down := s.rates()
	for _, st := range s.states {
		least := st.cost
		if st.excess > 0 {
			if down.Bytes == 0 {
				continue
			}
			least += mulDiv(uint64(st.excess), down)
		} else {
			// Rounding the room's worth up keeps the bound below the truth.
			least -= mulDiv(uint64(-st.excess), up) + 1
		}
		bound = min(bound, least)
	}
	return max(bound, 0)
}

// mulDiv returns what size bytes cost at a rate, rounded down, at most 2^62.
func mulDiv(size uint64, r Rate) int64 {
	hi, lo := bits.Mul64(size, r.Cost)
	if hi >= r.Bytes {
		return MaxTotal
	}
	q, _ := bits.Div64(hi, lo, r.Bytes)
	return int64(min(q, MaxTotal))
}

func (s *search) result() *Solution {
	sol := &Solution{Choice: make([]int, len(s.k.groups)), Bound: uint64(s.bound())}
	position := make([]int32, len(s.k.groups))
	corners := s.base
	if s.bestBase != nil {
		corners = s.bestBase
	}
	for i := range s.k.groups {
		position[i] = s.k.groups[i].hull[corners[i]]
	}
	if s.bestBase == nil {
		for n := s.bestNode; n >= 0; n = s.nodes[n].parent {
			position[s.nodes[n].group] = int32(s.nodes[n].option)
		}
	}
	for i := range s.k.groups {
		o := s.k.groups[i].Options[position[i]]
		sol.Choice[i] = int(o.Index)
		sol.SizeBytes += uint64(o.Size)
		sol.Cost += uint64(o.cost)
	}
	return sol
}

// swapAlike breaks ties: among groups with the same options the earlier ones
// get the larger choices.
func (k *Knapsack) swapAlike(sol *Solution) {
	alike := map[string][]int{}
	var key []byte
	for i := range k.groups {
		if len(k.groups[i].Options) < 2 {
			continue
		}
		key = key[:0]
		for _, o := range k.groups[i].Options {
			key = binary.LittleEndian.AppendUint64(key, uint64(o.Size))
			key = binary.LittleEndian.AppendUint64(key, uint64(o.cost))
		}
		alike[string(key)] = append(alike[string(key)], i)
	}
	for _, members := range alike {
		if len(members) < 2 {
			continue
		}
		positions := make([]int, len(members))
		for m, i := range members {
			positions[m] = slices.IndexFunc(k.groups[i].Options, func(o packedOption) bool { return int(o.Index) == sol.Choice[i] })
		}
		slices.SortFunc(positions, func(a, b int) int { return cmp.Compare(b, a) })
		for m, i := range members {
			sol.Choice[i] = int(k.groups[i].Options[positions[m]].Index)
		}
	}
}
