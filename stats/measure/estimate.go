package measure

import (
	"time"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/stats"
)

// Estimate guesses how long [Run] would take on this machine, reading from a
// disk aside: what it expects to measure, at the speed at which rows of made-up
// weights go through each type here. No data are read.
func Estimate(model *ggufio.Model, evidence *stats.Evidence, options Options) (time.Duration, error) {
	options.timed = true
	m, err := newMeasurement(model, evidence, options)
	if err != nil {
		return 0, err
	}
	var all work
	for _, g := range m.groups {
		all = all.plus(g.expected)
	}
	return time.Duration(all.seconds() / float64(Cores(m.options.Workers)) * float64(time.Second)), nil
}
