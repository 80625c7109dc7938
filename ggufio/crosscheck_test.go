package ggufio

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// shardOf2 makes a file a shard of two that the parser is asked about.
func shardOf2(h *header) *header {
	h.file.AlignmentBytes = 32
	h.index = map[string]int{keySplitCount: 0}
	h.pairs = []Pair{{Key: keySplitCount, Type: ValueUint16, value: uint64(2)}}
	return h
}

// The comparison with the parser notices any difference: each case changes one
// fact that the scan found.
func TestCompareNotices(t *testing.T) {
	path := filepath.Join("..", "testdata", "bytemoe-2x8", "model-f16.gguf")
	for _, tt := range []struct {
		name   string
		change func(h *header) []*header
		want   string
	}{
		{"nothing", func(h *header) []*header { return []*header{h} }, ""},
		{"a tensor less", func(h *header) []*header { h.tensors = h.tensors[1:]; return []*header{h} }, "26 tensors against 27"},
		{"a file more", func(h *header) []*header { return []*header{shardOf2(h), shardOf2(&header{})} }, "2 files against 1"},
		{"a name", func(h *header) []*header { h.tensors[3].Name += "x"; return []*header{h} }, "tensor 3 is named"},
		{"a type", func(h *header) []*header { h.tensors[3].Type = 30; return []*header{h} }, "type 30 against"},
		{"a dimension", func(h *header) []*header { h.tensors[3].Shape[0]++; return []*header{h} }, "shape ["},
		{"a dimension more", func(h *header) []*header { h.tensors[3].Shape = append(h.tensors[3].Shape, 1); return []*header{h} }, "shape ["},
		{"a place", func(h *header) []*header { h.tensors[3].OffsetBytes++; return []*header{h} }, "starts at byte"},
		{"a size", func(h *header) []*header { h.tensors[3].SizeBytes++; return []*header{h} }, "bytes against"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, err := scan(path)
			if err != nil {
				t.Fatal(err)
			}
			err = crossCheck(tt.change(h))
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), "disagree: ") || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("error %v does not say %q", err, tt.want)
			}
		})
	}
}

// A panic of the parser is an error. The file is one that the scan refuses:
// an alignment of 0 makes the parser divide by it.
func TestParserPanics(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.gguf")
	file := "GGUF\x03\x00\x00\x00" + strings.Repeat("\x00", 8) + "\x01" + strings.Repeat("\x00", 7) +
		"\x11" + strings.Repeat("\x00", 7) + "general.alignment" + "\x04\x00\x00\x00" + "\x00\x00\x00\x00" + strings.Repeat("\x00", 64)
	if err := os.WriteFile(path, []byte(file), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := parse(path); err == nil || !strings.Contains(err.Error(), "panic: ") {
		t.Errorf("the parser gives %v", err)
	}
	if _, err := scan(path); err == nil || !strings.Contains(err.Error(), "0 is not a power of two") {
		t.Errorf("the scan gives %v", err)
	}
}
