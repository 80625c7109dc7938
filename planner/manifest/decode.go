package manifest

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// A FieldError reports what is wrong with one value of a manifest.
type FieldError struct {
	Field string // its path, such as "tensors[3].planned_bytes"
	Err   error
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Err.Error() }

func (e *FieldError) Unwrap() error { return e.Err }

// decodeStrict fills dst, a pointer to a struct, from valid JSON of a minor
// version. Every field that the version has must be there, once and in its own
// case; null is for pointers and for lists tagged null:"allowed". Unknown fields
// are an error unless the version is newer than this package.
func decodeStrict(data []byte, dst any, minor uint64) error {
	into := reflect.ValueOf(dst).Elem()
	for _, spell := range []bool{false, true} {
		s := &strictDecoder{scanner: newScanner(data), minor: minor, spell: spell}
		into.SetZero()
		if err := s.value(s.next(), into, "", false); err != nil && spell {
			return err
		} else if err == nil {
			return nil
		}
	}
	panic("manifest: reading again found no fault")
}

// A strictDecoder that does not spell leaves the paths of fields empty, which
// saves most of the time; who needs them for a message reads again.
type strictDecoder struct {
	*scanner
	minor uint64
	spell bool

	pointers fieldRoom // of the row at hand
}

func (s *strictDecoder) join(path, key string) string {
	if !s.spell {
		return ""
	}
	return join(path, key)
}

func fieldErrorf(path, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	if path == "" {
		return err
	}
	return &FieldError{path, err}
}

// value stores the value that begins with t in dst.
func (s *strictDecoder) value(t token, dst reflect.Value, path string, nullAllowed bool) error {
	if dst.Kind() == reflect.Pointer {
		if t.kind == 'n' {
			return nil
		}
		dst.Set(reflect.New(dst.Type().Elem()))
		return s.value(t, dst.Elem(), path, false)
	}
	if t.kind == 'n' {
		if nullAllowed {
			return nil
		}
		return fieldErrorf(path, "null where a value must be")
	}
	switch dst.Kind() {
	case reflect.Struct:
		if t.kind != '{' {
			return fieldErrorf(path, "%s: want an object", s.describe(t))
		}
		return s.object(dst, path)
	case reflect.Slice:
		if t.kind != '[' {
			return fieldErrorf(path, "%s: want a list", s.describe(t))
		}
		return s.list(dst, path)
	case reflect.String:
		if t.kind != '"' {
			return fieldErrorf(path, "%s: want a string", s.describe(t))
		}
		dst.SetString(s.text(t))
		return nil
	case reflect.Bool:
		if t.kind != 't' && t.kind != 'f' {
			return fieldErrorf(path, "%s: want true or false", s.describe(t))
		}
		dst.SetBool(t.kind == 't')
		return nil
	}
	if t.kind != '0' {
		return fieldErrorf(path, "%s: want a number", s.describe(t))
	}
	return storeNumber(string(t.text), dst, path)
}

func storeNumber(text string, dst reflect.Value, path string) error {
	var err error
	want := ""
	switch dst.Kind() {
	case reflect.Uint64:
		var n uint64
		n, err = strconv.ParseUint(text, 10, 64)
		dst.SetUint(n)
		want = "a whole number from 0 to 2^64-1"
	case reflect.Int64, reflect.Int:
		var n int64
		n, err = strconv.ParseInt(text, 10, dst.Type().Bits())
		dst.SetInt(n)
		want = "a whole number"
	case reflect.Float64:
		var f float64
		f, err = strconv.ParseFloat(text, 64)
		dst.SetFloat(f)
		want = "a number within the range of float64"
	default:
		panic(fmt.Sprintf("manifest: field of kind %s", dst.Kind()))
	}
	if err != nil {
		return fieldErrorf(path, "%s: want %s", text, want)
	}
	return nil
}

func (s *strictDecoder) object(dst reflect.Value, path string) error {
	var fields []jsonField
	var pointers []any
	r, isRow := dst.Addr().Interface().(row)
	if isRow {
		fields, pointers = parts(r, &s.pointers)
	} else {
		fields = fieldsOf(dst.Type())
	}
	var room [32]bool
	seen := append(room[:0], make([]bool, len(fields))...)
	var dropped map[string]bool
	for next := 0; s.more(); next++ {
		key := s.next()
		i := next
		if i >= len(fields) || string(key.text[1:len(key.text)-1]) != fields[i].key {
			i = indexOf(fields, s.text(key))
		}
		if i < 0 || fields[i].since > s.minor {
			name := s.text(key)
			at := s.join(path, name)
			if s.minor <= formatMinor {
				if i >= 0 {
					return fieldErrorf(at, "unknown field: it came with format version %d.%d", formatMajor, fields[i].since)
				}
				return fieldErrorf(at, "unknown field%s", otherCase(fields, name))
			}
			if dropped[name] {
				return fieldErrorf(at, "duplicate key")
			}
			if dropped == nil {
				dropped = map[string]bool{}
			}
			dropped[name] = true
			s.skip(s.next())
			continue
		}
		at := s.join(path, fields[i].key)
		if seen[i] {
			return fieldErrorf(at, "duplicate key")
		}
		seen[i], next = true, i
		var err error
		if isRow {
			err = s.field(s.next(), pointers[i], at, fields[i].nullAllowed)
		} else {
			err = s.value(s.next(), dst.Field(i), at, fields[i].nullAllowed)
		}
		if err != nil {
			return err
		}
	}
	s.next() // the closing brace
	for i, ok := range seen {
		if ok {
			continue
		}
		if fields[i].since <= s.minor {
			return fieldErrorf(s.join(path, fields[i].key), "missing")
		}
		if f := dst.Field(i); f.Kind() == reflect.Slice && !fields[i].nullAllowed {
			f.Set(reflect.MakeSlice(f.Type(), 0, 0))
		}
	}
	return nil
}

func (s *strictDecoder) list(dst reflect.Value, path string) error {
	list := reflect.MakeSlice(dst.Type(), 0, 0)
	for i := 0; s.more(); i++ {
		at := ""
		if s.spell {
			at = fmt.Sprintf("%s[%d]", path, i)
		}
		list = reflect.Append(list, reflect.Zero(dst.Type().Elem()))
		if err := s.value(s.next(), list.Index(i), at, false); err != nil {
			return err
		}
	}
	s.next() // the closing bracket
	dst.Set(list)
	return nil
}

// A jsonField is one field of a wire struct. The tag since names the minor
// version that it came with.
type jsonField struct {
	key         string
	spelled     string // `"key": `
	nullAllowed bool
	since       uint64
}

func fieldsOf(t reflect.Type) []jsonField {
	fields := make([]jsonField, t.NumField())
	for i := range fields {
		tag := t.Field(i).Tag
		since, _ := strconv.ParseUint(tag.Get("since"), 10, 64)
		key := tag.Get("json")
		fields[i] = jsonField{key, strconv.Quote(key) + ": ", tag.Get("null") == "allowed", since}
	}
	return fields
}

func indexOf(fields []jsonField, key string) int {
	for i := range fields {
		if fields[i].key == key {
			return i
		}
	}
	return -1
}

// otherCase points out a key that is right but for its case.
func otherCase(fields []jsonField, key string) string {
	for i := range fields {
		if strings.EqualFold(fields[i].key, key) {
			return fmt.Sprintf(": want %q", fields[i].key)
		}
	}
	return ""
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
