package ggufio

import (
	"fmt"
	"math"
	"strings"
)

// A ValueType is the type number of a metadata value.
type ValueType uint32

// Metadata value types, by their number in the file.
const (
	ValueUint8   ValueType = 0
	ValueInt8    ValueType = 1
	ValueUint16  ValueType = 2
	ValueInt16   ValueType = 3
	ValueUint32  ValueType = 4
	ValueInt32   ValueType = 5
	ValueFloat32 ValueType = 6
	ValueBool    ValueType = 7
	ValueString  ValueType = 8
	ValueArray   ValueType = 9
	ValueUint64  ValueType = 10
	ValueInt64   ValueType = 11
	ValueFloat64 ValueType = 12
)

var valueTypes = [...]struct {
	name      string
	sizeBytes uint64 // of a scalar
}{
	ValueUint8: {"uint8", 1}, ValueInt8: {"int8", 1}, ValueUint16: {"uint16", 2}, ValueInt16: {"int16", 2},
	ValueUint32: {"uint32", 4}, ValueInt32: {"int32", 4}, ValueFloat32: {"float32", 4}, ValueBool: {"bool", 1},
	ValueString: {"string", 0}, ValueArray: {"array", 0},
	ValueUint64: {"uint64", 8}, ValueInt64: {"int64", 8}, ValueFloat64: {"float64", 8},
}

// String returns the type's name, such as "uint32".
func (t ValueType) String() string {
	if int(t) < len(valueTypes) {
		return valueTypes[t].name
	}
	return fmt.Sprintf("value type %d", uint32(t))
}

// A Pair is one key of the metadata and where it lies.
type Pair struct {
	Key         string
	Type        ValueType
	ElementType ValueType // of an array
	Length      uint64    // of an array; bytes of a string
	File        int       // index into Model.Files
	OffsetBytes uint64    // of the whole pair: key length, key, type, value
	SizeBytes   uint64    // of the whole pair

	// ZeroTailBytes is how much of SizeBytes is lost on a program that copies
	// strings as C has them: in each string, the first zero byte and all after.
	ZeroTailBytes uint64

	// value is a uint64, int64, float64, bool or string, or a slice of one of
	// these; nil where the value is too long to keep.
	value any
}

// Metadata is the metadata of a model: the first file's pairs in file order,
// then those of further shards.
//
// Lookups see the first file's keys. They have three answers: absent (ok is
// false), present but of another type or too long to be kept in memory (err
// says so), and the value. Integers of any width and sign serve where their
// value fits; nothing else is converted.
type Metadata struct {
	Pairs []Pair
	index map[string]int // first file's keys
}

// Lookup returns the pair of a key, and whether there is one.
func (m *Metadata) Lookup(key string) (*Pair, bool) {
	if m == nil {
		return nil, false
	}
	i, ok := m.index[key]
	if !ok {
		return nil, false
	}
	return &m.Pairs[i], true
}

// Describe returns the pair's type in words, such as "array of 48 uint32".
func (p *Pair) Describe() string {
	if p.Type == ValueArray {
		return fmt.Sprintf("array of %d %s", p.Length, p.ElementType)
	}
	return p.Type.String()
}

func (p *Pair) wrongType(want string) error {
	if p.value == nil {
		return fmt.Errorf("%s: %s is too long to keep in memory", pairField(p.Key), p.Describe())
	}
	return fmt.Errorf("%s: is %s, not %s", pairField(p.Key), p.Describe(), want)
}

// lookup finds the key's value and checks that it has type T.
func lookup[T any](m *Metadata, key, want string) (v T, ok bool, err error) {
	p, found := m.Lookup(key)
	if !found {
		return v, false, nil
	}
	if v, ok = p.value.(T); !ok {
		return v, false, p.wrongType(want)
	}
	return v, true, nil
}

// String looks up a string, up to its first zero byte: so llama.cpp reads it.
func (m *Metadata) String(key string) (v string, ok bool, err error) {
	v, ok, err = lookup[string](m, key, "string")
	v, _, _ = strings.Cut(v, "\x00")
	return v, ok, err
}

// Bool looks up a bool.
func (m *Metadata) Bool(key string) (v, ok bool, err error) {
	return lookup[bool](m, key, "bool")
}

// Float64 looks up a float32 or float64.
func (m *Metadata) Float64(key string) (v float64, ok bool, err error) {
	return lookup[float64](m, key, "float")
}

// Strings looks up an array of strings.
func (m *Metadata) Strings(key string) (v []string, ok bool, err error) {
	return lookup[[]string](m, key, "array of strings")
}

// Bools looks up an array of bools.
func (m *Metadata) Bools(key string) (v []bool, ok bool, err error) {
	return lookup[[]bool](m, key, "array of bools")
}

// Float64s looks up an array of float32 or float64.
func (m *Metadata) Float64s(key string) (v []float64, ok bool, err error) {
	return lookup[[]float64](m, key, "array of floats")
}

// Uint64 looks up an integer that is not negative.
func (m *Metadata) Uint64(key string) (v uint64, ok bool, err error) {
	p, found := m.Lookup(key)
	if !found {
		return 0, false, nil
	}
	switch v := p.value.(type) {
	case uint64:
		return v, true, nil
	case int64:
		if v < 0 {
			return 0, false, fmt.Errorf("%s: %d is negative", pairField(key), v)
		}
		return uint64(v), true, nil
	}
	return 0, false, p.wrongType("integer")
}

// Int64 looks up an integer.
func (m *Metadata) Int64(key string) (v int64, ok bool, err error) {
	p, found := m.Lookup(key)
	if !found {
		return 0, false, nil
	}
	switch v := p.value.(type) {
	case int64:
		return v, true, nil
	case uint64:
		if v > math.MaxInt64 {
			return 0, false, fmt.Errorf("%s: %d does not fit 63 bits", pairField(key), v)
		}
		return int64(v), true, nil
	}
	return 0, false, p.wrongType("integer")
}

// Uint64s looks up an array of integers, none negative.
func (m *Metadata) Uint64s(key string) (v []uint64, ok bool, err error) {
	p, found := m.Lookup(key)
	if !found {
		return nil, false, nil
	}
	switch v := p.value.(type) {
	case []uint64:
		return append([]uint64(nil), v...), true, nil
	case []int64:
		out := make([]uint64, len(v))
		for i, x := range v {
			if x < 0 {
				return nil, false, fmt.Errorf("%s: item %d: %d is negative", pairField(key), i, x)
			}
			out[i] = uint64(x)
		}
		return out, true, nil
	}
	return nil, false, p.wrongType("array of integers")
}
