package quant_test

import (
	"testing"
	"time"

	"github.com/ggufplan/ggufplan/ggufio/gguftest/llamacpp"
	"github.com/ggufplan/ggufplan/ggufio/quant"
)

// benchRows returns real rows of one expert and their column weights.
func benchRows(b *testing.B) sample {
	b.Helper()
	samples, err := realSamples()
	if err != nil {
		b.Fatal(err)
	}
	return samples[0]
}

// A pairedRun takes turns between a function and the library's, so that
// whatever else the machine does slows both, and keeps the fastest of each.
type pairedRun struct{ ours, theirs time.Duration }

func (p *pairedRun) turn(ours, theirs func()) {
	start := time.Now()
	theirs()
	middle := time.Now()
	ours()
	end := time.Now()
	if d := middle.Sub(start); p.theirs == 0 || d < p.theirs {
		p.theirs = d
	}
	if d := end.Sub(middle); p.ours == 0 || d < p.ours {
		p.ours = d
	}
}

// speed is how many times as fast as the library the function is.
func (p *pairedRun) speed() float64 { return float64(p.theirs) / float64(p.ours) }

// report gives the rates of the fastest turns in weights and encoded bytes a
// second, and the speed as a multiple of the library's.
func (p *pairedRun) report(b *testing.B, weights, size int) {
	b.ReportMetric(float64(weights)/p.ours.Seconds(), "weights/s")
	b.ReportMetric(float64(size)/p.ours.Seconds(), "B/s")
	b.ReportMetric(float64(weights)/p.theirs.Seconds(), "library-weights/s")
	b.ReportMetric(p.speed(), "x-library")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkDecode decodes every type, in turns with GGML's conversion.
func BenchmarkDecode(b *testing.B) {
	lib := llamacpp.Load(b)
	s := benchRows(b)
	n := len(s.rows)
	for _, f := range decodable() {
		src := decodeBlocks(f)
		size := n / int(f.Layout.WeightsPerBlock) * int(f.Layout.BytesPerBlock)
		for len(src) < size {
			src = append(src, src...)
		}
		src = src[:size]
		if f.Quantized {
			src = lib.Encode(uint32(f.Type), s.rows, s.columns, s.weights)
		}
		dst := make([]float32, n)
		b.Run(f.Name, func(b *testing.B) {
			var p pairedRun
			for b.Loop() {
				p.turn(func() {
					if err := quant.Decode(f.Type, dst, src); err != nil {
						b.Fatal(err)
					}
				}, func() { lib.Decode(uint32(f.Type), src, dst) })
			}
			p.report(b, n, size)
		})
	}
}

// BenchmarkEncode encodes rows of a real expert to every type, with and
// without importance, in turns with ggml_quantize_chunk.
func BenchmarkEncode(b *testing.B) {
	lib := llamacpp.Load(b)
	s := benchRows(b)
	for _, f := range encodable() {
		for _, weigh := range []struct {
			name    string
			weights []float32
		}{{"weighted", s.weights}, {"plain", nil}} {
			if weigh.weights == nil && quant.EncodeNeedsWeights(f.Type) {
				continue
			}
			b.Run(f.Name+"/"+weigh.name, func(b *testing.B) {
				enc, err := quant.NewEncoder(f.Type)
				if err != nil {
					b.Fatal(err)
				}
				dst := make([]byte, lib.RowBytes(uint32(f.Type), s.columns))
				rows := s.rows[:8*s.columns]
				lib.Encode(uint32(f.Type), rows, s.columns, weigh.weights) // makes its tables
				var p pairedRun
				for b.Loop() {
					p.turn(func() {
						for at := 0; at < len(rows); at += s.columns {
							if err := enc.EncodeRow(dst, rows[at:at+s.columns], weigh.weights); err != nil {
								b.Fatal(err)
							}
						}
					}, func() { lib.Encode(uint32(f.Type), rows, s.columns, weigh.weights) })
				}
				p.report(b, len(rows), 8*len(dst))
			})
		}
	}
}
