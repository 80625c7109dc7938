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
			with, without := RoundTrip(f.Type, weighted), roundTrip(f.Type, weighted, 1)
			if (with > 0) != quant.CanEncode(f.Type) || without < with {
				t.Errorf("%v, weighted %v: %d with vectors, %d without", f.Type, weighted, with, without)
			}
		}
	}
}

func TestTimed(t *testing.T) {
	for _, weighted := range []bool{false, true} {
		c, err := Timed([]quant.Type{quant.Q4_K, quant.IQ2_XXS, quant.Q4_K}, weighted)
		if err != nil || len(c.slowness) != 2 {
			t.Fatalf("%v, %v", c, err)
		}
		for typ, f := range c.slowness {
			if !(f > 0) {
				t.Errorf("%v takes %v times as long as in the table", typ, f)
			}
		}
	}
	c := Costs{slowness: map[quant.Type]float64{quant.Q4_K: 2}}
	var table Costs
	if c.RoundTrip(quant.Q4_K, true) != 2*table.RoundTrip(quant.Q4_K, true) || c.RoundTrip(quant.Q5_K, true) != table.RoundTrip(quant.Q5_K, true) {
		t.Error("types that are timed do not cost what they take, or others are others'")
	}
	for range 2 {
		plain, hashed := c.CheckSeconds(1e9, false), c.CheckSeconds(1e9, true)
		if !(plain > 0 && hashed > plain) {
			t.Errorf("a gigabyte is read back in %v s, with its SHA-256 in %v s", plain, hashed)
		}
		c.TimedBytes()
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
