package read

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/ggufplan/ggufplan/stats"
)

// Bounds of what a JSON text may hold.
const (
	maxJSONDepth  = 64
	maxJSONString = 1 << 16 // of keys and short values; long ones are streamed
	jsonBufBytes  = 256 << 10
)

// A jsonScanner reads JSON values one after another as a stream, in memory
// that does not grow with them. Unlike encoding/json it keeps nothing, so one
// pass over a table of any size costs a buffer.
//
// Numbers and structure are as strict as RFC 8259; a byte order mark before
// the first value is skipped.
type jsonScanner struct {
	ctx   context.Context
	r     io.Reader // nil: buf holds all there is
	buf   []byte
	pos   int
	base  int64 // offset of buf[0] in the text
	depth int
	err   error // of r, kept until buf is used up
	mark  int64 // offset of the last number or word
}

func newJSONScanner(ctx context.Context, r io.Reader) *jsonScanner {
	return &jsonScanner{ctx: ctx, r: r, buf: make([]byte, 0, jsonBufBytes)}
}

// reset makes the scanner read the text in memory.
func (s *jsonScanner) reset(text []byte) {
	s.r, s.buf, s.pos, s.base, s.depth, s.err = nil, text, 0, 0, 0, nil
}

// offset is the position of the next byte in the text.
func (s *jsonScanner) offset() int64 { return s.base + int64(s.pos) }

// fill reads more text once all of the buffer was consumed.
func (s *jsonScanner) fill() error {
	if s.r == nil {
		return io.EOF
	}
	if s.err != nil {
		return s.err
	}
	if err := s.ctx.Err(); err != nil {
		return err
	}
	s.base += int64(len(s.buf))
	s.pos = 0
	for range 100 {
		n, err := s.r.Read(s.buf[:cap(s.buf)])
		s.buf, s.err = s.buf[:n], err
		if n > 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// fault places an error at the next byte.
func (s *jsonScanner) fault(format string, args ...any) error {
	return s.wrap(fmt.Errorf(format, args...))
}

// literalFault places an error at the last number or word.
func (s *jsonScanner) literalFault(format string, args ...any) error {
	return &placedError{offset: s.mark, err: fmt.Errorf(format, args...)}
}

// A placedError is an error with its byte offset.
type placedError struct {
	offset int64
	err    error
}

func (e *placedError) Error() string { return fmt.Sprintf("byte %d: %v", e.offset, e.err) }
func (e *placedError) Unwrap() error { return e.err }

// wrap places err, unless it is placed already or is not about the text.
func (s *jsonScanner) wrap(err error) error {
	if err == nil {
		return nil
	}
	var placed *placedError
	var refused *stats.HintError
	if errors.As(err, &placed) || errors.As(err, &refused) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if errors.Is(err, io.EOF) {
		err = errors.New("the text ends inside a value")
	}
	return &placedError{offset: s.offset(), err: err}
}

// next consumes one byte.
func (s *jsonScanner) next() (byte, error) {
	if s.pos == len(s.buf) {
		if err := s.fill(); err != nil {
			return 0, err
		}
	}
	s.pos++
	return s.buf[s.pos-1], nil
}

// peek returns the next byte that is not a space, without consuming it.
func (s *jsonScanner) peek() (byte, error) {
	for {
		for s.pos < len(s.buf) {
			switch c := s.buf[s.pos]; c {
			case ' ', '\n', '\r', '\t':
				s.pos++
			default:
				return c, nil
			}
		}
		if err := s.fill(); err != nil {
			return 0, err
		}
	}
}

// more reports whether another value follows.
func (s *jsonScanner) more() (bool, error) {
	_, err := s.peek()
	if err == io.EOF {
		return false, nil
	}
	return err == nil, err
}

// skipBOM skips a UTF-8 byte order mark at the start of the text.
func (s *jsonScanner) skipBOM() error {
	if s.offset() != 0 {
		return nil
	}
	if s.pos == len(s.buf) {
		if err := s.fill(); err != nil && err != io.EOF {
			return err
		}
	}
	if bytes.HasPrefix(s.buf, []byte("\xef\xbb\xbf")) {
		s.pos = 3
	}
	return nil
}

// expect consumes the next byte that is not a space, which must be want.
func (s *jsonScanner) expect(want byte) error {
	c, err := s.peek()
	if err != nil {
		return s.wrap(err)
	}
	if c != want {
		return s.fault("%q, want %q", c, want)
	}
	s.pos++
	return nil
}

// object calls field with each key in order; field consumes the value.
func (s *jsonScanner) object(field func(key string) error) error {
	return s.members('{', '}', func(int) error {
		key, err := s.str()
		if err != nil {
			return err
		}
		if err := s.expect(':'); err != nil {
			return err
		}
		return field(key)
	})
}

// array calls element for each element, which it consumes.
func (s *jsonScanner) array(element func(i int) error) error {
	return s.members('[', ']', element)
}

func (s *jsonScanner) members(open, end byte, member func(i int) error) error {
	if err := s.expect(open); err != nil {
		return err
	}
	if s.depth++; s.depth > maxJSONDepth {
		return s.fault("nested more than %d deep", maxJSONDepth)
	}
	c, err := s.peek()
	if err != nil {
		return s.wrap(err)
	}
	if c == end {
		s.pos++
		s.depth--
		return nil
	}
	for i := 0; ; i++ {
		if err := member(i); err != nil {
			return s.wrap(err)
		}
		c, err := s.peek()
		if err != nil {
			return s.wrap(err)
		}
		switch c {
		case ',':
			s.pos++
		case end:
			s.pos++
			s.depth--
			return nil
		default:
			return s.fault("%q, want ',' or %q", c, end)
		}
	}
}

// str consumes a string of bounded length.
func (s *jsonScanner) str() (string, error) {
	var out []byte
	err := s.chunks(func(part []byte) error {
		if len(out)+len(part) > maxJSONString {
			return fmt.Errorf("a string is longer than %d bytes", maxJSONString)
		}
		out = append(out, part...)
		return nil
	})
	return string(out), err
}

// chunks consumes a string and hands out its text piece by piece.
func (s *jsonScanner) chunks(piece func([]byte) error) error {
	r := stringReader{s: s}
	if err := r.open(); err != nil {
		return err
	}
	var buf [512]byte
	for {
		n, err := r.Read(buf[:])
		if n > 0 {
			if err := piece(buf[:n]); err != nil {
				return s.wrap(err)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return s.wrap(err)
		}
	}
}

// A stringReader reads the text of a JSON string, so that a long one (base64)
// needs no memory.
type stringReader struct {
	s       *jsonScanner
	done    bool
	pending []byte // rest of an escape that did not fit
}

func (r *stringReader) open() error { return r.s.expect('"') }

func (r *stringReader) Read(p []byte) (int, error) {
	if len(r.pending) > 0 {
		n := copy(p, r.pending)
		r.pending = r.pending[n:]
		return n, nil
	}
	if r.done {
		return 0, io.EOF
	}
	s := r.s
	if s.pos == len(s.buf) {
		if err := s.fill(); err != nil {
			return 0, s.wrap(err)
		}
	}
	rest := s.buf[s.pos:]
	n := 0
	for n < len(rest) && n < len(p) && rest[n] != '"' && rest[n] != '\\' && rest[n] >= 0x20 {
		n++
	}
	copy(p, rest[:n])
	s.pos += n
	if n > 0 || len(p) == 0 {
		return n, nil
	}
	switch c := rest[0]; c {
	case '"':
		s.pos++
		r.done = true
		return 0, io.EOF
	case '\\':
		s.pos++
		text, err := s.escape()
		if err != nil {
			return 0, s.wrap(err)
		}
		n := copy(p, text)
		r.pending = text[n:]
		return n, nil
	default:
		return 0, s.fault("control character %#x in a string", c)
	}
}

// escape consumes what follows a backslash.
func (s *jsonScanner) escape() ([]byte, error) {
	c, err := s.next()
	if err != nil {
		return nil, err
	}
	switch c {
	case '"', '\\', '/':
		return []byte{c}, nil
	case 'b':
		return []byte{'\b'}, nil
	case 'f':
		return []byte{'\f'}, nil
	case 'n':
		return []byte{'\n'}, nil
	case 'r':
		return []byte{'\r'}, nil
	case 't':
		return []byte{'\t'}, nil
	case 'u':
		first, err := s.hex4()
		if err != nil {
			return nil, err
		}
		if !utf16.IsSurrogate(first) {
			return utf8.AppendRune(nil, first), nil
		}
		for _, want := range []byte(`\u`) {
			if c, err := s.next(); err != nil || c != want {
				return nil, fmt.Errorf("half a surrogate pair in a string")
			}
		}
		second, err := s.hex4()
		if err != nil {
			return nil, err
		}
		pair := utf16.DecodeRune(first, second)
		if pair == utf8.RuneError {
			return nil, fmt.Errorf("half a surrogate pair in a string")
		}
		return utf8.AppendRune(nil, pair), nil
	}
	return nil, fmt.Errorf("escape \\%c in a string", c)
}

func (s *jsonScanner) hex4() (rune, error) {
	var digits [4]byte
	for i := range digits {
		c, err := s.next()
		if err != nil {
			return 0, err
		}
		digits[i] = c
	}
	n, err := strconv.ParseUint(string(digits[:]), 16, 32)
	if err != nil {
		return 0, fmt.Errorf("escape \\u%s in a string", digits)
	}
	return rune(n), nil
}

// number consumes a finite number.
func (s *jsonScanner) number() (float64, error) {
	text, err := s.literal()
	if err != nil {
		return 0, err
	}
	if v, ok := smallInt(text); ok {
		return v, nil
	}
	if !validNumber(text) {
		return 0, s.literalFault("%.40q is not a number", text)
	}
	v, err := strconv.ParseFloat(string(text), 64)
	if err != nil {
		return 0, s.literalFault("%.40s is out of range", text)
	}
	return v, nil
}

// word consumes a string, or a literal as it is spelled.
func (s *jsonScanner) word() (string, error) {
	c, err := s.peek()
	if err != nil || c == '"' {
		if err != nil {
			return "", err
		}
		return s.str()
	}
	text, err := s.literal()
	return string(text), err
}

// whole consumes a number that must be a whole one from 0 to 2^53-1.
func (s *jsonScanner) whole() (uint64, error) {
	v, err := s.number()
	if err != nil {
		return 0, err
	}
	if v < 0 || v > maxCount || v != math.Trunc(v) {
		return 0, s.literalFault("%v is not a whole number from 0 to %d", v, uint64(maxCount))
	}
	return uint64(v), nil
}

// literal consumes a number, true, false or null, as it is written. The text
// is valid until the next call.
func (s *jsonScanner) literal() ([]byte, error) {
	if _, err := s.peek(); err != nil {
		return nil, s.wrap(err)
	}
	s.mark = s.offset()
	start := s.pos
	var carried []byte
	for {
		for s.pos < len(s.buf) && isLiteral(s.buf[s.pos]) {
			s.pos++
		}
		part := s.buf[start:s.pos]
		if len(carried)+len(part) > 400 {
			return nil, s.fault("%.20q... is not a number", part)
		}
		if s.pos < len(s.buf) {
			if carried != nil {
				part = append(carried, part...)
			}
			if len(part) == 0 {
				return nil, s.fault("%q, want a value", s.buf[s.pos])
			}
			return part, nil
		}
		carried = append(carried, part...)
		if err := s.fill(); err == io.EOF {
			if len(carried) == 0 {
				return nil, s.wrap(err)
			}
			return carried, nil
		} else if err != nil {
			return nil, s.wrap(err)
		}
		start = 0
	}
}

func isLiteral(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '-' || c == '+' || c == '.' || c == '_'
}

// smallInt reads a whole number of up to 15 digits.
func smallInt(text []byte) (float64, bool) {
	if len(text) > 15 || len(text) == 0 || text[0] == '0' && len(text) > 1 {
		return 0, false
	}
	var n int64
	for _, c := range text {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int64(c-'0')
	}
	return float64(n), true
}

// validNumber reports whether text is a number by RFC 8259.
func validNumber(text []byte) bool {
	digits := func() bool {
		n := 0
		for n < len(text) && text[n] >= '0' && text[n] <= '9' {
			n++
		}
		text = text[n:]
		return n > 0
	}
	if len(text) > 0 && text[0] == '-' {
		text = text[1:]
	}
	if len(text) > 1 && text[0] == '0' && text[1] >= '0' && text[1] <= '9' || !digits() {
		return false
	}
	if len(text) > 0 && text[0] == '.' {
		text = text[1:]
		if !digits() {
			return false
		}
	}
	if len(text) > 0 && (text[0] == 'e' || text[0] == 'E') {
		text = text[1:]
		if len(text) > 0 && (text[0] == '-' || text[0] == '+') {
			text = text[1:]
		}
		if !digits() {
			return false
		}
	}
	return len(text) == 0
}

// null consumes null, if that is the next value.
func (s *jsonScanner) null() (bool, error) {
	c, err := s.peek()
	if err != nil {
		return false, s.wrap(err)
	}
	if c != 'n' {
		return false, nil
	}
	return true, s.skip()
}

// skip consumes a value of any kind.
func (s *jsonScanner) skip() error {
	c, err := s.peek()
	if err != nil {
		return s.wrap(err)
	}
	switch c {
	case '{':
		return s.object(func(string) error { return s.skip() })
	case '[':
		return s.array(func(int) error { return s.skip() })
	case '"':
		return s.chunks(func([]byte) error { return nil })
	}
	text, err := s.literal()
	if err != nil {
		return err
	}
	switch string(text) {
	case "true", "false", "null":
		return nil
	}
	if !validNumber(text) {
		return s.literalFault("%.40q is not a value", text)
	}
	return nil
}

// numbers consumes an array of finite numbers into dst, up to limit of them.
func (s *jsonScanner) numbers(dst []float64, limit int) ([]float64, error) {
	dst = dst[:0]
	err := s.array(func(i int) error {
		if i >= limit {
			return fmt.Errorf("a list is longer than %d", limit)
		}
		v, err := s.number()
		dst = append(dst, v)
		return err
	})
	return dst, err
}
