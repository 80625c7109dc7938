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
	known knownRows    // of the item

	spend func(work) // is told of what is done; nil for nobody
}

func newMeasureWorker(m *measurement) *measureWorker {
	return &measureWorker{m: m, Rows: NewRows(m.data, m.columns())}
}

// measure measures one expert of one tensor to a relative half width, in all of
// the item's types but those that skip marks, which may be nil. Rows are encoded
// in batches that grow with the sample: types that are done are left out of
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
	var norms rowNorms
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
	sample := w.sample
	if w.m.options.Full {
		sample = w.all
	}
	if err := sample(ctx, it, target, &norms); err != nil {
		return x, err
	}
	w.finish(it, &x, &norms)
	return x, nil
}

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

// all measures every row.
func (w *measureWorker) all(ctx context.Context, it *measureItem, _ float64, norms *rowNorms) error {
	return w.known.allRows(it.tensor.ExpertRows(), func(rows []uint64) error {
		return w.read(ctx, it, rows, func(_ int, rows []uint64) error {
			if err := w.addNorms(it, rows, norms); err != nil {
				return err
			}
			return w.encode(it, rows, nil)
		})
	})
}

// sample measures rows that are drawn by weight from those whose norms it reads.
func (w *measureWorker) sample(ctx context.Context, it *measureItem, target float64, norms *rowNorms) error {
	sampler := newRowSampler(w.m.options.Seed, it.tensor.Name, it.slice, it.tensor.ExpertRows())
	if sampler.total > math.MaxUint32 {
		return fmt.Errorf("%s: %d rows are over the limit of %d: measure all", it.tensor.Name, sampler.total, uint32(math.MaxUint32))
	}
	learn := func(rows []uint64) error {
		return w.read(ctx, it, rows, func(_ int, rows []uint64) error { return w.addNorms(it, rows, norms) })
	}
	encode := func(rows []uint64, classes []uint8) (bool, error) {
		w.spent(it.read(uint64(len(rows))))
		err := w.read(ctx, it, rows, func(first int, rows []uint64) error { return w.encode(it, rows, classes[first:]) })
		return w.judge(target), err
	}
	return w.known.sample(sampler, norms, w.m.normRows(target, sampler.total), target, learn, encode)
}

// read reads rows, given in ascending order, and hands them on as they fit into
// memory, with the place of the first of them in the list.
func (w *measureWorker) read(ctx context.Context, it *measureItem, rows []uint64, do func(first int, rows []uint64) error) error {
	perChunk := int(max(1, chunkBytes/4/it.tensor.Shape[0]))
	for first := 0; first < len(rows); first += perChunk {
		if err := ctx.Err(); err != nil {
			return err
		}
		chunk := rows[first:min(first+perChunk, len(rows))]
		if err := w.ReadSome(it.tensor, it.slice, chunk); err != nil {
			return err
		}
		if err := do(first, chunk); err != nil {
			return err
		}
	}
	return nil
}

// spent tells of work that is done.
func (w *measureWorker) spent(x work) {
	if w.spend != nil {
		w.spend(x)
	}
}

// addNorms adds the rows of a chunk to the norms, and to the known ones.
func (w *measureWorker) addNorms(it *measureItem, rows []uint64, norms *rowNorms) error {
	for i, number := range rows {
		row := w.row(i, it.tensor.Shape[0])
		sums := quant.SumRow(row, w.Weights.Of(w.Weights.Matrix(number)))
		if !(sums.Plain <= math.MaxFloat64) {
			for c, v := range row {
				if f := float64(v); math.IsNaN(f) || math.IsInf(f, 0) {
					return fmt.Errorf("%s: row %d: column %d: weight %v: %w", it.describe(), number, c, v, quant.ErrNotFinite)
				}
			}
		}
		energy := sums.Weighted
		if norms.energyWeights != nil {
			energy = quant.SumRow(row, norms.energyWeights).Weighted
		}
		norms.add(sums, energy)
		if !w.m.options.Full {
			w.known.add(number, sums)
		}
	}
	w.spent(it.summed(uint64(len(rows))))
	return nil
}

// encode adds the rows of a chunk to the sums of the types that are not done, by
// their classes, which may be nil for one.
func (w *measureWorker) encode(it *measureItem, rows []uint64, classes []uint8) error {
	for k, trip := range w.trips {
		if w.sums[k].done {
			continue
		}
		matrix := -1
		for i, number := range rows {
			if at := w.Weights.Matrix(number); at != matrix {
				matrix = at
				trip.SetWeights(w.Weights.Of(matrix))
			}
			e, err := trip.Row(w.row(i, it.tensor.Shape[0]))
			if err != nil {
				return fmt.Errorf("%s: row %d: %w", it.describe(), number, err)
			}
			class := uint8(0)
			if classes != nil {
				class = classes[i]
			}
			w.sums[k].add(class, e)
		}
		w.spent(it.encoded(k, uint64(len(rows))))
	}
	return nil
}

// row returns row i of the chunk.
func (w *measureWorker) row(i int, columns uint64) []float32 {
	return w.Values[uint64(i)*columns:][:columns]
}

// judge marks the types that need no further rows, and reports whether all
// are done.
func (w *measureWorker) judge(target float64) bool {
	all := true
	for i := range w.sums {
		s := &w.sums[i]
		s.done = s.done || s.look(&w.known, target)
		all = all && s.done
	}
	return all
}

// finish turns sums into the item's result. Norms of some rows are scaled to
// all; a type's error is its ratio times the norm.
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
			*e = s.exact()
			continue
		}
		e.Relative = s.relative
		e.Low, e.High = max(0, s.relative-s.half), s.relative+s.half
		e.WeightedError = s.relative * x.WeightedNorm
		e.PlainError = s.plain * x.PlainNorm
	}
}

// rowNorms sums the squares of all rows that are read.
type rowNorms struct {
	energyWeights           []float64 // of the energy, nil where they are the row's own
	weighted, plain, energy stats.Sum
	squares                 stats.Sum // of the weighted norms
	rows                    uint64
}

// add adds a row.
func (n *rowNorms) add(sums quant.RowSums, energy float64) {
	n.weighted.Add(sums.Weighted)
	n.plain.Add(sums.Plain)
	n.energy.Add(energy)
	n.squares.Add(float64(sums.Weighted * sums.Weighted))
	n.rows++
}

// settled reports whether the rows that were read, drawn evenly, tell the norm
// of all within a relative half width.
func (n *rowNorms) settled(total uint64, target float64) bool {
	k, norm := float64(n.rows), n.weighted.Value()
	if n.rows >= total {
		return true
	}
	squares := max(0, n.squares.Value()-norm*norm/k)
	unseen := 1 - k/float64(total)
	return quantileT(int(min(n.rows-1, math.MaxInt32)))*math.Sqrt(unseen*squares*k/(k-1)) <= target*norm
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
	return (float64(*count) + Smoothing) / m.trafficOf(m.layer(it))
}

// trafficOf adds up a layer's traffic, once for tensors one after the other.
func (m *measurement) trafficOf(l *stats.Layer) float64 {
	if m.traffic.layer != l {
		var all stats.Sum
		for _, n := range l.Counts {
			all.Add(float64(n) + Smoothing)
		}
		m.traffic.layer, m.traffic.all = l, all.Value()
	}
	return m.traffic.all
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
