//go:build !purego

package quant

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"
)

// TestVectorCodeGivesTheSameBytes encodes rows with and without vectors.
func TestVectorCodeGivesTheSameBytes(t *testing.T) {
	needVectors(t)
	defer func() { vectors = true }()
	rng := rand.New(rand.NewPCG(3, 1))
	const columns = 4 * superWeights
	for _, typ := range codebookTypes {
		if !CanEncode(typ) {
			continue
		}
		f, _ := Lookup(typ)
		for _, shape := range []struct {
			name string
			at   func(i int) float64
		}{
			{"Gaussian", func(int) float64 { return rng.NormFloat64() }},
			{"zero", func(int) float64 { return 0 }},
			{"few magnitudes", func(int) float64 { return float64(rng.IntN(9) - 4) }},
			{"subnormal", func(int) float64 { return 1e-42 * rng.NormFloat64() }},
			{"outliers", func(i int) float64 { return rng.NormFloat64() * float64(1+i%97/96*1000) }},
		} {
			row, weights := make([]float32, columns), make([]float32, columns)
			for i := range row {
				row[i] = float32(shape.at(i))
				// The importances of the first block are alike, of the last one most unlike.
				weights[i] = float32(math.Exp(float64(1+2*(i/superWeights))*rng.NormFloat64())) * float32(rng.IntN(8))
			}
			var out [2][]byte
			for i := range out {
				vectors = i == 1
				enc, err := NewEncoder(typ)
				if err != nil {
					t.Fatal(err)
				}
				out[i] = make([]byte, encodedSize(t, f, columns))
				if err := enc.EncodeRow(out[i], row, weights); err != nil {
					t.Fatalf("%v: %s: %v", typ, shape.name, err)
				}
			}
			if !bytes.Equal(out[0], out[1]) {
				t.Errorf("%v: %s: the bytes differ", typ, shape.name)
			}
			var y [2][]float32
			for i := range y {
				vectors = i == 1
				y[i] = make([]float32, columns)
				if err := Decode(typ, y[i], out[0]); err != nil {
					t.Fatal(err)
				}
			}
			for i := range row {
				if math.Float32bits(y[0][i]) != math.Float32bits(y[1][i]) {
					t.Errorf("%v: %s: weight %d decodes to %v and %v", typ, shape.name, i, y[0][i], y[1][i])
					break
				}
			}
		}
	}
}
