package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/ggufplan/ggufplan/planner/review"
)

// Everything on stderr starts with the program's name and a grade, is lower
// case and has no full stop; a hint shows a line that would work.

func (c *call) say(grade, format string, args ...any) {
	msg := strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", " ")
	line := fmt.Sprintf("ggufplan: %s: %s", grade, review.Printable(msg))
	if s, ok := c.fitted(c.stderr, c.stderr).(*screen); ok {
		if grade != "hint" { // a command is copied whole
			line = s.fold(line)
		}
		line = strings.Replace(line, grade, s.paint(grade, map[string]string{"error": red, "warning": yellow, "hint": cyan}[grade]), 1)
	}
	fmt.Fprintln(c.stderr, line)
}

func (c *call) warn(format string, args ...any) { c.say("warning", format, args...) }

// A hintError is an error with a line that would work, or several.
type hintError struct {
	err  error
	hint string
}

func (e *hintError) Error() string { return e.err.Error() }
func (e *hintError) Unwrap() error { return e.err }

func hinted(err error, hint string) error { return &hintError{err, hint} }

// A findingError is a result that was asked about and is not as hoped: exit 1.
type findingError struct{ err error }

func (e *findingError) Error() string { return e.err.Error() }
func (e *findingError) Unwrap() error { return e.err }

// errAnswered is a finding that the command has printed as its answer.
var errAnswered = &findingError{errors.New("answered")}

// fail says what is wrong and returns the exit status for it.
func (c *call) fail(err error) int {
	if err == error(errAnswered) {
		return exitFinding
	}
	if interrupted := c.ctx.Err(); interrupted != nil && errors.Is(err, interrupted) {
		c.say("error", "interrupted")
	} else {
		c.say("error", "%s", err)
	}
	var h *hintError
	if errors.As(err, &h) {
		for _, line := range strings.Split(h.hint, "\n") {
			c.say("hint", "%s", line)
		}
	}
	var f *findingError
	if errors.As(err, &f) {
		return exitFinding
	}
	return exitTrouble
}

// isTerminal reports whether w is a terminal: progress is shown only there.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
