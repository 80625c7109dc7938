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

	data     *ggufio.Data
	columns  stats.Columns
	encoders map[quant.Type]*quant.Encoder

	weights ColumnWeights
	tensor  *ggufio.Tensor // whose weights are at hand
	slice   int
	matrix  int // whose given are at hand
	given   []float32
}

// NewRows reads from data; columns may be nil.
func NewRows(data *ggufio.Data, columns stats.Columns) *Rows {
	return &Rows{data: data, columns: columns, encoders: map[quant.Type]*quant.Encoder{}}
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

// Read reads and decodes rows, and reads the column weights of their expert.
func (r *Rows) Read(t *ggufio.Tensor, slice int, first, n uint64) error {
	if err := r.ReadRaw(t, slice, first, n); err != nil {
		return err
	}
	if err := r.Decode(t); err != nil {
		return err
	}
	if r.tensor == t && r.slice == slice {
		return nil
	}
	r.tensor, r.slice, r.matrix = t, slice, -1
	_, err := r.weights.Read(r.columns, t, slice)
	return err
}

// Weights returns the column weights of a row of the expert that was read, nil
// for ones.
func (r *Rows) Weights(row uint64) []float64 { return r.weights.Of(r.weights.Matrix(row)) }

// Given returns them as encoders take them, nil for none.
func (r *Rows) Given(row uint64) []float32 {
	if m := r.weights.Matrix(row); m != r.matrix {
		r.matrix = m
		if of := r.weights.Of(m); of == nil {
			r.given = nil
		} else {
			r.given = EncoderWeights(r.given, of)
		}
	}
	return r.given
}

// Encoder returns the encoder of a type.
func (r *Rows) Encoder(t quant.Type) (*quant.Encoder, error) {
	if r.encoders[t] == nil {
		enc, err := quant.NewEncoder(t)
		if err != nil {
			return nil, err
		}
		r.encoders[t] = enc
	}
	return r.encoders[t], nil
}
