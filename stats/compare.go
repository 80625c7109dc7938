package stats

import (
	"fmt"
	"math"
	"slices"
	"strconv"

	"gonum.org/v1/gonum/stat"
)

// A Shift says how far traffic lies apart between two sources.
type Shift struct {
	// JensenShannon is the Jensen-Shannon distance of the two distributions
	// over experts: the square root of the divergence to base 2, from 0 for
	// equal to 1 for disjoint.
	JensenShannon float64
	// Spearman is the rank correlation over experts, ties at their mean rank;
	// nil where a side ranks all experts alike.
	Spearman *float64
}

// A LayerShift is the shift in one layer.
type LayerShift struct {
	Layer int
	Shift
	// Moved lists the experts whose tier differs, ascending.
	Moved []TierMove
}

// A TierMove is an expert that one source puts into another tier.
type TierMove struct {
	Expert int    `json:"expert"`
	From   string `json:"from"`
	To     string `json:"to"`
}

// Tiers returns the tier of every expert of a layer.
type Tiers func(ev *Evidence, l *Layer) ([]string, error)

// Compare returns the shift from a to b in every layer that both know the
// traffic of, and the layers that only one does. tiers may be nil. Layers with
// different numbers of experts, and sources without any layer in common, are
// errors.
func Compare(a, b *Evidence, tiers Tiers) (shifts []LayerShift, onlyA, onlyB []int, err error) {
	if a.LayerAxis != b.LayerAxis {
		return nil, nil, nil, Curable(NameModel, "layers of one are blocks, of the other rows of unknown meaning")
	}
	both := alignExperts([]*Evidence{a, b})
	a, b = both[0], both[1]
	byIndex := map[int]*Layer{}
	for i := range b.Layers {
		if !b.Layers[i].Empty() {
			byIndex[b.Layers[i].Index] = &b.Layers[i]
		}
	}
	for i := range a.Layers {
		la := &a.Layers[i]
		if la.Empty() {
			continue
		}
		lb := byIndex[la.Index]
		if lb == nil {
			onlyA = append(onlyA, la.Index)
			continue
		}
		delete(byIndex, la.Index)
		if la.Experts() != lb.Experts() {
			return nil, nil, nil, fmt.Errorf("has %d experts in %s, where %s has %d", lb.Experts(), la.Name(a.LayerAxis), a.name(), la.Experts())
		}
		s, _ := shiftBetween(Shares(la.Counts, la.Weights), Shares(lb.Counts, lb.Weights))
		ls := LayerShift{Layer: la.Index, Shift: s}
		if tiers != nil {
			if ls.Moved, err = movedTiers(tiers, a, la, b, lb); err != nil {
				return nil, nil, nil, fmt.Errorf("%s: %w", la.Name(a.LayerAxis), err)
			}
		}
		shifts = append(shifts, ls)
	}
	for n := range byIndex {
		onlyB = append(onlyB, n)
	}
	slices.Sort(onlyB)
	if len(shifts) == 0 {
		return nil, nil, nil, fmt.Errorf("no layer has traffic in both")
	}
	return shifts, onlyA, onlyB, nil
}

func movedTiers(tiers Tiers, a *Evidence, la *Layer, b *Evidence, lb *Layer) ([]TierMove, error) {
	ta, err := tiers(a, la)
	if err != nil {
		return nil, err
	}
	tb, err := tiers(b, lb)
	if err != nil {
		return nil, err
	}
	var moved []TierMove
	for e := range min(len(ta), len(tb)) {
		if ta[e] != tb[e] {
			moved = append(moved, TierMove{e, ta[e], tb[e]})
		}
	}
	return moved, nil
}

// Shares returns each expert's share of the traffic, nil without any.
func Shares(counts []uint64, weights []float64) []float64 {
	values := weights
	if counts != nil {
		values = make([]float64, len(counts))
		for e, n := range counts {
			values[e] = float64(n)
		}
	}
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	if sum == 0 || math.IsInf(sum, 0) {
		return nil
	}
	list := make([]float64, len(values))
	for e, v := range values {
		list[e] = v / sum
	}
	return list
}

// shiftBetween compares two distributions of equal length. It reports false
// where either is nil.
func shiftBetween(p, q []float64) (Shift, bool) {
	if p == nil || q == nil {
		return Shift{}, false
	}
	divergence := stat.JensenShannon(p, q) / math.Ln2
	s := Shift{JensenShannon: six(math.Sqrt(min(max(divergence, 0), 1)))}
	if r := stat.Correlation(ranks(p), ranks(q), nil); !math.IsNaN(r) {
		r = six(min(max(r, -1), 1))
		s.Spearman = &r
	}
	return s, true
}

// ranks returns the rank of every value, 1 for the smallest, ties at the mean
// of their ranks.
func ranks(values []float64) []float64 {
	order := make([]int, len(values))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int {
		switch {
		case values[i] < values[j]:
			return -1
		case values[i] > values[j]:
			return 1
		}
		return 0
	})
	list := make([]float64, len(values))
	for i := 0; i < len(order); {
		j := i + 1
		for j < len(order) && values[order[j]] == values[order[i]] {
			j++
		}
		for _, k := range order[i:j] {
			list[k] = float64(i+j+1) / 2
		}
		i = j
	}
	return list
}

// six rounds to the six significant digits at which statistics are reported,
// which hides what logarithms differ by between machines.
func six(v float64) float64 {
	r, err := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 6, 64), 64)
	if err != nil {
		return v
	}
	return r
}
