package simulate

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"sync"

	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/stats"
	"github.com/ggufplan/ggufplan/stats/measure"
)

// An Output is a file of the copy while it is written and read back.
type Output interface {
	io.ReaderAt
	io.WriterAt
	Truncate(sizeBytes int64) error
}

// taskBytes bounds a task. A model of 1.3 TB has 80 thousand of them.
const taskBytes = 16 << 20

// A task is a piece of the work: kept bytes of a file, or rows of one expert
// of a change. Tasks are cut the same way whatever the number of workers.
type task struct {
	file        int
	kept        kept
	change      *change // nil for kept bytes
	slice       int
	first, rows uint64
	error, norm float64 // what the pass sums over the rows, once done
	bytes       uint64  // of the source, for progress
}

func (c *Copy) tasks() (list []task) {
	for file := range c.Files {
		for _, k := range c.Files[file].kept {
			for at := uint64(0); at < k.size; at += taskBytes {
				n := min(taskBytes, k.size-at)
				list = append(list, task{file: file, kept: kept{k.source + at, k.offset + at, n}, bytes: n})
			}
		}
		for i := range c.changes {
			ch := &c.changes[i]
			if ch.tensor.File != file {
				continue
			}
			rowBytes, total := ch.tensor.RowBytes(), ch.tensor.ExpertRows()
			perTask := max(1, taskBytes/rowBytes)
			for slice := range ch.types {
				for first := uint64(0); first < total; first += perTask {
					n := min(perTask, total-first)
					list = append(list, task{file: file, change: ch, slice: slice, first: first, rows: n, bytes: n * rowBytes})
				}
			}
		}
	}
	return list
}

// Write fills the copy's files, one output for each of Files. On an error they
// are incomplete.
func (c *Copy) Write(ctx context.Context, outputs []Output) error {
	for i := range c.Files {
		if err := outputs[i].Truncate(int64(c.Files[i].SizeBytes)); err != nil {
			return err
		}
		if _, err := outputs[i].WriteAt(c.Files[i].header, 0); err != nil {
			return err
		}
	}
	return c.each(ctx, outputs, (*worker).write, func(x *expertError, lost, norm float64) { x.planned, x.norm = lost, norm })
}

// Check reads the copy back: every byte that is not a changed tensor's must be
// the source's, and every expert must have lost what its planned type costs it,
// within what storing it can add. It returns the first fault in file order.
func (c *Copy) Check(ctx context.Context, outputs []Output) error {
	for i := range c.Files {
		header := make([]byte, len(c.Files[i].header))
		if _, err := outputs[i].ReadAt(header, 0); err != nil && err != io.EOF {
			return err
		}
		if !bytes.Equal(header, c.Files[i].header) {
			return fmt.Errorf("%s: the header does not read back as it was written", c.Files[i].Name)
		}
	}
	err := c.each(ctx, outputs, (*worker).check, func(x *expertError, lost, allowed float64) { x.stored, x.allowed = lost, allowed })
	if err != nil {
		return err
	}
	for i := range c.changes {
		ch := &c.changes[i]
		for e := range ch.experts {
			x := &ch.experts[e]
			// By the triangle inequality in the norm of the column weights,
			// storing adds at most the length of its own rounding.
			want, got := math.Sqrt(x.planned), math.Sqrt(x.stored)
			if math.Abs(got-want) > math.Sqrt(x.allowed)+float64(1e-9*math.Sqrt(x.norm)) {
				return fmt.Errorf("tensor %s: expert %d reads back with relative error %v, its type costs %v",
					ch.tensor.Name, e, stats.Relative(x.stored, x.norm), stats.Relative(x.planned, x.norm))
			}
		}
	}
	return nil
}

// each runs f on every chunk of every task, on several goroutines, and then
// hands each expert's sums to assign, combined in the order of its rows.
func (c *Copy) each(ctx context.Context, outputs []Output, f func(*worker, *chunk) error, assign func(x *expertError, lost, norm float64)) error {
	data, err := c.model.OpenData()
	if err != nil {
		return err
	}
	defer data.Close()
	list := c.tasks()
	var total, done uint64
	for i := range list {
		total += list[i].bytes
	}
	newWorker := func() *worker {
		return &worker{copy: c, data: data, outputs: outputs, trips: map[quant.Type]*measure.RoundTrip{}, rows: measure.NewRows(data, c.options.Columns)}
	}
	var mu sync.Mutex // guards the progress
	err = measure.Parallel(ctx, len(list), c.options.Workers, newWorker, func(w *worker, i int) error {
		if err := w.do(ctx, &list[i], f); err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		done += list[i].bytes
		if c.options.Progress != nil {
			c.options.Progress(done, total)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for start := 0; start < len(list); {
		var lost, norm stats.Sum
		end := start
		for ; end < len(list) && list[end].change == list[start].change && list[end].slice == list[start].slice; end++ {
			lost.Add(list[end].error)
			norm.Add(list[end].norm)
		}
		if ch := list[start].change; ch != nil {
			assign(&ch.experts[list[start].slice], lost.Value(), norm.Value())
		}
		start = end
	}
	return nil
}
