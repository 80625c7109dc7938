package knapsack

import (
	"math/bits"
	"slices"
)

// A search is the state of one solve.
type search struct {
	k      *Knapsack
	lim    Limits
	budget int64

	base     []int32 // corner of each group's hull at the relaxed optimum, rounded down
	baseSize int64
	baseCost int64
	cut      int // the first step that no longer fits; k.count() if all do

	best     int64   // cost of the best plan known
	bestBase []int32 // its corners, where greedy filling found it
	bestNode int32   // its deviations from base, where a state found it

	cutRate Rate
	entered []bool // groups that the program decides
	open    []bool // groups that have not entered and may deviate from the base
	left    int    // how many of them
	up      int    // the next step up of a group that has not entered
	down    int    // the next step down
	states  []state
	nodes   []node
	work    int
	idle    int // groups that entered

	deviants []int32 // groups that are not at their base in the best plan

	moved, merged, spare []state // memory to use again
}

// A state is a choice among the groups that entered.
type state struct {
	excess int64 // size over the budget, negative where room is left
	cost   int64
	least  int64 // no plan with it costs less: at the cut's rate, rounded down
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
	for i := range s.k.room.groups {
		first := &s.k.room.packed[s.k.room.groups[i].first]
		s.baseSize += first.Size
		s.baseCost += first.cost
	}
	s.cut = s.k.order.cut(uint64(s.budget - s.baseSize))
	steps := s.k.room.steps
	for i := range steps[:s.cut] {
		s.take(s.base, &steps[i], &s.baseSize, &s.baseCost)
	}
	s.bestBase, s.bestNode = slices.Clone(s.base), -1
	s.best = s.baseCost
	s.fill(uint64(s.budget - s.baseSize))
}

// take moves a group to a step's corner or, the steps coming in any order,
// leaves it at a larger one.
func (s *search) take(corners []int32, st *step, size, cost *int64) {
	corners[st.group] = max(corners[st.group], st.corner)
	*size += int64(st.bytes)
	*cost -= int64(st.saves)
}

// fill takes the next best of the steps that fit in the room left.
func (s *search) fill(room uint64) {
	fits := s.k.room.fits[:0]
	least := room + 1
	for _, st := range s.k.room.steps[s.cut:] {
		if st.bytes <= room {
			fits = append(fits, st)
			least = min(least, st.bytes)
		}
	}
	s.k.room.fits = fits
	next := newOrder(fits)
	size := int64(0)
	for i := 0; i < len(fits) && room >= least; i++ {
		if st := next.at(i); s.bestBase[st.group] == st.corner-1 && st.bytes <= room {
			s.take(s.bestBase, st, &size, &s.best)
			room -= st.bytes
		}
	}
}

// run enters groups until no state can beat the best plan.
func (s *search) run() {
	if s.cut == s.k.count() {
		return // everything fits
	}
	s.cutRate = s.k.rate(s.cut)
	s.entered, s.open = make([]bool, len(s.k.room.groups)), make([]bool, len(s.k.room.groups))
	s.up, s.down = s.cut, s.cut-1
	start := state{excess: s.baseSize - s.budget, cost: s.baseCost, node: -1, option: -1}
	start.least = s.leastWith(start.cost, start.excess)
	s.states = []state{start}
	upNext, known, next := true, int64(MaxTotal), 0
	for round := 0; len(s.states) > 0; round++ {
		if s.best < known && round >= next {
			s.findOpen()
			known, next = s.best, round+max(256, round/2)
		}
		if s.left == 0 {
			s.states = nil // feasible ones were taken
			return
		}
		s.settle()
		var group int32
		if s.up < s.k.count() && (upNext || s.down < 0) {
			group = s.k.order.at(s.up).group
		} else {
			group = s.k.order.at(s.down).group
		}
		upNext = !upNext
		var deviations []int16
		if s.open[group] {
			s.left--
			deviations = s.deviations(group)
		}
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

// findOpen finds the groups that have deviations. As the best plan only gets
// better, no others will.
func (s *search) findOpen() {
	again := s.left > 0
	s.left = 0
	for i := range s.k.room.groups {
		if again && !s.open[i] {
			continue
		}
		g := s.k.group(i)
		from := &g.Options[g.hull[s.base[i]]]
		s.open[i] = false
		for j := 0; j < len(g.Options) && !s.open[i] && !s.entered[i]; j++ {
			s.open[i] = &g.Options[j] != from && s.deviates(from, &g.Options[j])
		}
		if s.open[i] {
			s.left++
		}
	}
}

// settle moves the cursors to groups that have not entered.
func (s *search) settle() {
	for s.up < s.k.count() && s.entered[s.k.order.at(s.up).group] {
		s.up++
	}
	for s.down >= 0 && s.entered[s.k.order.at(s.down).group] {
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
func (s *search) deviations(group int32) []int16 {
	g := s.k.group(int(group))
	from := &g.Options[g.hull[s.base[group]]]
	var out []int16
	for i := range g.Options {
		if o := &g.Options[i]; o != from && s.deviates(from, o) {
			out = append(out, int16(i))
		}
	}
	return out
}

func (s *search) deviates(from, to *packedOption) bool {
	return !s.beaten(s.baseCost+to.cost-from.cost, s.baseSize+to.Size-from.Size-s.budget, s.cutRate, s.cutRate)
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
	if s.up < s.k.count() {
		up = s.k.rate(s.up)
	}
	if s.down >= 0 {
		down = s.k.rate(s.down)
	}
	return up, down
}

// enter merges the states with each deviation of a group.
func (s *search) enter(group int32, deviations []int16) {
	g := s.k.group(int(group))
	from := g.Options[g.hull[s.base[group]]]
	up, down := s.rates()
	merged := s.states
	for _, d := range deviations {
		o := g.Options[d]
		moved := s.move(o.Size-from.Size, o.cost-from.cost, d, up, down)
		s.work += len(s.states) + len(moved)
		if len(moved) > 0 {
			s.spare = mergeStates(s.spare[:0], merged, moved)
			s.merged, s.spare = s.spare, s.merged
			merged = s.merged
		}
	}
	if s.idle++; &merged[0] == &s.states[0] && s.idle%16 != 0 {
		return // nothing new; those that the new rates rule out may stay a while
	}
	winner := -1
	for i, st := range merged {
		if st.excess <= 0 && st.cost < s.best {
			s.best, winner = st.cost, i
		}
	}
	kept := s.states[:0]
	for i, st := range merged {
		drop := s.beaten(st.cost, st.excess, up, down)
		if drop && i != winner {
			continue
		}
		if st.option >= 0 {
			s.nodes = append(s.nodes, node{st.node, group, st.option})
			st.node, st.option = int32(len(s.nodes)-1), -1
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

// move returns the states with one more deviation that may lead to a better
// plan. What it leaves out could only replace what cannot either.
func (s *search) move(size, cost int64, option int16, up, down Rate) []state {
	more := s.leastWith(cost, size)
	s.moved = s.moved[:0]
	for i := range s.states {
		st := &s.states[i]
		if st.least+more >= s.best {
			continue
		}
		to := state{excess: st.excess + size, cost: st.cost + cost, node: st.node, option: option}
		if better := to.excess <= 0 && to.cost < s.best; better || !s.beaten(to.cost, to.excess, up, down) {
			to.least = s.leastWith(to.cost, to.excess)
			s.moved = append(s.moved, to)
		}
	}
	return s.moved
}

// leastWith is a cost and what removing an excess costs, or the room left is
// worth, at the cut's rate; rounded down.
func (s *search) leastWith(cost, excess int64) int64 {
	if excess >= 0 {
		return cost + mulDiv(uint64(excess), s.cutRate)
	}
	return cost - mulDiv(uint64(-excess), s.cutRate) - 1
}

// mergeStates appends to dst the states of a and of b, by ascending excess,
// without those that another one replaces. Of two alike the one of a stays.
func mergeStates(dst, a, b []state) []state {
	least := int64(MaxTotal) + 1
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		var next *state
		if i < len(a) && (j == len(b) || a[i].excess < b[j].excess || a[i].excess == b[j].excess && a[i].cost <= b[j].cost) {
			next = &a[i]
			i++
		} else {
			next = &b[j]
			j++
		}
		if next.cost < least {
			least = next.cost
			dst = append(dst, *next)
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
	sol := &Solution{Choice: make([]int, len(s.k.room.groups)), Bound: uint64(s.bound())}
	position := make([]int32, len(s.k.room.groups))
	corners := s.base
	if s.bestBase != nil {
		corners = s.bestBase
		for i, c := range corners {
			if c != s.base[i] {
				s.deviants = append(s.deviants, int32(i))
			}
		}
	}
	for i := range s.k.room.groups {
		position[i] = s.k.group(i).hull[corners[i]]
	}
	if s.bestBase == nil {
		for n := s.bestNode; n >= 0; n = s.nodes[n].parent {
			position[s.nodes[n].group] = int32(s.nodes[n].option)
			s.deviants = append(s.deviants, s.nodes[n].group)
		}
	}
	for i := range s.k.room.groups {
		o := s.k.group(i).Options[position[i]]
		sol.Choice[i] = int(o.Index)
		sol.SizeBytes += uint64(o.Size)
		sol.Cost += uint64(o.cost)
	}
	return sol
}
