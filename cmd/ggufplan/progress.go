package main

import (
	"fmt"
	"sync"
	"time"

	"github.com/ggufplan/ggufplan/stats/pace"
)

// A progress line on a terminal; silent elsewhere.
type progress struct {
	c       *call
	label   string
	unit    func(uint64) string // writes an amount
	clock   pace.Clock
	start   time.Time
	last    time.Time
	first   uint64 // done when the clock started: work of an earlier run
	started bool
	shown   bool
	mu      sync.Mutex
}

// newProgress returns the progress of a job; label says what is done.
func (c *call) newProgress(label string, unit func(uint64) string) *progress {
	return &progress{c: c, label: label, unit: unit}
}

// seen reports whether the line is shown.
func (p *progress) seen() bool { return isTerminal(p.c.stderr) }

// hook returns update, nil where nobody sees it: what is not shown need not be
// foreseen.
func (p *progress) hook() func(pace.Progress) {
	if !p.seen() {
		return nil
	}
	return p.update
}

// count shows how far a job is of which nothing but a number is known.
func (p *progress) count(done, total uint64) {
	p.update(counted(done, total))
}

func counted(done, total uint64) pace.Progress {
	x := pace.Progress{Done: done, Total: total}
	x.Spent[pace.Counted], x.Left[pace.Counted] = float64(done), float64(max(total, done)-done)
	return x
}

// phase begins a part of the job that counts something else.
func (p *progress) phase(label string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if label != p.label {
		p.label, p.started = label, false
	}
}

// update shows how far the job is, at most five times a second.
func (p *progress) update(x pace.Progress) {
	if !p.seen() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	line := p.see(time.Now(), &x)
	if line == "" {
		return
	}
	p.shown = true
	line = "ggufplan: " + line
	if width := terminalWidth(p.c.stderr) - 1; len(line) > width {
		line = line[:width] // a line that wraps could not be taken back
	}
	fmt.Fprintf(p.c.stderr, "\r\033[K%s", line)
}

// see takes down how far the job is, and returns the line to show, "" where one
// was shown just before.
func (p *progress) see(now time.Time, x *pace.Progress) string {
	p.clock.See(now, x)
	if !p.started {
		p.started, p.start, p.first = true, now, x.Done
	}
	if now.Sub(p.last) < 200*time.Millisecond {
		return ""
	}
	p.last = now
	return p.line(now, x)
}

// line says what is done, how fast, and how long the rest takes.
func (p *progress) line(now time.Time, x *pace.Progress) string {
	line := fmt.Sprintf("%s: %s", p.label, p.unit(x.Done))
	if x.Total > 0 {
		line = fmt.Sprintf("%s: %.1f %% of %s", p.label, 100*float64(x.Done)/float64(x.Total), p.unit(x.Total))
	}
	if elapsed := now.Sub(p.start).Seconds(); elapsed > 0.5 && x.Done > p.first {
		if rate := float64(x.Done-p.first) / elapsed; rate < 2 {
			line += fmt.Sprintf(", %.1f s each", 1/rate)
		} else {
			line += fmt.Sprintf(", %s/s", p.unit(uint64(rate)))
		}
	}
	if left, ok := p.clock.Left(now); ok && x.Left.Seconds() > 0 {
		line += fmt.Sprintf(", %s left", left.Round(time.Second))
	}
	return line
}

// done removes the line.
func (p *progress) done() {
	if p.shown {
		fmt.Fprint(p.c.stderr, "\r\033[K")
	}
}
