package knapsack

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
)

// A kindSet is a set made ready for rates.
type kindSet struct {
	*Set
	groups int
	useful []int     // kinds that no other beats in every group, by ascending size
	common uint64    // kinds that all groups may have
	units  [][]int64 // by useful kind and group: cost in units; unavailable where the group may not have the kind
	limit  int       // how many may be used

	mostBytes uint64 // that it takes at most, overhead included

	found   choice
	foundAt int // in the tree; -1 if they are those of the last rate
	tree    kindTree
	known   []knownRate
	*kindWork
}

// A choice is kinds of one set and what they come to at a rate.
type choice struct {
	kinds      uint64
	cost, size int64
	value      int64 // cost and size at the rate, overhead included
	exact      bool  // all groups may have one of the kinds
}

// A kindWork is the memory that finding the best kinds takes. Sets are looked at
// one after the other and share it.
type kindWork struct {
	prices []int64   // by useful kind: what its bytes are worth at the rate
	rest   [][]int64 // by useful kind and group: the least worth from it on
	taken  [][]int64 // by number of kinds taken and group: the least worth among them; the first is none
	best   []int64   // by group
	which  []int64   // by group
	bounds kindBounds
	visits int
	last   uint64 // the kinds that another set was found to use
}

func (s *kindSet) init(set *Set, limit int) {
	s.Set, s.groups = set, len(set.Cost)
	kinds := make([]int, len(set.SizeBytes))
	for k := range kinds {
		kinds[k] = k
	}
	slices.SortStableFunc(kinds, func(a, b int) int { return cmp.Compare(set.SizeBytes[a], set.SizeBytes[b]) })
	for i, k := range kinds {
		beaten := false
		for j := 0; j < len(kinds) && !beaten; j++ {
			o := kinds[j]
			if o != k && set.SizeBytes[o] <= set.SizeBytes[k] && s.covers(o, k, j < i) {
				beaten = true
			}
		}
		if !beaten {
			s.useful = append(s.useful, k)
		}
	}
	s.limit = min(limit, len(s.useful), s.groups)
	if n := len(kinds); n > 0 {
		s.mostBytes = set.SizeBytes[kinds[n-1]]*uint64(s.groups) + s.overhead(s.limit)
	}
	all := s.Units
	if all == nil {
		all = Units(s.Cost)
	}
	s.common = math.MaxUint64
	for _, has := range s.Has {
		s.common &= has
	}
	s.units = make([][]int64, len(s.useful))
	for i, k := range s.useful {
		s.units[i] = s.available(k, all[k])
	}
}

// available returns the units of a kind for the groups that may have it.
func (s *kindSet) available(kind int, units []int64) []int64 {
	if s.common>>kind&1 != 0 {
		return units
	}
	out := units
	for g := range s.Has {
		if s.has(g, kind) {
			continue
		}
		if &out[0] == &units[0] {
			out = slices.Clone(units)
		}
		out[g] = unavailable
	}
	return out
}

// Units returns the costs by kind and group, in the units that rates are
// weighed in.
func Units(cost [][]uint64) [][]int64 {
	if len(cost) == 0 {
		return nil
	}
	out := table(len(cost[0]), len(cost))
	for g := range cost {
		for k, c := range cost[g] {
			out[k][g] = int64(c >> costShift)
		}
	}
	return out
}

func newKindWork(sets []kindSet) *kindWork {
	var groups, kinds, limit int
	for i := range sets {
		groups, kinds, limit = max(groups, sets[i].groups), max(kinds, len(sets[i].useful)), max(limit, sets[i].limit)
	}
	w := &kindWork{prices: make([]int64, kinds), rest: table(kinds+1, groups), taken: table(limit+1, groups), best: make([]int64, groups), which: make([]int64, groups)}
	for g := range groups {
		w.rest[kinds][g], w.taken[0][g] = math.MaxInt64, math.MaxInt64
	}
	return w
}

func table(rows, columns int) [][]int64 {
	all := make([]int64, rows*columns)
	t := make([][]int64, rows)
	for i := range t {
		t[i] = all[i*columns:][:columns]
	}
	return t
}

// covers reports whether kind a serves every group as well as kind b does. Of
// two alike the earlier one does.
func (s *kindSet) covers(a, b int, earlier bool) bool {
	better := s.SizeBytes[a] < s.SizeBytes[b]
	for g := range s.groups {
		if !s.has(g, b) {
			better = better || s.has(g, a)
			continue
		}
		if !s.has(g, a) || s.Cost[g][a] > s.Cost[g][b] {
			return false
		}
		better = better || s.Cost[g][a] < s.Cost[g][b]
	}
	return better || earlier
}

// overhead is what using n kinds takes.
func (s *kindSet) overhead(n int) uint64 {
	if len(s.OverheadBytes) == 0 {
		return 0
	}
	return s.OverheadBytes[min(n, len(s.OverheadBytes)-1)]
}

// price is what bytes are worth at a rate, rounded down.
func price(size, rate uint64) int64 {
	hi, lo := bits.Mul64(size, rate)
	if hi>>rateShift != 0 {
		return unavailable
	}
	return int64(min(hi<<(64-rateShift)|lo>>rateShift, unavailable))
}

// weigh sets the rate: kind i is worth its units and its price.
func (s *kindSet) weigh(rate uint64) {
	for i, k := range s.useful {
		s.prices[i] = price(s.SizeBytes[k], rate)
	}
}

// extend lets each group have one more kind, and adds up to at most
// unavailable.
func extend(dst, have, units []int64, price int64) int64 {
	dst, have = dst[:len(units)], have[:len(units)]
	var sum, all int64
	for g, v := range units {
		v = min(v+price, have[g])
		dst[g] = v
		sum += v
		all |= v
	}
	return capped(sum, all)
}

// joined adds up the smaller of each two, to at most unavailable.
func joined(a, b []int64) int64 {
	b = b[:len(a)]
	var sum, all int64
	for g, v := range a {
		v = min(v, b[g])
		sum += v
		all |= v
	}
	return capped(sum, all)
}

// capped is a sum of worths, whose bits are all together, or unavailable if one
// of them is, or they come to as much.
func capped(sum, all int64) int64 {
	if all >= unavailable {
		return unavailable
	}
	return min(sum, unavailable)
}

// tallyWith is the tally of kinds and their overhead.
func (s *kindSet) tallyWith(kinds, rate uint64) choice {
	return s.tally(kinds, rate, s.overhead(bits.OnesCount64(kinds)))
}

// free is the best choice without limit or overhead.
func (s *kindSet) free(rate uint64) choice {
	s.weigh(rate)
	return s.tally(s.all(), rate, 0)
}

func (s *kindSet) all() uint64 {
	var kinds uint64
	for _, k := range s.useful {
		kinds |= 1 << k
	}
	return kinds
}

// tally adds up what kinds come to, each group at what is worth least of them,
// the smaller of two alike.
func (s *kindSet) tally(kinds uint64, rate, overhead uint64) choice {
	x := choice{kinds: kinds, size: int64(overhead), value: price(overhead, rate)}
	if s.tallyKeys(kinds, &x) {
		return x
	}
	best, which := s.best[:s.groups], s.which[:s.groups]
	for g := range best {
		best[g] = math.MaxInt64
	}
	for i, k := range s.useful {
		if kinds>>k&1 == 0 {
			continue
		}
		price := s.prices[i]
		for g, v := range s.units[i][:len(best)] {
			// The same as an if, which is taken at random.
			less := (v + price - best[g]) >> 63
			best[g] += (v + price - best[g]) & less
			which[g] += (int64(i) - which[g]) & less
		}
	}
	for g, v := range best {
		i := which[g]
		x.size += int64(s.SizeBytes[s.useful[i]])
		if v >= unavailable {
			x.cost += int64(s.Cost[g][s.useful[i]] >> costShift)
			x.value += unavailable
			continue
		}
		x.cost += v - s.prices[i]
		x.value += v
	}
	return x
}

// keyBits hold the number of a kind.
const keyBits = 6

// tallyKeys adds up by keys, a kind's worth and in the lowest bits its number:
// the least is of the smaller of two alike. It does nothing where a group may
// have none of the kinds, or worths are too large for keys.
func (s *kindSet) tallyKeys(kinds uint64, x *choice) bool {
	const none = 1 << (56 + keyBits) // units are up to 2^56
	keys := s.best[:s.groups]
	var rows [4][]int64
	var more [4]int64
	n, first := 0, true
	for i, k := range s.useful {
		if kinds>>k&1 != 0 {
			if s.prices[i] >= none>>(keyBits+1) {
				return false
			}
			rows[n], more[n] = s.units[i], s.prices[i]<<keyBits|int64(i)
			n++
		}
		if n == len(rows) || n > 0 && i == len(s.useful)-1 {
			for j := n; j < len(rows); j++ {
				rows[j], more[j] = rows[0], more[0]
			}
			leastKeys(keys, first, rows, more)
			n, first = 0, false
		}
	}
	var cost, all int64
	var counts [1 << keyBits]int64
	for _, key := range keys {
		counts[key&(1<<keyBits-1)]++
		cost += key >> keyBits
		all |= key
	}
	if all >= none || first {
		return false
	}
	x.value += cost
	for i, k := range s.useful {
		cost -= counts[i] * s.prices[i]
		x.size += counts[i] * int64(s.SizeBytes[k])
	}
	x.cost += cost
	x.value, x.exact = min(x.value, unavailable), true
	return true
}

// leastKeys finds the least of the keys, which are units and more, and if they
// are not the first those that are there.
func leastKeys(keys []int64, first bool, units [4][]int64, more [4]int64) {
	const none = 1 << 56
	a, b, c, d := units[0][:len(keys)], units[1][:len(keys)], units[2][:len(keys)], units[3][:len(keys)]
	for g, key := range keys {
		least := min(
			min(a[g], none)<<keyBits+more[0], min(b[g], none)<<keyBits+more[1],
			min(c[g], none)<<keyBits+more[2], min(d[g], none)<<keyBits+more[3])
		if !first {
			least = min(least, key)
		}
		keys[g] = least
	}
}

// searched reports whether sets of kinds are worth trying. Where a large set
// may use all its kinds, little is left to save: the overhead of some.
func (s *kindSet) searched() bool { return s.limit < min(len(s.useful), s.groups) || s.groups <= 32 }

// choose finds the best kinds at a rate. The value is a lower bound of every
// choice's even where the search was cut short.
func (s *kindSet) choose(rate uint64) choice {
	s.weigh(rate)
	if s.found.kinds == 0 || !s.searched() {
		s.found.kinds = s.greedy(rate)
	} // else those of the last rate are near
	x := s.tallyWith(s.found.kinds, rate)
	s.found.value, s.foundAt = x.value, -1
	if !x.exact {
		s.found.value = s.valueOf(s.found.kinds, rate)
	}
	if s.visits = 0; s.searched() {
		s.startBounds(rate)
		s.guess(rate)
		s.try(0, 0, 0, 0, rate, func(at int, kinds uint64, value int64) {
			if value < s.found.value || value == s.found.value && at < s.foundAt {
				s.found.kinds, s.found.value, s.foundAt = kinds, value, at
			}
		})
		s.remember(rate)
		s.last = s.found.kinds
	}
	if x.kinds != s.found.kinds {
		x = s.tallyWith(s.found.kinds, rate)
	}
	if s.visits > maxVisits || !s.searched() {
		x.value = min(x.value, s.worth(s.all())+price(s.overhead(1), rate))
	}
	return x
}

// valueOf is what kinds are worth, overhead included.
func (s *kindSet) valueOf(kinds uint64, rate uint64) int64 {
	return min(s.worth(kinds)+price(s.overhead(bits.OnesCount64(kinds)), rate), unavailable)
}

// worth is the same without overhead.
func (s *kindSet) worth(kinds uint64) int64 {
	have, total := s.taken[0], int64(unavailable)
	for i, k := range s.useful {
		if kinds>>k&1 != 0 {
			total = extend(s.best, have, s.units[i], s.prices[i])
			have = s.best
		}
	}
	return total
}

// greedy takes the kinds that serve the groups best and drops the one whose
// loss is least until few enough are left, and while that helps.
func (s *kindSet) greedy(rate uint64) uint64 {
	var kinds uint64
	for g := range s.groups {
		best, at := int64(math.MaxInt64), 0
		for i := range s.useful {
			if v := s.units[i][g] + s.prices[i]; v < best {
				best, at = v, i
			}
		}
		kinds |= 1 << s.useful[at]
	}
	value := s.valueOf(kinds, rate)
	for bits.OnesCount64(kinds) > 1 {
		least, without := int64(math.MaxInt64), kinds
		for _, k := range s.useful {
			if kinds>>k&1 == 0 {
				continue
			}
			if v := s.valueOf(kinds&^(1<<k), rate); v < least {
				least, without = v, kinds&^(1<<k)
			}
		}
		if bits.OnesCount64(kinds) <= s.limit && least >= value {
			break
		}
		kinds, value = without, least
	}
	return kinds
}

// try goes through the sets of kinds that add to those taken kinds from the
// i-th useful one on, and could be worth less than the best found. node is the
// first of them in the tree, 0 without one.
func (s *kindSet) try(i, n, node int, kinds uint64, rate uint64, take func(at int, kinds uint64, value int64)) {
	if n == s.limit {
		return
	}
	over := price(s.overhead(n+1), rate)
	for ; i < len(s.useful); i++ {
		at, deeper := node, 0
		if s.tree != nil {
			if node = s.tree[at].end; s.beaten(at, s.bounds.below[at]) {
				continue
			}
		}
		if s.visits++; s.visits > maxVisits {
			return
		}
		if s.bounds.loose {
			if least := joined(s.rest[i][:s.groups], s.taken[n]) + over; s.beaten(at, least) {
				s.raise(at, least)
				return
			}
		}
		value := extend(s.taken[n+1], s.taken[n], s.units[i], s.prices[i])
		with := kinds | 1<<s.useful[i]
		if s.tree != nil {
			s.bounds.least[at] = value + over
			deeper = at + 1
		}
		if value < unavailable {
			take(at, with, value+over)
		}
		s.try(i+1, n+1, deeper, with, rate, take)
	}
}

// beaten reports whether a node's value, or a bound of it, makes it no better
// than the kinds found: of two alike the first is better, but for those found
// at the last rate.
func (s *kindSet) beaten(at int, value int64) bool {
	return value > s.found.value || value == s.found.value && at >= s.foundAt
}

// within lists the sets of kinds whose value is within a margin of the best,
// the best first. What is left out is at least rest above it.
func (s *kindSet) within(rate uint64, margin int64) (list []choice, rest int64) {
	best := s.choose(rate)
	if !s.searched() {
		return []choice{best}, 0
	}
	s.found.value = best.value + margin
	limit := s.found.value
	s.visits = 0
	list = append(list, best)
	s.startBounds(rate)
	s.spread()
	s.foundAt = -1
	s.try(0, 0, 0, 0, rate, func(_ int, kinds uint64, value int64) {
		if value < limit && kinds != best.kinds {
			list = append(list, choice{kinds: kinds, value: value})
		}
	})
	rest = margin
	if s.visits > maxVisits {
		rest = 0
	}
	slices.SortFunc(list[1:], func(a, b choice) int { return cmp.Or(cmp.Compare(a.value, b.value), cmp.Compare(a.kinds, b.kinds)) })
	if len(list) > maxKept {
		rest = min(rest, list[maxKept].value-best.value)
		list = list[:maxKept]
	}
	return list, rest
}
