//go:build unix

package measure

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/stats"
)

// Routed experts of Qwen3-30B-A3B: 48 layers of 128.
const (
	qwenLayers, qwenExperts = 48, 128
	qwenEmbd, qwenFF        = 2048, 768
)

// qwenLayer writes a model of one such layer in BF16. Weights are normal, of a
// scale that varies between rows and columns by a third, as trained weights'.
func qwenLayer(tb testing.TB, dir string, experts int) *ggufio.Model {
	tb.Helper()
	b := gguftest.MoE{Layers: 1, Experts: experts, Used: 8, Embd: qwenEmbd, FF: qwenFF, Vocab: 256, Sparse: true, Type: quant.BF16}.Builder()
	random := rand.New(rand.NewPCG(1, 2))
	// A pool of bits, for speed: any weight is one of these times two scales.
	var pool [1 << 16]float32
	for i := range pool {
		pool[i] = float32(random.NormFloat64() * 0.02)
	}
	for _, projection := range []string{"gate", "up", "down"} {
		t := b.Tensor(fmt.Sprintf("blk.0.ffn_%s_exps.weight", projection))
		columns, rows := int(t.Shape[0]), int(t.Shape[1]*t.Shape[2])
		scale := make([]float32, columns)
		for i := range scale {
			scale[i] = float32(math.Exp(0.3 * random.NormFloat64()))
		}
		t.Data = make([]byte, 2*rows*columns)
		for row := range rows {
			level := float32(math.Exp(0.3 * random.NormFloat64()))
			at := t.Data[2*row*columns:][:2*columns]
			for i := range scale {
				bits := random.Uint64()
				v := pool[bits&(1<<16-1)] * scale[i] * level
				binary.LittleEndian.PutUint16(at[2*i:], uint16(math.Float32bits(v)>>16))
			}
		}
	}
	path := filepath.Join(dir, "layer.gguf")
	if err := b.WriteFile(path); err != nil {
		tb.Fatal(err)
	}
	m, err := ggufio.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

// BenchmarkMeasureQwenLayer samples one layer of Qwen3-30B-A3B's shapes in the
// K and IQ types, and in all that can be encoded. What it says of the model is
// an extrapolation: 48 layers of made-up weights that are like the real ones in
// shape and spread alone, read from memory. minutes/48-layers is by the clock,
// and cpu-minutes/48-layers what all cores together worked: on an idle machine,
// the first is the second over the number of cores. each-2% is what version
// 0.1.0 measured to.
func BenchmarkMeasureQwenLayer(b *testing.B) {
	dir, err := os.MkdirTemp("", "layer")
	if err != nil {
		b.Fatal(err)
	}
	defer os.RemoveAll(dir)
	m := qwenLayer(b, dir, qwenExperts)
	e := waveEvidence(m)
	kAndIQ := []quant.Type{quant.IQ1_S, quant.IQ1_M, quant.IQ2_XXS, quant.IQ2_XS, quant.IQ2_S, quant.Q2_K, quant.IQ3_XXS, quant.IQ3_S,
		quant.Q3_K, quant.IQ4_XS, quant.IQ4_NL, quant.Q4_K, quant.Q5_K, quant.Q6_K, quant.Q8_0}
	for _, bench := range []struct {
		name      string
		types     []quant.Type
		precision float64
	}{
		{"k+iq/each-2%", kAndIQ, 0.02},
		{"k+iq", kAndIQ, DefaultPrecision},
		{"k+iq/quick", kAndIQ, QuickPrecision},
		{"all", nil, DefaultPrecision},
	} {
		b.Run(bench.name, func(b *testing.B) {
			measureLayer(b, m, e, Options{Types: bench.types, Precision: bench.precision, Seed: 1})
		})
	}
}

func measureLayer(b *testing.B, m *ggufio.Model, e *stats.Evidence, o Options) {
	var got *Result
	var err error
	before := cpuSeconds(b)
	for b.Loop() {
		if got, err = Run(context.Background(), m, e, o); err != nil {
			b.Fatal(err)
		}
	}
	seconds := b.Elapsed().Seconds() / float64(b.N)
	cpu := (cpuSeconds(b) - before) / float64(b.N)
	weights, encoded := 0.0, 0.0
	for i := range got.Tensors {
		t := &got.Tensors[i]
		if !ggufio.Role(t.Role).IsExpert() {
			continue
		}
		for _, x := range t.Experts {
			weights += float64(x.RowsTotal * t.Shape[0])
			encoded += float64(x.Rows*t.Shape[0]) * float64(len(t.Types))
		}
	}
	b.ReportMetric(weights/seconds, "weights/s")
	b.ReportMetric(100*encoded/weights/float64(len(got.Types)), "%sampled")
	b.ReportMetric(qwenLayers*seconds/60, "minutes/48-layers")
	b.ReportMetric(qwenLayers*cpu/60, "cpu-minutes/48-layers")
	b.ReportMetric(0, "ns/op")
}

// cpuSeconds is what the process has worked so far, on all cores.
func cpuSeconds(tb testing.TB) float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}
