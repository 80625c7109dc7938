package planner

import (
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner/frequency"
)

// typicalError returns the relative error of a type on real weights, and
// whether it is known.
func typicalError(t quant.Type) (float64, bool) {
	if t == quant.F16 {
		return halfError, true
	}
	r, ok := typicalErrors[t]
	return r, ok
}

// lossless reports whether a type holds the weights of every source that is
// planned, which are read as float32.
func lossless(t frequency.Type) bool { return !t.Declared && t.GGML == quant.F32 }

// halfError is the relative error of rounding a float32 to F16 in its normal
// range: a third of the square of half a unit of 11 bits, 2^-24 / 3, times the
// mean of 1/m² over significands m from 1 to 2, which is close to 1/2, and a
// margin of 2 for weights that are subnormal.
const halfError = 2e-8
