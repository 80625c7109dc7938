package planner

import (
	"fmt"
	"math/bits"
	"slices"

	"github.com/ggufplan/ggufplan/stats"
)

// attach finds what is known about a layer's traffic. A layer without an
// entry, or whose traffic sums to 0, keeps no evidence.
func (f *frame) attach(l *moeLayer) error {
	ev := f.problem.Evidence
	if ev == nil {
		return nil
	}
	i := slices.IndexFunc(ev.Layers, func(e stats.Layer) bool { return e.Index == l.index && e.Kind != stats.LayerShared })
	if i < 0 {
		return nil
	}
	e := &ev.Layers[i]
	switch ev.Kind {
	case stats.KindExact, stats.KindScaled:
		if e.Counts == nil {
			return nil
		}
		if len(e.Counts) != l.experts {
			return fmt.Errorf("counts of %d experts, the model has %d", len(e.Counts), l.experts)
		}
		var carry uint64
		for _, n := range e.Counts {
			if l.total, carry = bits.Add64(l.total, n, 0); carry != 0 {
				return fmt.Errorf("counts add up to more than 2^64-1")
			}
		}
		if l.total == 0 {
			return nil
		}
		l.counts, l.deff = e.Counts, e.Deff()
	case stats.KindRelative, stats.KindRank:
		if e.Weights == nil {
			return nil
		}
		if len(e.Weights) != l.experts {
			return fmt.Errorf("weights of %d experts, the model has %d", len(e.Weights), l.experts)
		}
		for i, w := range e.Weights {
			if !(w >= 0 && w <= maxWeight) {
				return fmt.Errorf("expert %d: weight %v: want a number from 0 to %g", i, w, float64(maxWeight))
			}
		}
		if ev.Kind == stats.KindRelative && sum(e.Weights) == 0 {
			return nil
		}
		l.weights = e.Weights
	default:
		return nil
	}
	l.evidence = e
	return nil
}

// maxWeight keeps every sum of weights finite.
const maxWeight = 1e300

// sum adds in the order given, which is the order of experts everywhere, so
// that it is the same number on every machine.
func sum(values []float64) float64 {
	var s float64
	for _, v := range values {
		s += v
	}
	return s
}

// facts returns what is known about each expert of a layer. Everything is
// unknown in a layer without statistics. Relative is within the layer.
func (f *frame) facts(l *moeLayer) LayerPlan {
	plan := LayerPlan{Layer: l.index, HasStatistics: l.evidence != nil, Experts: make([]ExpertPlan, l.experts)}
	if l.evidence == nil {
		return plan
	}
	plan.Tokens = l.evidence.Tokens
	switch {
	case l.counts != nil:
		plan.Activations, plan.Deff = &l.total, &l.deff
		largest := slices.Max(l.counts)
		ratios := make([][2]float64, len(plan.Experts))
		for e := range plan.Experts {
			x, r := &plan.Experts[e], &ratios[e]
			x.Count = &l.counts[e]
			x.Share, x.Relative = &r[0], &r[1]
			*x.Share, *x.Relative = float64(l.counts[e])/float64(l.total), float64(l.counts[e])/float64(largest)
			x.Flag = grade(l.counts[e], l.deff, f.problem.Evidence.Kind)
		}
	case l.weights != nil && f.problem.Evidence.Kind == stats.KindRelative:
		total, largest := sum(l.weights), slices.Max(l.weights)
		for e := range plan.Experts {
			x := &plan.Experts[e]
			x.Share = ratio(l.weights[e], total)
			x.Relative = ratio(l.weights[e], largest)
		}
	}
	for _, e := range l.evidence.UnseenKnown {
		if e >= 0 && e < l.experts {
			plan.Experts[e].Flag = FlagUnseen
		}
	}
	return plan
}

func ratio(a, b float64) *float64 {
	r := a / b
	return &r
}

// Flags of experts that the budget policy guards, as plans spell them.
const (
	FlagUnseen = string(stats.FlagUnseen)
	FlagScarce = string(stats.FlagScarce)
)

// grade returns the flag of a count. Counts that are multiples of an unknown
// number are at most what they seem, so only their low grades are known.
func grade(count uint64, deff float64, kind stats.Kind) string {
	f := stats.FlagOf(count, deff)
	if kind == stats.KindScaled && f != stats.FlagUnseen && f != stats.FlagScarce {
		return ""
	}
	return string(f)
}
