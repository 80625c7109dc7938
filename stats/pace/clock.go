package pace

import (
	"math"
	"time"
)

// A Kind of work goes at a speed of its own.
type Kind int

const (
	Encoding Kind = iota // weights, on all workers
	Copying              // bytes of files
	Checking             // of the bytes that were written
	Starting             // another program: no table knows how long it takes
	Scoring              // what that program does
	Counted              // other things that no table knows
	kinds
)

// Work is a time by the table, in seconds of the clock, by kind; those that no
// table knows have any unit.
type Work [kinds]float64

// Plus returns the sum.
func (w Work) Plus(x Work) Work {
	for k := range w {
		w[k] += x[k]
	}
	return w
}

// Minus returns the difference, 0 where it would be less.
func (w Work) Minus(x Work) Work {
	for k := range w {
		w[k] = max(0, w[k]-x[k])
	}
	return w
}

// Seconds is the time of all kinds.
func (w Work) Seconds() float64 {
	sum := 0.0
	for _, x := range w {
		sum += x
	}
	return sum
}

// A Progress says how far a job is.
type Progress struct {
	Done, Total uint64 // what is counted for people, such as bytes; no Total where it is unknown
	Spent, Left Work   // on what this run has done, and on what there is to do
}

// A Clock foresees when a job ends, if what else the machine does stays what it
// was of late. The zero Clock is ready.
type Clock struct {
	began, last time.Time // the first report, and the last in which work was done
	reported    Work      // spent by then
	spent       Work      // since the first; what is long ago counts less
	seconds     Work      // that this took
	left        Work
}

// trust is how many seconds of a kind's own work count as much as what the table
// and other kinds say of its speed.
const trust = 0.1

// memory is after how many seconds what was counts for a third of what is, but
// half of the run at least: what else the machine does changes.
const memory = 60

// See takes a report.
func (c *Clock) See(now time.Time, p *Progress) {
	if c.began.IsZero() {
		c.began, c.last, c.reported = now, now, p.Spent
	}
	c.left = p.Left
	var grown Work
	for k := range grown {
		grown[k] = max(0, p.Spent[k]-c.reported[k])
	}
	all := grown.Seconds()
	if all == 0 {
		return // whatever goes on has yet to show how much it does
	}
	elapsed := now.Sub(c.last).Seconds()
	fade := math.Exp(-elapsed / max(memory, now.Sub(c.began).Seconds()/2))
	for k := range grown {
		c.seconds[k] = float64(c.seconds[k]*fade) + elapsed*grown[k]/all
		c.spent[k] = float64(c.spent[k]*fade) + grown[k]
	}
	c.last, c.reported = now, p.Spent
}

// Left returns the time that the job still takes, and whether enough is known
// to say so.
func (c *Clock) Left(now time.Time) (left time.Duration, ok bool) {
	if now.Sub(c.began) < time.Second/2 || c.spent.Seconds() == 0 {
		return 0, false
	}
	here := c.slowness(Encoding, 1) // as busy as the machine is; copying may be as slow as a disk
	seconds := 0.0
	for k := range kinds {
		switch {
		case k < Starting:
			seconds += float64(c.left[k] * c.slowness(k, here))
		case c.spent[k] > 0:
			seconds += float64(c.left[k] * (c.seconds[k] / c.spent[k]))
		case c.left[k] > 0:
			return 0, false
		}
	}
	seconds -= min(now.Sub(c.last).Seconds(), seconds)
	return time.Duration(min(seconds*float64(time.Second), math.MaxInt64/2)), true
}

// slowness is how much longer than the table says a kind takes.
func (c *Clock) slowness(k Kind, prior float64) float64 {
	return (c.seconds[k] + float64(trust*prior)) / (c.spent[k] + trust)
}
