package read

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/ggufplan/ggufplan/stats"
	"github.com/ggufplan/ggufplan/stats/internal/short"
)

// Bounds of a line of text. The longest sensible line is a block record of
// maxExperts counts.
const (
	lineBufBytes = 1 << 20
	maxLineBytes = 8 << 20
)

// A lineReader hands out lines without their end, in one buffer.
type lineReader struct {
	ctx        context.Context
	r          io.Reader
	buf        []byte
	start, end int // what is read and not handed out
	eof        bool
	line       int // number of the last line, from 1
}

func newLineReader(ctx context.Context, r io.Reader) *lineReader {
	return &lineReader{ctx: ctx, r: r, buf: make([]byte, lineBufBytes)}
}

// next returns the next line, io.EOF after the last. The line is valid until
// the next call.
func (l *lineReader) next() ([]byte, error) {
	searched := 0
	for {
		if i := bytes.IndexByte(l.buf[l.start+searched:l.end], '\n'); i >= 0 {
			line := l.buf[l.start : l.start+searched+i]
			l.start += searched + i + 1
			l.line++
			return line, nil
		}
		searched = l.end - l.start
		if l.eof {
			if searched == 0 {
				return nil, io.EOF
			}
			line := l.buf[l.start:l.end]
			l.start = l.end
			l.line++
			return line, nil
		}
		if err := l.more(); err != nil {
			return nil, err
		}
	}
}

// more reads on, moving or growing the buffer as needed.
func (l *lineReader) more() error {
	if err := l.ctx.Err(); err != nil {
		return err
	}
	if l.start > 0 {
		copy(l.buf, l.buf[l.start:l.end])
		l.end -= l.start
		l.start = 0
	}
	if l.end == len(l.buf) {
		if len(l.buf) >= maxLineBytes {
			return fmt.Errorf("line %d: longer than %d bytes", l.line+1, maxLineBytes)
		}
		l.buf = append(l.buf, make([]byte, len(l.buf))...)
	}
	for range 100 {
		n, err := l.r.Read(l.buf[l.end:])
		l.end += n
		if err == io.EOF {
			l.eof = true
			return nil
		}
		if err != nil {
			return err
		}
		if n > 0 {
			return nil
		}
	}
	return io.ErrNoProgress
}

// sniffTraceJSONL recognises a trace by the keys of its first line.
func sniffTraceJSONL(head []byte) bool {
	head = bytes.TrimLeft(bytes.TrimPrefix(head, []byte("\xef\xbb\xbf")), " \t\r\n")
	if len(head) == 0 || head[0] != '{' {
		return false
	}
	first, _, _ := bytes.Cut(head, []byte("\n"))
	keys := firstKeys(first)
	var has uint32
	for key := range keys {
		has |= traceField(key)
	}
	return has&(hasLayer|hasBlock) != 0 && has&(hasExpert|hasExperts|hasCounts|hasAmount) != 0 ||
		keys["schema"] && bytes.Contains(first, []byte(`"`+traceSchema+`"`))
}

// readTraceJSONL reads a trace of one JSON object per line, in one pass and
// memory of layers x experts.
func readTraceJSONL(ctx context.Context, src *source, opt Options) (*stats.Evidence, error) {
	p := traceJSONL{opt: opt, rec: traceRecord{chosen: opt.CountColumn}, tally: newTally(opt), axis: stats.AxisBlocks, scan: newJSONScanner(ctx, nil)}
	lines := newLineReader(ctx, src)
	for {
		line, err := lines.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		if err := p.add(line, lines.line); err != nil {
			return nil, fmt.Errorf("line %d: %w", lines.line, err)
		}
	}
	ev, err := p.table.close(p.tally, p.rec.unknown, "jsonl", p.axis, opt)
	if err != nil {
		return nil, err
	}
	ev.Inputs[0].Phase = p.phases.common()
	return ev, nil
}

// traceJSONL is the state of reading a trace.
type traceJSONL struct {
	opt    Options
	tally  *tally
	table  countTable
	rec    traceRecord
	scan   *jsonScanner
	phases phases
	axis   stats.LayerAxis
	header bool // there was one
	count  int  // records before the current line
}

// add reads one line. Most lines are spelled as programs spell them and are
// read byte by byte; any other JSON goes through the scanner, which also words
// the errors.
func (p *traceJSONL) add(line []byte, number int) error {
	if number == 1 {
		line = bytes.TrimPrefix(line, []byte("\xef\xbb\xbf"))
	}
	p.rec.reset()
	if !p.rec.parse(line) {
		if len(bytes.TrimLeft(line, " \t\r")) == 0 {
			return nil
		}
		p.rec.reset()
		if err := p.parseAny(line); err != nil {
			return err
		}
	}
	if p.rec.has&(hasSchema|hasLayer) == hasSchema {
		return p.addHeader()
	}
	p.count++
	if p.rec.has&hasPhase == 0 {
		p.phases.note("")
	} else {
		p.phases.note(p.rec.phase)
	}
	return p.rec.count(p.tally, &p.table, p.opt.CountColumn)
}

// parseAny reads a line of any spelling.
func (p *traceJSONL) parseAny(line []byte) error {
	p.scan.reset(line)
	if err := p.scan.object(func(key string) error { return p.rec.field(p.scan, key) }); err != nil {
		return err
	}
	if more, err := p.scan.more(); more || err != nil {
		return p.scan.fault("text after the object")
	}
	return nil
}

// addHeader takes what the header says.
func (p *traceJSONL) addHeader() error {
	r := &p.rec
	switch {
	case r.schema != traceSchema:
		return fmt.Errorf("schema %q, want %q", r.schema, traceSchema)
	case p.header:
		return errors.New("a second header")
	case p.count > 0:
		return errors.New("the header must come first")
	case r.has&hasVersion != 0 && r.version != 1:
		return fmt.Errorf("version %d of %s: want 1", r.version, traceSchema)
	}
	p.header = true
	if r.has&hasExpertCount != 0 {
		if err := p.tally.setExperts(r.expertsNum); err != nil {
			return fmt.Errorf("expert_count: %w", err)
		}
	}
	if r.has&hasTopK != 0 {
		if err := p.tally.setTopK(r.topK); err != nil {
			return fmt.Errorf("top_k: %w", err)
		}
	}
	if r.has&hasLayerIndex != 0 {
		switch r.layerIndex {
		case "block", "absolute":
		case "moe", "row":
			p.axis = stats.AxisRows
		default:
			return fmt.Errorf("layer_index %q: must be block or moe", r.layerIndex)
		}
	}
	return nil
}

// A traceKey is how the last line spelled what leads up to a value: `{"layer": `
// or `, "experts": `. Programs spell every line alike, so comparing with it
// spares most of the parsing.
type traceKey struct {
	text []byte
	bit  uint32
}

// parse reads a line spelled without escapes, with every value of the kind its
// key calls for. It reports false for all other lines, which may be good or
// bad, and then leaves the record undefined.
func (r *traceRecord) parse(b []byte) bool {
	i := 0
	odd := false // a key is not known, which may matter to single experts and to counts
	for n := 0; ; n++ {
		var bit uint32
		if n < len(r.keys) && bytes.HasPrefix(b[i:], r.keys[n].text) {
			i += len(r.keys[n].text)
			bit = r.keys[n].bit
		} else {
			next, ok := r.parseKey(b, i, n)
			if !ok {
				return false
			}
			i, bit = next, r.keys[n].bit
		}
		if r.has&bit != 0 {
			return false
		}
		r.has |= bit
		odd = odd || bit == 0
		ok := true
		switch bit {
		case hasLayer:
			r.layer, i, ok = digits(b, i)
		case hasExperts:
			i, ok = r.parseExperts(b, i)
		case hasWeights:
			i, ok = r.parseWeights(b, i)
		case hasCounts:
			i, ok = r.parseCounts(b, i)
		case hasTokens:
			r.tokens, i, ok = digits(b, i)
		case hasN:
			r.n, i, ok = digits(b, i)
		case hasPhase:
			i, ok = r.parsePhase(b, i)
		default:
			i, ok = skipScalar(b, i)
		}
		if !ok {
			return false
		}
		if i == len(b)-1 && b[i] == '}' {
			return !odd || len(r.experts) != 1 && r.has&hasCounts == 0
		}
		if end := skipSpaces(b, i); end < len(b) && b[end] == '}' {
			return skipSpaces(b, end+1) == len(b) && (!odd || len(r.experts) != 1 && r.has&hasCounts == 0)
		}
	}
}

// parseKey reads what leads up to value n of the object, and keeps it for the
// next line. It returns where the value begins.
func (r *traceRecord) parseKey(b []byte, i, n int) (int, bool) {
	start := i
	open := byte(',')
	if n == 0 {
		open = '{'
	}
	for _, want := range [...]byte{open, '"'} {
		if i = skipSpaces(b, i); i >= len(b) || b[i] != want {
			return i, false
		}
		i++
	}
	length := bytes.IndexByte(b[i:], '"')
	if length < 0 {
		return i, false
	}
	key := b[i : i+length]
	bit := traceField(string(key))
	if bytes.IndexByte(key, '\\') >= 0 || bit >= hasSchema || n > 64 {
		return i, false
	}
	if i = skipSpaces(b, i+length+1); i >= len(b) || b[i] != ':' {
		return i, false
	}
	i = skipSpaces(b, i+1)
	r.keys = append(r.keys[:n], traceKey{bytes.Clone(b[start:i]), bit})
	return i, true
}

func skipSpaces(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// comma passes over what stands between two values of a list. It returns where
// the next value begins, or false at what is no comma.
func comma(b []byte, i int) (int, bool) {
	if i+2 < len(b) && b[i] == ',' && b[i+1] > ' ' {
		return i + 1, true
	}
	if i+2 < len(b) && b[i] == ',' && b[i+1] == ' ' && b[i+2] > ' ' {
		return i + 2, true
	}
	if i = skipSpaces(b, i); i >= len(b) || b[i] != ',' {
		return i, false
	}
	return skipSpaces(b, i+1), true
}

// digits reads a whole number of up to 15 digits without leading zeros.
func digits(b []byte, i int) (uint64, int, bool) {
	if i+5 < len(b) {
		v, width := short.Number(b, i)
		if c := b[i+width]; (c == ',' || c == ']' || c == '}') && width > 0 && (width == 1 || b[i] != '0') {
			return uint64(v), i + width, true
		}
	}
	start := i
	var n uint64
	for i < len(b) && b[i]-'0' <= 9 {
		n = 10*n + uint64(b[i]-'0')
		i++
	}
	length := i - start
	if length == 0 || length > 15 || length > 1 && b[start] == '0' {
		return 0, i, false
	}
	return n, i, i >= len(b) || !isLiteral(b[i])
}

func (r *traceRecord) parseExperts(b []byte, i int) (int, bool) {
	if i >= len(b) || b[i] != '[' {
		return i, false
	}
	i = skipSpaces(b, i+1)
	if !r.spaced {
		ids, end, ok := short.List(b, i, ',', r.experts, maxTopK)
		if r.experts = ids; ok {
			return end + 1, b[end] == ']'
		}
		r.experts, r.spaced = ids[:0], true // there are spaces in the lists, from here on too
	}
	for ok := true; ok; i, ok = comma(b, i) {
		e, end, ok := digits(b, i)
		if !ok || e >= maxExperts || len(r.experts) == maxTopK {
			return i, false
		}
		i = end
		r.experts = append(r.experts, uint32(e))
	}
	if i >= len(b) || b[i] != ']' {
		return i, false
	}
	return i + 1, true
}

func (r *traceRecord) parseCounts(b []byte, i int) (int, bool) {
	if i >= len(b) || b[i] != '[' {
		return i, false
	}
	i = skipSpaces(b, i+1)
	for ok := true; ok; i, ok = comma(b, i) {
		n, next, ok := digits(b, i)
		if !ok || len(r.counts) == maxExperts {
			return i, false
		}
		i = next
		r.counts = append(r.counts, n)
	}
	if i >= len(b) || b[i] != ']' {
		return i, false
	}
	return i + 1, true
}

func (r *traceRecord) parseWeights(b []byte, i int) (int, bool) {
	if i >= len(b) || b[i] != '[' {
		return i, false
	}
	i = skipSpaces(b, i+1)
	for ok := true; ok; i, ok = comma(b, i) {
		w, next, ok := decimal(b, i)
		if !ok || len(r.weights) == maxTopK {
			return i, false
		}
		i = next
		r.weights = append(r.weights, w)
	}
	if i >= len(b) || b[i] != ']' {
		return i, false
	}
	return i + 1, true
}

// powersOfTen are exact in float64, so dividing a whole number below 2^53 by
// one rounds once: the result is the nearest float64, as strconv gives it.
var powersOfTen = [...]float64{1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22}

// decimal reads a number.
func decimal(b []byte, i int) (float64, int, bool) {
	start := i
	if i < len(b) && b[i] == '-' {
		i++
	}
	whole := i
	var n uint64
	for i < len(b) && b[i]-'0' <= 9 {
		n = 10*n + uint64(b[i]-'0')
		i++
	}
	length, places := i-whole, 0
	if length == 0 || length > 1 && b[whole] == '0' {
		return 0, i, false
	}
	if i < len(b) && b[i] == '.' {
		i++
		point := i
		for i < len(b) && b[i]-'0' <= 9 {
			n = 10*n + uint64(b[i]-'0')
			i++
		}
		if places = i - point; places == 0 {
			return 0, i, false
		}
	}
	if i < len(b) && (b[i] == 'e' || b[i] == 'E') || length+places > 18 || places >= len(powersOfTen) || n >= 1<<53 {
		for i < len(b) && isLiteral(b[i]) {
			i++
		}
		text := b[start:i]
		if !validNumber(text) {
			return 0, i, false
		}
		v, err := strconv.ParseFloat(string(text), 64)
		return v, i, err == nil
	}
	v := float64(n) / powersOfTen[places]
	if whole > start {
		v = -v
	}
	return v, i, true
}

func (r *traceRecord) parsePhase(b []byte, i int) (int, bool) {
	end, ok := skipScalar(b, i)
	if !ok || b[i] != '"' {
		return i, false
	}
	text := b[i+1 : end-1]
	if string(text) != r.phase { // no allocation for the usual repetition
		r.phase = string(text)
	}
	return end, true
}

// skipScalar passes over a string without escapes, a number or a word.
func skipScalar(b []byte, i int) (int, bool) {
	if i >= len(b) {
		return i, false
	}
	if b[i] == '"' {
		for i++; i < len(b); i++ {
			switch c := b[i]; {
			case c == '"':
				return i + 1, true
			case c == '\\' || c < 0x20:
				return i, false
			}
		}
		return i, false
	}
	if _, end, ok := digits(b, i); ok {
		return end, true
	}
	start := i
	for i < len(b) && isLiteral(b[i]) {
		i++
	}
	if _, ok := smallInt(b[start:i]); ok {
		return i, true
	}
	switch string(b[start:i]) {
	case "true", "false", "null":
		return i, true
	}
	return i, validNumber(b[start:i])
}
