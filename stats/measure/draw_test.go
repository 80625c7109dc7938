package measure

import (
	"math"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/stats"
)

// The variance of a sample of four rows out of five known ones of ten, and with
// it the half width, are those of the formula, worked out by hand.
func TestVarianceOfTwoPhases(t *testing.T) {
	k := knownRows{total: 10, rows: make([]knownRow, 5), drawn: 4}
	k.rows[4].priority = 2 // rows of class 0 stand for two, those of class 1 for themselves
	k.norms = []stats.Sum{{}, {}}
	k.norms[0].Add(15) // N_c: the fifth row has the norm 9
	k.norms[1].Add(10)
	var s typeSum
	for _, r := range []struct {
		class       uint8
		error, norm float64
	}{{0, 1, 2}, {0, 3, 4}, {1, 2, 5}, {1, 4, 5}} {
		s.add(r.class, RowLoss{WeightedError: r.error, WeightedNorm: r.norm})
	}
	s.look(&k, 0.05)
	// r_c = 2 (1 + 3) / (2 (2 + 4)) = 2/3, r = (2 + 4 + 15 r_c) / 25.
	if math.Abs(s.relative-0.64) > 1e-12 {
		t.Errorf("the error is %v, want 0.64", s.relative)
	}
	const (
		scale  = 15.0 / 12
		second = 2 * scale * scale * (2*1*(1.0/9) + 2*1*(1.0/9))
		first  = (1 - 5.0/10) * 5 / 4 * (2*scale*(0.28*0.28+0.44*0.44) + 1.2*1.2 + 0.8*0.8)
	)
	if got := s.variance(&k, 2.0/3, scale, 2); math.Abs(got-(first+second)) > 1e-12 {
		t.Errorf("the variance is %v, want %v + %v", got, first, second)
	}
	if want := sampleWidenEarly * 12.706 * math.Sqrt(first+second) / 25; math.Abs(s.half-want) > 1e-12 {
		t.Errorf("the half width is %v, want %v", s.half, want)
	}
}

// Further rows are read before all that are known are in the sample, and a sample
// that is never enough ends with all rows.
func TestSampleReadsAheadAndEnds(t *testing.T) {
	const rows = 300
	for seed := range uint64(10) {
		var known knownRows
		var norms rowNorms
		learn := func(order []uint64) error {
			for _, row := range order {
				sums := quant.RowSums{Plain: 1, Weighted: 1, Fourth: 1}
				norms.add(sums, 1)
				known.add(row, sums)
			}
			return nil
		}
		looks := 0
		encode := func([]uint64, []uint8) (bool, error) {
			if looks++; looks > rows {
				t.Fatalf("%d looks at %d rows", looks, known.drawn)
			}
			if known.drawn == len(known.rows) && known.drawn < rows {
				t.Fatalf("all of the %d known rows are in the sample", known.drawn)
			}
			return false, nil
		}
		if err := known.sample(newRowSampler(seed, "", 0, rows), &norms, 32, DefaultPrecision, learn, encode); err != nil {
			t.Fatal(err)
		}
		if known.drawn != rows || norms.rows != rows {
			t.Errorf("%d rows are in the sample and the norms of %d are known", known.drawn, norms.rows)
		}
	}
}

// simple returns an expert of so many rows, whose errors are about a hundredth of
// their norms.
func simple(rows int) *population {
	random := rand.New(rand.NewPCG(9, 5))
	p := &population{losses: make([]RowLoss, rows), norms: make([]quant.RowSums, rows)}
	for i := range p.norms {
		n := math.Exp(random.NormFloat64())
		p.norms[i] = quant.RowSums{Plain: n, Weighted: n, Fourth: n * n}
		e := 0.01 * n * math.Exp(0.1*random.NormFloat64())
		p.losses[i] = RowLoss{WeightedError: e, WeightedNorm: n, PlainError: e, PlainNorm: n}
	}
	return p
}

// The memory of a worker for an expert's rows is 40 bytes for each, and bounded
// for more rows than are kept.
func TestMemoryOfKnownRows(t *testing.T) {
	m := &measurement{options: Options{Precision: DefaultPrecision}}
	for _, tt := range []struct{ rows, known, bytesPerRow int }{
		{130_000, 130_000, 40},
		{2 * maxNormRows, maxNormRows, 120}, // with the places of an even draw
	} {
		p := simple(tt.rows)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		first := m.normRows(0.01, uint64(tt.rows))
		s, known := p.sample(t, 1, first, 0.01)
		runtime.ReadMemStats(&after)
		bytes := int(after.TotalAlloc - before.TotalAlloc)
		t.Logf("%d rows: %d known, %d sampled, %.1f bytes each", tt.rows, len(known.rows), s.rows, float64(bytes)/float64(tt.known))
		if len(known.rows) != tt.known {
			t.Errorf("%d of %d rows are known, want %d", len(known.rows), tt.rows, tt.known)
		}
		if bytes > tt.bytesPerRow*tt.known && !gguftest.RaceDetector { // which takes memory of its own
			t.Errorf("%d rows take %d bytes", tt.rows, bytes)
		}
		if truth := p.truth(); math.Abs(s.relative-truth) > s.half || s.half > 0.01*truth || s.half == 0 {
			t.Errorf("%d rows: %v within %v, want %v", tt.rows, s.relative, s.half, truth)
		}
	}
}

// Where some rows are not known, about 95 % of the intervals hold the truth to a
// fine precision too.
func TestIntervalsWithRowsThatAreNotKnown(t *testing.T) {
	p := made(8, 1100, 256, 0.3, 1, 0)
	const seeds = 300
	for _, typ := range []quant.Type{quant.Q2_K, quant.Q4_0, quant.Q8_0} {
		trip, err := NewRoundTrip(typ)
		if err != nil {
			t.Fatal(err)
		}
		p.encode(t, trip)
		truth := p.truth()
		for first, target := range map[uint64]float64{300: 0.05, 1024: 0.02} {
			held, open := 0, 0
			for seed := range uint64(seeds) {
				s, known := p.sample(t, seed, first, target)
				if math.Abs(s.relative-truth) <= s.half {
					held++
				}
				if len(known.rows) < len(p.norms) {
					open++
				}
			}
			t.Logf("%v from %d rows: %d of %d intervals hold the truth, %d from some of the rows", typ, first, held, seeds, open)
			if held < seeds*92/100 || open < seeds*9/10 {
				t.Errorf("%v from %d rows: %d of %d intervals hold the truth, %d from some of the rows", typ, first, held, seeds, open)
			}
		}
	}
}
