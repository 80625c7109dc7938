package measure

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/stats/pace"
)

// A work is what some measuring takes.
type work struct {
	weights uint64       // times types: what is counted for people
	costs   [2]pace.Cost // by pace.Machine
}

func (w work) plus(x work) work {
	w.weights += x.weights
	for i := range w.costs {
		w.costs[i] += x.costs[i]
	}
	return w
}

func (w work) minus(x work) work {
	w.weights -= x.weights
	for i := range w.costs {
		w.costs[i] -= x.costs[i]
	}
	return w
}

// seconds is the time on one core of a machine like this one.
func (w work) seconds() float64 { return w.costs[pace.Here()].Seconds() }

// share is what parts are cut by: the same on every machine.
func (w work) share() uint64 { return uint64(w.costs[pace.Vectors]) }

// A typeCost is what a weight takes in one type, by pace.Machine: the round trip
// and the comparison.
type typeCost [2]pace.Cost

// typeCosts returns the costs of a tensor's types. One that keeps its type is
// copied.
func (m *measurement) typeCosts(t *measuredTensor) []typeCost {
	costs := make([]typeCost, len(t.types))
	weighted := Covers(m.columns(), t.tensor)
	for k, typ := range t.types {
		for _, machine := range []pace.Machine{pace.Vectors, pace.Portable} {
			if typ != t.tensor.Type {
				costs[k][machine] = machine.RoundTrip(typ, weighted) + pace.Compare(typ)
			}
		}
	}
	return costs
}

// encoded is the work on rows in the k-th of a tensor's types.
func (t *measuredTensor) encoded(k int, rows uint64) work {
	n := rows * t.tensor.Shape[0]
	w := work{weights: n}
	for i, c := range t.costs[k] {
		w.costs[i] = c * pace.Cost(n)
	}
	return w
}

// read is the work on rows before any type's: reading them, and their norms.
func (t *measuredTensor) read(rows uint64) work {
	c := pace.Cost(rows*t.tensor.Shape[0]) * (pace.ReadRow + pace.Norm)
	return work{costs: [2]pace.Cost{c, c}}
}

// expected guesses the work on items that are measured together.
func (m *measurement) expected(items []measureItem) (all work) {
	var member []bool
	if len(items) > 1 {
		member = m.pooledMembers(items)
	}
	for i := range items {
		it := &items[i]
		target, anchor := it.target, -1
		switch {
		case member == nil:
		case member[i]:
			target = m.memberTarget(it)
		default:
			target, anchor = target*pooledAnchor, anchorOf(it.types, it.tensor.Type)
		}
		total := it.tensor.ExpertRows()
		rows, read := total, total
		if !m.options.Full {
			rows = expectedRows(target, total)
			read = max(rows, normRows(target, total))
		}
		all = all.plus(it.read(read))
		for k, typ := range it.types {
			if typ != it.tensor.Type && (anchor < 0 || anchor == k) {
				all = all.plus(it.encoded(k, rows))
			}
		}
	}
	return all
}

// early returns the groups to begin with, of some that are to be measured. A
// sample needs more rows of one kind of tensor than of another, and in one layer
// than in another: a few groups of each kind tell, from all of the model's depth,
// those first that most of the work is like. And the largest of all would keep
// one worker busy when the others have nothing left to do.
func (m *measurement) early(todo []int) (numbers []int) {
	const enough = 2 * depths // groups of a kind, for some to say something of others
	kinds := map[string][]int{}
	work := map[string]float64{}
	all := 0.0
	for _, n := range todo {
		g := &m.groups[n]
		k := kindOf(m.items[g.first].tensor)
		kinds[k] = append(kinds[k], n)
		work[k] += g.expected.seconds()
		all += g.expected.seconds()
	}
	names := slices.SortedFunc(maps.Keys(kinds), func(a, b string) int {
		return cmp.Or(cmp.Compare(work[b], work[a]), cmp.Compare(a, b))
	})
	for i := range depths {
		for _, k := range names {
			if same := kinds[k]; !m.options.Full && len(same) >= enough {
				numbers = append(numbers, same[(2*i+1)*len(same)/(2*depths)])
			}
		}
	}
	for _, n := range todo {
		if m.groups[n].expected.seconds()*float64(4*Cores(m.options.Workers)) > all && !slices.Contains(numbers, n) {
			numbers = append(numbers, n)
		}
	}
	return numbers
}

// kindOf returns what tensors of a kind have in common: their names, but for
// layer and expert.
func kindOf(t *ggufio.Tensor) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return -1
		}
		return r
	}, t.Name)
}
