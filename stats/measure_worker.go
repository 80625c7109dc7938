package stats

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/quant"
)

// chunkBytes bounds the decoded rows that a worker holds at once.
const chunkBytes = 4 << 20

// energySmoothing is what allocation adds to a count before it becomes a
// share: half a token, Jeffreys' prior, so that an unseen expert's is not 0.
const energySmoothing = 0.5

// A measureWorker measures items one after another in its own memory.
type measureWorker struct {
	m       *measurement
	trips   map[quant.Type]*RoundTrip
	raw     []byte
	rows    []float32 // decoded rows of a chunk, one after the other
	weights ColumnWeights
	matrix  int       // the matrix whose weights the round trips have
	current []float64 // its weights, nil for ones
	sums    []typeSum
}

func newMeasureWorker(m *measurement) *measureWorker {
	return &measureWorker{m: m, trips: map[quant.Type]*RoundTrip{}}
}

// measure measures one expert of one tensor. Rows are read in the order of the
// sample, each once, in batches that double: types that are done are left out
// of the further ones.
func (w *measureWorker) measure(ctx context.Context, it *measureItem) (ExpertErrors, error) {
	total := it.tensor.ExpertRows()
	x := ExpertErrors{Expert: it.expert(), RowsTotal: total, Count: w.m.count(it), Types: make([]TypeError, len(it.types))}
	var err error
	if x.Weighted, err = w.weights.Read(w.m.columns(), it.tensor, it.slice); err != nil {
		return x, err
	}
	norms := rowNorms{energyWeights: w.weights.Of(0)}
	if !x.Weighted && it.tensor.Role == ggufio.RoleExpertDown {
		mean, err := w.m.means.of(w.m, it)
		if err != nil {
			return x, err
		}
		norms.energyWeights = mean
	}
	if err := w.start(it); err != nil {
		return x, err
	}
	order := sampleOrder(w.m.options.Seed, it.tensor.Name, it.slice, total)
	if w.m.options.Full {
		slices.Sort(order)
	}
	for start, end := uint64(0), min(total, sampleFirst); ; start, end = end, min(total, 2*end) {
		if w.m.options.Full {
			end = total
		}
		if err := w.batch(ctx, it, order[start:end], &norms); err != nil {
			return x, err
		}
		done := w.judge(total)
		if end == total || done && end >= sampleNormRows {
			w.finish(it, &x, &norms)
			return x, nil
		}
	}
}

// start makes the item's round trips and empties the sums.
func (w *measureWorker) start(it *measureItem) error {
	for len(w.sums) < len(it.types) {
		w.sums = append(w.sums, typeSum{})
	}
	w.sums = w.sums[:len(it.types)]
	for i, t := range it.types {
		if w.trips[t] == nil {
			trip, err := NewRoundTrip(t)
			if err != nil {
				return err
			}
			w.trips[t] = trip
		}
		w.sums[i] = typeSum{errors: w.sums[i].errors[:0], norms: w.sums[i].norms[:0]}
	}
	w.useMatrix(it, 0)
	return nil
}

// useMatrix gives the round trips the column weights of a matrix.
func (w *measureWorker) useMatrix(it *measureItem, matrix int) {
	w.matrix, w.current = matrix, w.weights.Of(matrix)
	for _, t := range it.types {
		w.trips[t].SetWeights(w.current)
	}
}

// batch reads rows, sums their norms, and encodes them in the types that are
// not done.
func (w *measureWorker) batch(ctx context.Context, it *measureItem, rows []uint32, norms *rowNorms) error {
	columns := it.tensor.Shape[0]
	perChunk := int(max(1, chunkBytes/4/columns))
	for len(rows) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		chunk := rows[:min(perChunk, len(rows))]
		rows = rows[len(chunk):]
		if err := w.read(it, chunk); err != nil {
			return err
		}
		for i, number := range chunk {
			row := w.rows[uint64(i)*columns:][:columns]
			if matrix := w.weights.Matrix(uint64(number)); matrix != w.matrix {
				w.useMatrix(it, matrix)
			}
			if err := norms.add(row, w.current); err != nil {
				return fmt.Errorf("%s: row %d: %w", it.describe(), number, err)
			}
			for k, t := range it.types {
				s := &w.sums[k]
				if s.done {
					continue
				}
				e, err := w.trips[t].Row(row)
				if err != nil {
					return fmt.Errorf("%s: row %d: %w", it.describe(), number, err)
				}
				s.weighted.Add(e.WeightedError)
				s.norm.Add(e.WeightedNorm)
				s.plain.Add(e.PlainError)
				s.plainNorm.Add(e.PlainNorm)
				s.rows++
				if !w.m.options.Full {
					s.errors = append(s.errors, e.WeightedError)
					s.norms = append(s.norms, e.WeightedNorm)
				}
			}
		}
	}
	return nil
}

// read fills w.rows with the decoded rows, reading neighbours together.
func (w *measureWorker) read(it *measureItem, rows []uint32) error {
	t := it.tensor
	columns, rowBytes := t.Shape[0], t.RowBytes()
	w.raw = slices.Grow(w.raw[:0], int(rowBytes)*len(rows))[:int(rowBytes)*len(rows)]
	w.rows = slices.Grow(w.rows[:0], int(columns)*len(rows))[:int(columns)*len(rows)]
	for i := 0; i < len(rows); {
		n := 1
		for i+n < len(rows) && rows[i+n] == rows[i]+uint32(n) {
			n++
		}
		at := w.raw[uint64(i)*rowBytes:][:uint64(n)*rowBytes]
		if err := w.m.data.ReadRows(t, it.slice, uint64(rows[i]), uint64(n), at); err != nil {
			return err
		}
		i += n
	}
	return quant.Decode(t.Type, w.rows, w.raw)
}

// judge marks the types that need no further rows, and reports whether all
// are done.
func (w *measureWorker) judge(total uint64) bool {
	all := true
	for i := range w.sums {
		s := &w.sums[i]
		if !s.done {
			relative, half := s.estimate(total)
			s.done = half <= sampleTarget*relative
		}
		all = all && s.done
	}
	return all
}

// finish turns sums into the item's result. Sums over a sample are scaled to
// all rows; a type's error is its ratio times the norm, which more rows know.
func (w *measureWorker) finish(it *measureItem, x *ExpertErrors, norms *rowNorms) {
	scale := float64(x.RowsTotal) / float64(norms.rows)
	x.WeightedNorm = norms.weighted.Value() * scale
	x.PlainNorm = norms.plain.Value() * scale
	if it.tensor.Role == ggufio.RoleExpertDown && x.Count != nil {
		o := (float64(*x.Count) + energySmoothing) * (norms.energy.Value() * scale)
		x.OutputEnergy = &o
	}
	for i := range w.sums {
		s := &w.sums[i]
		x.Rows = max(x.Rows, s.rows)
		e := &x.Types[i]
		if w.m.options.Full {
			e.Relative = ratio(s.weighted.Value(), s.norm.Value())
			e.Low, e.High = e.Relative, e.Relative
			e.WeightedError, e.PlainError = s.weighted.Value(), s.plain.Value()
			continue
		}
		var half float64
		e.Relative, half = s.estimate(x.RowsTotal)
		e.Low, e.High = max(0, e.Relative-half), e.Relative+half
		e.WeightedError = e.Relative * x.WeightedNorm
		e.PlainError = ratio(s.plain.Value(), s.plainNorm.Value()) * x.PlainNorm
	}
}

// ratio is a over b, and 0 where b is: nothing counts, so nothing is lost.
func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

// rowNorms sums the squares of all rows that are read.
type rowNorms struct {
	energyWeights           []float64 // nil for ones
	weighted, plain, energy Sum
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

// layer returns the statistics of an expert's layer, nil where there are none.
func (m *measurement) layer(it *measureItem) *Layer {
	if m.evidence == nil || !it.tensor.Role.IsExpert() {
		return nil
	}
	i, ok := slices.BinarySearchFunc(m.evidence.Layers, it.tensor.Layer, func(l Layer, n int) int { return l.Index - n })
	if !ok {
		return nil
	}
	return &m.evidence.Layers[i]
}

// columns returns the imatrix, nil where there is none.
func (m *measurement) columns() Columns {
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
	sums := make([]Sum, len(columns))
	var tokens Sum
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
