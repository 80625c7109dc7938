// Package gguftest builds GGUF files for tests: small models with valid
// contents, sparse giants, shard sets, imatrix files, and, by overriding one
// field, files that are wrong in exactly one way.
//
// It writes what it is told and checks nothing: a test that wants a valid file
// must ask for one. Files are the same bytes on every run.
package gguftest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/quant"
)

// A Builder collects the contents of one GGUF file. The zero value is an empty
// version 3 file.
type Builder struct {
	Version   uint32 // 0 stands for 3
	Alignment uint64 // of tensor data; 0 stands for 32. Set "general.alignment" as well to declare it

	Pairs   []Pair
	Tensors []Tensor

	// Counts in the head of the file, where they should not be the true ones.
	DeclaredPairs, DeclaredTensors *uint64
}

// A Pair is one metadata key. Value is a number of one of the ten fixed-size
// Go types, a bool, a string, a slice of one of these, or [Raw].
type Pair struct {
	Key   string
	Value any
}

// Raw is a metadata value in its encoded form, type number included.
type Raw []byte

// A Tensor is one tensor of a file under construction.
type Tensor struct {
	Name  string
	Type  quant.Type
	Shape []uint64 // ne[0] first
	Data  []byte   // nil stands for zeros, which take no disk space in a file

	// DeclaredOffset is written instead of the true offset where it is not nil.
	DeclaredOffset *uint64
}

// Set adds a metadata key, or gives it another value.
func (b *Builder) Set(key string, value any) *Builder {
	for i := range b.Pairs {
		if b.Pairs[i].Key == key {
			b.Pairs[i].Value = value
			return b
		}
	}
	b.Pairs = append(b.Pairs, Pair{key, value})
	return b
}

// Unset removes a metadata key.
func (b *Builder) Unset(key string) *Builder {
	for i := range b.Pairs {
		if b.Pairs[i].Key == key {
			b.Pairs = append(b.Pairs[:i:i], b.Pairs[i+1:]...)
			break
		}
	}
	return b
}

// Add adds a tensor. Without data it is all zeros.
func (b *Builder) Add(name string, t quant.Type, shape []uint64, data []byte) *Builder {
	b.Tensors = append(b.Tensors, Tensor{Name: name, Type: t, Shape: shape, Data: data})
	return b
}

// AddF32 adds a tensor of type F32.
func (b *Builder) AddF32(name string, shape []uint64, values []float32) *Builder {
	data := make([]byte, 0, 4*len(values))
	for _, v := range values {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
	}
	return b.Add(name, quant.F32, shape, data)
}

// Tensor returns the tensor of a name, for a test to change.
func (b *Builder) Tensor(name string) *Tensor {
	for i := range b.Tensors {
		if b.Tensors[i].Name == name {
			return &b.Tensors[i]
		}
	}
	panic("gguftest: there is no tensor " + name)
}

// sizeBytes is the size of the tensor's data: by its type, or where its type
// and shape do not say, by what it was given.
func (t *Tensor) sizeBytes() uint64 {
	if t.Data != nil {
		return uint64(len(t.Data))
	}
	f, ok := quant.Lookup(t.Type)
	if !ok || len(t.Shape) == 0 {
		return 0
	}
	rows := uint64(1)
	for _, n := range t.Shape[1:] {
		rows *= n
	}
	n, err := f.Layout.EncodedBytes(rows, t.Shape[0])
	if err != nil {
		return 0
	}
	return n
}

func (b *Builder) alignment() uint64 {
	if b.Alignment == 0 {
		return 32
	}
	return b.Alignment
}

func (b *Builder) padded(n uint64) uint64 {
	a := b.alignment()
	return (n + a - 1) / a * a
}

// Header returns the file's bytes up to the start of tensor data.
func (b *Builder) Header() []byte {
	version, pairs, tensors := b.Version, uint64(len(b.Pairs)), uint64(len(b.Tensors))
	if version == 0 {
		version = 3
	}
	if b.DeclaredPairs != nil {
		pairs = *b.DeclaredPairs
	}
	if b.DeclaredTensors != nil {
		tensors = *b.DeclaredTensors
	}
	le := binary.LittleEndian
	out := le.AppendUint32([]byte("GGUF"), version)
	out = le.AppendUint64(out, tensors)
	out = le.AppendUint64(out, pairs)
	for _, p := range b.Pairs {
		out = AppendString(out, p.Key)
		out = AppendValue(out, p.Value)
	}
	offset := uint64(0)
	for i := range b.Tensors {
		t := &b.Tensors[i]
		out = AppendString(out, t.Name)
		out = le.AppendUint32(out, uint32(len(t.Shape)))
		for _, n := range t.Shape {
			out = le.AppendUint64(out, n)
		}
		out = le.AppendUint32(out, uint32(t.Type))
		if t.DeclaredOffset != nil {
			out = le.AppendUint64(out, *t.DeclaredOffset)
		} else {
			out = le.AppendUint64(out, offset)
		}
		offset = b.padded(offset + t.sizeBytes())
	}
	return append(out, make([]byte, b.padded(uint64(len(out)))-uint64(len(out)))...)
}

// Bytes returns the whole file, the last tensor's padding included.
func (b *Builder) Bytes() []byte {
	out := b.Header()
	for i := range b.Tensors {
		t := &b.Tensors[i]
		n := t.sizeBytes()
		padding := b.padded(n) - n
		if t.Data != nil {
			out = append(out, t.Data...)
		} else {
			padding += n
		}
		out = append(out, make([]byte, padding)...)
	}
	return out
}

// WriteFile writes the file. Tensors without data take no disk space, so that
// a test can have a model of any size.
func (b *Builder) WriteFile(path string) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()
	header := b.Header()
	if _, err := f.Write(header); err != nil {
		return err
	}
	at := uint64(len(header))
	for i := range b.Tensors {
		t := &b.Tensors[i]
		if t.Data != nil {
			if _, err := f.WriteAt(t.Data, int64(at)); err != nil {
				return err
			}
		}
		at += b.padded(t.sizeBytes())
	}
	return f.Truncate(int64(at))
}

// ShardPath is the path of shard i, counted from 0, of a set.
func ShardPath(dir, prefix string, i, count int) string {
	return filepath.Join(dir, fmt.Sprintf("%s-%05d-of-%05d.gguf", prefix, i+1, count))
}

// Shards splits the file as llama-gguf-split does: metadata in the first
// shard, the keys of the split in all, tensors in runs of nearly equal number.
// With emptyFirst the first shard has no tensors.
func (b *Builder) Shards(count int, emptyFirst bool) []*Builder {
	shards := make([]*Builder, count)
	holders := count
	if emptyFirst {
		holders--
	}
	for i := range shards {
		s := &Builder{Version: b.Version, Alignment: b.Alignment}
		if i == 0 {
			s.Pairs = append(s.Pairs, b.Pairs...)
		}
		s.Set("split.no", uint16(i))
		s.Set("split.count", uint16(count))
		s.Set("split.tensors.count", int32(len(b.Tensors)))
		if k := i - (count - holders); k >= 0 {
			s.Tensors = append(s.Tensors, b.Tensors[k*len(b.Tensors)/holders:(k+1)*len(b.Tensors)/holders]...)
		}
		shards[i] = s
	}
	return shards
}

// WriteShards writes the model as a set of shards and returns their paths.
func (b *Builder) WriteShards(dir, prefix string, count int) ([]string, error) {
	var paths []string
	for i, s := range b.Shards(count, false) {
		path := ShardPath(dir, prefix, i, count)
		if err := s.WriteFile(path); err != nil {
			return nil, err
		}
		paths = append(paths, path)
	}
	return paths, nil
}

// AppendString appends a string as GGUF spells it: its length and its bytes.
func AppendString(dst []byte, s string) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, uint64(len(s)))
	return append(dst, s...)
}

// AppendValue appends a metadata value with its type number. It panics on a Go
// type that GGUF has no value type for.
func AppendValue(dst []byte, value any) []byte {
	if raw, ok := value.(Raw); ok {
		return append(dst, raw...)
	}
	le := binary.LittleEndian
	if t, ok := scalarType(value); ok {
		return appendScalar(le.AppendUint32(dst, uint32(t)), value)
	}
	dst = le.AppendUint32(dst, uint32(ggufio.ValueArray))
	switch v := value.(type) {
	case []uint8:
		return appendArray(dst, v)
	case []int8:
		return appendArray(dst, v)
	case []uint16:
		return appendArray(dst, v)
	case []int16:
		return appendArray(dst, v)
	case []uint32:
		return appendArray(dst, v)
	case []int32:
		return appendArray(dst, v)
	case []float32:
		return appendArray(dst, v)
	case []bool:
		return appendArray(dst, v)
	case []string:
		return appendArray(dst, v)
	case []uint64:
		return appendArray(dst, v)
	case []int64:
		return appendArray(dst, v)
	case []float64:
		return appendArray(dst, v)
	}
	panic(fmt.Sprintf("gguftest: %T has no GGUF value type", value))
}

func appendArray[T any](dst []byte, items []T) []byte {
	var zero T
	t, _ := scalarType(any(zero))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(t))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(len(items)))
	for _, item := range items {
		dst = appendScalar(dst, item)
	}
	return dst
}

func scalarType(value any) (ggufio.ValueType, bool) {
	switch value.(type) {
	case uint8:
		return ggufio.ValueUint8, true
	case int8:
		return ggufio.ValueInt8, true
	case uint16:
		return ggufio.ValueUint16, true
	case int16:
		return ggufio.ValueInt16, true
	case uint32:
		return ggufio.ValueUint32, true
	case int32:
		return ggufio.ValueInt32, true
	case float32:
		return ggufio.ValueFloat32, true
	case bool:
		return ggufio.ValueBool, true
	case string:
		return ggufio.ValueString, true
	case uint64:
		return ggufio.ValueUint64, true
	case int64:
		return ggufio.ValueInt64, true
	case float64:
		return ggufio.ValueFloat64, true
	}
	return 0, false
}

func appendScalar(dst []byte, value any) []byte {
	if s, ok := value.(string); ok {
		return AppendString(dst, s)
	}
	var buf bytes.Buffer
	if err := binary.Write(&buf, binary.LittleEndian, value); err != nil {
		panic("gguftest: " + err.Error())
	}
	return append(dst, buf.Bytes()...)
}
