package read

import (
	"fmt"
	"sync"
	"time"

	"github.com/ggufplan/ggufplan/stats"
)

// fileColumns reads column mean squares from an imatrix file on demand. It is
// safe for concurrent use.
type fileColumns struct {
	imatrix *imatrixFile
	byName  map[string]*entry
	size    int64
	modTime time.Time
	buffers sync.Pool // *floatReader
}

func newFileColumns(f *imatrixFile) *fileColumns {
	c := &fileColumns{imatrix: f, byName: make(map[string]*entry, len(f.entries))}
	for i := range f.entries {
		c.byName[f.entries[i].name] = &f.entries[i]
	}
	if info, err := f.file.Stat(); err == nil {
		c.size, c.modTime = info.Size(), info.ModTime()
	}
	return c
}

// unchanged reports an error if the file is no longer the one that was read.
func (c *fileColumns) unchanged() error {
	info, err := c.imatrix.file.Stat()
	if err != nil {
		return fmt.Errorf("%s: %w", c.imatrix.path, err)
	}
	if info.Size() != c.size || !info.ModTime().Equal(c.modTime) {
		return fmt.Errorf("%s: changed while it was in use", c.imatrix.path)
	}
	return nil
}

// Close closes the file.
func (c *fileColumns) Close() error { return c.imatrix.file.Close() }

// RowsPerCount implements [stats.RowColumns].
func (c *fileColumns) RowsPerCount() float32 {
	if c.imatrix.perCall {
		return stats.ImatrixChunkRows
	}
	return 1
}

// Sums implements [stats.RowColumns].
func (c *fileColumns) Sums(tensor string, matrix int, dst []float64) (count float64, ok bool, err error) {
	e := c.byName[tensor]
	n := uint64(len(dst))
	if e == nil || n == 0 || matrix < 0 || e.values%n != 0 || uint64(matrix) >= e.values/n {
		return 0, false, nil
	}
	switch {
	case len(e.counts) == 1:
		count = e.counts[0]
	case uint64(len(e.counts)) == e.values/n:
		count = e.counts[matrix]
	default:
		return 0, false, nil // rows of another length
	}
	if err := c.unchanged(); err != nil {
		return 0, false, err
	}
	r, _ := c.buffers.Get().(*floatReader)
	if r == nil || uint64(len(r.values)) < min(n, 64<<10) {
		r = newFloatReader(c.imatrix.file, 0, n)
	}
	defer c.buffers.Put(r)
	r.offset = e.offsetBytes + 4*int64(matrix)*int64(n)
	r.left = n
	for done := 0; done < len(dst); {
		chunk, err := r.next(n - uint64(done))
		if err != nil {
			return 0, false, fmt.Errorf("%s: byte %d: entry %s: %w", c.imatrix.path, r.offset, tensor, err)
		}
		for _, v := range chunk {
			dst[done] = float64(v)
			done++
		}
	}
	return count, true, nil
}

// MeanSquares implements [stats.Columns]. For a tensor with one count and several
// matrices (the heads of an attention tensor), expert numbers the matrix.
func (c *fileColumns) MeanSquares(tensor string, expert int, dst []float64) (bool, error) {
	count, ok, err := c.Sums(tensor, expert, dst)
	if !ok || err != nil {
		return false, err
	}
	if count == 0 {
		// Consumers of the legacy format take values without calls as they are.
		return c.imatrix.perCall, nil
	}
	for i := range dst {
		dst[i] /= count
	}
	return true, nil
}

// Complete implements [stats.Columns].
func (c *fileColumns) Complete(tensor string, columns, matrices uint64) bool {
	e := c.byName[tensor]
	return e != nil && columns > 0 && e.values%columns == 0 && e.values/columns == matrices
}
