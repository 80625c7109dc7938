package stats

import (
	"errors"
	"io"
)

// mergeColumns combines the inputs' column mean squares.
func (out *Evidence) mergeColumns(inputs []*Evidence) {
	var m mergedColumns
	for _, ev := range inputs {
		switch c := ev.Columns.(type) {
		case nil:
		case mergedColumns:
			m = append(m, c...)
		default:
			m = append(m, c)
		}
	}
	switch len(m) {
	case 0:
	case 1:
		out.Columns = m[0]
	default:
		out.Columns = m
	}
}

// mergedColumns are the columns of several inputs: the sums of all over the
// counts of all where every input counts rows, else the plain mean of the mean
// squares.
type mergedColumns []Columns

// Close closes the files of all.
func (m mergedColumns) Close() error {
	var errs []error
	for _, c := range m {
		if c, ok := c.(io.Closer); ok {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(errs...)
}

// MeanSquares implements [Columns].
func (m mergedColumns) MeanSquares(tensor string, expert int, dst []float64) (bool, error) {
	byRows := true
	for _, c := range m {
		r, ok := c.(RowColumns)
		byRows = byRows && ok && r.CountsRows()
	}
	part := make([]float64, len(dst))
	for i := range dst {
		dst[i] = 0
	}
	total := 0.0
	for _, c := range m {
		weight := 1.0
		if byRows {
			count, ok, err := c.(RowColumns).Sums(tensor, expert, part)
			if err != nil {
				return false, err
			}
			if !ok || count == 0 {
				continue
			}
			weight = count
		} else {
			ok, err := c.MeanSquares(tensor, expert, part)
			if err != nil {
				return false, err
			}
			if !ok {
				continue
			}
		}
		total += weight
		for i, v := range part {
			dst[i] += v
		}
	}
	if total == 0 {
		return false, nil
	}
	for i := range dst {
		dst[i] /= total
	}
	return true, nil
}

// Complete implements [Columns]: some input has the whole entry.
func (m mergedColumns) Complete(tensor string, columns, matrices uint64) bool {
	found := false
	for _, c := range m {
		found = found || c.Complete(tensor, columns, matrices)
	}
	return found
}
