package pace

import (
	"math/rand/v2"
	"time"

	"github.com/ggufplan/ggufplan/ggufio/quant"
)

// How Calibrate times a type: rows of this many weights, so many at least, and
// more for so long.
const (
	calibrateRow  = 1024
	calibrateRows = 3
	calibrateTime = time.Millisecond
)

// Calibrate returns how much longer this machine takes than the table says for
// weights that go to some types and back: rows of made-up ones go through each
// for a millisecond or two. The fastest row counts, so that it is the speed of
// the machine when nothing else runs.
func Calibrate(weights map[quant.Type]uint64, weighted bool) (float64, error) {
	rng := rand.New(rand.NewPCG(1, 2))
	row := make([]float32, calibrateRow)
	var columns []float32
	for i := range row {
		row[i] = float32(rng.NormFloat64())
	}
	for range row {
		if weighted {
			columns = append(columns, 1)
		}
	}
	took, table := 0.0, 0.0
	for t, n := range weights {
		cost := Here().RoundTrip(t, weighted)
		if n == 0 || cost == 0 {
			continue
		}
		perRow, err := roundTripTime(t, row, columns)
		if err != nil {
			return 0, err
		}
		took += float64(perRow.Seconds() / calibrateRow * float64(n))
		table += float64(cost.Seconds() * float64(n))
	}
	if table == 0 {
		return 1, nil
	}
	return took / table, nil
}

// roundTripTime is the least that a row takes to be encoded and decoded again.
func roundTripTime(t quant.Type, row, columns []float32) (time.Duration, error) {
	if columns == nil && quant.EncodeNeedsWeights(t) {
		columns = make([]float32, len(row))
		for i := range columns {
			columns[i] = 1
		}
	}
	enc, err := quant.NewEncoder(t)
	if err != nil {
		return 0, err
	}
	f, _ := quant.Lookup(t)
	size, err := f.Layout.EncodedBytes(1, uint64(len(row)))
	if err != nil {
		return 0, err
	}
	encoded, decoded := make([]byte, size), make([]float32, len(row))
	least := time.Duration(0)
	for n, begun := 0, time.Now(); n < calibrateRows || time.Since(begun) < calibrateTime; n++ {
		start := time.Now()
		if err := enc.EncodeRow(encoded, row, columns); err != nil {
			return 0, err
		}
		if err := quant.Decode(t, decoded, encoded); err != nil {
			return 0, err
		}
		if took := time.Since(start); n == 0 || took < least {
			least = took
		}
	}
	return least, nil
}
