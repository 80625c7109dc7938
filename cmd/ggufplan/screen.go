package main

import (
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/term"

	"github.com/ggufplan/ggufplan/planner/review"
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

// Write breaks lines that are too long at words, what follows indented under
// the first column of facts.
func (s *screen) Write(p []byte) (int, error) {
	const indent = 12
	var b strings.Builder
	for _, line := range strings.SplitAfter(string(p), "\n") {
		text, end := strings.CutSuffix(line, "\n")
		if len([]rune(text)) > s.width {
			head := review.Fold(text, s.width)
			rest := strings.TrimLeft(strings.TrimPrefix(text, head[0]), " ")
			text = head[0] + "\n" + strings.Repeat(" ", indent) +
				strings.Join(review.Fold(rest, s.width-indent), "\n"+strings.Repeat(" ", indent))
		}
		b.WriteString(text)
		if end {
			b.WriteByte('\n')
		}
	}
	if _, err := io.WriteString(s.Writer, b.String()); err != nil {
		return 0, err
	}
	return len(p), nil
}

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
