package ggufio_test

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/gguftest"
)

// Every value type reads back as it was written, byte for byte: strings keep
// their white space, which gguf-parser-go trims.
func TestMetadataValues(t *testing.T) {
	b := model()
	for _, p := range []struct {
		key   string
		value any
	}{
		{"u8", uint8(200)}, {"i8", int8(-100)}, {"u16", uint16(60000)}, {"i16", int16(-30000)},
		{"u32", uint32(4e9)}, {"i32", int32(-2e9)}, {"u64", uint64(math.MaxUint64)}, {"i64", int64(math.MinInt64)},
		{"f32", float32(0.1)}, {"f64", 0.1}, {"yes", true}, {"no", false},
		{"text", " \t two\nlines \u00a0"}, {"bytes", "a\x00\xff"}, {"none", ""},
		{"u32s", []uint32{1, 4e9}}, {"i8s", []int8{1, -1}}, {"i16s", []int16{7, 8}}, {"f32s", []float32{0.5, -1}},
		{"bools", []bool{true, false}}, {"texts", []string{" a ", ""}}, {"empty", []string{}}, {"emptyu", []uint64{}},
	} {
		b.Set(p.key, p.value)
	}
	m := openBuilt(t, b).Metadata

	check := func(key string, want any, got any, ok bool, err error) {
		t.Helper()
		if err != nil || !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, %v, %v; want %v", key, got, ok, err, want)
		}
	}
	for key, want := range map[string]uint64{"u8": 200, "u16": 60000, "u32": 4e9, "u64": math.MaxUint64} {
		got, ok, err := m.Uint64(key)
		check(key, want, got, ok, err)
	}
	for key, want := range map[string]int64{"u8": 200, "i8": -100, "i16": -30000, "i32": -2e9, "i64": math.MinInt64, "u32": 4e9} {
		got, ok, err := m.Int64(key)
		check(key, want, got, ok, err)
	}
	for key, want := range map[string]float64{"f32": float64(float32(0.1)), "f64": 0.1} {
		got, ok, err := m.Float64(key)
		check(key, want, got, ok, err)
	}
	for key, want := range map[string]bool{"yes": true, "no": false} {
		got, ok, err := m.Bool(key)
		check(key, want, got, ok, err)
	}
	for key, want := range map[string]string{"text": " \t two\nlines \u00a0", "bytes": "a", "none": ""} {
		got, ok, err := m.String(key)
		check(key, want, got, ok, err)
	}
	for key, want := range map[string][]uint64{"u32s": {1, 4e9}, "i16s": {7, 8}} {
		got, ok, err := m.Uint64s(key)
		check(key, want, got, ok, err)
	}
	bools, ok, err := m.Bools("bools")
	check("bools", []bool{true, false}, bools, ok, err)
	floats, ok, err := m.Float64s("f32s")
	check("f32s", []float64{0.5, -1}, floats, ok, err)
	texts, ok, err := m.Strings("texts")
	check("texts", []string{" a ", ""}, texts, ok, err)
	texts, ok, err = m.Strings("empty")
	check("empty", []string{}, texts, ok, err)

	// Absent is neither an error nor a zero.
	if v, ok, err := m.Uint64("nix"); v != 0 || ok || err != nil {
		t.Errorf("an absent key: %v, %v, %v", v, ok, err)
	}
	if _, ok, err := m.String("nix"); ok || err != nil {
		t.Errorf("an absent key: %v, %v", ok, err)
	}
	// The wrong type is an error that names both.
	wrong := func(want string, ok bool, err error) {
		t.Helper()
		if ok || err == nil || err.Error() != want {
			t.Errorf("%v, %v; want the error %q", ok, err, want)
		}
	}
	_, ok, err = m.Uint64("text")
	wrong("metadata text: is string, not integer", ok, err)
	_, ok, err = m.Uint64("f32")
	wrong("metadata f32: is float32, not integer", ok, err)
	_, ok, err = m.Uint64("i8")
	wrong("metadata i8: -100 is negative", ok, err)
	_, ok, err = m.Int64("u64")
	wrong("metadata u64: 18446744073709551615 does not fit 63 bits", ok, err)
	_, ok, err = m.Uint64("u32s")
	wrong("metadata u32s: is array of 2 uint32, not integer", ok, err)
	_, ok, err = m.String("u8")
	wrong("metadata u8: is uint8, not string", ok, err)
	_, ok, err = m.Strings("u32s")
	wrong("metadata u32s: is array of 2 uint32, not array of strings", ok, err)
	_, ok, err = m.Uint64s("i8s")
	wrong("metadata i8s: item 1: -1 is negative", ok, err)
	_, ok, err = m.Bool("u8")
	wrong("metadata u8: is uint8, not bool", ok, err)
	_, ok, err = m.Float64("u8")
	wrong("metadata u8: is uint8, not float", ok, err)
}

// Long values are passed over and say so when they are asked for; what comes
// after them is read all the same.
func TestMetadataLongValues(t *testing.T) {
	b := model()
	b.Set("tokens", make([]string, 100_000))
	b.Set("scores", make([]float32, 300_000))
	b.Set("template", strings.Repeat("x", 2<<20))
	b.Set("after", "here")
	m := openBuilt(t, b).Metadata
	if v, ok, err := m.String("after"); v != "here" || !ok || err != nil {
		t.Errorf("after: %q, %v, %v", v, ok, err)
	}
	if _, ok, err := m.Strings("tokens"); ok || err == nil || err.Error() != "metadata tokens: array of 100000 string is too long to keep in memory" {
		t.Errorf("tokens: %v, %v", ok, err)
	}
	if _, ok, err := m.String("template"); ok || err == nil {
		t.Errorf("template: %v, %v", ok, err)
	}
	if p, ok := m.Lookup("scores"); !ok || p.Length != 300_000 || p.ElementType != ggufio.ValueFloat32 {
		t.Errorf("scores: %+v, %v", p, ok)
	}
}

// The pairs' places are exact: their bytes, one after the other, are the
// metadata of the file.
func TestPairPlaces(t *testing.T) {
	b := gguftest.MoE{Embd: 64, FF: 32, Sparse: true}.Builder()
	b.Set("tokens", []string{"a", "", "ccc"}).Set("flag", true).Set("big", make([]int32, 5000))
	path := writeBuilt(t, b)
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m, err := ggufio.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	next := uint64(24)
	for i, p := range m.Metadata.Pairs {
		want := gguftest.AppendValue(gguftest.AppendString(nil, b.Pairs[i].Key), b.Pairs[i].Value)
		if p.OffsetBytes != next || p.SizeBytes != uint64(len(want)) || p.Key != b.Pairs[i].Key {
			t.Fatalf("pair %s lies at %d with %d bytes, want %s at %d with %d", p.Key, p.OffsetBytes, p.SizeBytes, b.Pairs[i].Key, next, len(want))
		}
		if !bytes.Equal(file[next:next+p.SizeBytes], want) {
			t.Fatalf("pair %s has other bytes", p.Key)
		}
		next += p.SizeBytes
	}
	if n := binary.LittleEndian.Uint64(file[next:]); n != uint64(len("token_embd.weight")) {
		t.Errorf("behind the last pair is %d, not the length of the first tensor's name", n)
	}
}

// Metadata numbers may be scalars or have an entry per block.
func TestArchitecture(t *testing.T) {
	base := func() *gguftest.Builder {
		return gguftest.MoE{Layers: 2, MTP: 1, Embd: 64, FF: 32, Shared: 1, Sparse: true}.Builder()
	}
	for _, tt := range []struct {
		name   string
		change func(b *gguftest.Builder)
		want   func(a *ggufio.Architecture)
	}{
		{"scalars", func(*gguftest.Builder) {}, func(*ggufio.Architecture) {}},
		{"used per block", func(b *gguftest.Builder) { b.Set("qwen3moe.expert_used_count", []uint32{2, 1, 2}) },
			func(a *ggufio.Architecture) { a.ExpertUsedCount = []int{2, 1, 2} }},
		{"used per block, signed, MTP left out", func(b *gguftest.Builder) { b.Set("qwen3moe.expert_used_count", []int32{1, 2}) },
			func(a *ggufio.Architecture) { a.ExpertUsedCount = []int{1, 2, 0} }},
		{"experts per block", func(b *gguftest.Builder) { b.Set("qwen3moe.expert_count", []uint32{4, 3, 4}) },
			func(*ggufio.Architecture) {}},
		{"other widths", func(b *gguftest.Builder) {
			b.Set("qwen3moe.block_count", uint64(3)).Set("qwen3moe.expert_count", uint8(4)).Set("qwen3moe.expert_used_count", int16(2))
		}, func(*ggufio.Architecture) {}},
		{"used absent", func(b *gguftest.Builder) { b.Unset("qwen3moe.expert_used_count") },
			func(a *ggufio.Architecture) { a.ExpertUsedCount = nil }},
		{"hybrid heads", func(b *gguftest.Builder) { b.Set("qwen3moe.attention.head_count_kv", []uint32{0, 2, 2}) },
			func(a *ggufio.Architecture) { a.HeadCountKV = []int{0, 2, 2} }},
		{"heads kv absent", func(b *gguftest.Builder) { b.Unset("qwen3moe.attention.head_count_kv") },
			func(a *ggufio.Architecture) { a.HeadCountKV = []int{4, 4, 4} }},
		{"blocks absent", func(b *gguftest.Builder) { b.Unset("qwen3moe.block_count") },
			func(*ggufio.Architecture) {}},
		{"feed forward per block", func(b *gguftest.Builder) {
			b.Set("qwen3moe.expert_feed_forward_length", []uint32{32, 32, 32})
		}, func(*ggufio.Architecture) {}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := base()
			tt.change(b)
			got := openBuilt(t, b).Architecture
			want := ggufio.Architecture{
				Name: "qwen3moe", BlockCount: 3, ExpertCount: 4, ExpertUsedCount: []int{2, 2, 2}, ExpertSharedCount: 1,
				NextNBlocks: 1, HeadCount: []int{4, 4, 4}, HeadCountKV: []int{2, 2, 2},
			}
			tt.want(&want)
			if !reflect.DeepEqual(got, want) {
				t.Errorf("read  %+v\nwant %+v", got, want)
			}
		})
	}
}

func TestModelName(t *testing.T) {
	b := model()
	if m := openBuilt(t, b); m.Name != "m.gguf" {
		t.Errorf("without general.name the model is named %q", m.Name)
	}
	if m := openBuilt(t, b.Set("general.name", "Some Model")); m.Name != "Some Model" {
		t.Errorf("with general.name the model is named %q", m.Name)
	}
	if m := openBuilt(t, b.Set("general.name", uint32(7))); m.Name != "m.gguf" {
		t.Errorf("with a number for a name the model is named %q", m.Name)
	}
}
