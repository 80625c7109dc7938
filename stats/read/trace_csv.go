package read

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/ggufplan/ggufplan/stats"
)

// defaultBlockSlots is the length of a block where rows are single activations
// and nobody says how many make a token: BlockTokens tokens of 8 experts.
const defaultBlockSlots = 8 * stats.BlockTokens

// The columns of a trace that matter.
const (
	columnOther = iota
	columnLayer
	columnExpert  // one expert per row
	columnExperts // all experts of a token
	columnCount
	columnWeight
	columnPhase
)

func columnRole(name string) int {
	switch strings.ToLower(name) {
	case "layer", "layer_id", "layer_idx":
		return columnLayer
	case "expert", "expert_id":
		return columnExpert
	case "experts", "expert_ids", "topk_ids":
		return columnExperts
	case "count", "n":
		return columnCount
	case "weight", "weights", "topk_weights":
		return columnWeight
	case "phase":
		return columnPhase
	}
	return columnOther
}

// traceCSV is the state of reading a CSV trace.
type traceCSV struct {
	opt       Options
	tally     *tally
	table     map[int]*profile // with a count column: sums by layer
	columns   []int            // roles; nil before the header
	separator byte
	single    bool // rows are single activations
	counted   bool
	pairs     bool // the columns are a layer and an expert, no more
	lists     bool // the columns are a layer and the experts of a token, no more
	blocks    int  // n_layer of a comment, 0 where not stated
	phases    phases
	fields    [][]byte
	phase     string // of the last row
	ids       []uint32
	weights   []float64
}

// sniffCSV recognises a header that names a layer and an expert.
func sniffCSV(head []byte) bool {
	head = bytes.TrimPrefix(head, []byte("\xef\xbb\xbf"))
	for len(head) > 0 {
		var line []byte
		line, head, _ = bytes.Cut(head, []byte("\n"))
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		var c traceCSV
		return len(line) < 4096 && c.header(line) == nil
	}
	return false
}

// readTraceCSV reads a trace with a header line, in one pass and memory of
// layers x experts.
func readTraceCSV(ctx context.Context, src *source, opt Options) (*stats.Evidence, error) {
	c := traceCSV{opt: opt, tally: newTally(opt)}
	lines := newLineReader(ctx, src)
	for {
		c.fast(lines)
		line, err := lines.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, src.errorf("%w", err)
		}
		if err := c.add(line, lines.line); err != nil {
			return nil, src.errorf("line %d: %w", lines.line, err)
		}
	}
	ev, err := c.evidence()
	if err != nil {
		return nil, src.errorf("%w", err)
	}
	return ev, nil
}

// add reads one line.
func (c *traceCSV) add(line []byte, number int) error {
	if number == 1 {
		line = bytes.TrimPrefix(line, []byte("\xef\xbb\xbf"))
	}
	line = bytes.TrimSpace(line)
	switch {
	case len(line) == 0:
		return nil
	case line[0] == '#':
		return c.comment(string(line[1:]))
	case c.columns == nil:
		return c.header(line)
	}
	return c.row(line)
}

// comment takes the model's numbers from "# model=... n_expert=128".
func (c *traceCSV) comment(text string) error {
	for _, word := range strings.Fields(text) {
		key, value, _ := strings.Cut(word, "=")
		n, err := strconv.ParseUint(value, 10, 32)
		if err != nil {
			continue // comments may say anything
		}
		switch key {
		case "n_expert":
			err = c.tally.setExperts(n)
		case "n_expert_used":
			err = c.tally.SetTopK(n)
		case "n_layer":
			if n > maxLayers {
				err = fmt.Errorf("%d is over the limit of %d layers", n, maxLayers)
			}
			c.blocks = int(n)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	return nil
}

// header takes the names of the columns.
func (c *traceCSV) header(line []byte) error {
	c.separator = ','
	for _, other := range []byte{'\t', ';'} {
		if bytes.IndexByte(line, ',') < 0 && bytes.IndexByte(line, other) >= 0 {
			c.separator = other
		}
	}
	if err := c.split(line); err != nil {
		return err
	}
	var seen [columnPhase + 1]int
	columns := make([]int, len(c.fields))
	for i, name := range c.fields {
		columns[i] = columnRole(string(name))
		seen[columns[i]]++
		if columns[i] != columnOther && seen[columns[i]] > 1 {
			return fmt.Errorf("header has two columns such as %q", name)
		}
	}
	if seen[columnLayer] != 1 || seen[columnExpert]+seen[columnExperts] != 1 {
		return fmt.Errorf("header %.80q: a column layer and a column expert or expert_ids must be there", line)
	}
	c.columns = columns
	c.single = seen[columnExpert] == 1
	c.counted = seen[columnCount] == 1 && c.single
	if len(columns) == 2 && columns[0] == columnLayer && c.separator == ',' {
		c.pairs, c.lists = c.single, !c.single
	}
	return nil
}

// split cuts a line into fields; a quoted field may hold separators.
func (c *traceCSV) split(line []byte) error {
	c.fields = c.fields[:0]
	for {
		var field []byte
		if len(line) > 0 && line[0] == '"' {
			end := bytes.IndexByte(line[1:], '"')
			if end < 0 {
				return fmt.Errorf("field %d: no closing quote", len(c.fields)+1)
			}
			field, line = line[1:1+end], line[2+end:]
			if len(line) > 0 && line[0] != c.separator {
				return fmt.Errorf("field %d: text after the closing quote", len(c.fields)+1)
			}
		} else {
			end := bytes.IndexByte(line, c.separator)
			if end < 0 {
				end = len(line)
			}
			field, line = line[:end], line[end:]
		}
		c.fields = append(c.fields, bytes.TrimSpace(field))
		if len(line) == 0 {
			return nil
		}
		line = line[1:]
	}
}

// row reads one row of any spelling.
func (c *traceCSV) row(line []byte) error {
	if err := c.split(line); err != nil {
		return err
	}
	if len(c.fields) != len(c.columns) {
		return fmt.Errorf("%d fields where the header has %d", len(c.fields), len(c.columns))
	}
	var layer uint64
	count := 1.0
	weighted, phased := false, false
	for i, field := range c.fields {
		var err error
		switch c.columns[i] {
		case columnLayer:
			var whole bool
			if layer, whole = wholeField(field); !whole {
				return fmt.Errorf("layer %.40q is not a whole number", field)
			}
		case columnExpert, columnExperts:
			err = c.experts(field)
		case columnCount:
			if count, err = numberField(field); err != nil || !(count >= 0 && count <= maxCount) {
				return fmt.Errorf("count %.40q is not a number from 0 to %d", field, uint64(maxCount))
			}
		case columnWeight:
			weighted = len(field) > 0
			err = c.weightList(field)
		case columnPhase:
			phased = true
			if string(field) != c.phase { // no allocation for the usual repetition
				c.phase = string(field)
			}
		}
		if err != nil {
			return err
		}
	}
	if phased {
		c.phases.note(c.phase)
	} else {
		c.phases.note("")
	}
	if c.counted {
		return c.tabulate(layer, count)
	}
	if count != math.Trunc(count) {
		return fmt.Errorf("count %v of a list of experts is not whole", count)
	}
	if count == 0 {
		return nil
	}
	var weights []float64
	if weighted {
		if weights = c.weights; len(weights) != len(c.ids) {
			return fmt.Errorf("%d weights for %d experts", len(weights), len(c.ids))
		}
	}
	if c.single {
		return c.tally.activation(layer, c.ids[0], weights)
	}
	return c.tally.token(layer, c.ids, weights, uint64(count))
}

// wholeField reads a whole number, without an allocation for the usual ones.
func wholeField(field []byte) (uint64, bool) {
	if n, end, ok := digits(field, 0); ok && end == len(field) {
		return n, true
	}
	return wholeNumber(string(field))
}

// numberField reads a number, without an allocation for the usual ones.
func numberField(field []byte) (float64, error) {
	if v, end, ok := decimal(field, 0); ok && end == len(field) {
		return v, nil
	}
	return strconv.ParseFloat(string(field), 64)
}

// openList takes the brackets off "[5, 0]".
func openList(field []byte) []byte {
	return bytes.TrimSuffix(bytes.TrimPrefix(field, []byte("[")), []byte("]"))
}

// nextItem cuts the first item off a list such as "5 0" or "5;0"; it is empty
// at the end of the list.
func nextItem(list []byte) (item, rest []byte) {
	between := func(c byte) bool { return c == ' ' || c == ',' || c == ';' || c == '|' }
	start := 0
	for start < len(list) && between(list[start]) {
		start++
	}
	end := start
	for end < len(list) && !between(list[end]) {
		end++
	}
	return list[start:end], list[end:]
}

func (c *traceCSV) experts(field []byte) error {
	c.ids = c.ids[:0]
	for text, rest := nextItem(openList(field)); len(text) > 0; text, rest = nextItem(rest) {
		id, ok := wholeField(text)
		if !ok {
			return fmt.Errorf("expert %.40q is not a whole number", text)
		}
		if id >= maxExperts {
			return fmt.Errorf("expert %d is over the limit of %d experts", id, maxExperts)
		}
		if len(c.ids) == maxTopK {
			return fmt.Errorf("more than %d experts for one token", maxTopK)
		}
		c.ids = append(c.ids, uint32(id))
	}
	if len(c.ids) == 0 {
		return errors.New("no expert")
	}
	if c.single && len(c.ids) > 1 {
		return fmt.Errorf("several experts, %.40q, under a header of one: name the column expert_ids", field)
	}
	return nil
}

func (c *traceCSV) weightList(field []byte) error {
	c.weights = c.weights[:0]
	for text, rest := nextItem(openList(field)); len(text) > 0; text, rest = nextItem(rest) {
		w, err := numberField(text)
		if err != nil || !(math.Abs(w) <= math.MaxFloat32) {
			return fmt.Errorf("weight %.40q is not a number", text)
		}
		if len(c.weights) == maxTopK {
			return fmt.Errorf("more than %d weights for one token", maxTopK)
		}
		c.weights = append(c.weights, w)
	}
	return nil
}

// tabulate adds a row of a table of counts.
func (c *traceCSV) tabulate(layer uint64, count float64) error {
	if layer >= maxLayers {
		return fmt.Errorf("layer %d is over the limit of %d layers (as in llama.cpp)", layer, maxLayers)
	}
	if c.table == nil {
		c.table = make(map[int]*profile)
	}
	p := c.table[int(layer)]
	if p == nil {
		p = &profile{counts: make([]float64, c.tally.experts)}
		c.table[int(layer)] = p
	}
	e := int(c.ids[0])
	if e >= len(p.counts) {
		if c.tally.experts > 0 {
			return fmt.Errorf("expert %d: the %s is %d", e, c.tally.stated, c.tally.experts)
		}
		p.counts = append(p.counts, make([]float64, e+1-len(p.counts))...)
	}
	p.counts[e] += count
	return nil
}

// evidence closes the trace.
func (c *traceCSV) evidence() (*stats.Evidence, error) {
	if c.columns == nil {
		return nil, errors.New("no header")
	}
	var ev *stats.Evidence
	var err error
	if c.counted {
		width := 0
		for _, p := range c.table {
			width = max(width, len(p.counts))
		}
		for _, p := range c.table {
			p.counts = pad(p.counts, width)
		}
		opt := c.opt
		opt.TopK = c.tally.topK
		ev, err = profileEvidence("count-csv", c.table, opt)
		if err == nil {
			ev.ExpertCount, ev.OpenExperts = c.tally.experts, c.tally.experts == 0
		}
	} else {
		ev, err = c.tally.evidence("trace-csv", stats.AxisBlocks)
	}
	if err != nil {
		return nil, err
	}
	ev.BlockCount = c.blocks
	ev.Inputs[0].Phase = c.phases.common()
	return ev, nil
}

// fast reads rows of the two common headers, straight from the buffer, up to
// the first row that is spelled otherwise or is wrong.
func (c *traceCSV) fast(l *lineReader) {
	var n, rows int
	switch {
	case c.pairs:
		n, rows = c.fastPairs(l.buf[l.start:l.end])
	case c.lists:
		n, rows = c.fastLists(l.buf[l.start:l.end])
	default:
		return
	}
	if rows > 0 {
		c.phases.note("")
	}
	l.start += n
	l.line += rows
}

// fastPairs reads rows such as "12,117".
func (c *traceCSV) fastPairs(b []byte) (n, rows int) {
	layers := c.tally.layers
	blockSlots := c.tally.blockSlots()
	i := 0
	for i+9 <= len(b) {
		layer, expert, length := pair(b, i)
		if length == 0 || layer >= uint32(len(layers)) {
			break
		}
		l := layers[layer]
		if l == nil || expert >= uint32(len(l.counts)) {
			break
		}
		i += length
		rows++
		l.counts[expert]++
		l.slots++
		l.ungated = true
		l.untokened = true
		if l.slots-l.slotsAtBlock >= blockSlots {
			l.endBlock()
		}
	}
	return i, rows
}

// fastLists reads rows such as "3,52 40 85 110".
func (c *traceCSV) fastLists(b []byte) (n, rows int) {
	i := 0
	for i+8 <= len(b) {
		layer, width := short(b, i)
		next := i + width
		if width == 0 || b[next] != ',' {
			break
		}
		ids, next, ok := idList(b, next+1, ' ', c.ids[:0])
		if c.ids = ids; !ok {
			break
		}
		if b[next] == '\r' && next+1 < len(b) {
			next++
		}
		if b[next] != '\n' {
			break
		}
		l := c.tally.room(uint64(layer), ids)
		if l == nil {
			break
		}
		l.ungated = true
		if !l.add(ids, 1) {
			break // token finds the expert that is listed twice
		}
		i = next + 1
		rows++
	}
	return i, rows
}
