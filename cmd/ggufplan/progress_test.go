package main

import (
	"testing"
	"time"

	"github.com/ggufplan/ggufplan/planner/review"
	"github.com/ggufplan/ggufplan/stats/pace"
)

// The line has what is done, the rate and the time left; what an earlier run did
// is done, and no part of the rate. The rate is a phase's, the time left that of
// all.
func TestProgressLine(t *testing.T) {
	p := (&call{}).newProgress("writing a", func(n uint64) string { return review.Count(n) + " bytes" })
	see := func(seconds float64, done, total uint64, spent, left, check float64, want string) {
		t.Helper()
		x := pace.Progress{Done: done, Total: total}
		x.Spent[pace.Encoding], x.Left[pace.Encoding], x.Left[pace.Checking] = spent, left, check
		if got := p.see(time.Unix(0, 0).Add(time.Duration(seconds*1e9)), &x); got != want {
			t.Errorf("after %v s: %q, want %q", seconds, got, want)
		}
	}
	see(0, 5000, 10000, 0, 50, 20, "writing a: 50.0 % of 10,000 bytes")
	see(0.1, 5000, 10000, 0, 50, 20, "")
	see(10, 6000, 10000, 10, 40, 20, "writing a: 60.0 % of 10,000 bytes, 100 bytes/s, 1m0s left")
	p.phase("checking a")
	see(12, 0, 3000, 12, 0, 20, "checking a: 0.0 % of 3,000 bytes, 20s left")
	see(16, 1000, 3000, 16, 0, 20, "checking a: 33.3 % of 3,000 bytes, 250 bytes/s, 20s left")
	// Of what is only counted, the time left is that of the mean rate.
	p = (&call{}).newProgress("frontier", func(n uint64) string { return review.Count(n) + " sizes" })
	for i, want := range []string{"frontier: 0.0 % of 10 sizes", "frontier: 20.0 % of 10 sizes, 1.0 s each, 8s left"} {
		x := counted(uint64(2*i), 10)
		if got := p.see(time.Unix(int64(2*i), 0), &x); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
