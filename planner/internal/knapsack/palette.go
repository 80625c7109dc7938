package knapsack

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
)

// A PaletteSolution is a palette, the few kinds that all groups draw on, and the cheapest choice among its options.
type PaletteSolution struct {
	Kinds uint64 // a bit for each
	*Solution
}

// SolvePalette finds the cheapest choice within budgetBytes whose options are of
// at most most kinds; kinds names the kind of every option, below 64, and a
// group has at most one option of a kind. Without a solution it returns the
// least total size of such a choice, and false with 0 if there is none of any
// size.
//
// It branches over sets of kinds. The exact optimum among the kinds that are
// left bounds all their subsets; where it has too many kinds, one of them is
// left out or settled. Before each exact solution, two relaxations at a price per
// byte stand in for it: every group's cheapest option among the kinds that are
// left, and among those settled less the most that as many more could save
// (what kinds save together is at most what each saves alone). Of choices that
// cost the same, the first found wins: the order depends on the problem alone.
func SolvePalette(groups [][]Option, kinds [][]uint8, most int, budgetBytes uint64, lim Limits) (sol *PaletteSolution, least uint64, err error) {
	s := &paletteSearch{groups: groups, kinds: kinds, most: most, budget: budgetBytes, lim: lim, bestCost: math.MaxUint64}
	var all uint64
	for _, list := range kinds {
		for _, kind := range list {
			all |= 1 << kind
		}
	}
	if err := s.run(all); err != nil {
		return nil, 0, err
	}
	if s.best != nil {
		s.best.Bound = min(s.best.Bound, s.open, s.best.Cost)
		return s.best, 0, nil
	}
	if budgetBytes >= MaxTotal {
		return nil, 0, nil
	}
	sizes := make([][]Option, len(groups))
	for g := range groups {
		for _, o := range groups[g] {
			sizes[g] = append(sizes[g], Option{o.SizeBytes, o.SizeBytes})
		}
	}
	smallest, _, err := SolvePalette(sizes, kinds, most, MaxTotal, lim)
	if smallest == nil || err != nil {
		return nil, 0, err
	}
	return nil, smallest.SizeBytes, nil
}

// What a search over kinds does at most before it settles for what it has.
const (
	maxPaletteSolves = 1 << 12
	maxPaletteNodes  = 1 << 18
	maxBytePrices    = 6
)

type paletteSearch struct {
	groups [][]Option
	kinds  [][]uint8
	most   int
	budget uint64
	lim    Limits

	prices   []bytePrice
	best     *PaletteSolution
	bestCost uint64
	open     uint64 // least bound of what was not searched
	solves   int
	nodes    int
}

// A bytePrice is a relaxation: value is what each kind costs each group when a
// byte costs rate, and paid what the budget's bytes come to.
type bytePrice struct {
	value  [][64]float64
	paid   float64
	margin float64 // above the rounding of any sum of values
}

// A paletteNode is the sets of kinds between settled and left.
type paletteNode struct{ settled, left uint64 }

func (s *paletteSearch) run(all uint64) error {
	s.open = math.MaxUint64
	root, err := s.solve(all)
	if err != nil || root == nil || s.keep(root) {
		return err
	}
	for range 3 { // plans to beat
		set, ok := s.localSearch(all)
		if !ok {
			break
		}
		before := len(s.prices)
		sol, err := s.solve(set)
		if err != nil {
			return err
		}
		if sol == nil || !s.keep(sol) || len(s.prices) == before {
			break
		}
	}
	stack := []paletteNode{{0, all}}
	for len(stack) > 0 {
		n := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		bound := s.relaxed(n)
		if bound >= s.bestCost {
			continue
		}
		if s.nodes++; s.nodes > maxPaletteNodes || s.solves > maxPaletteSolves {
			s.open = min(s.open, bound)
			continue
		}
		if bits.OnesCount64(n.settled) == s.most {
			n.left = n.settled
		}
		sol, err := s.solve(n.left)
		if err != nil {
			return err
		}
		if sol == nil || sol.Bound >= s.bestCost || s.keep(sol) {
			continue
		}
		// Leaving out the kind that is missed most is given up soonest.
		kind, worst := -1, -1.0
		for rest := sol.Kinds &^ n.settled; rest != 0; rest &= rest - 1 {
			k := bits.TrailingZeros64(rest)
			if missed := s.sum(n.left&^(1<<k)) - s.sum(n.left); kind < 0 || missed > worst {
				kind, worst = k, missed
			}
		}
		stack = append(stack, paletteNode{n.settled, n.left &^ (1 << kind)}, paletteNode{n.settled | 1<<kind, n.left})
	}
	return nil
}

// solve finds the cheapest choice of a set of kinds, nil if there is none.
func (s *paletteSearch) solve(set uint64) (*PaletteSolution, error) {
	s.solves++
	left, index := make([][]Option, len(s.groups)), make([][]int, len(s.groups))
	for g := range s.groups {
		for i, o := range s.groups[g] {
			if set>>s.kinds[g][i]&1 != 0 {
				left[g], index[g] = append(left[g], o), append(index[g], i)
			}
		}
		if len(left[g]) == 0 {
			return nil, nil
		}
	}
	k, err := New(left)
	if err != nil {
		return nil, err
	}
	sol, ok := k.Solve(s.budget, s.lim)
	if !ok {
		return nil, nil
	}
	out := &PaletteSolution{Solution: sol}
	for g, c := range sol.Choice {
		sol.Choice[g] = index[g][c]
		out.Kinds |= 1 << s.kinds[g][sol.Choice[g]]
	}
	if bits.OnesCount64(out.Kinds) <= s.most || len(s.prices) == 0 {
		rate, _ := k.CutRate(s.budget)
		s.addPrice(rate)
	}
	return out, nil
}

// keep takes a solution of few enough kinds if it is the best so far.
func (s *paletteSearch) keep(sol *PaletteSolution) bool {
	if bits.OnesCount64(sol.Kinds) > s.most {
		return false
	}
	if sol.Cost < s.bestCost {
		s.best, s.bestCost = sol, sol.Cost
	}
	return true
}

func (s *paletteSearch) addPrice(r Rate) {
	if len(s.prices) == maxBytePrices {
		return
	}
	rate := float64(r.Cost) / float64(r.Bytes)
	p := bytePrice{value: make([][64]float64, len(s.groups)), paid: float64(rate * float64(s.budget))}
	total := p.paid
	for g := range s.groups {
		for k := range p.value[g] {
			p.value[g][k] = math.Inf(1)
		}
		largest := 0.0
		for i, o := range s.groups[g] {
			v := float64(o.Cost) + float64(rate*float64(o.SizeBytes))
			p.value[g][s.kinds[g][i]] = v
			largest = max(largest, v)
		}
		total += largest
	}
	p.margin = total * 1e-10
	for i := range s.prices {
		if s.prices[i].paid == p.paid {
			return
		}
	}
	s.prices = append(s.prices, p)
}

// cheapest returns the least value of each group among a set of kinds, and
// their sum.
func (p *bytePrice) cheapest(set uint64) (each []float64, sum float64) {
	each = make([]float64, len(p.value))
	for g := range p.value {
		least := math.Inf(1)
		for rest := set; rest != 0; rest &= rest - 1 {
			least = min(least, p.value[g][bits.TrailingZeros64(rest)])
		}
		each[g] = least
		sum += least
	}
	return each, sum
}

// sum is the newest price's.
func (s *paletteSearch) sum(set uint64) float64 {
	_, sum := s.prices[len(s.prices)-1].cheapest(set)
	return sum
}

// relaxed returns a cost below which no set of a node has a choice.
func (s *paletteSearch) relaxed(n paletteNode) uint64 {
	bound := 0.0
	more := s.most - bits.OnesCount64(n.settled)
	for i := range s.prices {
		p := &s.prices[i]
		_, least := p.cheapest(n.left)
		if each, sum := p.cheapest(n.settled); n.settled != 0 && !math.IsInf(sum, 1) {
			gains := []float64{}
			for rest := n.left &^ n.settled; rest != 0; rest &= rest - 1 {
				kind, gain := bits.TrailingZeros64(rest), 0.0
				for g, v := range each {
					gain += max(0, v-p.value[g][kind])
				}
				gains = append(gains, gain)
			}
			slices.SortFunc(gains, func(a, b float64) int { return cmp.Compare(b, a) })
			for _, gain := range gains[:min(more, len(gains))] {
				sum -= gain
			}
			least = max(least, sum)
		}
		bound = max(bound, least-p.paid-p.margin)
	}
	if bound >= math.MaxInt64 {
		return math.MaxUint64 // some group has no option
	}
	return uint64(bound)
}

// localSearch returns a good set at the newest price: kinds added while there is
// room, those that save most first, then exchanged one for one while that saves.
func (s *paletteSearch) localSearch(all uint64) (uint64, bool) {
	p := &s.prices[len(s.prices)-1]
	// A group without an option counts as much as all values together.
	missing := p.margin * 1e10
	value := func(set uint64) float64 {
		sum := 0.0
		each, _ := p.cheapest(set)
		for _, v := range each {
			sum += min(v, missing)
		}
		return sum
	}
	var set uint64
	for range min(s.most, bits.OnesCount64(all)) {
		best, least := -1, math.Inf(1)
		for rest := all &^ set; rest != 0; rest &= rest - 1 {
			k := bits.TrailingZeros64(rest)
			if v := value(set | 1<<k); v < least {
				best, least = k, v
			}
		}
		set |= 1 << best
	}
	now := value(set)
	for range 64 {
		next, least := set, now
		for out := set; out != 0; out &= out - 1 {
			without := set &^ (1 << bits.TrailingZeros64(out))
			for in := all &^ set; in != 0; in &= in - 1 {
				try := without | 1<<bits.TrailingZeros64(in)
				if v := value(try); v < least {
					next, least = try, v
				}
			}
		}
		if next == set {
			break
		}
		set, now = next, least
	}
	return set, !math.IsInf(s.sum(set), 1)
}
