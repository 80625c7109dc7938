package planner

import "github.com/ggufplan/ggufplan/ggufio/quant"

// typicalError returns the relative error of a type on real weights, and
// whether it is known.
func typicalError(t quant.Type) (float64, bool) {
	r, ok := typicalErrors[t]
	return r, ok
}
