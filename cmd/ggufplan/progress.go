package main

import (
	"fmt"
	"sync"
	"time"
)

// A progress line on a terminal; silent elsewhere.
type progress struct {
	c       *call
	label   string
	unit    func(uint64) string // writes an amount
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

// update shows how far the job is, at most five times a second.
func (p *progress) update(done, total uint64) {
	if !isTerminal(p.c.stderr) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if !p.started {
		p.started, p.start, p.first = true, now, done
	}
	if now.Sub(p.last) < 200*time.Millisecond {
		return
	}
	p.last, p.shown = now, true
	line := fmt.Sprintf("ggufplan: %s: %s", p.label, p.unit(done))
	if total > 0 {
		line = fmt.Sprintf("ggufplan: %s: %.1f %% of %s", p.label, 100*float64(done)/float64(total), p.unit(total))
	}
	if elapsed := now.Sub(p.start).Seconds(); elapsed > 0.5 && done > p.first {
		rate := float64(done-p.first) / elapsed
		if rate < 2 {
			line += fmt.Sprintf(", %.1f s each", 1/rate)
		} else {
			line += fmt.Sprintf(", %s/s", p.unit(uint64(rate)))
		}
		if total > done {
			line += fmt.Sprintf(", %s left", time.Duration(float64(total-done)/rate*float64(time.Second)).Round(time.Second))
		}
	}
	if width := terminalWidth(p.c.stderr) - 1; len(line) > width {
		line = line[:width] // a line that wraps could not be taken back
	}
	fmt.Fprintf(p.c.stderr, "\r\033[K%s", line)
}

// done removes the line.
func (p *progress) done() {
	if p.shown {
		fmt.Fprint(p.c.stderr, "\r\033[K")
	}
}
