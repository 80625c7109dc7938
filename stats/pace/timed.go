package pace

import (
	"crypto/sha256"
	"hash/crc32"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/ggufplan/ggufplan/ggufio/quant"
)

// How Timed times a type: rows of this many weights, so many at least, and more
// for so long.
const (
	timedRow  = 1024
	timedRows = 3
	timedTime = 300 * time.Microsecond
)

// Timed returns the costs of types as they are here, with column weights or
// without: a few rows of made-up weights go through each, for less than a
// millisecond where there is AVX2. The fastest row counts, so that it is the
// speed of a machine on which nothing else runs.
func Timed(types []quant.Type, weighted bool) (Costs, error) {
	rng := rand.New(rand.NewPCG(1, 2))
	row := make([]float32, timedRow)
	var columns []float32
	for i := range row {
		row[i] = float32(rng.NormFloat64())
	}
	for range row {
		if weighted {
			columns = append(columns, 1)
		}
	}
	// The codebooks of several types are made at once, before time counts.
	var ready sync.WaitGroup
	for _, t := range types {
		ready.Go(func() { _, _ = quant.NewEncoder(t) })
	}
	ready.Wait()
	c := Costs{slowness: map[quant.Type]float64{}}
	for _, t := range types {
		table := new(Costs).RoundTrip(t, weighted)
		if _, timed := c.slowness[t]; timed || table == 0 {
			continue
		}
		took, err := roundTripTime(t, row, columns)
		if err != nil {
			return c, err
		}
		c.slowness[t] = took.Seconds() / timedRow / table.Seconds()
	}
	return c, nil
}

// TimedBytes adds the costs of reading back, but for the reading from a disk.
func (c *Costs) TimedBytes() {
	from, to := make([]byte, 1<<20), make([]byte, 1<<20)
	c.checkByte = least(func() {
		copy(to, from)
		crc32.Checksum(to, castagnoli)
	}).Seconds() / float64(len(to))
	c.hashByte = least(func() { sha256.Sum256(from[:len(from)/16]) }).Seconds() / float64(len(from)/16)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// least is the least time that something takes of a few.
func least(f func()) (d time.Duration) {
	for n, begun := 0, time.Now(); n < timedRows || time.Since(begun) < timedTime; n++ {
		start := time.Now()
		f()
		if took := time.Since(start); n == 0 || took < d {
			d = took
		}
	}
	return max(d, 1)
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
	took := least(func() {
		if err == nil {
			err = enc.EncodeRow(encoded, row, columns)
		}
		if err == nil {
			err = quant.Decode(t, decoded, encoded)
		}
	})
	return took, err
}
