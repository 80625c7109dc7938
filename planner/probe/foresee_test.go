package probe

import (
	"context"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/stats/measure"
	"github.com/ggufplan/ggufplan/stats/pace"
	"github.com/ggufplan/ggufplan/stats/pace/pacetest"
)

// A fakeClock goes by the work that a probe reports, not by the time. Where its
// own work takes a thousand times as long, the model is as much larger.
type fakeClock struct {
	run    pacetest.Run
	rates  pace.Work // seconds for a unit of work
	random *rand.Rand
	now    float64
	seen   pace.Work
}

func (f *fakeClock) at(p pace.Progress) {
	const larger = 1000
	for k := range pace.Starting {
		p.Spent[k] *= larger
		p.Left[k] *= larger
	}
	for k, grown := range p.Spent.Minus(f.seen) {
		f.now += grown * f.rates[k] * math.Exp(0.1*f.random.NormFloat64())
	}
	f.seen = p.Spent
	f.run.At(f.now, p)
}

// The time left is right within a factor of 1.5 after ten seconds: with a long
// start and a quick program, with a slow one beside which nothing counts, where
// the work of this program takes longer, and in a probe that goes on.
func TestTimeLeft(t *testing.T) {
	for _, tt := range []struct {
		name            string
		start, chunk    float64 // seconds
		here            float64
		textBytes, from int
	}{
		{"quick", 8, 0.5, 1, 8*128 + 10, 0},
		{"slow", 3, 4, 1, 8*128 + 10, 0},
		{"slower than in the table", 2, 1, 1.3, 8*128 + 10, 0},
		{"short text", 2, 1.5, 1, 5*128 + 10, 0},
		{"pieces", 2, 1, 1, 3*8*128 + 300, 0},
		{"more text than is needed", 2, 1, 1, 9 * 8 * 128, 0},
		{"resumed", 2, 1, 1, 3*8*128 + 300, 12},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, f16, Options{}, tt.textBytes)
			errors := b.options.Errors
			b.ErrorsSeconds = 0.12
			b.Errors = func(_ context.Context, progress func(pace.Progress)) (*measure.Result, error) {
				for i := range 51 {
					p := pace.Progress{Done: uint64(i), Total: 50}
					p.Spent[pace.Encoding], p.Left[pace.Encoding] = float64(i)*0.003, float64(50-i)*0.003
					progress(p)
				}
				return errors, nil
			}
			f := &fakeClock{random: rand.New(rand.NewPCG(1, 2))}
			f.rates[pace.Starting], f.rates[pace.Scoring] = tt.start, tt.chunk
			for k := range pace.Starting {
				f.rates[k] = tt.here * 1.1
			}
			if tt.from > 0 {
				ctx, cancel := context.WithCancel(context.Background())
				runs := map[string]bool{}
				b.Progress = func(doing string, _ pace.Progress) {
					if runs[strings.TrimPrefix(doing, "writing ")] = true; len(runs) == tt.from {
						cancel()
					}
				}
				if _, err := b.execute(ctx); err == nil {
					t.Fatal("the probe ended before it was interrupted")
				}
				b.Resume = true
			}
			said := map[string]bool{}
			b.Progress = func(doing string, p pace.Progress) {
				said[doing] = true
				f.at(p)
			}
			if _, err := b.execute(context.Background()); err != nil {
				t.Fatal(err)
			}
			if !said["measuring errors (100 %)"] || !said["writing mixture.1"] {
				t.Errorf("it did %v", said)
			}
			f.run.Check(t, f.now)
		})
	}
}
