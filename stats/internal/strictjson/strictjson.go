// Package strictjson compares the keys of a JSON text with a Go type: what
// encoding/json lets pass and a record that others rely on must not hold.
package strictjson

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
)

// Check compares the keys of a JSON text with the fields of a Go type, key
// by key. encoding/json takes keys in any case, twice, or not at all; a record
// that others rely on takes each exactly once. With lenient, unknown keys are
// let through.
//
// data must be valid JSON; a value that does not fit the type is left to
// encoding/json to refuse.
func Check(data []byte, t reflect.Type, lenient bool) error {
	s := keyScanner{data: data, lenient: lenient, fields: map[reflect.Type]map[string]reflect.StructField{}}
	return s.value(t, "")
}

// CheckOpen is [Check] for a record that any tool may write: fields may
// be absent or null, and unknown keys are let through. Still no key may be
// there twice, or in another case than its own, no number be a string, and no
// list have more than maxItems entries, which may decode to many times their
// size.
func CheckOpen(data []byte, t reflect.Type, maxItems int) error {
	s := keyScanner{data: data, lenient: true, open: true, maxItems: maxItems, fields: map[reflect.Type]map[string]reflect.StructField{}}
	return s.value(t, "")
}

type keyScanner struct {
	data     []byte
	pos      int
	lenient  bool
	open     bool
	maxItems int // of a list, 0 for any number
	fields   map[reflect.Type]map[string]reflect.StructField
}

// numberType is a number as it is spelled. encoding/json takes a string for
// one, and null for none.
var numberType = reflect.TypeFor[json.Number]()

func (s *keyScanner) space() {
	for s.pos < len(s.data) && strings.IndexByte(" \t\r\n", s.data[s.pos]) >= 0 {
		s.pos++
	}
}

// text returns the string that starts at the cursor, quotes included.
func (s *keyScanner) text() []byte {
	start := s.pos
	for s.pos++; s.data[s.pos] != '"'; s.pos++ {
		if s.data[s.pos] == '\\' {
			s.pos++
		}
	}
	s.pos++
	return s.data[start:s.pos]
}

// value scans one value. t is nil for a value whose keys are not checked.
func (s *keyScanner) value(t reflect.Type, path string) error {
	s.space()
	if t != nil && s.data[s.pos] == 'n' && t.Kind() != reflect.Pointer && (!s.open || t == numberType) {
		return fmt.Errorf("%s: is null", path)
	}
	if t == numberType && s.data[s.pos] == '"' {
		return fmt.Errorf("%s: is a string, want a number", path)
	}
	if t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch s.data[s.pos] {
	case '{':
		if t != nil && t.Kind() != reflect.Struct {
			t = nil
		}
		return s.object(t, path)
	case '[':
		var elem reflect.Type
		if t != nil && t.Kind() == reflect.Slice {
			elem = t.Elem()
		}
		return s.list(elem, path)
	case '"':
		s.text()
	default:
		s.pos += len(s.data[s.pos:]) - len(bytes.TrimLeft(s.data[s.pos:], "+-.0123456789Eaeflnrstu"))
	}
	return nil
}

func (s *keyScanner) list(elem reflect.Type, path string) error {
	for i := 0; ; i++ {
		s.pos++ // past '[' or ','
		if s.space(); s.data[s.pos] == ']' {
			break
		}
		if s.maxItems > 0 && i >= s.maxItems {
			return fmt.Errorf("%s: has more than %d entries", path, s.maxItems)
		}
		at := path
		if elem != nil && (elem.Kind() == reflect.Struct || elem == numberType) {
			at = fmt.Sprintf("%s[%d]", path, i)
		}
		if err := s.value(elem, at); err != nil {
			return err
		}
		if s.space(); s.data[s.pos] == ']' {
			break
		}
	}
	s.pos++
	return nil
}

func (s *keyScanner) object(t reflect.Type, path string) error {
	var known map[string]reflect.StructField
	if t != nil {
		known = s.known(t)
	}
	seen := map[string]bool{}
	for {
		s.pos++ // past '{' or ','
		if s.space(); s.data[s.pos] == '}' {
			break
		}
		var key string
		if err := json.Unmarshal(s.text(), &key); err != nil {
			return err
		}
		at := strings.TrimPrefix(path+"."+key, ".")
		if seen[key] {
			return fmt.Errorf("%s: duplicate key", at)
		}
		seen[key] = true
		field, ok := known[key]
		if t != nil && !ok && !s.lenient {
			return fmt.Errorf("%s: unknown field", at)
		}
		if !ok && misspelt(known, key) {
			return fmt.Errorf("%s: unknown field; it differs from a known one in case", at)
		}
		s.space()
		s.pos++ // past ':'
		if err := s.value(field.Type, at); err != nil {
			return err
		}
		if s.space(); s.data[s.pos] == '}' {
			break
		}
	}
	s.pos++
	if s.open {
		return nil
	}
	for i := range len(known) {
		if name := Tag(t.Field(i)); !seen[name] {
			return fmt.Errorf("%s: the field is missing", strings.TrimPrefix(path+"."+name, "."))
		}
	}
	return nil
}

func (s *keyScanner) known(t reflect.Type) map[string]reflect.StructField {
	if m, ok := s.fields[t]; ok {
		return m
	}
	m := make(map[string]reflect.StructField, t.NumField())
	for i := range t.NumField() {
		m[Tag(t.Field(i))] = t.Field(i)
	}
	s.fields[t] = m
	return m
}

// misspelt reports whether encoding/json would take key for a known one.
func misspelt(known map[string]reflect.StructField, key string) bool {
	for name := range known {
		if strings.EqualFold(name, key) {
			return true
		}
	}
	return false
}

func Tag(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}
