package measure

import (
	"cmp"
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/stats"
	"github.com/ggufplan/ggufplan/stats/read"
)

// A population is the rows of an expert: their weights, with those of their
// columns, and what some type makes of them.
type population struct {
	values  []float32
	columns []float64
	losses  []RowLoss
	norms   []quant.RowSums
}

// encode sets the losses, and the norms.
func (p *population) encode(t *testing.T, trip *RoundTrip) {
	t.Helper()
	trip.SetWeights(p.columns)
	p.losses, p.norms = p.losses[:0], p.norms[:0]
	for start := 0; start < len(p.values); start += len(p.columns) {
		r, err := trip.Row(p.values[start:][:len(p.columns)])
		if err != nil {
			t.Fatal(err)
		}
		p.losses = append(p.losses, r)
		p.norms = append(p.norms, quant.SumRow(p.values[start:][:len(p.columns)], p.columns))
	}
}

// truth is the relative error of all rows.
func (p *population) truth() float64 {
	var e, n stats.Sum
	for _, r := range p.losses {
		e.Add(r.WeightedError)
		n.Add(r.WeightedNorm)
	}
	return stats.Relative(e.Value(), n.Value())
}

// sample measures the population as a measurement does, from so many rows'
// norms, and returns what it knows in the end.
func (p *population) sample(t *testing.T, seed uint64, first uint64, target float64) (sum typeSum, known knownRows) {
	t.Helper()
	var norms rowNorms
	learn := func(rows []uint64) error {
		for _, row := range rows {
			sums := p.norms[row]
			norms.add(sums, sums.Weighted)
			known.add(row, sums)
		}
		return nil
	}
	encode := func(rows []uint64, classes []uint8) (bool, error) {
		for i, row := range rows {
			sum.add(classes[i], p.losses[row])
		}
		return sum.look(&known, target), nil
	}
	if err := known.sample(newRowSampler(seed, "", 0, uint64(len(p.losses))), &norms, first, target, learn, encode); err != nil {
		t.Fatal(err)
	}
	return sum, known
}

// trained returns experts of the bundled model: two of each projection of a
// layer.
func trained(t *testing.T) (out []*population) {
	t.Helper()
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
	rows := NewRows(data, evidence.Columns)
	for _, tensor := range m.ExpertTensors(0) {
		for expert := range 2 {
			if err := rows.Read(tensor, expert, 0, tensor.ExpertRows()); err != nil {
				t.Fatal(err)
			}
			out = append(out, &population{values: slices.Clone(rows.Values), columns: slices.Clone(rows.Weights.Of(0))})
		}
	}
	return out
}

// made returns an expert of rows and columns. The levels of rows are normal in
// their logarithm, and so are the weights of columns; one row in fifty is times
// as large. Weights are normal, or follow Student's distribution of freedom to
// freedom + 9 degrees.
func made(seed uint64, rows, columns int, level, times float64, freedom int) *population {
	random := rand.New(rand.NewPCG(seed, 5))
	p := &population{columns: make([]float64, columns)}
	for i := range p.columns {
		p.columns[i] = math.Exp(0.7 * random.NormFloat64())
	}
	for range rows {
		scale := math.Exp(level * random.NormFloat64())
		if random.IntN(50) == 0 {
			scale *= times
		}
		degrees := freedom + random.IntN(10)
		for range columns {
			v := scale * random.NormFloat64()
			if freedom > 0 {
				squares := 0.0
				for range degrees {
					x := random.NormFloat64()
					squares += float64(x * x)
				}
				v /= math.Sqrt(squares / float64(degrees))
			}
			p.values = append(p.values, float32(v))
		}
	}
	return p
}

// About 95 % of the intervals of samples hold the truth, in every type and to
// every precision: of real rows, and of made-up ones of which one in fifty has 64
// times the energy, with normal weights and with heavy tails.
func TestIntervalsCoverTheTruth(t *testing.T) {
	kinds := []struct {
		name        string
		populations []*population
		all, each   float64 // shares of intervals, at least: of all types, and of one
	}{
		{"trained", trained(t), 0.945, 0.90},
		{"levels", []*population{made(1, 768, 256, 0.3, 1, 0)}, 0.945, 0.88},
		{"outliers", []*population{made(2, 768, 256, 0.3, 8, 0)}, 0.945, 0.88},
		{"rough", []*population{made(3, 768, 256, 0.5, 2, 3), made(4, 768, 256, 0.5, 8, 3)}, 0.93, 0.86},
	}
	targets := []float64{0.01, DefaultPrecision, QuickPrecision}
	const intervals = 150 // of each type to each precision
	for _, kind := range kinds {
		var covered, cases [3]float64
		for _, typ := range Candidates() {
			trip, err := NewRoundTrip(typ)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range kind.populations {
				p.encode(t, trip)
			}
			for i, target := range targets {
				held, read, n := 0.0, uint64(0), 0.0
				for _, p := range kind.populations {
					truth, first := p.truth(), uint64(len(p.losses))
					if target >= pooledPrecision {
						first = sampleMinNormRows
					}
					for seed := range uint64(intervals / len(kind.populations)) {
						s, _ := p.sample(t, seed, first, target)
						read += s.rows
						n++
						if math.Abs(s.relative-truth) <= s.half+1e-12*truth {
							held++
						}
					}
				}
				covered[i] += held
				cases[i] += n
				t.Logf("%-8s %-8v to %.2f: %5.1f %% of intervals hold the truth, %.0f rows", kind.name, typ, target, 100*held/n, float64(read)/n)
				if held < kind.each*n {
					t.Errorf("%s: %v to %v: %.1f %% of %v intervals hold the truth", kind.name, typ, target, 100*held/n, n)
				}
			}
		}
		for i, target := range targets {
			t.Logf("%-8s to %.2f: %.1f %% of intervals hold the truth", kind.name, target, 100*covered[i]/cases[i])
			if covered[i] < kind.all*cases[i] {
				t.Errorf("%s to %v: %.1f %% of %v intervals hold the truth", kind.name, target, 100*covered[i]/cases[i], cases[i])
			}
		}
	}
}

// A row is in the sample with the chance that it is said to have: what sampled
// rows stand for adds up, on average, to all rows, and so do their norms. Large
// rows are drawn in proportion.
func TestRowsAreDrawnByWeight(t *testing.T) {
	p := made(6, 400, 32, 0.5, 8, 0)
	trip, err := NewRoundTrip(quant.Q4_0)
	if err != nil {
		t.Fatal(err)
	}
	p.encode(t, trip)
	var all stats.Sum
	for _, n := range p.norms {
		all.Add(n.Weighted)
	}
	norm, total := all.Value(), float64(len(p.norms))
	for _, known := range []uint64{400, 100} {
		const seeds = 4000
		var rows, norms, drawn float64
		for seed := range uint64(seeds) {
			sampler := newRowSampler(seed, "", 0, 400)
			var k knownRows
			k.reset(sampler, known)
			order := sampler.draw(nil, known)
			for _, row := range order {
				k.add(row, p.norms[row])
			}
			k.draw(20)
			if len(k.order) != 20 || len(k.classes) != 20 || !slices.IsSorted(k.order) {
				t.Fatalf("20 rows are %v", k.order)
			}
			for i, row := range k.order {
				stands, _ := k.stands(int(k.classes[i]))
				stands *= total / float64(known)
				rows += stands / seeds
				norms += stands * p.norms[row].Weighted / seeds
				drawn += p.norms[row].Weighted / 20 / seeds
			}
		}
		t.Logf("%v known: %.1f of %v rows, %.1f %% of the norm; sampled rows have %.1f times the mean norm", known, rows, total, 100*norms/norm, drawn/norm*total)
		if math.Abs(rows/total-1) > 0.03 || math.Abs(norms/norm-1) > 0.03 {
			t.Errorf("%v known: sampled rows stand for %.1f of %v rows and %.1f %% of the norm", known, rows, total, 100*norms/norm)
		}
		// One row in fifty has half of the energy.
		if times := drawn / norm * total; times < 4 {
			t.Errorf("%v known: sampled rows have %.1f times the mean norm", known, times)
		}
	}
}

// No sampled row stands for more than the least size allows, whatever its norm,
// and rows of no norm at all are in the sample at times.
func TestSmallRowsAreDrawn(t *testing.T) {
	const total = 1000
	empty, drawn := 0, 0
	for seed := range uint64(50) {
		var k knownRows
		k.reset(newRowSampler(seed, "", 0, total), total)
		for row := range uint64(total) {
			n := 1.0
			if row%2 == 1 {
				n = 0
			}
			k.add(row, quant.RowSums{Plain: n, Weighted: n, Fourth: n})
		}
		k.draw(100)
		for i, row := range k.order {
			drawn++
			if row%2 == 1 {
				empty++
			}
			// A hundred of a thousand rows of the same size stand for ten each; those of
			// no norm for eight times that and what chance adds.
			if stands, _ := k.stands(int(k.classes[i])); stands > 1.5*8*total/100 {
				t.Fatalf("row %d stands for %v", row, stands)
			}
		}
	}
	if share := float64(empty) / float64(drawn); share < 0.03 || share > 0.15 {
		t.Errorf("%.1f %% of the sampled rows are empty", 100*share)
	}
}

// A sample that goes on after more rows are known is the one that would have
// been drawn from all of them.
func TestSampleGrowsWithTheKnownRows(t *testing.T) {
	p := made(7, 300, 32, 0.5, 8, 0)
	trip, err := NewRoundTrip(quant.Q4_0)
	if err != nil {
		t.Fatal(err)
	}
	p.encode(t, trip)
	for seed := range uint64(20) {
		var k knownRows
		k.reset(newRowSampler(seed, "", 0, 300), 100)
		for row := range uint64(100) {
			k.add(row, p.norms[row])
		}
		k.draw(30)
		sampled := slices.Clone(k.order)
		for row := uint64(100); row < 300; row++ {
			k.add(row, p.norms[row])
		}
		k.draw(10)
		sampled = append(sampled, k.order...)
		if len(sampled) != k.drawn || len(sampled) < 40 {
			t.Fatalf("%d rows are drawn, of them %d new", k.drawn, len(k.order))
		}
		slices.Sort(sampled)
		order := slices.Clone(k.rows)
		slices.SortFunc(order, func(a, b knownRow) int { return cmp.Compare(b.priority, a.priority) })
		var want []uint64
		for _, r := range order[:len(sampled)] {
			want = append(want, uint64(r.row))
		}
		slices.Sort(want)
		if !slices.Equal(sampled, want) {
			t.Errorf("the sample is %v, the first rows of the order %v", sampled, want)
		}
	}
}

// Rows that do not count leave the error open until all are measured.
func TestSampleOfEmptyRows(t *testing.T) {
	p := &population{values: make([]float32, 64*32), columns: make([]float64, 32)}
	for i := range p.columns {
		p.columns[i] = 1
	}
	trip, err := NewRoundTrip(quant.Q4_0)
	if err != nil {
		t.Fatal(err)
	}
	p.encode(t, trip)
	if s, _ := p.sample(t, 1, 64, DefaultPrecision); s.rows != 64 || s.relative != 0 || s.half != 0 {
		t.Errorf("%v within %v after %d rows", s.relative, s.half, s.rows)
	}
	// The last row is all that counts, and decides at once.
	for i := range 32 {
		p.values[63*32+i] = float32(i)
	}
	p.encode(t, trip)
	if s, _ := p.sample(t, 1, 64, DefaultPrecision); math.Abs(s.relative-p.truth()) > 1e-12 || s.half > 1e-12 || s.rows > 32 {
		t.Errorf("%v within %v after %d rows, want %v", s.relative, s.half, s.rows, p.truth())
	}
}

// An expert is measured the more finely the more traffic it has, and in a model of
// few layers, but for a coarse measurement.
func TestTargetOf(t *testing.T) {
	for _, tt := range []struct {
		precision, share float64
		layers           int
		want             float64
	}{
		{0.05, 1.0 / 128, 48, 0.05},
		{0.05, 1, 48, 0.01},
		{0.05, 1, 32, 0.01},
		{0.05, 1, 18, 0.0075},
		{0.05, 1, 8, 0.005},
		{0.05, 1, 1, 0.005},
		{0.05, 1.0 / 16, 2, 0.02},
		{0.20, 1, 2, 0.04},
	} {
		if got := targetOf(tt.precision, tt.share, tt.layers); math.Abs(got-tt.want) > 1e-12 {
			t.Errorf("%v with the share %v of %d layers: %v, want %v", tt.precision, tt.share, tt.layers, got, tt.want)
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
