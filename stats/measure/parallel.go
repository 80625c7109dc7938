package measure

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
)

// maxWorkers bounds the memory of workers, however many were asked for.
const maxWorkers = 64

// goroutines is how many a job of many pieces runs on.
func goroutines(workers int) int {
	if workers <= 0 {
		return min(runtime.GOMAXPROCS(0), maxWorkers)
	}
	return min(workers, max(maxWorkers, runtime.GOMAXPROCS(0)))
}

// Cores is how many processors a job of many pieces keeps busy on so many
// goroutines, 0 standing for the usual number.
func Cores(workers int) int { return min(goroutines(workers), runtime.GOMAXPROCS(0)) }

// Parallel does pieces 0 to n-1 of a job on several goroutines: workers of
// them, or one per processor up to 64 where workers is 0. Each has a worker of
// its own, the memory that it works in.
//
// Pieces are handed out in order, and what was handed out is finished even when
// another piece has failed: the error is that of the first piece at fault,
// whatever the number of workers. Without a fault it is the context's.
func Parallel[W any](ctx context.Context, n, workers int, newWorker func() W, do func(w W, i int) error) error {
	workers = min(goroutines(workers), n)
	var (
		next    atomic.Int64
		stop    atomic.Bool
		mu      sync.Mutex // guards what follows
		failed  = n
		failure error
	)
	fail := func(i int, err error) {
		stop.Store(true)
		mu.Lock()
		defer mu.Unlock()
		if i < failed {
			failed, failure = i, err
		}
	}
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			w := newWorker()
			for !stop.Load() && ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := do(w, i); err != nil {
					fail(i, err)
				}
			}
		})
	}
	group.Wait()
	if failure != nil {
		return failure
	}
	return ctx.Err()
}
