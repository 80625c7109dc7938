package manifest

import (
	"math"
	"reflect"
	"strconv"
)

// A row is an element of one of the long lists. It hands out pointers to its
// fields, in struct order, so that tens of thousands of rows are read, checked
// and written without reflection. A new field needs a line in fields, which a
// test compares with the struct, and nothing else; one of an expert, of which
// there are most, also one where they are written and checked.
type row interface{ fields(dst []any) []any }

func (x *Expert) fields(dst []any) []any {
	return append(dst, &x.Expert, &x.Count, &x.Share, &x.Relative, &x.Tier, &x.Type, &x.Flag)
}

func (t *Tensor) fields(dst []any) []any {
	return append(dst, &t.Name, &t.Role, &t.Layer, &t.Expert, &t.Shape, &t.Parameters, &t.SourceType, &t.SourceBytes,
		&t.PlannedType, &t.PlannedBytes, &t.SavedBytes, &t.Reason, &t.ExpertTypes, &t.SplitPlannedBytes,
		&t.Sensitivity, &t.SensitivityFrom, &t.StepUp, &t.StepDown)
}

// Types whose values stand on one line each: the rows, and others that a reader
// compares line by line.
var oneLine = map[reflect.Type]bool{
	reflect.TypeFor[Expert]():      true,
	reflect.TypeFor[Tensor]():      true,
	reflect.TypeFor[Finding]():     true,
	reflect.TypeFor[Input]():       true,
	reflect.TypeFor[RunMemory]():   true,
	reflect.TypeFor[FileTypeRun](): true,
}

var (
	expertKeys = fieldsOf(reflect.TypeFor[Expert]())
	tensorKeys = fieldsOf(reflect.TypeFor[Tensor]())
)

// A fieldRoom holds the fields of a row.
type fieldRoom [24]any

// parts returns the keys and the fields of a row, the fields in room.
func parts(r row, room *fieldRoom) ([]jsonField, []any) {
	switch r := r.(type) { // not through the interface, for which room would be on the heap
	case *Expert:
		return expertKeys, r.fields(room[:0])
	case *Tensor:
		return tensorKeys, r.fields(room[:0])
	}
	panic("manifest: row of an unknown type")
}

// appendField writes the value that p points to on one line.
func appendField(b []byte, p any) []byte {
	switch p := p.(type) {
	case *string:
		return appendString(b, *p)
	case *uint64:
		return strconv.AppendUint(b, *p, 10)
	case *int64:
		return strconv.AppendInt(b, *p, 10)
	case *int:
		return strconv.AppendInt(b, int64(*p), 10)
	case **string:
		return appendPointer(b, *p, appendString)
	case **uint64:
		return appendPointer(b, *p, appendUint)
	case **float64:
		return appendPointer(b, *p, appendFloat)
	case **int:
		return appendPointer(b, *p, appendInt)
	case **Step:
		if *p == nil {
			return append(b, "null"...)
		}
		b = appendString(append(b, `{"type": `...), (*p).Type)
		b = strconv.AppendInt(append(b, `, "bytes": `...), (*p).Bytes, 10)
		return append(appendFloat(append(b, `, "damage": `...), (*p).Damage), '}')
	case *[]string:
		return appendList(b, *p, appendString)
	case *[]uint64:
		return appendList(b, *p, appendUint)
	}
	return appendValue(b, reflect.ValueOf(p).Elem(), inLine)
}

// appendExpert writes what appendRow would: nearly all rows are experts.
func appendExpert(b []byte, x *Expert) []byte {
	b = appendInt(append(b, `{"expert": `...), x.Expert)
	b = appendPointer(append(b, `, "count": `...), x.Count, appendUint)
	b = appendPointer(append(b, `, "share": `...), x.Share, appendFloat)
	b = appendPointer(append(b, `, "relative": `...), x.Relative, appendFloat)
	b = appendPointer(append(b, `, "tier": `...), x.Tier, appendString)
	b = appendPointer(append(b, `, "type": `...), x.Type, appendString)
	b = appendPointer(append(b, `, "flag": `...), x.Flag, appendString)
	return append(b, '}')
}

func appendUint(b []byte, v uint64) []byte { return strconv.AppendUint(b, v, 10) }

func appendInt(b []byte, v int) []byte { return strconv.AppendInt(b, int64(v), 10) }

func appendPointer[T any](b []byte, p *T, value func([]byte, T) []byte) []byte {
	if p == nil {
		return append(b, "null"...)
	}
	return value(b, *p)
}

func appendList[T any](b []byte, list []T, element func([]byte, T) []byte) []byte {
	if list == nil {
		return append(b, "null"...)
	}
	b = append(b, '[')
	for i, v := range list {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = element(b, v)
	}
	return append(b, ']')
}

// field reads the value that begins with t into what p points to.
func (s *strictDecoder) field(t token, p any, path string, nullAllowed bool) error {
	switch p := p.(type) {
	case *string:
		if t.kind == '"' {
			*p = s.text(t)
			return nil
		}
	case **string:
		if t.kind == '"' {
			v := s.text(t)
			*p = &v
			return nil
		}
	case *uint64:
		if v, err := strconv.ParseUint(string(t.text), 10, 64); err == nil {
			*p = v
			return nil
		}
	case **uint64:
		if v, err := strconv.ParseUint(string(t.text), 10, 64); err == nil {
			*p = &v
			return nil
		}
	case **float64:
		if t.kind == '0' {
			if v, err := strconv.ParseFloat(string(t.text), 64); err == nil {
				*p = &v
				return nil
			}
		}
	case *int:
		if v, err := strconv.Atoi(string(t.text)); err == nil && t.kind == '0' {
			*p = v
			return nil
		}
	case *[]string:
		if t.kind == '[' && s.strings(p) {
			return nil
		}
	}
	return s.value(t, reflect.ValueOf(p).Elem(), path, nullAllowed) // rare kinds, null, and what is refused
}

// strings reads the rest of a list of strings; where it is none, the scanner
// stays where it was.
func (s *strictDecoder) strings(dst *[]string) bool {
	start := s.at
	list := []string{}
	for s.more() {
		t := s.next()
		if t.kind != '"' {
			s.at = start
			return false
		}
		list = append(list, s.text(t))
	}
	s.next()
	*dst = list
	return true
}

// rowIsJSON reports whether JSON can spell every field, knowing only the usual
// kinds: false means that the slow way must look.
func rowIsJSON(r row) bool {
	if x, ok := r.(*Expert); ok { // nearly all rows
		return finite(x.Share) && finite(x.Relative) && prints(x.Tier) && prints(x.Type) && prints(x.Flag)
	}
	var room fieldRoom
	keys, fields := parts(r, &room)
	for i, p := range fields {
		ok := false
		switch p := p.(type) {
		case *string:
			ok = isText(*p)
		case **string:
			ok = prints(*p)
		case *uint64, *int64, *int, **uint64, **int:
			ok = true
		case **float64:
			ok = finite(*p)
		case **Step:
			ok = *p == nil || isText((*p).Type) && finite(&(*p).Damage)
		case *[]uint64:
			ok = *p != nil || keys[i].nullAllowed
		case *[]string:
			ok = *p != nil || keys[i].nullAllowed
			for _, s := range *p {
				ok = ok && isText(s)
			}
		}
		if !ok {
			return false
		}
	}
	return true
}

func finite(v *float64) bool { return v == nil || !math.IsNaN(*v) && !math.IsInf(*v, 0) }

func prints(s *string) bool { return s == nil || isText(*s) }
