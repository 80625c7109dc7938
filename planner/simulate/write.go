package simulate

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"sync"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/stats"
)

// An Output is a file of the copy while it is written and read back.
type Output interface {
	io.ReaderAt
	io.WriterAt
	Truncate(sizeBytes int64) error
}

// A task is a piece of the work: kept bytes of a file, or rows of one expert
// of a change. Pieces are cut the same way whatever the number of workers.
type task struct {
	file   int
	kept   kept
	change *change // nil for kept bytes
	slice  int
	first  uint64 // row
	rows   uint64
	sums   *chunkSums
	bytes  uint64 // of the source, for progress
}

// chunkSums are an expert's sums over one chunk of rows.
type chunkSums struct{ planned, stored, norm float64 }

// tasks lists all pieces, and returns where each expert's sums are.
func (c *Copy) tasks() (list []task, sums map[*expertError][]*chunkSums) {
	sums = map[*expertError][]*chunkSums{}
	for file := range c.Files {
		for _, k := range c.Files[file].kept {
			for at := uint64(0); at < k.size; at += ChunkBytes {
				n := min(ChunkBytes, k.size-at)
				list = append(list, task{file: file, kept: kept{k.source + at, k.offset + at, n}, bytes: n})
			}
		}
		for i := range c.changes {
			ch := &c.changes[i]
			if ch.tensor.File != file {
				continue
			}
			rowBytes := ch.tensor.RowBytes()
			perChunk := max(1, ChunkBytes/rowBytes)
			for slice := range ch.types {
				total := ch.tensor.ExpertRows()
				for first := uint64(0); first < total; first += perChunk {
					n := min(perChunk, total-first)
					s := &chunkSums{}
					sums[&ch.experts[slice]] = append(sums[&ch.experts[slice]], s)
					list = append(list, task{file: file, change: ch, slice: slice, first: first, rows: n, sums: s, bytes: n * rowBytes})
				}
			}
		}
	}
	return list, sums
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
	return c.each(ctx, outputs, (*worker).write)
}

// each runs f on every task, on several goroutines, and then combines the
// experts' sums in the order of their rows.
func (c *Copy) each(ctx context.Context, outputs []Output, f func(*worker, *task) error) error {
	data, err := c.model.OpenData()
	if err != nil {
		return err
	}
	defer data.Close()
	list, sums := c.tasks()
	var total, done uint64
	for i := range list {
		total += list[i].bytes
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	work := make(chan *task)
	go func() {
		defer close(work)
		for i := range list {
			select {
			case work <- &list[i]:
			case <-ctx.Done():
				return
			}
		}
	}()
	workers := c.options.Workers
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	var mu sync.Mutex // guards the progress
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			w := &worker{copy: c, data: data, outputs: outputs, trips: map[quant.Type]*stats.RoundTrip{}}
			for t := range work {
				if err := f(w, t); err != nil {
					cancel(err)
					return
				}
				mu.Lock()
				done += t.bytes
				if c.options.Progress != nil {
					c.options.Progress(done, total)
				}
				mu.Unlock()
			}
		})
	}
	group.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	for x, chunks := range sums {
		var planned, stored, norm stats.Sum
		for _, s := range chunks {
			planned.Add(s.planned)
			stored.Add(s.stored)
			norm.Add(s.norm)
		}
		x.planned = max(x.planned, planned.Value()) // known from the first pass on
		x.stored, x.norm = stored.Value(), norm.Value()
	}
	return nil
}

// A worker does tasks one after another in its own memory.
type worker struct {
	copy    *Copy
	data    *ggufio.Data
	outputs []Output
	trips   map[quant.Type]*stats.RoundTrip
	store   *quant.Encoder
	raw     []byte
	other   []byte
	rows    []float32
	back    []float32

	weights ColumnsOf
}

// ColumnsOf caches the column weights of the expert at hand.
type ColumnsOf struct {
	stats.ColumnWeights
	tensor *ggufio.Tensor
	slice  int
}

func (w *worker) write(t *task) error {
	if t.change == nil {
		w.raw = sized(w.raw, t.kept.size)
		if err := w.readKept(t); err != nil {
			return err
		}
		_, err := w.outputs[t.file].WriteAt(w.raw, int64(t.kept.offset))
		return err
	}
	return nil
}

func sized[T any](s []T, n uint64) []T {
	if uint64(cap(s)) < n {
		return make([]T, n)
	}
	return s[:n]
}

func (w *worker) readKept(t *task) error {
	return fmt.Errorf("unwritten")
}
