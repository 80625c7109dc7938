package measure

import (
	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/stats"
)

// Rows reads rows of a model's tensors, decodes them and knows their column
// weights. It keeps its memory from one call to the next: use one per
// goroutine.
type Rows struct {
	Raw    []byte    // as the file has them
	Values []float32 // decoded, row after row

	Weights  ColumnWeights // of the expert at hand
	Weighted bool          // whether they are measured: see [ColumnWeights.Read]

	data     *ggufio.Data
	columns  stats.Columns
	encoders map[quant.Type]*quant.Encoder
	trips    map[quant.Type]*RoundTrip

	tensor *ggufio.Tensor // at hand
	slice  int
	matrix int // whose given are at hand
	given  []float32
}

// NewRows reads from data; columns may be nil.
func NewRows(data *ggufio.Data, columns stats.Columns) *Rows {
	return &Rows{data: data, columns: columns, encoders: map[quant.Type]*quant.Encoder{}, trips: map[quant.Type]*RoundTrip{}}
}

// Sized returns a slice of n items, s where it is large enough. What it holds
// is left over from before.
func Sized[T any](s []T, n uint64) []T {
	if uint64(cap(s)) < n {
		return make([]T, n)
	}
	return s[:n]
}

// ReadRaw sets Raw to n rows, from first on, of an expert of a tensor, by its
// place in it.
func (r *Rows) ReadRaw(t *ggufio.Tensor, slice int, first, n uint64) error {
	r.Raw = Sized(r.Raw, n*t.RowBytes())
	return r.data.ReadRows(t, slice, first, n, r.Raw)
}

// Decode sets Values to the decoded rows of Raw, which are a tensor's.
func (r *Rows) Decode(t *ggufio.Tensor) error {
	r.Values = Sized(r.Values, uint64(len(r.Raw))/t.RowBytes()*t.Shape[0])
	return quant.Decode(t.Type, r.Values, r.Raw)
}

// Read reads and decodes rows, and takes their expert at hand.
func (r *Rows) Read(t *ggufio.Tensor, slice int, first, n uint64) error {
	if err := r.ReadRaw(t, slice, first, n); err != nil {
		return err
	}
	if err := r.Decode(t); err != nil {
		return err
	}
	return r.Take(t, slice)
}

// ReadSome is Read for rows in ascending order; neighbours are read together.
func (r *Rows) ReadSome(t *ggufio.Tensor, slice int, rows []uint64) error {
	size := t.RowBytes()
	r.Raw = Sized(r.Raw, uint64(len(rows))*size)
	for i := 0; i < len(rows); {
		n := 1
		for i+n < len(rows) && rows[i+n] == rows[i]+uint64(n) {
			n++
		}
		if err := r.data.ReadRows(t, slice, rows[i], uint64(n), r.Raw[uint64(i)*size:][:uint64(n)*size]); err != nil {
			return err
		}
		i += n
	}
	return r.Decode(t)
}

// Take reads the column weights of an expert, if it is not at hand already.
func (r *Rows) Take(t *ggufio.Tensor, slice int) (err error) {
	if r.tensor != t || r.slice != slice {
		r.tensor, r.slice, r.matrix = t, slice, -1
		r.Weighted, err = r.Weights.Read(r.columns, t, slice)
	}
	return err
}

// Given returns the column weights of a row of the expert at hand as encoders
// take them, nil for none.
func (r *Rows) Given(row uint64) []float32 {
	if m := r.Weights.Matrix(row); m != r.matrix {
		r.matrix = m
		if of := r.Weights.Of(m); of == nil {
			r.given = nil
		} else {
			r.given = EncoderWeights(r.given, of)
		}
	}
	return r.given
}

// Encoder returns the encoder of a type.
func (r *Rows) Encoder(t quant.Type) (*quant.Encoder, error) {
	return kept(r.encoders, t, quant.NewEncoder)
}

// Trip returns the round trip through a type.
func (r *Rows) Trip(t quant.Type) (*RoundTrip, error) { return kept(r.trips, t, NewRoundTrip) }

// kept returns what is in the map, once it is made.
func kept[T any](m map[quant.Type]*T, t quant.Type, make func(quant.Type) (*T, error)) (v *T, err error) {
	if v = m[t]; v == nil {
		if v, err = make(t); err == nil {
			m[t] = v
		}
	}
	return v, err
}
