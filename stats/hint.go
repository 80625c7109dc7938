package stats

import "fmt"

// A HintError is an error with a line that would work.
type HintError struct {
	Err  error
	Text string
}

func (e *HintError) Error() string { return e.Err.Error() }
func (e *HintError) Unwrap() error { return e.Err }

// Hint returns what to do instead.
func (e *HintError) Hint() string { return e.Text }

// Hintf returns a [*HintError].
func Hintf(hint, format string, args ...any) error {
	return &HintError{fmt.Errorf(format, args...), hint}
}
