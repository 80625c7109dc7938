package measure

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/stats"
	"github.com/ggufplan/ggufplan/stats/read"
)

// rowErrors returns the errors of real rows: two experts of each projection of
// a layer, each alone, both together as a mixed lot, and 768 rows of 2048
// weights that are made of eight of theirs.
func rowErrors(t *testing.T, m *ggufio.Model, columns stats.Columns, data *ggufio.Data, typ quant.Type) (populations [][]RowLoss) {
	t.Helper()
	trip, err := NewRoundTrip(typ)
	if err != nil {
		t.Fatal(err)
	}
	for _, tensor := range m.ExpertTensors(0) {
		width := int(tensor.Shape[0])
		raw, rows := make([]byte, tensor.ExpertBytes()), make([]float32, tensor.ExpertRows()*tensor.Shape[0])
		weights := make([]float64, width)
		var both []RowLoss
		for expert := range 2 {
			if err := data.ReadExpert(tensor, expert, raw); err != nil {
				t.Fatal(err)
			}
			if err := quant.Decode(tensor.Type, rows, raw); err != nil {
				t.Fatal(err)
			}
			if _, err := columns.MeanSquares(tensor.Name, expert, weights); err != nil {
				t.Fatal(err)
			}
			trip.SetWeights(weights)
			var one []RowLoss
			for start := 0; start < len(rows); start += width {
				r, err := trip.Row(rows[start:][:width])
				if err != nil {
					t.Fatal(err)
				}
				one = append(one, r)
			}
			populations = append(populations, one)
			both = append(both, one...)
		}
		populations = append(populations, both, wide(both, 768, 8))
	}
	return populations
}

// wide returns n rows that consist of several random ones.
func wide(rows []RowLoss, n, each int) []RowLoss {
	random := rand.New(rand.NewPCG(3, 4))
	out := make([]RowLoss, n)
	for i := range out {
		for range each {
			r := rows[random.IntN(len(rows))]
			out[i].WeightedError += r.WeightedError
			out[i].WeightedNorm += r.WeightedNorm
		}
	}
	return out
}

// Of the intervals of samples of real rows, grown as a measurement grows them,
// at least 93 % hold the truth, in every type and to every precision.
func TestIntervalsCoverTheTruth(t *testing.T) {
	m := openModel(t)
	evidence, err := read.File(context.Background(), "../../testdata/bytemoe-2x8/mix.imatrix.gguf", read.Options{})
	if err != nil {
		t.Fatal(err)
	}
	data, err := m.OpenData()
	if err != nil {
		t.Fatal(err)
	}
	defer data.Close()
	targets := []float64{0.01, 0.02, DefaultPrecision, QuickPrecision}
	for _, typ := range Candidates() {
		populations := rowErrors(t, m, evidence.Columns, data, typ)
		for _, target := range targets {
			covered, cases, read := 0, 0, uint64(0)
			for n, rows := range populations {
				var all typeSum
				for _, r := range rows {
					all.add(r)
				}
				truth := stats.Relative(all.weighted.Value(), all.norm.Value())
				for seed := range uint64(80) {
					total := uint64(len(rows))
					sampler := newRowSampler(seed, typ.String(), n, total)
					var sum typeSum
					var order []uint64
					for !sum.settled(total, target) {
						order = sampler.draw(order[:0], growth(sampler.drawn, target))
						slices.Sort(order)
						for _, row := range order {
							sum.add(rows[row])
						}
					}
					relative, half := sum.estimate(total)
					cases++
					read += sum.rows
					if relative-half <= truth && truth <= relative+half {
						covered++
					}
				}
			}
			share := float64(covered) / float64(cases)
			t.Logf("%-8v to %.2f: %.1f %% of %d intervals hold the truth, %d rows on average", typ, target, 100*share, cases, read/uint64(cases))
			if share < 0.93 {
				t.Errorf("%v to %v: %.1f %% of %d intervals hold the truth", typ, target, 100*share, cases)
			}
		}
	}
}

// A sample is a permutation as far as it goes, the same however it is drawn,
// and another for another seed, tensor or expert.
func TestRowSampler(t *testing.T) {
	const rows = 1000
	whole := newRowSampler(1, "a", 0, rows).draw(nil, rows+1)
	if len(whole) != rows {
		t.Fatalf("%d of %d rows", len(whole), rows)
	}
	sorted := slices.Clone(whole)
	slices.Sort(sorted)
	for i, row := range sorted {
		if row != uint64(i) {
			t.Fatalf("row %d is missing", i)
		}
	}
	s := newRowSampler(1, "a", 0, rows)
	var parts []uint64
	for n := uint64(1); len(parts) < rows; n++ {
		parts = s.draw(parts, n)
	}
	if !slices.Equal(whole, parts) {
		t.Error("drawn in steps the order is another")
	}
	for _, other := range []*rowSampler{newRowSampler(2, "a", 0, rows), newRowSampler(1, "b", 0, rows), newRowSampler(1, "a", 1, rows)} {
		if slices.Equal(whole[:10], other.draw(nil, 10)) {
			t.Error("another seed, tensor or expert has the same order")
		}
	}
	// The first of 4 rows is each about as often as the others.
	var counts [4]int
	for seed := range uint64(4000) {
		counts[newRowSampler(seed, "a", 0, 4).draw(nil, 1)[0]]++
	}
	for row, n := range counts {
		if n < 900 || n > 1100 {
			t.Errorf("row %d comes first in %d of 4000 samples", row, n)
		}
	}
}

// Rows whose weights do not count leave the error open until all are read.
func TestEstimateOfSparseRows(t *testing.T) {
	var s typeSum
	for range 32 {
		s.add(RowLoss{})
	}
	if _, half := s.estimate(64); !math.IsInf(half, 1) {
		t.Errorf("after 32 empty rows of 64 the half width is %v", half)
	}
	for range 32 {
		s.add(RowLoss{WeightedError: 1, WeightedNorm: 4})
	}
	if r, half := s.estimate(64); r != 0.25 || half != 0 {
		t.Errorf("of all rows: %v within %v", r, half)
	}
}
