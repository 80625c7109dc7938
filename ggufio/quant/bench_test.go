package quant_test

import (
	"testing"

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

// reportRate gives a benchmark in weights and in encoded bytes a second.
func reportRate(b *testing.B, weights, size int) {
	seconds := b.Elapsed().Seconds()
	b.ReportMetric(float64(weights)*float64(b.N)/seconds, "weights/s")
	b.ReportMetric(float64(size)*float64(b.N)/seconds, "B/s")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkDecode decodes every type, with GGML's conversion beside it where
// the library is there.
func BenchmarkDecode(b *testing.B) {
	s := benchRows(b)
	for _, f := range decodable() {
		src := decodeBlocks(f)
		n := len(s.rows)
		size := n / int(f.Layout.WeightsPerBlock) * int(f.Layout.BytesPerBlock)
		for len(src) < size {
			src = append(src, src...)
		}
		src = src[:size]
		dst := make([]float32, n)
		b.Run(f.Name+"/ours", func(b *testing.B) {
			for b.Loop() {
				if err := quant.Decode(f.Type, dst, src); err != nil {
					b.Fatal(err)
				}
			}
			reportRate(b, n, size)
		})
		b.Run(f.Name+"/library", func(b *testing.B) {
			lib := llamacpp.Load(b)
			for b.Loop() {
				lib.Decode(uint32(f.Type), src, dst)
			}
			reportRate(b, n, size)
		})
	}
}

// BenchmarkEncode encodes rows of a real expert to every type, with and
// without importance, with ggml_quantize_chunk beside it.
func BenchmarkEncode(b *testing.B) {
	s := benchRows(b)
	for _, f := range encodable() {
		for _, weigh := range []struct {
			name    string
			weights []float32
		}{{"weighted", s.weights}, {"plain", nil}} {
			if weigh.weights == nil && quant.EncodeNeedsWeights(f.Type) {
				continue
			}
			size := s.columns / int(f.Layout.WeightsPerBlock) * int(f.Layout.BytesPerBlock)
			dst := make([]byte, size)
			total := size * (len(s.rows) / s.columns)
			b.Run(f.Name+"/"+weigh.name+"/ours", func(b *testing.B) {
				enc, err := quant.NewEncoder(f.Type)
				if err != nil {
					b.Fatal(err)
				}
				for b.Loop() {
					for at := 0; at < len(s.rows); at += s.columns {
						if err := enc.EncodeRow(dst, s.rows[at:at+s.columns], weigh.weights); err != nil {
							b.Fatal(err)
						}
					}
				}
				reportRate(b, len(s.rows), total)
			})
			b.Run(f.Name+"/"+weigh.name+"/library", func(b *testing.B) {
				lib := llamacpp.Load(b)
				for b.Loop() {
					lib.Encode(uint32(f.Type), s.rows, s.columns, weigh.weights)
				}
				reportRate(b, len(s.rows), total)
			})
		}
	}
}
