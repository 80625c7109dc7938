package measure

import (
	"time"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/stats"
	"github.com/ggufplan/ggufplan/stats/pace"
)

// Estimate guesses how long [Run] would take on this machine, reading aside:
// what it expects to measure, by what types cost, at the speed at which rows of
// made-up weights go through them here. That takes a millisecond or a few per
// type; no data are read.
func Estimate(model *ggufio.Model, evidence *stats.Evidence, options Options) (time.Duration, error) {
	m, err := newMeasurement(model, evidence, options)
	if err != nil {
		return 0, err
	}
	types := map[quant.Type]uint64{}
	for _, t := range m.options.Types {
		types[t] = 1
	}
	slowness, err := pace.Calibrate(types, m.columns() != nil)
	if err != nil {
		return 0, err
	}
	var all work
	for _, g := range m.groups {
		all = all.plus(g.expected)
	}
	return time.Duration(all.seconds() * slowness / float64(Cores(m.options.Workers)) * float64(time.Second)), nil
}
