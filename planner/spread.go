package planner

import (
	"context"

	"github.com/ggufplan/ggufplan/stats/measure"
)

// spread calls do for 0 to n-1 on all processors, and returns the error of the
// lowest.
func spread(n int, do func(i int) error) error {
	none := func() struct{} { return struct{}{} }
	return measure.Parallel(context.Background(), n, 0, none, func(_ struct{}, i int) error { return do(i) })
}
