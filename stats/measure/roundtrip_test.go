package measure

import (
	"math"
	"slices"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/stats"
)

func TestSumIsCompensated(t *testing.T) {
	var s stats.Sum
	for _, v := range []float64{1, 1e100, 1, -1e100} {
		s.Add(v)
	}
	if got := s.Value(); got != 2 {
		t.Errorf("1 + 1e100 + 1 - 1e100 = %v, want 2", got)
	}
}

func TestRoundTripAgainstTheDefinition(t *testing.T) {
	row := make([]float32, 96)
	weights := make([]float64, len(row))
	for i := range row {
		row[i] = float32(math.Sin(float64(3*i)) * float64(i))
		weights[i] = float64(i % 7)
	}
	rt, err := NewRoundTrip(quant.Q8_0)
	if err != nil {
		t.Fatal(err)
	}
	rt.SetWeights(weights)
	got, err := rt.Row(row)
	if err != nil {
		t.Fatal(err)
	}
	var want RowLoss
	for i, w := range row {
		d := float64(w) - float64(rt.Decoded()[i])
		want.WeightedError += weights[i] * d * d
		want.WeightedNorm += weights[i] * float64(w) * float64(w)
		want.PlainError += d * d
		want.PlainNorm += float64(w) * float64(w)
	}
	for _, c := range []struct {
		name      string
		got, want float64
	}{
		{"weighted error", got.WeightedError, want.WeightedError},
		{"weighted norm", got.WeightedNorm, want.WeightedNorm},
		{"plain error", got.PlainError, want.PlainError},
		{"plain norm", got.PlainNorm, want.PlainNorm},
	} {
		if math.Abs(c.got-c.want) > 1e-12*c.want || c.want == 0 {
			t.Errorf("%s is %v, by definition %v", c.name, c.got, c.want)
		}
	}
	// The row grows to the right, so its last block has the largest error.
	if got.WorstBlock != 2 || got.WorstError <= 0 || got.WorstError > got.WeightedError {
		t.Errorf("worst block %d with %v of %v", got.WorstBlock, got.WorstError, got.WeightedError)
	}

	rt.SetWeights(nil)
	plain, err := rt.Row(row)
	if err != nil {
		t.Fatal(err)
	}
	if plain.WeightedError != plain.PlainError || plain.WeightedNorm != plain.PlainNorm {
		t.Errorf("without weights the weighted sums are not the plain ones: %+v", plain)
	}
}

func TestRoundTripAllocatesNothingPerRow(t *testing.T) {
	row := make([]float32, 512)
	for i := range row {
		row[i] = float32(i%17) - 8
	}
	weights := make([]float64, len(row))
	for i := range weights {
		weights[i] = 1
	}
	for _, f := range quant.Formats() {
		if !quant.CanEncode(f.Type) {
			continue
		}
		rt, err := NewRoundTrip(f.Type)
		if err != nil {
			t.Fatal(err)
		}
		rt.SetWeights(weights)
		if _, err := rt.Row(row); err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
		if n := testing.AllocsPerRun(5, func() {
			if _, err := rt.Row(row); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations per row", f.Name, n)
		}
	}
}

// TestRoundTripOfWeightsOutOfRange wants weights that float32 cannot hold to
// encode as others of the same ratios do.
func TestRoundTripOfWeightsOutOfRange(t *testing.T) {
	row, weights, scaled := make([]float32, 256), make([]float64, 256), make([]float64, 256)
	for i := range row {
		row[i] = float32(math.Sin(float64(3 * i)))
		weights[i] = math.Exp(math.Sin(float64(5*i))) * float64(i%8)
	}
	decode := func(weights []float64) []float32 {
		t.Helper()
		rt, err := NewRoundTrip(quant.IQ2_XS)
		if err != nil {
			t.Fatal(err)
		}
		rt.SetWeights(weights)
		if _, err := rt.Row(row); err != nil {
			t.Fatal(err)
		}
		for i, w := range weights {
			if g := rt.given[i]; w > 0 != (g > 0) || g > math.MaxFloat32 {
				t.Fatalf("the encoder is given %g for %g", g, w)
			}
		}
		return append([]float32(nil), rt.Decoded()...)
	}
	want := decode(weights)
	for _, exponent := range []int{130, 900, -150, -900} {
		for i, w := range weights {
			scaled[i] = math.Ldexp(w, exponent)
		}
		if got := decode(scaled); !slices.Equal(got, want) {
			t.Errorf("weights times 2^%d encode otherwise", exponent)
		}
	}
	// Ratios that float32 lacks, too.
	scaled[0], scaled[1], scaled[2] = 1e300, 1e-300, 0
	decode(scaled)
}
