package stats

import (
	"context"
	"math"
	"slices"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio/gguftest/llamacpp"
	"github.com/ggufplan/ggufplan/ggufio/quant"
)

// Measured errors are those that the real library's encoders and decoders
// make, computed here weight by weight, within what an encoder may differ.
func TestMeasureFullAgainstTheLibrary(t *testing.T) {
	lib := llamacpp.Load(t)
	m := openModel(t)
	evidence, err := Read(context.Background(), "../testdata/bytemoe-2x8/mix.imatrix.gguf", ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	data, err := m.OpenData()
	if err != nil {
		t.Fatal(err)
	}
	defer data.Close()
	const rows = 32 // of one expert of each projection

	// Where ours and the library's encoders seek the same thing, they also
	// find about the same; elsewhere ours may lose less.
	same := []quant.Type{quant.Q2_K, quant.Q3_K, quant.Q4_K, quant.Q5_K, quant.Q6_K, quant.Q8_0, quant.Q4_0, quant.Q4_1, quant.Q5_0, quant.Q5_1}
	for _, typ := range Candidates() {
		trip, err := NewRoundTrip(typ)
		if err != nil {
			t.Fatal(err)
		}
		sum, n := 0.0, 0
		for _, tensor := range m.ExpertTensors(1) {
			columns := int(tensor.Shape[0])
			{
				const expert = 6
				raw, weights := make([]byte, rows*tensor.RowBytes()), make([]float64, columns)
				if err := data.ReadRows(tensor, expert, 0, rows, raw); err != nil {
					t.Fatal(err)
				}
				source, back := make([]float32, rows*columns), make([]float32, rows*columns)
				if err := quant.Decode(tensor.Type, source, raw); err != nil {
					t.Fatal(err)
				}
				if _, err := evidence.Columns.MeanSquares(tensor.Name, expert, weights); err != nil {
					t.Fatal(err)
				}
				given := make([]float32, columns)
				for i, w := range weights {
					given[i] = float32(w)
				}
				lib.Decode(uint32(typ), lib.Encode(uint32(typ), source, columns, given), back)
				var lost, norm float64
				for i, v := range source {
					d := float64(v) - float64(back[i])
					lost += weights[i%columns] * d * d
					norm += weights[i%columns] * float64(v) * float64(v)
				}
				var ours typeSum
				trip.SetWeights(weights)
				for start := 0; start < len(source); start += columns {
					e, err := trip.Row(source[start:][:columns])
					if err != nil {
						t.Fatal(err)
					}
					ours.add(e)
				}
				got, _ := ours.estimate(rows)
				if math.Abs(ours.norm.Value()-norm) > 1e-9*norm {
					t.Fatalf("%v: %s expert %d: weighted norm %v, want %v", typ, tensor.Name, expert, ours.norm.Value(), norm)
				}
				want := lost / norm
				low := 0.2
				if slices.Contains(same, typ) {
					low = 0.85
				}
				if r := got / want; r < low || r > 1.05 {
					t.Errorf("%v: %s expert %d: relative error %v, the library's %v", typ, tensor.Name, expert, got, want)
				}
				sum += got / want
				n++
			}
		}
		t.Logf("%-8v %.3f of the library's error", typ, sum/float64(n))
		if sum > 1.02*float64(n) {
			t.Errorf("%v: %.3f of the library's error on average", typ, sum/float64(n))
		}
	}
}
