package main

import (
	"io"
	"os"
	"strconv"

	"golang.org/x/term"
)

// The narrowest and widest that text is fitted to.
const (
	minWidth = 40
	maxWidth = 200
)

// A screen is a terminal that text is fitted to.
type screen struct {
	io.Writer
	width int
}

// Width is what tables and paragraphs have room for.
func (s *screen) Width() int { return s.width }

// page returns standard output for text that people read: fitted to its width
// where it is a terminal.
func (c *call) page() io.Writer { return fitted(c.stdout, c.out) }

// wrapped is the same for another stream.
func (c *call) wrapped(w io.Writer) io.Writer { return fitted(w, w) }

func fitted(w, device io.Writer) io.Writer {
	if !isTerminal(device) {
		return w
	}
	return &screen{w, terminalWidth(device)}
}

// terminalWidth asks the terminal, then COLUMNS, else says 80.
func terminalWidth(device io.Writer) int {
	width := 0
	if f, ok := device.(*os.File); ok {
		width, _, _ = term.GetSize(int(f.Fd()))
	}
	if width <= 0 {
		width, _ = strconv.Atoi(os.Getenv("COLUMNS"))
	}
	if width <= 0 {
		width = 80
	}
	return min(max(width, minWidth), maxWidth)
}
