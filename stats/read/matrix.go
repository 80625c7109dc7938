package read

import (
	"fmt"
	"math"
	"slices"

	"github.com/ggufplan/ggufplan/stats"
)

// A matrix gathers a table of counts, [layers][experts] or
// [steps][layers][experts], row by row in that order. Steps are added up and
// serve as blocks, and each layer has as many experts in all; a step of zeros is an unused slot of a circular buffer and
// is dropped. Memory is layers x experts.
type matrix struct {
	opt     Options
	float32 bool // values went through f32
	summed  bool // the first axis is no sequence of steps, so no blocks

	layers, experts int // of every step; layers is 0 until the first step ended, experts the most of a layer
	row             int // next row of the current step
	step            [][]float64
	busy            bool // the current step has a value that is not 0
	steps           int

	sum     [][]float64 // as written
	whole   [][]float64 // each value rounded
	inexact bool        // a value was not whole
	largest float64
	moments []stats.BlockMoments
}

// addRow takes the next row of the current step.
func (m *matrix) addRow(values []float64) error {
	if len(values) == 0 {
		return fmt.Errorf("layer %d has no experts", m.row)
	}
	if len(values) > maxExperts {
		return fmt.Errorf("layer %d has %d experts, over the limit of %d", m.row, len(values), maxExperts)
	}
	if m.layers == 0 {
		if m.opt.Experts > 0 && len(values) != m.opt.Experts {
			return fmt.Errorf("rows have %d experts, where %d were stated", len(values), m.opt.Experts)
		}
		m.experts = max(m.experts, len(values))
	}
	if m.row >= maxLayers {
		return fmt.Errorf("more than %d layers (the limit of llama.cpp)", maxLayers)
	}
	if m.layers > 0 && m.row >= m.layers {
		return fmt.Errorf("step %d has more than %d layers, the number of steps before it", m.steps, m.layers)
	}
	if m.row == len(m.step) {
		m.step = append(m.step, make([]float64, len(values)))
	}
	if n := len(m.step[m.row]); len(values) != n {
		return fmt.Errorf("step %d: layer %d has %d experts, in steps before it %d", m.steps, m.row, len(values), n)
	}
	for e, v := range values {
		switch {
		case math.IsNaN(v) || math.IsInf(v, 0):
			return fmt.Errorf("layer %d, expert %d: %v is not a count", m.row, e, v)
		case v < 0:
			return fmt.Errorf("layer %d, expert %d: %v is negative", m.row, e, v)
		case v > maxCount:
			return fmt.Errorf("layer %d, expert %d: %v is over %d", m.row, e, v, uint64(maxCount))
		case v > 0:
			m.busy = true
		}
	}
	copy(m.step[m.row], values)
	m.row++
	return nil
}

// endStep closes the current step.
func (m *matrix) endStep() error {
	if m.row == 0 {
		return fmt.Errorf("step %d has no layers", m.steps)
	}
	if m.layers == 0 {
		if m.opt.Layers > 0 && m.row != m.opt.Layers {
			return fmt.Errorf("%d layers, where %d were stated", m.row, m.opt.Layers)
		}
		m.layers = m.row
		m.sum, m.whole = make([][]float64, m.layers), make([][]float64, m.layers)
		m.moments = make([]stats.BlockMoments, m.layers)
		for i := range m.layers {
			n := len(m.step[i])
			m.sum[i], m.whole[i] = make([]float64, n), make([]float64, n)
		}
	}
	if m.row != m.layers {
		return fmt.Errorf("step %d has %d layers, steps before it %d", m.steps, m.row, m.layers)
	}
	m.row = 0
	m.steps++
	if !m.busy {
		return nil
	}
	m.busy = false
	for i, row := range m.step {
		for e, v := range row {
			m.sum[i][e] += v
			w := math.Round(v)
			if math.Abs(v-w) > stats.WholeTolerance {
				m.inexact = true
			}
			row[e] = w
			m.whole[i][e] += w
			m.largest = max(m.largest, m.whole[i][e])
		}
		m.moments[i].Add(row)
	}
	if m.largest > maxCount {
		return fmt.Errorf("counts add up to more than %d", uint64(maxCount))
	}
	return nil
}

// evidence closes the table; rows of zeros are left out. kind is what whole
// numbers mean in its format; other numbers are relative weights in any.
func (m *matrix) evidence(format string, kind stats.Kind) (*stats.Evidence, error) {
	if m.layers == 0 {
		return nil, fmt.Errorf("no layers")
	}
	if m.inexact {
		kind = stats.KindRelative
	}
	ev := &stats.Evidence{Kind: kind, LayerAxis: stats.AxisRows, Rows: m.layers, ExpertCount: m.experts, TopK: m.opt.TopK, Inputs: []stats.Input{{Format: format, Kind: kind}}}
	for i := range m.layers {
		if !slices.ContainsFunc(m.sum[i], func(v float64) bool { return v > 0 }) {
			continue // a dense layer, or one the recorder did not see
		}
		layer := stats.Layer{Index: i, Kind: stats.LayerRouted, TopK: m.opt.TopK}
		if m.inexact {
			layer.Weights = m.sum[i]
		} else {
			layer.Counts = make([]uint64, len(m.whole[i]))
			var slots uint64
			for e, v := range m.whole[i] {
				layer.Counts[e] = uint64(v)
				slots += uint64(v)
			}
			// A multiple of the true counts says nothing about tokens.
			if kind == stats.KindExact {
				layer.Tokens = tokensOf(slots, m.opt.TopK)
			}
			if !m.summed {
				layer.Blocks = m.moments[i].Summary(m.opt.TopK, len(m.whole[i]))
			}
		}
		ev.Layers = append(ev.Layers, layer)
	}
	if len(ev.Layers) == 0 {
		return nil, errNoActivations
	}
	if slices.ContainsFunc(m.step, func(row []float64) bool { return len(row) != m.experts }) {
		ev.ExpertCount = 0 // it differs
	}
	if m.float32 && !m.inexact && m.largest > stats.Float32Whole {
		ev.Findings = append(ev.Findings, stats.Finding{
			Code: stats.CodeRoundedCounts, Subject: format,
			Message: fmt.Sprintf("counts up to %.0f were stored as f32, which is exact up to %d", m.largest, stats.Float32Whole),
		})
	}
	return ev, nil
}
