package manifest

import (
	"bytes"
	"encoding/json"
	"math"
	"reflect"
	"strconv"
)

// inLine is the depth of a value all of which stands on one line.
const inLine = -1

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
			if r, ok := v.Addr().Interface().(row); ok {
				return appendRow(b, r)
			}
		}
		if oneLine[v.Type()] {
			depth = inLine
		}
		fields := fieldsOf(v.Type())
		return appendBlock(b, '{', '}', len(fields), depth, func(b []byte, i, depth int) []byte {
			b = append(strconv.AppendQuote(b, fields[i].key), ": "...)
			return appendValue(b, v.Field(i), depth)
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
// The second half of a list of the manifest's own is written meanwhile by
// another goroutine.
func appendBlock(b []byte, begin, end byte, n, depth int, element func(b []byte, i, depth int) []byte) []byte {
	inner := depth
	if depth != inLine {
		inner++
	}
	elements := func(b []byte, from, to int) []byte {
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
	b = append(b, begin)
	if begin == '[' && depth == 1 && n > 1 {
		rest := make(chan []byte, 1)
		go func(size int) { rest <- elements(make([]byte, 0, size), n/2, n) }((cap(b) - len(b)) / 2)
		b = append(elements(b, 0, n/2), <-rest...)
	} else {
		b = elements(b, 0, n)
	}
	if n > 0 && depth != inLine {
		b = appendIndent(b, depth)
	}
	return append(b, end)
}

func appendIndent(b []byte, depth int) []byte {
	b = append(b, '\n')
	for range depth {
		b = append(b, "  "...)
	}
	return b
}

func appendRow(b []byte, r row) []byte {
	room := rooms.Get().(*[24]any)
	defer rooms.Put(room)
	keys := keysOf(r)
	b = append(b, '{')
	for i, p := range r.fields(room[:0]) {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = append(append(append(b, '"'), keys[i].key...), `": `...)
		b = appendField(b, p)
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
