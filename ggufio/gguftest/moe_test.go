package gguftest_test

import (
	"crypto/sha256"
	"encoding/hex"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/gguftest/llamacpp"
	"github.com/ggufplan/ggufplan/ggufio/quant"
)

// The built model is the same bytes on every machine: golden files elsewhere
// rest on it.
func TestSameBytes(t *testing.T) {
	o := gguftest.MoE{Type: quant.F16, Embd: 64, FF: 32}
	sum := sha256.Sum256(o.Builder().Bytes())
	if got, want := hex.EncodeToString(sum[:8]), "98a7e37fb2405721"; got != want {
		t.Errorf("the model's bytes changed: digest %s, was %s", got, want)
	}
	sum = sha256.Sum256(o.Imatrix(func(int) []float32 { return []float32{100, 75, 25, 0} }).Bytes())
	if got, want := hex.EncodeToString(sum[:8]), "88501d1696758796"; got != want {
		t.Errorf("the imatrix's bytes changed: digest %s, was %s", got, want)
	}
}

// Bytes and WriteFile make one and the same file.
func TestWriteFile(t *testing.T) {
	b := gguftest.MoE{Embd: 64, FF: 32}.Builder()
	b.Tensor("blk.0.attn_q.weight").Data = nil
	path := filepath.Join(t.TempDir(), "m.gguf")
	if err := b.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	m, err := ggufio.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(b.Bytes()); m.FileBytes() != uint64(n) {
		t.Errorf("the file has %d bytes, Bytes gives %d", m.FileBytes(), n)
	}
	d, err := m.OpenData()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	whole := b.Bytes()
	for i := range m.Tensors {
		x := &m.Tensors[i]
		got := make([]byte, x.SizeBytes)
		if err := d.ReadRange(x, 0, got); err != nil {
			t.Fatal(err)
		}
		if string(got) != string(whole[x.OffsetBytes:x.OffsetBytes+x.SizeBytes]) {
			t.Errorf("%s differs", x.Name)
		}
	}
}

func TestNoise(t *testing.T) {
	row := make([]float32, 100_000)
	noise := gguftest.Noise{State: 1}
	noise.Fill(row, 2)
	sum, squares := 0.0, 0.0
	for _, x := range row {
		sum += float64(x)
		squares += float64(x) * float64(x)
	}
	n := float64(len(row))
	// The mean of 100 000 numbers has a deviation of 2/316.
	if mean, deviation := sum/n, math.Sqrt(squares/n); math.Abs(mean) > 0.03 || math.Abs(deviation-2) > 0.03 {
		t.Errorf("mean %g, deviation %g; want 0 and 2", mean, deviation)
	}
}

// The real llama.cpp loads the model, whole or in shards, and runs it.
func TestLlamaRunsIt(t *testing.T) {
	lib := llamacpp.Load(t)
	paths, err := gguftest.MoE{Type: quant.F16, Experts: 8}.Builder().WriteShards(t.TempDir(), "m", 3)
	if err != nil {
		t.Fatal(err)
	}
	whole := filepath.Join(t.TempDir(), "m.gguf")
	if err := (gguftest.MoE{Type: quant.F16, Experts: 8}).Builder().WriteFile(whole); err != nil {
		t.Fatal(err)
	}
	var first []float32
	for _, path := range []string{whole, paths[0]} {
		m, err := lib.LoadModel(path, 16)
		if err != nil {
			t.Fatal(err)
		}
		logits, err := m.Logits([]int32{1, 2, 3})
		m.Close()
		if err != nil {
			t.Fatal(err)
		}
		if len(logits) != 3 || len(logits[2]) != 64 {
			t.Fatalf("%d rows of %d logits", len(logits), len(logits[0]))
		}
		for _, x := range logits[2] {
			if math.IsNaN(float64(x)) || math.IsInf(float64(x), 0) {
				t.Fatalf("a logit is %v", x)
			}
		}
		if first == nil {
			first = logits[2]
		} else if !slices.Equal(first, logits[2]) {
			t.Error("the shards are another model than the whole file")
		}
	}
}
