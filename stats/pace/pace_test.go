package pace

import (
	"testing"
	"time"

	"github.com/ggufplan/ggufplan/ggufio/quant"
)

// Every type that can be encoded has a cost, and no machine without vectors is
// the faster one.
func TestEveryTypeHasACost(t *testing.T) {
	for _, f := range quant.Formats() {
		for _, weighted := range []bool{false, true} {
			v, p := Vectors.RoundTrip(f.Type, weighted), Portable.RoundTrip(f.Type, weighted)
			if (v > 0) != quant.CanEncode(f.Type) || p < v {
				t.Errorf("%v, weighted %v: %d with vectors, %d without", f.Type, weighted, v, p)
			}
		}
	}
}

func TestCalibrate(t *testing.T) {
	for _, weighted := range []bool{false, true} {
		// Whatever this machine is and does meanwhile.
		if f, err := Calibrate(map[quant.Type]uint64{quant.Q4_K: 3, quant.IQ2_XXS: 1}, weighted); err != nil || !(f > 0.01 && f < 1000) {
			t.Errorf("%v, %v", f, err)
		}
	}
	if f, err := Calibrate(nil, false); err != nil || f != 1 {
		t.Errorf("of nothing: %v, %v", f, err)
	}
}

func TestClock(t *testing.T) {
	var c Clock
	at := func(seconds float64) time.Time { return time.Unix(0, 0).Add(time.Duration(seconds * 1e9)) }
	see := func(seconds, spent, left float64) {
		p := Progress{}
		p.Spent[Encoding], p.Left[Encoding], p.Left[Checking] = spent, left, 10
		c.See(at(seconds), &p)
	}
	left := func(seconds float64) float64 {
		d, ok := c.Left(at(seconds))
		if !ok {
			return -1
		}
		return d.Seconds()
	}
	see(0, 7, 100) // 7 are an earlier run's
	if got := left(1); got != -1 {
		t.Errorf("%v s left before anything is done", got)
	}
	// Three times as slow as the table: 90 are left of the one kind, and of the
	// other, of which nothing is known but that, 10. The table's word counts little.
	see(30, 17, 90)
	want := left(30)
	if want < 290 || want > 300 {
		t.Errorf("%v s left, want 300", want)
	}
	// What nothing is heard of goes on.
	if got := left(40); got != want-10 {
		t.Errorf("%v s left ten seconds later, want %v", got, want-10)
	}
	see(45, 17, 90)
	if got := left(45); got != want-15 {
		t.Errorf("%v s left after a report of nothing, want %v", got, want-15)
	}
	// A kind that is seen goes by its own speed: checking, ten times the table's.
	p := Progress{}
	p.Spent[Encoding], p.Spent[Checking], p.Left[Checking] = 107, 50, 50
	see(345, 107, 0)
	c.See(at(350), &p)
	if got := left(350); got < 4 || got > 8 {
		t.Errorf("%v s left of the checking, want 5", got)
	}
}
