package measure

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/stats"
)

// chunkBytes bounds the decoded rows that a worker holds at once, unless a
// single row is longer.
const chunkBytes = 256 << 10

// maxRowWeights bounds a row, for the sake of memory. The longest rows of
// models today have some 50 thousand weights.
const maxRowWeights = 1 << 20

// Smoothing is the count added to every expert before counts become shares
// (Jeffreys' prior): one that was never seen is rare, not absent.
const Smoothing = 0.5

// A measureWorker measures items one after another in its own memory.
type measureWorker struct {
	*Rows // of a chunk
	m     *measurement
	trips []*RoundTrip // of the item's types
	sums  []typeSum    // of the item's types
	order []uint64     // the rows of a batch

	spend func(work) // is told of what is done; nil for nobody
}

func newMeasureWorker(m *measurement) *measureWorker {
	return &measureWorker{m: m, Rows: NewRows(m.data, m.columns())}
}

// measure measures one expert of one tensor to a relative half width, in all of
// the item's types but those that skip marks, which may be nil. Sampled rows are
// read in batches that grow with the sample: types that are done are left out of
// further ones.
func (w *measureWorker) measure(ctx context.Context, it *measureItem, target float64, skip []bool) (ExpertLoss, error) {
	total := it.tensor.ExpertRows()
	x := ExpertLoss{Expert: it.expert(), RowsTotal: total, Count: w.m.count(it), Types: make([]TypeLoss, len(it.types))}
	if columns := it.tensor.Shape[0]; columns > maxRowWeights {
		return x, fmt.Errorf("%s: rows of %d weights are over the limit of %d", it.tensor.Name, columns, maxRowWeights)
	}
	if err := w.Take(it.tensor, it.slice); err != nil {
		return x, err
	}
	x.Weighted = w.Weighted
	norms := rowNorms{energyWeights: w.Weights.Of(0)}
	if !x.Weighted && it.tensor.Role == ggufio.RoleExpertDown {
		mean, err := w.m.means.of(w.m, it)
		if err != nil {
			return x, err
		}
		norms.energyWeights = mean
	}
	if err := w.start(it, skip); err != nil {
		return x, err
	}
	if w.m.options.Full {
		for first := uint64(0); first < total; first += fullBatch {
			w.order = w.order[:0]
			for row := first; row < min(total, first+fullBatch); row++ {
				w.order = append(w.order, row)
			}
			if err := w.batch(ctx, it, w.order, &norms); err != nil {
				return x, err
			}
		}
		w.finish(it, &x, &norms)
		return x, nil
	}
	sampler := newRowSampler(w.m.options.Seed, it.tensor.Name, it.slice, total)
	for {
		w.order = sampler.draw(w.order[:0], growth(sampler.drawn, target))
		slices.Sort(w.order) // for the disk
		if err := w.batch(ctx, it, w.order, &norms); err != nil {
			return x, err
		}
		if done := w.judge(total, target); sampler.drawn == total || done && sampler.drawn >= normRows(target, total) {
			w.finish(it, &x, &norms)
			return x, nil
		}
	}
}

// fullBatch is how many rows are listed at once where all are read.
const fullBatch = 4096

// start makes the item's round trips and empties the sums.
func (w *measureWorker) start(it *measureItem, skip []bool) error {
	w.trips, w.sums = w.trips[:0], w.sums[:0]
	for k, t := range it.types {
		trip, err := w.Trip(t)
		if err != nil {
			return err
		}
		w.trips = append(w.trips, trip)
		// A tensor that keeps its type is copied and loses nothing.
		w.sums = append(w.sums, typeSum{done: t == it.tensor.Type || skip != nil && skip[k]})
	}
	return nil
}

// batch reads rows, sums their norms, and encodes them in the types that are
// not done.
func (w *measureWorker) batch(ctx context.Context, it *measureItem, rows []uint64, norms *rowNorms) error {
	columns := it.tensor.Shape[0]
	perChunk := int(max(1, chunkBytes/4/columns))
	for len(rows) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		chunk := rows[:min(perChunk, len(rows))]
		rows = rows[len(chunk):]
		if err := w.ReadSome(it.tensor, it.slice, chunk); err != nil {
			return err
		}
		for i, number := range chunk {
			if err := norms.add(w.row(i, columns), w.Weights.Of(w.Weights.Matrix(number))); err != nil {
				return fmt.Errorf("%s: row %d: %w", it.describe(), number, err)
			}
		}
		spent := it.read(uint64(len(chunk)))
		for k, trip := range w.trips {
			if w.sums[k].done {
				continue
			}
			spent = spent.plus(it.encoded(k, uint64(len(chunk))))
			matrix := -1
			for i, number := range chunk {
				if at := w.Weights.Matrix(number); at != matrix {
					matrix = at
					trip.SetWeights(w.Weights.Of(matrix))
				}
				e, err := trip.Row(w.row(i, columns))
				if err != nil {
					return fmt.Errorf("%s: row %d: %w", it.describe(), number, err)
				}
				w.sums[k].add(e)
			}
		}
		if w.spend != nil {
			w.spend(spent)
		}
	}
	return nil
}

// row returns row i of the chunk.
func (w *measureWorker) row(i int, columns uint64) []float32 {
	return w.Values[uint64(i)*columns:][:columns]
}

// judge marks the types that need no further rows, and reports whether all
// are done.
func (w *measureWorker) judge(total uint64, target float64) bool {
	all := true
	for i := range w.sums {
		s := &w.sums[i]
		s.done = s.done || s.settled(total, target)
		all = all && s.done
	}
	return all
}

// finish turns sums into the item's result. Sums over a sample are scaled to
// all rows; a type's error is its ratio times the norm, which more rows know.
func (w *measureWorker) finish(it *measureItem, x *ExpertLoss, norms *rowNorms) {
	scale := float64(x.RowsTotal) / float64(norms.rows)
	x.WeightedNorm = norms.weighted.Value() * scale
	x.PlainNorm = norms.plain.Value() * scale
	if it.tensor.Role == ggufio.RoleExpertDown && x.Count != nil {
		o := (float64(*x.Count) + Smoothing) * (norms.energy.Value() * scale)
		x.OutputEnergy = &o
	}
	for i := range w.sums {
		s := &w.sums[i]
		x.Rows = max(x.Rows, s.rows)
		e := &x.Types[i]
		if s.rows == 0 {
			continue // copied, or skipped
		}
		if s.rows == x.RowsTotal {
			e.Relative = stats.Relative(s.weighted.Value(), s.norm.Value())
			e.Low, e.High = e.Relative, e.Relative
			e.WeightedError, e.PlainError = s.weighted.Value(), s.plain.Value()
			continue
		}
		var half float64
		e.Relative, half = s.estimate(x.RowsTotal)
		e.Low, e.High = max(0, e.Relative-half), e.Relative+half
		e.WeightedError = e.Relative * x.WeightedNorm
		e.PlainError = stats.Relative(s.plain.Value(), s.plainNorm.Value()) * x.PlainNorm
	}
}

// rowNorms sums the squares of all rows that are read.
type rowNorms struct {
	energyWeights           []float64 // nil for ones
	weighted, plain, energy stats.Sum
	rows                    uint64
}

// add sums a row with its column weights, nil for ones.
func (n *rowNorms) add(row []float32, weights []float64) error {
	var weighted, plain, energy float64
	for i, v := range row {
		if f := float64(v); math.IsNaN(f) || math.IsInf(f, 0) {
			return fmt.Errorf("column %d: weight %v: %w", i, v, quant.ErrNotFinite)
		}
		square := float64(float64(v) * float64(v))
		plain += square
		if weights != nil {
			weighted += float64(weights[i] * square)
		}
		if n.energyWeights != nil {
			energy += float64(n.energyWeights[i] * square)
		}
	}
	if weights == nil {
		weighted = plain
	}
	if n.energyWeights == nil {
		energy = plain
	}
	n.weighted.Add(weighted)
	n.plain.Add(plain)
	n.energy.Add(energy)
	n.rows++
	return nil
}

// count returns the tokens that were routed to an item's expert, nil where
// they are unknown.
func (m *measurement) count(it *measureItem) *uint64 {
	layer := m.layer(it)
	if layer == nil || it.expert() >= len(layer.Counts) {
		return nil
	}
	n := layer.Counts[it.expert()]
	return &n
}

// share returns an item's share of its layer's traffic: an even one where that
// is unknown, 1 for a tensor without experts.
func (m *measurement) share(it *measureItem) float64 {
	if !it.tensor.Role.IsExpert() {
		return 1
	}
	count := m.count(it)
	if count == nil {
		return 1 / float64(max(1, it.tensor.Experts()))
	}
	var all stats.Sum
	for _, n := range m.layer(it).Counts {
		all.Add(float64(n) + Smoothing)
	}
	return (float64(*count) + Smoothing) / all.Value()
}

// layer returns the statistics of an expert's layer, nil where there are none.
func (m *measurement) layer(it *measureItem) *stats.Layer {
	if m.evidence == nil || !it.tensor.Role.IsExpert() {
		return nil
	}
	i, ok := slices.BinarySearchFunc(m.evidence.Layers, it.tensor.Layer, func(l stats.Layer, n int) int { return l.Index - n })
	if !ok {
		return nil
	}
	return &m.evidence.Layers[i]
}

// columns returns the imatrix, nil where there is none.
func (m *measurement) columns() stats.Columns {
	if m.evidence == nil {
		return nil
	}
	return m.evidence.Columns
}

// layerMeans holds the count-weighted mean of the column weights over the
// experts of a layer, per layer, computed when first asked for.
type layerMeans struct {
	sync.Mutex
	byLayer map[int][]float64
}

// of returns the mean for the layer of a down projection, nil where no expert
// of the layer has a count.
func (l *layerMeans) of(m *measurement, it *measureItem) ([]float64, error) {
	if m.columns() == nil {
		return nil, nil
	}
	l.Lock()
	defer l.Unlock()
	if mean, ok := l.byLayer[it.tensor.Layer]; ok {
		return mean, nil
	}
	columns := make([]float64, it.tensor.Shape[0])
	sums := make([]stats.Sum, len(columns))
	var tokens stats.Sum
	if layer := m.layer(it); layer != nil {
		for e, n := range layer.Counts {
			name, slice := m.downOf(it.tensor.Layer, e)
			if n == 0 || name == "" {
				continue
			}
			ok, err := m.columns().MeanSquares(name, slice, columns)
			if err != nil {
				return nil, err
			}
			if !ok {
				continue
			}
			tokens.Add(float64(n))
			for i, v := range columns {
				sums[i].Add(float64(float64(n) * v))
			}
		}
	}
	var mean []float64
	if tokens.Value() > 0 {
		mean = columns
		for i := range mean {
			mean[i] = sums[i].Value() / tokens.Value()
		}
	}
	if l.byLayer == nil {
		l.byLayer = map[int][]float64{}
	}
	l.byLayer[it.tensor.Layer] = mean
	return mean, nil
}

// downOf returns the tensor that holds the down projection of an expert, and
// the expert's place in it.
func (m *measurement) downOf(layer, expert int) (name string, slice int) {
	for _, t := range m.model.ExpertTensors(layer) {
		switch {
		case t.Role != ggufio.RoleExpertDown:
		case t.Expert == expert:
			return t.Name, 0
		case t.Expert < 0 && expert < t.Experts():
			return t.Name, expert
		}
	}
	return "", 0
}
