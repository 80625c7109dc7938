package measure

import (
	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/stats"
)

// Covers reports whether an importance matrix has every column of every matrix
// of a tensor under the tensor's own name, which is what llama-quantize needs.
func Covers(c stats.Columns, t *ggufio.Tensor) bool {
	matrices := uint64(1)
	if len(t.Shape) >= 3 {
		matrices = t.Shape[2]
	}
	return c != nil && c.Complete(t.Name, t.Shape[0], matrices)
}

// ColumnWeights holds the mean squares of the input columns of one expert of a
// tensor: one set for all rows, or, for a three-dimensional tensor that is not
// an expert's (attention heads), one for each of its matrices. It keeps its
// memory from one expert to the next. The zero ColumnWeights has none.
type ColumnWeights struct {
	columns, matrixRows, matrices uint64
	values                        []float64 // matrix after matrix
	known                         bool
}

// Read sets the weights to those of an expert of a tensor, by its place in it,
// and reports whether they are measured: not where there is no imatrix, it
// lacks the tensor, or no token reached the expert. An expert that no token
// reached, of a tensor that the imatrix has, gets ones, as llama-quantize
// gives it: so types that need weights can be encoded.
func (w *ColumnWeights) Read(c stats.Columns, t *ggufio.Tensor, slice int) (bool, error) {
	w.known = false
	if c == nil {
		return false, nil
	}
	w.columns, w.matrixRows, w.matrices = t.Shape[0], t.ExpertRows(), 1
	if !t.Role.IsExpert() && len(t.Shape) >= 3 {
		w.matrixRows, w.matrices = t.Shape[1], t.Shape[2]
		if !c.Complete(t.Name, w.columns, w.matrices) {
			return false, nil
		}
	}
	w.values = Sized(w.values, w.columns*w.matrices)
	for i := range w.matrices {
		ok, err := c.MeanSquares(t.Name, slice+int(i), w.values[i*w.columns:][:w.columns])
		if err != nil {
			return false, err
		}
		if !ok {
			matrices := uint64(max(1, t.Experts()))
			if !t.Role.IsExpert() {
				matrices = w.matrices
			}
			w.known = c.Complete(t.Name, w.columns, matrices)
			for k := range w.values {
				w.values[k] = 1
			}
			return false, nil
		}
	}
	w.known = true
	return true, nil
}

// Matrix returns which set of weights a row of the expert has.
func (w *ColumnWeights) Matrix(row uint64) int {
	if !w.known || w.matrices == 1 {
		return 0
	}
	return int(row / w.matrixRows % w.matrices)
}

// Of returns a set of weights, nil where there are none. It is overwritten by
// the next Read.
func (w *ColumnWeights) Of(matrix int) []float64 {
	if !w.known {
		return nil
	}
	return w.values[uint64(matrix)*w.columns:][:w.columns]
}
