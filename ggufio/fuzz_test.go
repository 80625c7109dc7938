package ggufio_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/quant"
)

// FuzzOpen: whatever the bytes, Open gives a model whose tensors lie in the
// file and can be read, or a FormatError.
func FuzzOpen(f *testing.F) {
	f.Add(model().Bytes())
	f.Add(gguftest.MoE{Layers: 1, Experts: 2, Embd: 4, FF: 4, Vocab: 2, Shared: 1, Type: quant.F16}.Builder().Bytes())
	f.Add(gguftest.MoE{Layers: 1, Experts: 2, Embd: 4, FF: 4, Vocab: 2, MTP: 1, Separate: true, Sparse: true}.Builder().Bytes())
	f.Add(gguftest.MoE{Layers: 1, Embd: 4, FF: 4}.Imatrix(func(int) []float32 { return []float32{3, 2, 1, 0} }).Bytes())
	b := model().Set("a", []string{"x", ""}).Set("general.alignment", uint32(64)).Set("split.tensors.count", int32(2))
	b.Alignment = 64
	f.Add(b.Bytes())
	f.Add(model().Set("qwen3moe.expert_used_count", []int32{1}).Set("n", gguftest.Raw("\x09\x00\x00\x00\x09\x00\x00\x00")).Bytes())
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(dir, "m.gguf")
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		for _, open := range []func(string) (*ggufio.Model, error){ggufio.Open, ggufio.OpenAny} {
			m, err := open(path)
			if err != nil {
				var format *ggufio.FormatError
				if !errors.As(err, &format) {
					t.Fatalf("%v is not a FormatError", err)
				}
				continue
			}
			readAll(t, m, uint64(len(data)))
		}
	})
}

// readAll reads every tensor of a model and calls what a planner would.
func readAll(t *testing.T, m *ggufio.Model, size uint64) {
	d, err := m.OpenData()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for i := range m.Tensors {
		x := &m.Tensors[i]
		if x.OffsetBytes < m.Files[0].DataOffsetBytes || x.OffsetBytes+x.SizeBytes > size {
			t.Fatalf("tensor %s lies at %d with %d bytes, outside the file", x.Name, x.OffsetBytes, x.SizeBytes)
		}
		if x.RowBytes()*x.Rows() != x.SizeBytes {
			t.Fatalf("tensor %s: %d rows of %d bytes are not %d", x.Name, x.Rows(), x.RowBytes(), x.SizeBytes)
		}
		if err := d.ReadRange(x, 0, make([]byte, x.SizeBytes)); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range m.Metadata.Pairs {
		if p.OffsetBytes+p.SizeBytes > m.Files[0].DataOffsetBytes {
			t.Fatalf("pair %q ends behind the header", p.Key)
		}
		m.Metadata.Uint64(p.Key)
		m.Metadata.Strings(p.Key)
	}
	for _, layer := range m.MoELayers() {
		if m.Architecture.Name != "" && (layer >= m.Architecture.BlockCount || m.ExpertCount(layer) < 1) {
			t.Fatalf("layer %d of %d with %d experts", layer, m.Architecture.BlockCount, m.ExpertCount(layer))
		}
	}
}

// BenchmarkOpen opens the header of DeepSeek-V3: 1086 tensors in 1.3 TB.
func BenchmarkOpen(b *testing.B) {
	path, err := gguftest.ExtendHeader(b.TempDir(), "../testdata/llama-quantize/deepseek-v3-bf16.gguf")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ggufio.Open(path); err != nil {
			b.Fatal(err)
		}
	}
}
