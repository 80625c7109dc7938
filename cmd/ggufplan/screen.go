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

// A screen is where people read: text is fitted to its width, where it has one,
// and may be coloured.
type screen struct {
	io.Writer
	width  int // 0 for any
	colour bool
}

// Width is what tables and paragraphs have room for, 0 for any number of
// columns.
func (s *screen) Width() int { return s.width }

// How text stands out on a screen.
const (
	bold   = "1"
	red    = "31"
	yellow = "33"
	cyan   = "36"
)

// paint sets text in a colour, where there is any.
func (s *screen) paint(text, colour string) string {
	if !s.colour || text == "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// Heading writes a line that stands out.
func (s *screen) Heading(line string) error {
	_, err := io.WriteString(s.Writer, s.paint(s.fold(line), bold)+"\n")
	return err
}

// Write breaks lines that are too long.
func (s *screen) Write(p []byte) (int, error) {
	var b strings.Builder
	for _, line := range strings.SplitAfter(string(p), "\n") {
		text, end := strings.CutSuffix(line, "\n")
		b.WriteString(s.fold(text))
		if end {
			b.WriteByte('\n')
		}
	}
	if _, err := io.WriteString(s.Writer, b.String()); err != nil {
		return 0, err
	}
	return len(p), nil
}

// fold breaks a line that is too long at words, what follows indented under the
// first column of facts.
func (s *screen) fold(text string) string {
	const indent = 12
	if s.width == 0 || len([]rune(text)) <= s.width {
		return text
	}
	head := review.Fold(text, s.width)
	rest := strings.TrimLeft(strings.TrimPrefix(text, head[0]), " ")
	space := strings.Repeat(" ", indent)
	return head[0] + "\n" + space + strings.Join(review.Fold(rest, s.width-indent), "\n"+space)
}

// page returns standard output for text that people read.
func (c *call) page() io.Writer { return c.fitted(c.stdout, c.out) }

// wrapped is the same for standard error.
func (c *call) wrapped(w io.Writer) io.Writer { return c.fitted(w, w) }

// fitted returns w, which writes to device, as a screen where it is one or is
// to be coloured.
func (c *call) fitted(w, device io.Writer) io.Writer {
	s := &screen{Writer: w}
	terminal := isTerminal(device)
	if terminal {
		s.width = terminalWidth(device)
	}
	switch c.colour {
	case "always":
		s.colour = true
	case "never":
	default: // an empty NO_COLOR counts as none: no-color.org
		s.colour = terminal && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	}
	if !terminal && !s.colour {
		return w
	}
	return s
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
