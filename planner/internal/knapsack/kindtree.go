package knapsack

import (
	"math"
	"math/bits"
)

// What kinds of a set are worth is a concave function of the rate: a sum of
// minima of lines. Between two rates at which it is known it lies above the
// chord, so that of the sets of kinds, which are looked at at one rate after the
// other, all but a few can be passed over.

// A kindTree is all sets of up to so many kinds, as a search goes through them:
// what adds to a set comes after it.
type kindTree []kindNode

type kindNode struct {
	end    int // the next that does not add to it
	parent int // what it adds to, -1 for none
	first  int // its smallest kind
	set    uint64
}

// newKindTree returns nil where there are more than maxVisits.
func newKindTree(kinds, limit int) kindTree {
	var t kindTree
	var add func(i, n, parent, first int, set uint64)
	add = func(i, n, parent, first int, set uint64) {
		for ; i < kinds && n < limit && len(t) <= maxVisits; i++ {
			if n == 0 {
				first = i
			}
			at := len(t)
			t = append(t, kindNode{parent: parent, first: first, set: set | 1<<i})
			add(i+1, n+1, at, first, set|1<<i)
			t[at].end = len(t)
		}
	}
	if add(0, 0, -1, 0, 0); len(t) > maxVisits {
		return nil
	}
	return t
}

// kindBounds are bounds at one rate, by node of a tree.
type kindBounds struct {
	least []int64 // of the node's kinds
	below []int64 // of the node's and all that add to them
	loose bool    // they say little: what is left to take may say more
}

// A knownRate is a rate at which bounds are known.
type knownRate struct {
	rate  uint64
	least []int64
}

// maxKnown is how many rates a set keeps, those near the last.
const maxKnown = 4

// startBounds fills in the bounds that follow from the known rates.
func (s *kindSet) startBounds(rate uint64) {
	b := &s.bounds
	var low, high *knownRate
	if s.tree != nil {
		for i := range s.known {
			if k := &s.known[i]; k.rate <= rate && (low == nil || k.rate > low.rate) {
				low = k
			} else if k.rate >= rate && (high == nil || k.rate < high.rate) {
				high = k
			}
		}
		b.least, b.below = Resized(b.least, len(s.tree)), Resized(b.below, len(s.tree))
		s.chords(rate, low, high)
	}
	b.loose = low == nil || low.rate != rate && (high == nil || high.rate/2 > low.rate)
	if !b.loose {
		return
	}
	rest := s.rest[len(s.rest)-1]
	for i := len(s.useful) - 1; i >= 0; i-- {
		extend(s.rest[i], rest, s.units[i], s.prices[i])
		rest = s.rest[i]
	}
}

// chords fills in the bounds that follow from two rates. Prices are rounded
// down, so each group's worth, and the overhead's, is up to 1 below the line.
func (s *kindSet) chords(rate uint64, low, high *knownRate) {
	least, slack := s.bounds.least, int64(s.groups)+2
	switch {
	case low == nil:
		clear(least)
	case low.rate == rate:
		copy(least, low.least)
	case high == nil:
		// Each byte is worth that much more.
		for i := range least {
			size := s.SizeBytes[s.useful[s.tree[i].first]] * uint64(s.groups)
			least[i] = low.least[i] + price(size, rate-low.rate) - slack
		}
	default:
		along := float64(rate-low.rate) / float64(high.rate-low.rate)
		for i := range least {
			from, to := low.least[i], high.least[i]
			// The margin is above the rounding of the product and of its sum.
			least[i] = from + int64(float64(float64(to-from)*along)) - max(from, to)>>48 - slack
		}
	}
}

// raise notes a bound of a node, its next siblings and all that add to them.
func (s *kindSet) raise(node int, bound int64) {
	if s.tree == nil {
		return
	}
	end := len(s.tree)
	if p := s.tree[node].parent; p >= 0 {
		end = s.tree[p].end
	}
	for i := node; i < end; i++ {
		s.bounds.least[i] = max(s.bounds.least[i], bound)
	}
}

// guess finds kinds that may well be better than the found ones: what is worth
// more than they are need not be looked at.
func (s *kindSet) guess(rate uint64) {
	if s.tree == nil {
		return
	}
	least := s.bounds.least
	found := s.tree.find(s.setOf(s.found.kinds))
	least[found] = s.found.value
	at := found
	if !s.bounds.loose {
		for i, v := range least {
			if v < least[at] {
				at = i
			}
		}
	} else if set := s.setOf(s.last); set != 0 && bits.OnesCount64(set) <= s.limit {
		at = s.tree.find(set)
	}
	if at != found {
		kinds := s.kindsOf(s.tree[at].set)
		if least[at] = s.valueOf(kinds, rate); least[at] < s.found.value {
			s.found, s.foundAt = choice{kinds: kinds, value: least[at]}, at
		}
	}
	// What is known now need not be found again.
	a, b := least[found], least[at]
	least[found], least[at] = math.MaxInt64, math.MaxInt64
	s.spread()
	least[found], least[at] = a, b
}

// spread finds the least bound of each node and all that add to it.
func (s *kindSet) spread() {
	if s.tree == nil {
		return
	}
	b := &s.bounds
	copy(b.below, b.least)
	for i := len(s.tree) - 1; i >= 0; i-- {
		if p := s.tree[i].parent; p >= 0 {
			b.below[p] = min(b.below[p], b.below[i])
		}
	}
}

// setOf returns useful kinds by their place among them, kindsOf the kinds.
func (s *kindSet) setOf(kinds uint64) (set uint64) {
	for i, k := range s.useful {
		set |= kinds >> k & 1 << i
	}
	return set
}

func (s *kindSet) kindsOf(set uint64) (kinds uint64) {
	for i, k := range s.useful {
		kinds |= set >> i & 1 << k
	}
	return kinds
}

// find returns the node of a set of at most so many kinds.
func (t kindTree) find(set uint64) int {
	at := 0
	for t[at].set != set {
		if t[at].set&set == t[at].set {
			at++ // to what adds to it
		} else {
			at = t[at].end
		}
	}
	return at
}

// remember notes the bounds of a rate.
func (s *kindSet) remember(rate uint64) {
	if s.tree == nil {
		return
	}
	at := len(s.known)
	for i := range s.known {
		if s.known[i].rate == rate {
			at = i
		}
	}
	if at == maxKnown {
		at = 0
		for i := range s.known {
			if distance(s.known[i].rate, rate) > distance(s.known[at].rate, rate) {
				at = i
			}
		}
	}
	if at == len(s.known) {
		s.known = append(s.known, knownRate{least: make([]int64, len(s.tree))})
	}
	s.known[at].rate = rate
	copy(s.known[at].least, s.bounds.least)
}

func distance(a, b uint64) uint64 { return max(a, b) - min(a, b) }
