package read

import (
	"fmt"
	"hash/maphash"
	"math"
	"slices"

	"github.com/ggufplan/ggufplan/stats"
)

// A countTable sums the amounts of rows of one layer and one expert.
type countTable struct {
	rows    map[int]*tableLayer
	width   int // experts of the widest layer so far
	mtpRows int // left out

	// Of records that each have keys of their own.
	amounts, bare int // with and without an amount
	share         bool

	tags map[uint64]uint64 // digests of unknown tags by those of all else but the amount
	last map[string]string // unknown tags of the last row
	vary []string          // names of unknown tags that are not the same in all rows
	open bool              // rows differ by unknown tags alone

	ranks map[string]*rankRows
}

// A tag is what a row says beside its layer, its expert and its amount.
type tag struct {
	name, value string
	role        role
}

// rankRows are the rows of one process.
type rankRows struct {
	digest uint64 // a sum over rows, so that their order does not matter
	amount float64
}

// maxTagged bounds the rows and the processes that are held apart.
const maxTagged = 1 << 20

// note takes the tags of a row with an amount.
func (c *countTable) note(layer uint64, expert int, amount float64, tags []tag) {
	if len(tags) == 0 {
		return
	}
	var known, unknown, row maphash.Hash
	for _, h := range []*maphash.Hash{&known, &unknown, &row} {
		h.SetSeed(tagSeed)
	}
	place := fmt.Appendf(nil, "%d %d", layer, expert)
	known.Write(place)
	fmt.Fprintf(&row, "%s %v", place, amount)
	rank := ""
	for _, t := range tags {
		switch t.role {
		case roleUnknown:
			fmt.Fprintf(&unknown, "%q %q", t.name, t.value)
			if was, ok := c.last[t.name]; ok && was != t.value && !slices.Contains(c.vary, t.name) {
				c.vary = append(c.vary, t.name)
			}
			if c.last == nil {
				c.last = make(map[string]string)
			}
			c.last[t.name] = t.value
			continue
		case roleRank:
			rank += t.value + " "
		default:
			fmt.Fprintf(&row, "%q %q", t.name, t.value)
		}
		fmt.Fprintf(&known, "%q %q", t.name, t.value)
	}
	if c.last != nil {
		if c.tags == nil {
			c.tags = make(map[uint64]uint64)
		}
		key, value := known.Sum64(), unknown.Sum64()
		if was, ok := c.tags[key]; ok && was != value {
			c.open = true
		} else if len(c.tags) < maxTagged {
			c.tags[key] = value
		}
	}
	if rank == "" {
		return
	}
	if c.ranks == nil {
		c.ranks = make(map[string]*rankRows)
	}
	r := c.ranks[rank]
	if r == nil {
		if len(c.ranks) >= maxTagged {
			return
		}
		r = &rankRows{}
		c.ranks[rank] = r
	}
	r.digest += row.Sum64()
	r.amount += amount
}

var tagSeed = maphash.MakeSeed()

// repeated reports whether two processes counted the same: so each of a
// tensor-parallel group does, and what they add up to is a multiple of the
// traffic. Processes that share the tokens among them differ.
func (c *countTable) repeated() bool {
	seen := make(map[rankRows]bool)
	for _, r := range c.ranks {
		if r.amount > 0 && seen[*r] {
			return true
		}
		seen[*r] = true
	}
	return false
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
		if l.amounts == nil { // most likely as many as the layer before
			l.amounts, l.times = make([]float64, 0, c.width), make([]uint32, 0, c.width)
		}
		l.amounts = append(l.amounts, make([]float64, grow)...)
		l.times = append(l.times, make([]uint32, grow)...)
		c.width = max(c.width, len(l.amounts))
	}
	l.amounts[expert] += amount
	l.times[expert]++
	return nil
}

// scale makes exact counts scaled ones where processes repeat each other.
func (c *countTable) scale(ev *stats.Evidence) bool {
	if ev.Kind != stats.KindExact || !c.repeated() {
		return false
	}
	ev.Kind, ev.Inputs[0].Kind = stats.KindScaled, stats.KindScaled
	for i := range ev.Layers {
		l := &ev.Layers[i]
		l.Tokens, l.TokensTopK, l.Blocks = nil, 0, nil
	}
	return true
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
	case c.amounts > 0 && c.open && opt.CountColumn == "":
		return nil, &ColumnError{Names: slices.Sorted(slices.Values(c.vary)), Why: "tells rows of one expert apart, and is not known to mean that they add up", Adds: true}
	case c.amounts > 0:
		return c.evidence("count-"+format, c.share, trace.experts, opt)
	case c.bare > 0 && opt.CountColumn == NoCountColumn: // each is an activation
	case c.bare > 0 && c.isTable() && len(unknown) > 0:
		return nil, &ColumnError{Names: unknown, Why: "not known to say how often an expert was used, and each expert has as many rows"}
	case c.bare > 0 && c.isTable() && c.weighs():
		return c.evidence("count-"+format, true, trace.experts, opt)
	}
	ev, err := trace.evidence("trace-"+format, axis)
	if err == nil {
		c.noteMTP(ev)
		c.scale(ev)
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
	if c.scale(ev) {
		c.noteMTP(ev)
		return ev, nil
	}
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
	ev.Find(stats.CodeKMismatch, l.Name(stats.AxisBlocks), "its counts sum to %d, which is not a multiple of the total of %v that its rows state: rows may be missing", sum, t.total)
	return nil
}
