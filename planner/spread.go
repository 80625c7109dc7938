package planner

import (
	"cmp"
	"runtime"
	"sync"
	"sync/atomic"
)

// spread calls do for 0 to n-1, from as many goroutines as there are processors,
// and returns the error of the lowest.
func spread(n int, do func(i int) error) error {
	errs := make([]error, n)
	var next atomic.Int64
	var group sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) {
		group.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				errs[i] = do(i)
			}
		})
	}
	group.Wait()
	return cmp.Or(errs...)
}
