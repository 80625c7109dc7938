package read

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/ggufplan/ggufplan/stats"
	"github.com/ggufplan/ggufplan/stats/internal/short"
)

// defaultBlockSlots is the length of a block where rows are single activations
// and nobody says how many make a token: BlockTokens tokens of 8 experts.
const defaultBlockSlots = 8 * stats.BlockTokens

// traceCSV is the state of reading a CSV trace.
type traceCSV struct {
	opt       Options
	tally     *tally
	table     countTable // of rows that are single experts
	header    *header    // nil before it came
	commented bool       // it came in a comment
	separator byte
	single    bool     // rows are of single experts
	unknown   []string // columns that may say how much, if none does
	tagged    []int    // columns that may tell rows of one expert apart
	tags      []tag
	named     map[uint64]string // layers by the names of modules
	pairs     bool              // the columns are a layer and an expert, no more
	lists     bool              // the columns are a layer and the experts of a token, no more
	counts    bool              // the columns are a layer, an expert and its count, no more
	blocks    int               // n_layer of a comment, 0 where not stated
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
		if len(line) == 0 {
			continue
		}
		var c traceCSV
		if len(line) < 4096 && c.isHeader(bytes.TrimLeft(line, "# ")) {
			return true
		}
		if line[0] != '#' {
			return false
		}
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
			return nil, err
		}
		if err := c.add(line, lines.line); err != nil {
			return nil, fmt.Errorf("line %d: %w", lines.line, err)
		}
	}
	return c.evidence()
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
		if text := bytes.TrimLeft(line, "# "); c.header == nil && c.isHeader(text) {
			c.commented = true
			return c.setHeader(text)
		}
		return c.comment(string(line[1:]))
	case c.header == nil || c.commented && c.isHeader(line):
		c.commented = false
		return c.setHeader(line)
	}
	c.commented = false
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
			err = c.tally.setTopK(n)
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

// isHeader reports whether a line names a layer and an expert.
func (c *traceCSV) isHeader(line []byte) bool {
	c.separator = ','
	for _, other := range []byte{'\t', ';'} {
		if bytes.IndexByte(line, ',') < 0 && bytes.IndexByte(line, other) >= 0 {
			c.separator = other
		}
	}
	if c.split(line) != nil {
		return false
	}
	var seen [roles]bool
	for _, name := range c.fields {
		seen[roleOf(string(name))] = true
	}
	return (seen[roleLayer] || seen[roleBlock]) && (seen[roleExpert] || seen[roleExperts])
}

// setHeader takes the names of the columns.
func (c *traceCSV) setHeader(line []byte) error {
	if !c.isHeader(line) {
		return fmt.Errorf("header %.80q: want a column layer and a column expert or expert_ids", line)
	}
	var names []string
	for _, name := range c.fields {
		names = append(names, string(name))
	}
	h, err := settle(names, c.opt.CountColumn)
	if err != nil {
		return fmt.Errorf("header: %w", err)
	}
	c.header = h
	has := func(r role) bool { return slices.Contains(h.roles, r) }
	if has(roleExpert) && has(roleExperts) {
		return fmt.Errorf("header %.80q: want a column expert or expert_ids, not both", line)
	}
	c.single = has(roleExpert)
	if c.single && h.amount < 0 {
		for i, r := range h.roles {
			if r == roleUnknown || r == roleTotal || isFact(names[i]) {
				c.unknown = append(c.unknown, names[i])
			}
		}
	}
	c.tagged = nil
	for i, r := range h.roles {
		if c.single && h.amount >= 0 && i != h.amount && (r == roleUnknown || r == roleRank || r == roleNone && !isFact(names[i])) {
			c.tagged = append(c.tagged, i)
		}
	}
	if !slices.ContainsFunc(c.tagged, func(i int) bool { return h.roles[i] != roleNone }) {
		c.tagged = nil // nothing to tell from it
	}
	if len(names) == 2 && h.roles[0] == roleLayer && c.separator == ',' {
		c.pairs, c.lists = c.single, !c.single
	}
	c.counts = slices.Equal(h.roles, []role{roleLayer, roleExpert, roleCount}) && h.amount == 2 && c.separator == ','
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
	h := c.header
	if len(c.fields) != len(h.roles) {
		return fmt.Errorf("%d fields where the header has %d", len(c.fields), len(h.roles))
	}
	var layer uint64
	amount, total := 1.0, math.NaN()
	weighted, phase := false, ""
	var block, mtp string
	for i, field := range c.fields {
		var err error
		switch h.roles[i] {
		case roleLayer:
			layer, err = c.layer(field)
		case roleExpert, roleExperts:
			err = c.experts(field)
		case roleTotal:
			if total, err = numberField(field); err != nil {
				total, err = math.NaN(), nil
			}
		case roleWeight:
			if i != h.amount && (c.single && h.amount < 0 || !c.single) {
				weighted = len(field) > 0
				err = c.weightList(field)
			}
		case rolePhase:
			if string(field) != c.phase { // no allocation for the usual repetition
				c.phase = string(field)
			}
			phase = c.phase
		case roleBlock:
			block = string(field)
		case roleMTP:
			mtp = string(field)
		}
		if i == h.amount {
			if amount, err = numberField(field); err != nil || !(amount >= 0 && amount <= maxCount) {
				return fmt.Errorf("%s %.40q is not a number from 0 to %d", h.names[i], field, uint64(maxCount))
			}
		}
		if err != nil {
			return err
		}
	}
	if block != "" || mtp != "" {
		if left, err := mtpRow(block, mtp); left || err != nil {
			c.table.mtpRows++
			return err
		}
	}
	c.phases.note(phase)
	var weights []float64
	if weighted {
		if weights = c.weights; len(weights) != len(c.ids) {
			return fmt.Errorf("%d weights for %d experts", len(weights), len(c.ids))
		}
	}
	switch {
	case c.single && h.amount >= 0:
		c.table.amounts++
		c.tags = c.tags[:0]
		for _, i := range c.tagged {
			c.tags = append(c.tags, tag{h.names[i], string(c.fields[i]), h.roles[i]})
		}
		c.table.note(layer, int(c.ids[0]), amount, append(c.tags, tag{"phase", phase, rolePhase})[:len(c.tags)+min(1, len(c.tags))])
		return c.tabulate(layer, amount, total)
	case c.single:
		if len(c.unknown) > 0 || weighted { // whether rows are activations shows at the end
			w := 0.0
			if weighted {
				w = weights[0]
			}
			c.table.bare++
			if err := c.tabulate(layer, w, total); err != nil {
				return err
			}
		}
		return c.tally.activation(layer, c.ids[0], weights)
	case h.share:
		return fmt.Errorf("%s %v of a list of experts says nothing of each", h.names[h.amount], amount)
	case amount != math.Trunc(amount):
		return fmt.Errorf("count %v of a list of experts is not whole", amount)
	case amount == 0:
		return nil
	}
	return c.tally.token(layer, c.ids, weights, uint64(amount))
}

// layer reads a layer's number, or the name of its module.
func (c *traceCSV) layer(field []byte) (uint64, error) {
	if n, whole := wholeField(field); whole {
		return n, nil
	}
	name := string(field)
	n, ok := layerKey(name)
	if !ok {
		return 0, fmt.Errorf("layer %.40q is not a whole number, nor a module's name such as model.layers.3.mlp", field)
	}
	if c.named == nil {
		c.named = make(map[uint64]string)
	}
	if other, ok := c.named[n]; ok && other != name {
		return 0, fmt.Errorf("layer %d has two names, %.60q and %.60q: keep the rows of one", n, other, name)
	}
	if len(c.named) < maxTagged {
		c.named[n] = name
	}
	return n, nil
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

// tabulate adds a row of a table of experts.
func (c *traceCSV) tabulate(layer uint64, amount, total float64) error {
	e := int(c.ids[0])
	if c.tally.experts > 0 && e >= c.tally.experts {
		return fmt.Errorf("expert %d: the %s is %d", e, c.tally.stated, c.tally.experts)
	}
	return c.table.add(layer, e, amount, total)
}

// evidence closes the trace.
func (c *traceCSV) evidence() (*stats.Evidence, error) {
	if c.header == nil {
		return nil, errors.New("no header")
	}
	c.table.share = c.header.share
	ev, err := c.table.close(c.tally, c.unknown, "csv", stats.AxisBlocks, c.opt)
	if err != nil {
		return nil, err
	}
	ev.BlockCount = c.blocks
	ev.Inputs[0].Phase = c.phases.common()
	return ev, nil
}

// fast reads rows of the three common headers, straight from the buffer, up to
// the first row that is spelled otherwise or is wrong.
func (c *traceCSV) fast(l *lineReader) {
	var n, rows int
	switch {
	case c.pairs:
		n, rows = c.fastPairs(l.buf[l.start:l.end])
	case c.lists:
		n, rows = c.fastLists(l.buf[l.start:l.end])
	case c.counts:
		n, rows = c.fastCounts(l.buf[l.start:l.end])
	default:
		return
	}
	if rows > 0 {
		c.phases.note("")
		c.commented = false
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
		layer, expert, length := short.Pair(b, i)
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
		layer, width := short.Number(b, i)
		next := i + width
		if width == 0 || b[next] != ',' {
			break
		}
		ids, next, ok := short.List(b, next+1, ' ', c.ids[:0], maxTopK)
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

// fastCounts reads rows such as "12,117,40961".
func (c *traceCSV) fastCounts(b []byte) (n, rows int) {
	for i := 0; ; rows++ {
		layer, at, ok := digits(b, i)
		if !ok || at >= len(b) || b[at] != ',' {
			break
		}
		expert, at, ok := digits(b, at+1)
		if !ok || at >= len(b) || b[at] != ',' || expert >= maxExperts {
			break
		}
		count, at, ok := digits(b, at+1)
		if ok && at+1 < len(b) && b[at] == '\r' {
			at++
		}
		if !ok || at >= len(b) || b[at] != '\n' || count > maxCount {
			break
		}
		c.ids = append(c.ids[:0], uint32(expert))
		if c.tabulate(layer, float64(count), math.NaN()) != nil {
			break // row says what is wrong
		}
		c.table.amounts++
		i, n = at+1, at+1
	}
	return n, rows
}
