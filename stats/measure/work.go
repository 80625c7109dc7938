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
	weights uint64    // times types: what is counted for people
	share   pace.Cost // by the table: what parts are cut by
	here    pace.Cost // on one core of this machine
}

func (w work) plus(x work) work {
	return work{w.weights + x.weights, w.share + x.share, w.here + x.here}
}

func (w work) minus(x work) work {
	return work{w.weights - x.weights, w.share - x.share, w.here - x.here}
}

// seconds is the time on one core of this machine.
func (w work) seconds() float64 { return w.here.Seconds() }

// typeWorks returns what a weight takes in each of a tensor's types: the round
// trip and the comparison. One that keeps its type is copied.
func (m *measurement) typeWorks(t *measuredTensor) []work {
	works := make([]work, len(t.types))
	weighted := Covers(m.columns(), t.tensor)
	for k, typ := range t.types {
		if typ != t.tensor.Type {
			works[k] = work{1, pace.RoundTrip(typ, weighted) + pace.Compare(typ), m.costs.RoundTrip(typ, weighted) + pace.Compare(typ)}
		}
	}
	return works
}

// encoded is the work on rows in the k-th of a tensor's types.
func (t *measuredTensor) encoded(k int, rows uint64) work {
	n := rows * t.tensor.Shape[0]
	w := t.works[k]
	return work{n * w.weights, pace.Cost(n) * w.share, pace.Cost(n) * w.here}
}

// read is the work of reading some rows.
func (t *measuredTensor) read(rows uint64) work {
	c := pace.Cost(rows*t.tensor.Shape[0]) * pace.ReadRow
	return work{0, c, c}
}

// summed is the work of reading rows in the order of the file, for their norms.
func (t *measuredTensor) summed(rows uint64) work {
	n := pace.Cost(rows * t.tensor.Shape[0])
	return work{0, n * pace.Norm, n * pace.NormHere()}
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
		rows, norms := total, total
		if !m.options.Full {
			rows, norms = expectedRows(target, total), m.normRows(target, total)
			all = all.plus(it.read(rows)) // again, to encode them
		}
		all = all.plus(it.summed(norms))
		for k, typ := range it.types {
			if typ != it.tensor.Type && (anchor < 0 || anchor == k) {
				all = all.plus(it.encoded(k, rows))
			}
		}
	}
	return all
}

// order returns the groups that are to be measured in the order in which they
// are: some early, the others as they are in the file.
func (m *measurement) order(todo []int) []int {
	numbers := m.early(todo)
	taken := make([]bool, len(m.groups))
	for _, n := range numbers {
		taken[n] = true
	}
	for _, n := range todo {
		if !taken[n] {
			numbers = append(numbers, n)
		}
	}
	return numbers
}

// early returns the groups to begin with, of some that are to be measured. A
// sample needs more rows of one kind of tensor than of another, and in one layer
// than in another: a few groups of each kind tell, from all of the model's depth,
// those first that most of the work is like. And the largest of all would keep
// one worker busy when the others have nothing left to do.
func (m *measurement) early(todo []int) (numbers []int) {
	const (
		enough = 2 * depths // groups of a kind, for some to stand for all
		most   = 4          // of a depth
	)
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
	if !m.options.Full {
		for i := range most * depths {
			for place, k := range names {
				// From the middle on, which is most like the whole.
				n, depth := len(kinds[k]), [2][depths]int{{1, 2, 0, 3}, {2, 1, 3, 0}}[place%2][i%depths]
				if n >= enough && i/depths < max(1, min(most, n/(4*depths))) {
					numbers = append(numbers, kinds[k][(2*depth+1)*n/(2*depths)+i/depths])
				}
			}
		}
		for _, k := range names {
			if len(kinds[k]) < enough {
				numbers = append(numbers, kinds[k]...) // they say nothing of others, and nothing does of them
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
