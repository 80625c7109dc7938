package manifest

import (
	"bytes"
	"encoding/json"
	"io"
	"math"
	"reflect"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
)

// inLine is the depth of a value all of which stands on one line.
const inLine = -1

// write writes a manifest. Its own lists have tens of thousands of rows: they
// are encoded in pieces, beside one another.
func write(w io.Writer, m *Manifest) error {
	const most = 32 // pieces of a list
	v := reflect.ValueOf(m).Elem()
	fields := fieldsOf(v.Type())
	workers := min(runtime.GOMAXPROCS(0), 8)
	rooms := make(chan []byte, workers+1)
	for range cap(rooms) {
		rooms <- make([]byte, 0, 96<<10)
	}
	b := []byte{'{'}
	for i := range fields {
		list := v.Field(i)
		if list.Kind() != reflect.Slice || list.Len() < 2 {
			b = appendElements(b, i, i+1, 0, func(b []byte, i, depth int) []byte {
				return appendValue(append(b, fields[i].spelled...), list, depth)
			})
			continue
		}
		b = append(appendElements(b, i, i+1, 0, func(b []byte, i, _ int) []byte { return append(b, fields[i].spelled...) }), '[')
		if _, err := w.Write(b); err != nil {
			return err
		}
		n := list.Len()
		pieces := min(n, most)
		err := writePieces(w, rooms, pieces, func(b []byte, piece int) []byte {
			return appendElements(b, piece*n/pieces, (piece+1)*n/pieces, 1, func(b []byte, i, depth int) []byte {
				return appendValue(b, list.Index(i), depth)
			})
		})
		if err != nil {
			return err
		}
		b = append(appendIndent(b[:0], 1), ']')
	}
	_, err := w.Write(append(b, "\n}\n"...))
	return err
}

// writePieces writes pieces in order, each made by one of several goroutines
// ahead of its turn, in one of the rooms, of which there is one more than
// goroutines.
func writePieces(w io.Writer, rooms chan []byte, pieces int, piece func(room []byte, i int) []byte) (err error) {
	made := make([]chan []byte, pieces)
	for i := range made {
		made[i] = make(chan []byte, 1)
	}
	var next atomic.Int64
	var working sync.WaitGroup
	for range cap(rooms) - 1 {
		working.Go(func() {
			// Who has room takes the next piece, so the one that is waited for
			// always has some.
			for room := range rooms {
				i := int(next.Add(1)) - 1
				if i >= pieces {
					rooms <- room
					return
				}
				made[i] <- piece(room[:0], i)
			}
		})
	}
	for i := range made {
		b := <-made[i]
		if err == nil {
			_, err = w.Write(b)
		}
		rooms <- b
	}
	working.Wait()
	return err
}

// appendValue writes v as JSON: keys in struct order, objects and lists broken
// over lines with an indent of two spaces a level, except what oneLine names.
func appendValue(b []byte, v reflect.Value, depth int) []byte {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return append(b, "null"...)
		}
		return appendValue(b, v.Elem(), depth)
	case reflect.Struct:
		if v.CanAddr() {
			switch r := v.Addr().Interface().(type) {
			case *Expert:
				return appendExpert(b, r)
			case row:
				return appendRow(b, r)
			}
		}
		if oneLine[v.Type()] {
			depth = inLine
		}
		fields := fieldsOf(v.Type())
		return appendBlock(b, '{', '}', len(fields), depth, func(b []byte, i, depth int) []byte {
			return appendValue(append(b, fields[i].spelled...), v.Field(i), depth)
		})
	case reflect.Slice:
		if v.IsNil() {
			return append(b, "null"...)
		}
		return appendBlock(b, '[', ']', v.Len(), depth, func(b []byte, i, depth int) []byte {
			return appendValue(b, v.Index(i), depth)
		})
	case reflect.String:
		return appendString(b, v.String())
	case reflect.Bool:
		return strconv.AppendBool(b, v.Bool())
	case reflect.Uint64:
		return strconv.AppendUint(b, v.Uint(), 10)
	case reflect.Int, reflect.Int64:
		return strconv.AppendInt(b, v.Int(), 10)
	case reflect.Float64:
		return appendFloat(b, v.Float())
	}
	panic("manifest: field of kind " + v.Kind().String())
}

// appendBlock writes n elements between brackets, at the given depth or inLine.
func appendBlock(b []byte, begin, end byte, n, depth int, element func(b []byte, i, depth int) []byte) []byte {
	b = appendElements(append(b, begin), 0, n, depth, element)
	if n > 0 && depth != inLine {
		b = appendIndent(b, depth)
	}
	return append(b, end)
}

// appendElements writes some of a block's elements, with what separates them.
func appendElements(b []byte, from, to, depth int, element func(b []byte, i, depth int) []byte) []byte {
	inner := depth
	if depth != inLine {
		inner++
	}
	for i := from; i < to; i++ {
		switch {
		case depth == inLine && i > 0:
			b = append(b, ", "...)
		case depth != inLine && i > 0:
			b = appendIndent(append(b, ','), inner)
		case depth != inLine:
			b = appendIndent(b, inner)
		}
		b = element(b, i, inner)
	}
	return b
}

func appendIndent(b []byte, depth int) []byte {
	b = append(b, '\n')
	for range depth {
		b = append(b, "  "...)
	}
	return b
}

func appendRow(b []byte, r row) []byte {
	var room fieldRoom
	keys, fields := parts(r, &room)
	b = append(b, '{')
	for i, p := range fields {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = appendField(append(b, keys[i].spelled...), p)
	}
	return append(b, '}')
}

// appendString spells s as encoding/json does without escaping HTML.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= 0x7f {
			return appendEscaped(b, s)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

func appendEscaped(b []byte, s string) []byte {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		panic("manifest: a string without JSON: " + err.Error()) // there is none
	}
	return append(b, bytes.TrimSuffix(buf.Bytes(), []byte("\n"))...)
}

// appendFloat spells the finite f as encoding/json does: the shortest decimal
// that reads back as f, with an exponent where ECMAScript writes one.
func appendFloat(b []byte, f float64) []byte {
	format := byte('f')
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	b = strconv.AppendFloat(b, f, format, -1, 64)
	if n := len(b); format == 'e' && n >= 4 && b[n-4] == 'e' && b[n-3] == '-' && b[n-2] == '0' {
		b = append(b[:n-2], b[n-1])
	}
	return b
}
