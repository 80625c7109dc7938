package measure

import (
	"context"
	"math"
	"slices"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/gguftest/llamacpp"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/stats"
	"github.com/ggufplan/ggufplan/stats/read"
)

// Full measurement agrees with what the real library's encoders and decoders
// lose, computed here weight by weight, within what encoders may differ.
func TestMeasureFullAgainstTheLibrary(t *testing.T) {
	lib := llamacpp.Load(t)
	m := openModel(t)
	evidence, err := read.File(context.Background(), "../../testdata/bytemoe-2x8/mix.imatrix.gguf", read.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if evidence, err = evidence.Fit(m, stats.FitOptions{}); err != nil {
		t.Fatal(err)
	}
	// The library takes long to prepare for the larger codebooks; package
	// quant's own tests compare those.
	slow := []quant.Type{quant.IQ1_S, quant.IQ1_M, quant.IQ2_XS, quant.IQ2_S}
	types := slices.DeleteFunc(Candidates(), func(t quant.Type) bool { return slices.Contains(slow, t) })
	// Where ours and the library's encoders seek the same thing, they also
	// find about the same; elsewhere ours may lose less.
	same := []string{"Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1",
		"IQ2_XXS", "IQ3_XXS", "IQ3_S", "TQ1_0", "TQ2_0", "MXFP4", "NVFP4", "Q1_0", "Q2_0"}
	sum, n := map[string]float64{}, 0
	for _, part := range []int{4, 21, 47} { // of 48 experts, each of another projection
		got, err := Run(context.Background(), m, evidence, Options{Types: types, Full: true, Part: &Part{part, 48}})
		if err != nil {
			t.Fatal(err)
		}
		for i := range got.Tensors {
			entry := &got.Tensors[i]
			tensor, _ := m.TensorByName(entry.Name)
			for _, x := range entry.Experts {
				losses, norm := libraryErrors(t, lib, m, evidence, tensor, x.Expert, entry.Types)
				if math.Abs(x.WeightedNorm-norm) > 1e-9*norm {
					t.Fatalf("%s expert %d: weighted norm %v, want %v", entry.Name, x.Expert, x.WeightedNorm, norm)
				}
				n++
				for k, name := range entry.Types {
					ours, want := x.Types[k].Relative, losses[k]/norm
					low := 0.75
					if slices.Contains(same, name) {
						low = 0.85
					}
					if r := ours / want; r < low || r > 1.05 {
						t.Errorf("%s expert %d %s: relative error %v, the library's %v", entry.Name, x.Expert, name, ours, want)
					}
					sum[name] += ours / want
				}
			}
		}
	}
	if n != 3 {
		t.Errorf("%d experts were compared", n)
	}
	for _, typ := range types {
		share := sum[typ.String()] / float64(n)
		t.Logf("%-8v %.3f of the library's error", typ, share)
		if share > 1.02 {
			t.Errorf("%v: %.3f of the library's error on average", typ, share)
		}
	}
}

// libraryErrors returns the weighted squared errors of an expert in each type,
// as the library encodes it, and its weighted norm.
func libraryErrors(t *testing.T, lib *llamacpp.Library, m *ggufio.Model, evidence *stats.Evidence, tensor *ggufio.Tensor, expert int, types []string) (losses []float64, norm float64) {
	t.Helper()
	data, err := m.OpenData()
	if err != nil {
		t.Fatal(err)
	}
	defer data.Close()
	raw, weights := make([]byte, tensor.ExpertBytes()), make([]float64, tensor.Shape[0])
	if err := data.ReadExpert(tensor, expert, raw); err != nil {
		t.Fatal(err)
	}
	source := make([]float32, tensor.ExpertRows()*tensor.Shape[0])
	if err := quant.Decode(tensor.Type, source, raw); err != nil {
		t.Fatal(err)
	}
	if _, err := evidence.Columns.MeanSquares(tensor.Name, expert, weights); err != nil {
		t.Fatal(err)
	}
	given := make([]float32, len(weights))
	for i, w := range weights {
		given[i] = float32(w)
	}
	for i, v := range source {
		norm += weights[i%len(weights)] * float64(v) * float64(v)
	}
	back := make([]float32, len(source))
	for _, name := range types {
		f, _ := quant.ByName(name)
		lib.Decode(uint32(f.Type), lib.Encode(uint32(f.Type), source, len(weights), given), back)
		loss := 0.0
		for i, v := range source {
			d := float64(v) - float64(back[i])
			loss += weights[i%len(weights)] * d * d
		}
		losses = append(losses, loss)
	}
	return losses, norm
}
