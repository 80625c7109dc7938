package manifest

import (
	"bytes"
	"encoding/json"
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

// decodeStrict fills dst, a pointer to a struct, from valid JSON. Every field
// must be there, once and in its own case; null is for pointers and for lists
// tagged null:"allowed". Unknown fields are an error unless dropUnknown.
func decodeStrict(data []byte, dst any, dropUnknown bool) error {
	s := &strictDecoder{json: json.NewDecoder(bytes.NewReader(data)), dropUnknown: dropUnknown}
	s.json.UseNumber()
	tok, err := s.json.Token()
	if err != nil {
		return err
	}
	return s.value(tok, reflect.ValueOf(dst).Elem(), "", false)
}

type strictDecoder struct {
	json        *json.Decoder
	dropUnknown bool
}

func fieldErrorf(path, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	if path == "" {
		return err
	}
	return &FieldError{path, err}
}

// value stores the value that begins with tok in dst.
func (s *strictDecoder) value(tok json.Token, dst reflect.Value, path string, nullAllowed bool) error {
	if dst.Kind() == reflect.Pointer {
		if tok == nil {
			return nil
		}
		dst.Set(reflect.New(dst.Type().Elem()))
		return s.value(tok, dst.Elem(), path, false)
	}
	if tok == nil {
		if nullAllowed {
			return nil
		}
		return fieldErrorf(path, "null where a value must be")
	}
	switch dst.Kind() {
	case reflect.Struct:
		if tok != json.Delim('{') {
			return fieldErrorf(path, "%s: want an object", describe(tok))
		}
		return s.object(dst, path)
	case reflect.Slice:
		if tok != json.Delim('[') {
			return fieldErrorf(path, "%s: want a list", describe(tok))
		}
		return s.list(dst, path)
	case reflect.String:
		text, ok := tok.(string)
		if !ok {
			return fieldErrorf(path, "%s: want a string", describe(tok))
		}
		dst.SetString(text)
		return nil
	case reflect.Bool:
		b, ok := tok.(bool)
		if !ok {
			return fieldErrorf(path, "%s: want true or false", describe(tok))
		}
		dst.SetBool(b)
		return nil
	}
	number, ok := tok.(json.Number)
	if !ok {
		return fieldErrorf(path, "%s: want a number", describe(tok))
	}
	return storeNumber(number.String(), dst, path)
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
	fields := fieldsOf(dst.Type())
	seen := make([]bool, len(fields))
	var dropped map[string]bool
	for s.json.More() {
		tok, err := s.json.Token()
		if err != nil {
			return err
		}
		key := tok.(string) // the JSON is valid
		at := join(path, key)
		i := indexOf(fields, key)
		if i < 0 {
			if !s.dropUnknown {
				return fieldErrorf(at, "unknown field%s", otherCase(fields, key))
			}
			if dropped[key] {
				return fieldErrorf(at, "written twice")
			}
			if dropped == nil {
				dropped = map[string]bool{}
			}
			dropped[key] = true
			if err := skipValue(s.json); err != nil {
				return err
			}
			continue
		}
		if seen[i] {
			return fieldErrorf(at, "written twice")
		}
		seen[i] = true
		tok, err = s.json.Token()
		if err != nil {
			return err
		}
		if err := s.value(tok, dst.Field(i), at, fields[i].nullAllowed); err != nil {
			return err
		}
	}
	if _, err := s.json.Token(); err != nil { // the closing brace
		return err
	}
	for i, ok := range seen {
		if !ok {
			return fieldErrorf(join(path, fields[i].key), "missing")
		}
	}
	return nil
}

func (s *strictDecoder) list(dst reflect.Value, path string) error {
	list := reflect.MakeSlice(dst.Type(), 0, 0)
	for i := 0; s.json.More(); i++ {
		tok, err := s.json.Token()
		if err != nil {
			return err
		}
		list = reflect.Append(list, reflect.Zero(dst.Type().Elem()))
		if err := s.value(tok, list.Index(i), fmt.Sprintf("%s[%d]", path, i), false); err != nil {
			return err
		}
	}
	if _, err := s.json.Token(); err != nil { // the closing bracket
		return err
	}
	dst.Set(list)
	return nil
}

// A jsonField is one field of a wire struct.
type jsonField struct {
	key         string
	nullAllowed bool
}

func fieldsOf(t reflect.Type) []jsonField {
	fields := make([]jsonField, t.NumField())
	for i := range fields {
		tag := t.Field(i).Tag
		fields[i] = jsonField{tag.Get("json"), tag.Get("null") == "allowed"}
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

// describe names a token for a message, cut short.
func describe(tok json.Token) string {
	switch v := tok.(type) {
	case json.Delim:
		if v == '{' {
			return "an object"
		}
		return "a list"
	case string:
		if len(v) > 40 {
			v = v[:40]
		}
		return strconv.Quote(v)
	}
	return fmt.Sprint(tok)
}
