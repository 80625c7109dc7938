package stats

import (
	"math"
	"slices"
)

// A Sum adds float64 values in the order they come, with Neumaier's
// compensation: the result is within a few units in the last place whatever
// the order of magnitude of the terms, and the same on every machine. The zero
// Sum is empty.
type Sum struct {
	sum, lost float64
}

// Add adds v.
func (s *Sum) Add(v float64) {
	t := s.sum + v
	big, small := s.sum, v
	if math.Abs(v) > math.Abs(s.sum) {
		big, small = v, s.sum
	}
	s.lost += (big - t) + small
	s.sum = t
}

// Value returns the sum so far.
func (s *Sum) Value() float64 { return s.sum + s.lost }

// Median returns the middle value, or the mean of the two middle ones; 0 of no
// values. It leaves their order alone.
func Median(values []float64) float64 {
	sorted := slices.Clone(values)
	slices.Sort(sorted)
	n := len(sorted)
	switch {
	case n == 0:
		return 0
	case n%2 == 1:
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}

// Relative returns an error over the norm it is of, 0 where the norm is 0:
// nothing counts, so nothing is lost.
func Relative(lost, norm float64) float64 {
	if norm == 0 {
		return 0
	}
	return lost / norm
}
