package knapsack

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
)

// A kindSet is a set made ready for rates, and the memory it takes to find its
// best kinds.
type kindSet struct {
	*Set
	groups int
	useful []int // kinds that no other beats in every group, by ascending size
	limit  int   // how many may be used

	mostBytes uint64 // that it takes at most, overhead included

	worth  [][]int64 // by useful kind and group: cost and size at the rate
	rest   [][]int64 // by useful kind and group: the least worth from it on
	taken  [][]int64 // by number of kinds taken and group: the least worth among them
	visits int
	found  choice
}

// A choice is kinds of one set and what they come to at a rate.
type choice struct {
	kinds      uint64
	cost, size int64
	value      int64 // cost and size at the rate, overhead included
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
	s.worth, s.rest, s.taken = table(len(s.useful), s.groups), table(len(s.useful)+1, s.groups), table(s.limit+1, s.groups)
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

func (s *kindSet) units(group, kind int) int64 { return int64(s.Cost[group][kind] >> costShift) }

// weigh fills in what each kind is worth at a rate.
func (s *kindSet) weigh(rate uint64) {
	last := s.rest[len(s.useful)]
	for g := range last {
		last[g] = unavailable
	}
	for i := len(s.useful) - 1; i >= 0; i-- {
		k := s.useful[i]
		bytes := price(s.SizeBytes[k], rate)
		worth, rest, below := s.worth[i], s.rest[i], s.rest[i+1]
		for g := range worth {
			worth[g] = unavailable
			if s.has(g, k) {
				worth[g] = s.units(g, k) + bytes
			}
			rest[g] = min(worth[g], below[g])
		}
	}
	for g := range s.taken[0] {
		s.taken[0][g] = unavailable
	}
}

// total adds up to at most unavailable.
func total(worth []int64) int64 {
	var sum int64
	for _, v := range worth {
		if sum += v; sum >= unavailable {
			return unavailable
		}
	}
	return sum
}

// free is the best choice without limit or overhead.
func (s *kindSet) free(rate uint64) choice {
	s.weigh(rate)
	var kinds uint64
	for _, k := range s.useful {
		kinds |= 1 << k
	}
	return s.tally(kinds, rate, 0)
}

// tally adds up what kinds come to, each group at what is worth least of them,
// the smaller of two alike.
func (s *kindSet) tally(kinds uint64, rate, overhead uint64) choice {
	x := choice{kinds: kinds}
	for g := range s.groups {
		best, at := int64(math.MaxInt64), -1
		for i, k := range s.useful {
			if kinds>>k&1 != 0 && s.worth[i][g] < best {
				best, at = s.worth[i][g], k
			}
		}
		x.cost += s.units(g, at)
		x.size += int64(s.SizeBytes[at])
		x.value += best
	}
	x.size += int64(overhead)
	x.value += price(overhead, rate)
	return x
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
	s.found.value = s.valueOf(s.found.kinds, rate)
	if s.visits = 0; s.searched() {
		s.try(0, 0, 0, rate, func(kinds uint64, value int64) {
			if value < s.found.value {
				s.found.kinds, s.found.value = kinds, value
			}
		})
	}
	x := s.tally(s.found.kinds, rate, s.overhead(bits.OnesCount64(s.found.kinds)))
	if s.visits > maxVisits || !s.searched() {
		x.value = min(x.value, total(s.rest[0])+price(s.overhead(1), rate))
	}
	return x
}

// valueOf is what kinds are worth, overhead included.
func (s *kindSet) valueOf(kinds uint64, rate uint64) int64 {
	best := s.taken[s.limit] // not in use while this is asked
	for g := range best {
		best[g] = unavailable
	}
	for i, k := range s.useful {
		if kinds>>k&1 != 0 {
			for g, v := range s.worth[i] {
				best[g] = min(best[g], v)
			}
		}
	}
	return min(total(best)+price(s.overhead(bits.OnesCount64(kinds)), rate), unavailable)
}

// greedy takes the kinds that serve the groups best and drops the one whose
// loss is least until few enough are left, and while that helps.
func (s *kindSet) greedy(rate uint64) uint64 {
	var kinds uint64
	for g := range s.groups {
		best, at := int64(math.MaxInt64), 0
		for i := range s.useful {
			if s.worth[i][g] < best {
				best, at = s.worth[i][g], i
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
// i-th useful one on, and could be worth less than the best found.
func (s *kindSet) try(i, n int, kinds uint64, rate uint64, take func(kinds uint64, value int64)) {
	if n == s.limit {
		return
	}
	over := price(s.overhead(n+1), rate)
	have, next := s.taken[n], s.taken[n+1]
	for ; i < len(s.useful); i++ {
		if s.visits++; s.visits > maxVisits {
			return
		}
		var least int64
		for g, v := range s.rest[i] {
			if least += min(v, have[g]); least >= unavailable {
				break
			}
		}
		if least+over >= s.found.value {
			return
		}
		var value int64
		for g, v := range s.worth[i] {
			v = min(v, have[g])
			next[g] = v
			value += min(v, unavailable-value)
		}
		with := kinds | 1<<s.useful[i]
		if value < unavailable {
			take(with, value+over)
		}
		s.try(i+1, n+1, with, rate, take)
	}
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
	s.try(0, 0, 0, rate, func(kinds uint64, value int64) {
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
