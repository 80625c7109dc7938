// Package pacetest holds the time left that a [pace.Clock] says against runs
// that are made up, so that no test waits or depends on how fast a machine is.
package pacetest

import (
	"math"
	"testing"
	"time"

	"github.com/ggufplan/ggufplan/stats/pace"
)

// What is promised: after so many seconds the time left is within a factor of
// what it turns out to be, but for the end of a run.
const (
	From   = 10
	Factor = 1.5
	slack  = 2     // seconds,
	share  = 0.005 // or of the run
)

// A Run is one that is made up. The zero Run is ready.
type Run struct {
	clock pace.Clock
	said  []saying
}

type saying struct{ at, left float64 }

// At is told how far the run is after some seconds.
func (r *Run) At(seconds float64, p pace.Progress) {
	now := time.Unix(0, 0).Add(time.Duration(seconds * float64(time.Second)))
	r.clock.See(now, &p)
	if left, ok := r.clock.Left(now); ok {
		r.said = append(r.said, saying{seconds, left.Seconds()})
	} else if seconds > From {
		r.said = append(r.said, saying{seconds, math.NaN()})
	}
}

// Worst returns the largest factor between what was said and what was left of a
// run of some seconds, and when.
func (r *Run) Worst(end float64) (factor, at, left float64) {
	factor = 1
	for _, s := range r.said {
		rest := end - s.at
		if s.at < From || math.Abs(s.left-rest) <= max(slack, share*end) {
			continue
		}
		if f := max(s.left/rest, rest/s.left); !(f <= factor) {
			factor, at, left = f, s.at, s.left
		}
	}
	return factor, at, left
}

// Check fails the test where the time left was not what is promised in a run
// that took some seconds.
func (r *Run) Check(tb testing.TB, end float64) {
	tb.Helper()
	if end < 2*From || len(r.said) < 20 || r.said[len(r.said)-1].at < float64(0.99*end)-slack {
		tb.Errorf("a run of %.0f s with %d reports says nothing", end, len(r.said))
	}
	factor, at, left := r.Worst(end)
	tb.Logf("%.0f s: at worst %.2f, after %.0f s: %.0f s left of %.0f", end, factor, at, left, end-at)
	if !(factor <= Factor) {
		tb.Errorf("after %.0f s %.0f s are left, it says %.0f: a factor of %.2f", at, end-at, left, factor)
	}
}
