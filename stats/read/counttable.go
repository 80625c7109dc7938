package read

import (
	"fmt"
	"math"
	"slices"

	"github.com/ggufplan/ggufplan/stats"
)

// A countTable sums the amounts of rows of one layer and one expert.
type countTable struct {
	rows    map[int]*tableLayer
	mtpRows int // left out

	// Of records that each have keys of their own.
	amounts, bare int // with and without an amount
	share         bool
}

type tableLayer struct {
	amounts []float64
	times   []uint32 // rows of each expert
	total   float64  // that the rows state, NaN where none does
	differ  bool     // rows state several
}

// add takes a row. total is NaN where the row states none.
func (c *countTable) add(layer uint64, expert int, amount, total float64) error {
	if layer >= maxLayers {
		return fmt.Errorf("layer %d is over the limit of %d layers (as in llama.cpp)", layer, maxLayers)
	}
	if expert >= maxExperts {
		return fmt.Errorf("expert %d is over the limit of %d experts", expert, maxExperts)
	}
	if c.rows == nil {
		c.rows = make(map[int]*tableLayer)
	}
	l := c.rows[int(layer)]
	if l == nil {
		l = &tableLayer{total: total}
		c.rows[int(layer)] = l
	}
	l.differ = l.differ || total != l.total && !(math.IsNaN(total) && math.IsNaN(l.total))
	if grow := expert + 1 - len(l.amounts); grow > 0 {
		l.amounts = append(l.amounts, make([]float64, grow)...)
		l.times = append(l.times, make([]uint32, grow)...)
	}
	l.amounts[expert] += amount
	l.times[expert]++
	return nil
}

// isTable reports whether every expert of every layer has as many rows: so
// rows are experts, not activations.
func (c *countTable) isTable() bool {
	times := uint32(0)
	pairs := 0
	for _, l := range c.rows {
		for _, n := range l.times {
			if n == 0 {
				continue
			}
			if times == 0 {
				times = n
			}
			if n != times {
				return false
			}
			pairs++
		}
	}
	return pairs > 1
}

// close makes evidence of rows of single experts and of all others. With an
// amount, rows of single experts are a table. Without one they are
// activations, unless each expert has as many rows: then router weights are
// shares, and other numbers could be anything.
func (c *countTable) close(trace *tally, unknown []string, format string, axis stats.LayerAxis, opt Options) (*stats.Evidence, error) {
	opt.TopK = trace.topK
	switch {
	case c.amounts > 0 && (c.bare > 0 || trace.used()):
		return nil, fmt.Errorf("%d rows say how often an expert was used, others do not", c.amounts)
	case c.amounts > 0:
		return c.evidence("count-"+format, c.share, trace.experts, opt)
	case c.bare > 0 && c.isTable() && len(unknown) > 0:
		return nil, &ColumnError{Names: unknown, Why: "not known to say how often an expert was used, and each expert has as many rows"}
	case c.bare > 0 && c.isTable() && c.weighs():
		return c.evidence("count-"+format, true, trace.experts, opt)
	}
	ev, err := trace.evidence("trace-"+format, axis)
	if err == nil {
		c.noteMTP(ev)
	}
	return ev, err
}

// weighs reports whether a row had an amount.
func (c *countTable) weighs() bool {
	for _, l := range c.rows {
		if slices.ContainsFunc(l.amounts, func(v float64) bool { return v > 0 }) {
			return true
		}
	}
	return false
}

// evidence closes the table. experts is the number stated, 0 for none.
func (c *countTable) evidence(format string, share bool, experts int, opt Options) (*stats.Evidence, error) {
	if len(c.rows) == 0 {
		return nil, errNoActivations
	}
	width := experts
	for _, l := range c.rows {
		width = max(width, len(l.amounts))
	}
	profiles := make(map[int]*profile, len(c.rows))
	for n, l := range c.rows {
		profiles[n] = &profile{counts: pad(l.amounts, width)}
	}
	ev, err := profileEvidence(format, profiles, share, opt)
	if err != nil {
		return nil, err
	}
	ev.ExpertCount, ev.OpenExperts = experts, experts == 0
	for i := range ev.Layers {
		l := &ev.Layers[i]
		if err := c.rows[l.Index].check(ev, l); err != nil {
			return nil, err
		}
	}
	c.noteMTP(ev)
	return ev, nil
}

func (c *countTable) noteMTP(ev *stats.Evidence) {
	if c.mtpRows > 0 {
		ev.Find(stats.CodeMTPBlock, "", "%d rows of multi-token prediction blocks, which number their layers anew, are left out", c.mtpRows)
	}
}

// check compares counts with the total that the rows of their layer state:
// tokens, or activations.
func (t *tableLayer) check(ev *stats.Evidence, l *stats.Layer) error {
	if math.IsNaN(t.total) || l.Counts == nil {
		return nil
	}
	if t.differ {
		return fmt.Errorf("layer %d: its rows state different totals", l.Index)
	}
	if largest := slices.Max(l.Counts); float64(largest) > t.total {
		return fmt.Errorf("layer %d: an expert has a count of %d, over the layer's total of %v", l.Index, largest, t.total)
	}
	sum, err := l.Activations()
	if err != nil {
		return fmt.Errorf("layer %d: %w", l.Index, err)
	}
	if t.total != math.Trunc(t.total) || t.total <= 0 || float64(sum) == t.total {
		return nil
	}
	if tokens := uint64(t.total); sum%tokens == 0 {
		return l.StateTokens(tokens, int(sum/tokens))
	}
	ev.Find(stats.CodeKMismatch, l.Name(stats.AxisBlocks), "its counts sum to %d, which is no multiple of the total of %v that its rows state: rows may be missing", sum, t.total)
	return nil
}
