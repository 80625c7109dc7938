package knapsack

import (
	"cmp"
	"container/heap"
	"math"
	"math/bits"
	"slices"
)

// MaxKinds is how many kinds there may be.
const MaxKinds = 64

// A Set is groups that share their options: option k of each is of kind k. A
// set may use a few kinds only.
type Set struct {
	SizeBytes []uint64   // of one group, by kind; at most [MaxKinds]
	Cost      [][]uint64 // by group and kind
	Has       []uint64   // by group: a bit for each kind that it may have; nil for all

	// OverheadBytes is what using several kinds takes, by their number; index 0
	// is not used. It does not fall.
	OverheadBytes []uint64

	Units [][]int64 // what [Units] makes of Cost, where several problems share it; or nil
}

func (s *Set) has(group, kind int) bool { return s.Has == nil || s.Has[group]>>kind&1 != 0 }

// A KindLimit is the problem of choosing at most Kinds kinds for each set, and
// one of them for each group, at the least total cost within BudgetBytes.
type KindLimit struct {
	Sets        []Set
	Kinds       int
	BudgetBytes uint64

	// Solve solves the problem that is left when each set has the kinds whose
	// bits are set, within the bytes that their overhead leaves.
	Solve func(kinds []uint64, budgetBytes uint64) (cost, bound uint64, ok bool)

	// MaxSolves bounds the calls of Solve.
	MaxSolves int
}

const (
	costShift    = 6       // costs are held in units of 2^6, so that no sum overflows
	rateShift    = 20      // rates are held in units of 2^-20
	unavailable  = 1 << 61 // cost of a kind that a group may not have, in those units
	maxVisits    = 4096    // sets of kinds tried for one set and rate
	smallProblem = 16      // sets: so few are solved as exactly as can be
	maxKept      = 64      // sets of kinds kept of one set, to choose among
)

// Choose reports whether any choice fits, and a cost that no choice is below.
// The best choice is the cheapest of those that Solve was called for.
//
// The method: for a rate of cost per byte each set has a best set of kinds,
// found by trying all that could be better than the best known. The rate at
// which the sizes meet the budget gives a bound (Lagrangian relaxation). Each
// set's alternatives then enter by what they add to that bound, until none could
// beat the best plan.
func (l *KindLimit) Choose() (bound uint64, ok bool) {
	c := &chooser{limit: l, sets: make([]kindSet, len(l.Sets)), best: math.MaxUint64, seen: map[string]bool{}}
	var size uint64
	for i := range l.Sets {
		c.sets[i].init(&l.Sets[i], l.Kinds)
		size += c.sets[i].mostBytes
	}
	work := newKindWork(c.sets)
	trees := map[[2]int]kindTree{}
	for i := range c.sets {
		s := &c.sets[i]
		key := [2]int{len(s.useful), s.limit}
		if _, ok := trees[key]; !ok {
			trees[key] = newKindTree(key[0], key[1])
		}
		s.tree, s.kindWork = trees[key], work
	}
	c.maxRate = 1 << 62
	if size > 0 {
		if r := uint64(MaxTotal/2) / size; r < c.maxRate>>rateShift {
			c.maxRate = max(1, r<<rateShift)
		}
	}
	fits, rate := c.search()
	if fits == nil {
		return 0, false
	}
	c.solve(fits.kinds)
	c.alternatives(rate)
	return c.bound(), c.best != math.MaxUint64
}

// A chooser is the state of one choice.
type chooser struct {
	limit   *KindLimit
	sets    []kindSet
	maxRate uint64

	relaxed int64  // the bound of the relaxation, in units of cost
	best    uint64 // cost of the best plan
	least   uint64 // no plan among those solved costs less
	solved  int
	seen    map[string]bool
	open    int64 // what any plan that was not solved for adds to relaxed at least
}

// A point is the best choice at one rate.
type point struct {
	rate  uint64
	kinds []uint64
	cost  int64 // in units
	size  int64 // overhead included
	value int64 // of the relaxation
}

// search finds the rate at which the relaxation's bound is best, and the choice
// that fits at it or at the next larger rate; nil where none fits.
func (c *chooser) search() (fits *point, rate uint64) {
	budget := int64(min(c.limit.BudgetBytes, MaxTotal))
	loose := c.at(0)
	if loose.size <= budget {
		c.relaxed = loose.value
		return loose, 0
	}
	// Without a limit the rate is found at once, and that with a limit is near.
	near := c.cross(c.free(0), c.free(c.maxRate), budget, c.free)
	fits = c.at(near)
	for step := max(1, near>>4); fits.size > budget; step *= 4 {
		loose = fits
		if near == c.maxRate {
			return nil, 0
		}
		near = min(c.maxRate, near+step)
		fits = c.at(near)
	}
	if loose.rate == 0 {
		for step := max(1, near>>4); near > 0; step *= 4 {
			near -= min(near, step)
			p := c.at(near)
			if p.size > budget {
				loose = p
				break
			}
			fits = p
		}
	}
	c.relaxed = max(loose.value, fits.value)
	rate = fits.rate
	if loose.value > fits.value {
		rate = loose.rate
	}
	for range 64 {
		if c.settled(fits.cost) {
			break
		}
		next := crossing(loose, fits)
		if next <= loose.rate || next >= fits.rate {
			break
		}
		p := c.at(next)
		if p.value > c.relaxed {
			c.relaxed, rate = p.value, next
		}
		if p.size > budget {
			if p.size == loose.size && p.cost == loose.cost {
				break
			}
			loose = p
		} else {
			if p.size == fits.size && p.cost == fits.cost {
				break
			}
			fits = p
		}
	}
	return fits, rate
}

// settled reports whether a cost is so near the bound that a better one is not
// worth more work.
func (c *chooser) settled(cost int64) bool {
	return len(c.sets) > smallProblem && float64(cost-c.relaxed) <= float64(SplitLimits.settleGap*float64(cost))
}

// cross finds the rate at which a choice's size meets the budget, nearly.
func (c *chooser) cross(loose, fits *point, budget int64, at func(uint64) *point) uint64 {
	for range 40 {
		next := crossing(loose, fits)
		if fits.size > budget || budget-fits.size < budget>>8 || next <= loose.rate || next >= fits.rate {
			break
		}
		p := at(next)
		if p.size > budget {
			if p.size == loose.size {
				break
			}
			loose = p
		} else {
			if p.size == fits.size {
				break
			}
			fits = p
		}
	}
	return fits.rate
}

// crossing is the rate at which two choices are worth the same.
func crossing(loose, fits *point) uint64 {
	cost, size := uint64(max(0, fits.cost-loose.cost)), uint64(loose.size-fits.size)
	if loose.size <= fits.size {
		return 0
	}
	hi, lo := cost>>(64-rateShift), cost<<rateShift
	if hi >= size {
		return math.MaxUint64
	}
	q, _ := bits.Div64(hi, lo, size)
	return q
}

// at returns the best choice at a rate.
func (c *chooser) at(rate uint64) *point { return c.sum(rate, (*kindSet).choose) }

// free is the same without a limit of kinds or an overhead.
func (c *chooser) free(rate uint64) *point { return c.sum(rate, (*kindSet).free) }

func (c *chooser) sum(rate uint64, choose func(*kindSet, uint64) choice) *point {
	p := &point{rate: rate, kinds: make([]uint64, len(c.sets))}
	for i := range c.sets {
		x := choose(&c.sets[i], rate)
		p.kinds[i] = x.kinds
		p.cost += x.cost
		p.size += x.size
		p.value += x.value
	}
	if room := price(min(c.limit.BudgetBytes, MaxTotal), rate); room < unavailable {
		p.value -= room + 1 // rounded up
	} else {
		p.value = math.MinInt64
	}
	return p
}

// solve solves for one choice of kinds.
func (c *chooser) solve(kinds []uint64) {
	key := make([]byte, 0, 8*len(kinds))
	var overhead uint64
	for i, k := range kinds {
		for range 8 {
			key = append(key, byte(k))
			k >>= 8
		}
		overhead += c.sets[i].overhead(bits.OnesCount64(kinds[i]))
	}
	if c.seen[string(key)] {
		return
	}
	c.seen[string(key)] = true
	if overhead > c.limit.BudgetBytes {
		return
	}
	cost, bound, ok := c.limit.Solve(kinds, c.limit.BudgetBytes-overhead)
	c.solved++
	if !ok {
		return
	}
	if c.best == math.MaxUint64 {
		c.least = bound
	}
	c.best, c.least = min(c.best, cost), min(c.least, bound)
}

// bound is the cost that no plan is below.
func (c *chooser) bound() uint64 {
	relaxed := max(0, c.relaxed)
	open := uint64(math.MaxUint64)
	if c.open < MaxTotal>>costShift {
		open = uint64(relaxed+c.open) << costShift
	}
	return min(c.best, max(min(c.least, open), uint64(relaxed)<<costShift))
}

// alternatives solves for other kinds at the rate, those first that add least
// to the relaxation's bound.
func (c *chooser) alternatives(rate uint64) {
	c.open = 0
	if c.solved >= c.limit.MaxSolves || c.best == math.MaxUint64 {
		return
	}
	margin := func() int64 { return int64(c.best>>costShift) - c.relaxed + 1 }
	lists := make([][]choice, len(c.sets))
	dropped := int64(math.MaxInt64)
	for i := range c.sets {
		var rest int64
		lists[i], rest = c.sets[i].within(rate, margin())
		dropped = min(dropped, rest)
	}
	queue := &plans{{at: make([]int32, len(c.sets))}}
	kinds := make([]uint64, len(c.sets))
	for queue.Len() > 0 {
		p := heap.Pop(queue).(plan)
		c.open = min(p.extra, dropped)
		if p.extra >= margin() {
			return
		}
		if c.solved >= c.limit.MaxSolves || c.settled(int64(c.best>>costShift)) {
			return
		}
		for i := range kinds {
			kinds[i] = lists[i][p.at[i]].kinds
		}
		c.solve(kinds)
		for i := int(p.last); i < len(lists); i++ {
			at := p.at[i]
			if int(at)+1 >= len(lists[i]) {
				continue
			}
			next := plan{p.extra + lists[i][at+1].value - lists[i][at].value, slices.Clone(p.at), int32(i)}
			next.at[i]++
			if next.extra < margin() {
				heap.Push(queue, next)
			} else {
				dropped = min(dropped, next.extra)
			}
		}
	}
	c.open = dropped
}

// A plan is one alternative of each set.
type plan struct {
	extra int64 // over the relaxation's bound
	at    []int32
	last  int32 // the set that moved last; those before it stay
}

type plans []plan

func (p plans) Len() int { return len(p) }
func (p plans) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(p[i].extra, p[j].extra), slices.Compare(p[i].at, p[j].at)) < 0
}
func (p plans) Swap(i, j int) { p[i], p[j] = p[j], p[i] }
func (p *plans) Push(x any)   { *p = append(*p, x.(plan)) }
func (p *plans) Pop() any {
	last := (*p)[len(*p)-1]
	*p = (*p)[:len(*p)-1]
	return last
}
