package knapsack

import (
	"cmp"
	"slices"
	"sort"
)

// A step goes from one corner of a group's hull to the next larger one.
type step struct {
	saves  uint64 // cost
	bytes  uint64
	group  int32
	corner int32 // the larger one
}

func compareSteps(a, b step) int {
	if c := CompareRates(Rate{b.saves, b.bytes}, Rate{a.saves, a.bytes}); c != 0 {
		return c
	}
	return cmp.Or(cmp.Compare(a.group, b.group), cmp.Compare(a.corner, b.corner))
}

// An order is steps, most cost saved per byte first. They are sorted only where
// they are looked at: a budget's answer lies within some thousand steps of the
// one that no longer fits, of hundreds of thousands.
type order struct {
	steps []step
	parts []stepPart // in the steps' order; between them all is in its place
}

type stepPart struct {
	end    int
	sorted bool
}

// smallPart is how many steps are sorted rather than parted.
const smallPart = 64

func newOrder(steps []step) order { return order{steps, []stepPart{{end: len(steps)}}} }

func (o *order) start(part int) int {
	if part == 0 {
		return 0
	}
	return o.parts[part-1].end
}

// at returns the i-th step.
func (o *order) at(i int) *step {
	part := sort.Search(len(o.parts), func(p int) bool { return o.parts[p].end > i })
	for o.refine(part) {
		if i >= o.parts[part].end {
			part++
		}
	}
	return &o.steps[i]
}

// refine divides a part in two, or sorts it, and reports whether it divided.
func (o *order) refine(part int) bool {
	p := &o.parts[part]
	if p.sorted {
		return false
	}
	steps := o.steps[o.start(part):p.end]
	if n := len(steps); n > smallPart {
		third := func(i int) step { return median(steps[i], steps[i+n/9], steps[i+2*n/9]) }
		middle := divide(steps, median(third(0), third(n/3), third(2*n/3)))
		if least := min(middle, n-middle); least > n/32 {
			o.parts = slices.Insert(o.parts, part, stepPart{end: p.end - n + middle})
			return true
		}
	}
	slices.SortFunc(steps, compareSteps)
	p.sorted = true
	return false
}

func median(a, b, c step) step {
	if compareSteps(b, a) < 0 {
		a, b = b, a
	}
	if compareSteps(c, b) < 0 {
		b = c
		if compareSteps(b, a) < 0 {
			b = a
		}
	}
	return b
}

// divide puts the steps that come before the pivot first, and counts them.
func divide(steps []step, pivot step) int {
	i, j := 0, len(steps)
	for {
		for i < j && compareSteps(steps[i], pivot) < 0 {
			i++
		}
		for i < j && compareSteps(steps[j-1], pivot) >= 0 {
			j--
		}
		if i >= j {
			return i
		}
		j--
		steps[i], steps[j] = steps[j], steps[i]
		i++
	}
}

// cut returns how many steps fit in so much room, one after the other.
func (o *order) cut(room uint64) int {
	for part := 0; part < len(o.parts); {
		start, end := o.start(part), o.parts[part].end
		var bytes uint64
		for i := range o.steps[start:end] {
			bytes += o.steps[start+i].bytes
		}
		if bytes <= room {
			room -= bytes
			part++
			continue
		}
		if o.refine(part) {
			continue
		}
		for i := start; ; i++ {
			if o.steps[i].bytes > room {
				return i
			}
			room -= o.steps[i].bytes
		}
	}
	return len(o.steps)
}
