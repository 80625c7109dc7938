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

// mergedColumns are the columns of several inputs, merged as llama-imatrix
// merges files: the sums of all, added up in float32 in the order of the inputs,
// over the counts of all. Where an input has no sums and counts it is the plain
// mean of the mean squares.
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
	part := make([]float64, len(dst))
	for i := range dst {
		dst[i] = 0
	}
	for _, c := range m {
		if _, ok := c.(RowColumns); !ok {
			return m.plainMean(tensor, expert, dst, part)
		}
	}
	total := 0.0
	for _, c := range m {
		c := c.(RowColumns)
		count, ok, err := c.Sums(tensor, expert, part)
		if err != nil {
			return false, err
		}
		if !ok || count == 0 {
			continue
		}
		rows := c.RowsPerCount()
		total += float64(count * float64(rows))
		for i, v := range part {
			dst[i] = float64(float32(dst[i]) + float32(float32(v)*rows))
		}
	}
	return divide(dst, total), nil
}

func (m mergedColumns) plainMean(tensor string, expert int, dst, part []float64) (bool, error) {
	inputs := 0.0
	for _, c := range m {
		ok, err := c.MeanSquares(tensor, expert, part)
		if err != nil {
			return false, err
		}
		if !ok {
			continue
		}
		inputs++
		for i, v := range part {
			dst[i] += v
		}
	}
	return divide(dst, inputs), nil
}

// divide divides sums, unless there is nothing to divide them by.
func divide(sums []float64, by float64) bool {
	if by == 0 {
		return false
	}
	for i := range sums {
		sums[i] /= by
	}
	return true
}

// Complete implements [Columns]: some input has the whole entry.
func (m mergedColumns) Complete(tensor string, columns, matrices uint64) bool {
	found := false
	for _, c := range m {
		found = found || c.Complete(tensor, columns, matrices)
	}
	return found
}
