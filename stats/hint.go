package stats

import "fmt"

// A HintError is an error with what would cure it.
type HintError struct {
	Err  error
	Cure Cure

	Text string // Advise: in words; CollectAgain: the name of the model's file
	TopK int    // StateTopK: experts per token as the source shows them, 0 if it does not
}

// A Cure is what the caller can do about an error. A program spells it with
// its own options.
type Cure int

const (
	Advise       Cure = iota // what the text says
	NameModel                // state the model that the statistics belong to
	NameFormat               // state the format, or collect an imatrix
	PlaceRows                // state which block the first row is
	StateTopK                // state the experts per token
	StateShape               // state layers and experts per token, or the model
	MendShape                // the stated layers or experts per token are wrong
	CollectAgain             // collect statistics from the model at hand
)

func (e *HintError) Error() string { return e.Err.Error() }
func (e *HintError) Unwrap() error { return e.Err }

// Hintf returns a [*HintError] with advice in words.
func Hintf(advice, format string, args ...any) error {
	return &HintError{Err: fmt.Errorf(format, args...), Text: advice}
}

// Curable returns a [*HintError] with a cure that needs no words.
func Curable(cure Cure, format string, args ...any) error {
	return &HintError{Err: fmt.Errorf(format, args...), Cure: cure}
}
