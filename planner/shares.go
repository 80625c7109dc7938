package planner

import (
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/stats/measure"
)

// relativeScale is the mean count that weights without counts are taken for
// when they are smoothed.
const relativeScale = 100

// layerShares computes what each expert of a layer counts for, once per layer.
type layerShares struct {
	w     *weighing
	mu    sync.Mutex
	known map[int][]float64
}

// of returns the weights of a layer's experts; they add up to 1.
func (x *layerShares) of(k int) ([]float64, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if s, ok := x.known[k]; ok {
		return s, nil
	}
	s, err := x.compute(k)
	if err != nil {
		return nil, fmt.Errorf("blk.%d: %w", x.w.frame.layers[k].index, err)
	}
	if x.known == nil {
		x.known = map[int][]float64{}
	}
	x.known[k] = s
	return s, nil
}

func (x *layerShares) compute(k int) ([]float64, error) {
	l := &x.w.frame.layers[k]
	objective := x.w.budget.Objective.weighing()
	if !objective.needsTraffic() {
		return slices.Repeat([]float64{1 / float64(l.experts)}, l.experts), nil
	}
	counts := l.smoothed()
	var energy []float64
	if objective == ObjectiveOutputShare {
		var err error
		if energy, err = x.outputEnergy(l, counts); err != nil {
			return nil, err
		}
	}
	return normalise(objective, counts, energy)
}

// normalise turns smoothed counts and output energies into what each expert
// counts for under an objective that needs traffic.
func normalise(objective Objective, counts, energy []float64) ([]float64, error) {
	out := make([]float64, len(counts))
	switch {
	case objective == ObjectiveInverseTraffic:
		for e := range out {
			out[e] = 1 / counts[e]
		}
	case objective == ObjectiveOutputShare && sum(energy) > 0:
		copy(out, energy)
	default: // traffic, or no output at all: the traffic is what is known
		copy(out, counts)
	}
	total := sum(out)
	if total > math.MaxFloat64 {
		return nil, fmt.Errorf("the experts' output energies add up to more than a number can hold")
	}
	for e := range out {
		out[e] /= total
		if !(out[e] >= 0 && out[e] <= 1) {
			return nil, fmt.Errorf("expert %d: a share of %v", e, out[e])
		}
	}
	return out, nil
}

// smoothed returns every expert's count and the smoothing. Weights that are no
// counts are scaled to a mean of relativeScale first.
func (l *moeLayer) smoothed() []float64 {
	out := make([]float64, l.experts)
	if l.counts != nil {
		for e, n := range l.counts {
			out[e] = float64(n) + measure.Smoothing
		}
		return out
	}
	unit := relativeScale * float64(l.experts) / sum(l.weights)
	for e, v := range l.weights {
		out[e] = float64(v*unit) + measure.Smoothing
	}
	return out
}

// outputEnergy returns the energy of each expert's output: its smoothed count
// times sum_i m_i |W_down,i|², which measuring found. With typical errors the
// down projections' weights count as alike, and what is left is the energy of
// their input.
func (x *layerShares) outputEnergy(l *moeLayer, counts []float64) ([]float64, error) {
	if x.w.budget.Errors == nil {
		return l.inputEnergy(counts), nil
	}
	energy := make([]float64, l.experts)
	found := 0
	for _, i := range l.slots {
		t := x.w.frame.slots[i].tensor
		if t.Role != ggufio.RoleExpertDown {
			continue
		}
		m := x.w.measured[t.Name]
		if m == nil || len(m.Experts) != t.Experts() {
			return nil, &MissingErrorError{t.Name, "anything"}
		}
		for j := range m.Experts {
			e := expertOf(t, j)
			energy[e] = expertEnergy(&m.Experts[j], l, e, counts[e])
			found++
		}
	}
	if found != l.experts {
		return nil, fmt.Errorf("output energies of %d experts were measured, the layer has %d", found, l.experts)
	}
	return energy, nil
}

// expertEnergy returns one expert's output energy. The measured one holds the
// count it was measured with.
func expertEnergy(m *measure.ExpertLoss, l *moeLayer, e int, smoothed float64) float64 {
	if m.OutputEnergy != nil && m.Count != nil && l.counts != nil && *m.Count == l.counts[e] {
		return *m.OutputEnergy
	}
	if m.OutputEnergy != nil && m.Count != nil {
		return float64(*m.OutputEnergy / (float64(*m.Count) + measure.Smoothing) * smoothed)
	}
	return float64(m.WeightedNorm * smoothed)
}

// inputEnergy returns counts times the energy per token of the down
// projection's input; where that is unknown or the expert unseen, the layer's
// mean per token.
func (l *moeLayer) inputEnergy(counts []float64) []float64 {
	energy := l.evidence.DownEnergy
	if len(energy) != l.experts || l.counts == nil || !(sum(energy) > 0 && sum(energy) <= math.MaxFloat64) {
		return counts
	}
	mean := sum(energy) / float64(l.total)
	out := make([]float64, l.experts)
	for e := range out {
		perToken := mean
		if n := l.counts[e]; n > 0 {
			perToken = energy[e] / float64(n)
		}
		out[e] = float64(counts[e] * perToken)
	}
	return out
}
