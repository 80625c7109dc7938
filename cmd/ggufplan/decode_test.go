package main

import (
	"testing"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/quant"
)

// decodeToF16 writes a copy of a model in which every quantized tensor is F16,
// by our decoders.
func decodeToF16(t *testing.T, from, to string) {
	t.Helper()
	m, err := ggufio.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	data, err := m.OpenData()
	if err != nil {
		t.Fatal(err)
	}
	defer data.Close()
	b := &gguftest.Builder{}
	for _, p := range m.Metadata.Pairs {
		pair := make([]byte, p.SizeBytes)
		if err := data.ReadFile(p.File, p.OffsetBytes, pair); err != nil {
			t.Fatal(err)
		}
		b.Set(p.Key, gguftest.Raw(pair[8+len(p.Key):]))
	}
	for i := range m.Tensors {
		tensor := &m.Tensors[i]
		raw := make([]byte, tensor.SizeBytes)
		if err := data.ReadRange(tensor, 0, raw); err != nil {
			t.Fatal(err)
		}
		if f, _ := quant.Lookup(tensor.Type); !f.Quantized {
			b.Add(tensor.Name, tensor.Type, tensor.Shape, raw)
			continue
		}
		weights := make([]float32, tensor.Parameters)
		if err := quant.Decode(tensor.Type, weights, raw); err != nil {
			t.Fatal(err)
		}
		enc, err := quant.NewEncoder(quant.F16)
		if err != nil {
			t.Fatal(err)
		}
		half := make([]byte, 2*len(weights))
		if err := enc.EncodeRow(half, weights, nil); err != nil {
			t.Fatal(err)
		}
		b.Add(tensor.Name, quant.F16, tensor.Shape, half)
	}
	if err := b.WriteFile(to); err != nil {
		t.Fatal(err)
	}
}
