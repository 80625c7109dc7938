package planner

import (
	"math"
	"strings"
)

// sensitivities returns s(t) for every cell: the table's value over the
// table's mean, 1 without a table. What was not measured is interpolated
// between the nearest layers below and above whose tensor of the same name was,
// beyond the first and last taken from the nearest; where no layer's was, it is
// the mean of the same role, and else of the table. w.interpolated lists those
// tensors in the file's order.
func (w *weighing) sensitivities() ([]float64, error) {
	out := make([]float64, len(w.cells))
	if w.budget.Sensitivity == nil {
		for c := range out {
			out[c] = 1
		}
		return out, nil
	}
	t := newSensitivityTable(w)
	if len(t.value) == 0 {
		return nil, &NoSensitivityError{w.budget.Sensitivity.Names[0]}
	}
	for c := range w.cells {
		name := w.cells[c].slot.tensor.Name
		v, ok := t.value[name]
		if !ok {
			v = t.interpolate(w.cells[c].slot)
		}
		out[c] = v / t.mean
	}
	for i := range w.frame.slots {
		if _, ok := t.value[w.frame.slots[i].tensor.Name]; !ok && w.cellOf[i] >= 0 {
			w.interpolated = append(w.interpolated, w.frame.slots[i].tensor.Name)
		}
	}
	return out, nil
}

// A NoSensitivityError reports a table that measured no tensor of the model.
type NoSensitivityError struct{ First string }

func (e *NoSensitivityError) Error() string {
	return "no measured tensor of the sensitivity table is in the model; its first is " + e.First
}

type sensitivityTable struct {
	value  map[string]float64         // of the model's tensors
	series map[string]map[int]float64 // by name without the layer, then layer
	roles  map[string]meanOf
	mean   float64 // of everything measured
	layers int
}

type meanOf struct {
	sum float64
	n   int
}

func (m meanOf) plus(v float64) meanOf { return meanOf{m.sum + v, m.n + 1} }

func newSensitivityTable(w *weighing) *sensitivityTable {
	table := w.budget.Sensitivity
	t := &sensitivityTable{value: map[string]float64{}, series: map[string]map[int]float64{}, roles: map[string]meanOf{}}
	at := make(map[string]*slot, len(w.frame.slots))
	for i := range w.frame.slots {
		s := &w.frame.slots[i]
		at[s.tensor.Name] = s
		t.layers = max(t.layers, s.tensor.Layer+1)
	}
	var all meanOf
	for i, name := range table.Names {
		v := table.Values[i]
		if math.IsNaN(v) {
			continue
		}
		all = all.plus(v)
		s := at[name]
		if s == nil {
			continue
		}
		t.value[name] = v
		role := string(s.tensor.Role)
		t.roles[role] = t.roles[role].plus(v)
		if kind, ok := kindOf(name); ok {
			if t.series[kind] == nil {
				t.series[kind] = map[int]float64{}
			}
			t.series[kind][s.tensor.Layer] = v
		}
	}
	t.mean = all.sum / float64(all.n)
	return t
}

// kindOf returns a tensor's name without its layer, such as
// "ffn_up_exps.weight".
func kindOf(name string) (string, bool) {
	rest, ok := strings.CutPrefix(name, "blk.")
	if !ok {
		return "", false
	}
	_, kind, ok := strings.Cut(rest, ".")
	return kind, ok
}

func (t *sensitivityTable) interpolate(s *slot) float64 {
	kind, _ := kindOf(s.tensor.Name)
	series := t.series[kind]
	layer := s.tensor.Layer
	low, high := layer-1, layer+1
	for ; low >= 0; low-- {
		if _, ok := series[low]; ok {
			break
		}
	}
	for ; high < t.layers; high++ {
		if _, ok := series[high]; ok {
			break
		}
	}
	switch {
	case layer < 0 || len(series) == 0:
		if m := t.roles[string(s.tensor.Role)]; m.n > 0 {
			return m.sum / float64(m.n)
		}
		return t.mean
	case low < 0:
		return series[high]
	case high >= t.layers:
		return series[low]
	}
	along := float64(layer-low) / float64(high-low)
	return series[low] + float64(along*(series[high]-series[low]))
}
