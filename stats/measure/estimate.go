package measure

import (
	"math/rand/v2"
	"runtime"
	"time"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/stats"
)

// How Estimate times a type: rows of this many weights, for so long at least.
const (
	estimateRow  = 1024
	estimateTime = time.Millisecond
)

// Estimate guesses how long [Run] would take on this machine, reading aside: the
// weights times types that it would begin with, at the speed at which rows of
// made-up weights go through each type here. That takes a millisecond or a few
// per type; no data are read.
func Estimate(model *ggufio.Model, evidence *stats.Evidence, options Options) (time.Duration, error) {
	m, err := newMeasurement(model, evidence, options)
	if err != nil {
		return 0, err
	}
	var work uint64
	for _, g := range m.groups {
		work += g.work
	}
	rng := rand.New(rand.NewPCG(1, 2))
	row, ones := make([]float32, estimateRow), make([]float64, estimateRow)
	for i := range row {
		row[i], ones[i] = float32(rng.NormFloat64()), 1
	}
	perWeight := 0.0 // seconds, the mean over types
	for _, t := range m.options.Types {
		trip, err := NewRoundTrip(t)
		if err != nil {
			return 0, err
		}
		trip.SetWeights(ones)
		rows := 0
		start := time.Now()
		for rows == 0 || time.Since(start) < estimateTime {
			if _, err := trip.Row(row); err != nil {
				return 0, err
			}
			rows++
		}
		perWeight += time.Since(start).Seconds() / float64(rows*estimateRow)
	}
	perWeight /= float64(len(m.options.Types))
	workers := m.options.Workers
	if workers <= 0 {
		workers = min(runtime.GOMAXPROCS(0), maxWorkers)
	}
	return time.Duration(perWeight * float64(work) / float64(workers) * float64(time.Second)), nil
}
