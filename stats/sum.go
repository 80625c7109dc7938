package stats

// A Sum adds float64 values in the order they come, with Neumaier's
// compensation: the result is within a few units in the last place whatever
// the order of magnitude of the terms, and the same on every machine. It is
// the only reduction of the module whose result reaches a file. The zero Sum
// is empty.
type Sum struct {
	sum, lost float64
}

// Add adds v.
func (s *Sum) Add(v float64) {
	t := s.sum + v
	big, small := s.sum, v
	if abs(v) > abs(s.sum) {
		big, small = v, s.sum
	}
	s.lost += (big - t) + small
	s.sum = t
}

// Value returns the sum so far.
func (s *Sum) Value() float64 { return s.sum + s.lost }

func abs(v float64) float64 {
	if v < 0 {
		return -v
	}
	return v
}
