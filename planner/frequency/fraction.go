package frequency

import (
	"fmt"
	"math/big"
	"regexp"
	"strconv"
)

// A Fraction is a decimal fraction, held exactly as it was written. The zero
// value is 0.
type Fraction struct {
	text string
}

var fractionText = regexp.MustCompile(`^(?:[0-9]{1,20}(?:\.[0-9]{0,60})?|\.[0-9]{1,60})(?:[eE][+-]?[0-9]{1,3})?$`)

// ParseFraction reads a decimal such as "0.9", ".95", "1" or "5e-1".
func ParseFraction(s string) (Fraction, error) {
	if !fractionText.MatchString(s) {
		return Fraction{}, fmt.Errorf("%q is not a decimal fraction", s)
	}
	return Fraction{s}, nil
}

// MakeFraction returns the shortest decimal that reads back as f, which is the
// one a person would have written for it. It panics if f is negative or not
// finite.
func MakeFraction(f float64) Fraction {
	r, err := ParseFraction(strconv.FormatFloat(f, 'g', -1, 64))
	if err != nil {
		panic(fmt.Sprintf("frequency: fraction of %v", f))
	}
	return r
}

// Rat returns the fraction as an exact rational number.
func (f Fraction) Rat() *big.Rat {
	if f.text == "" {
		return new(big.Rat)
	}
	r, ok := new(big.Rat).SetString(f.text)
	if !ok {
		panic("frequency: fraction " + strconv.Quote(f.text))
	}
	return r
}

// Float64 returns the nearest float64.
func (f Fraction) Float64() float64 {
	v, _ := f.Rat().Float64()
	return v
}

// String returns the fraction as it was written.
func (f Fraction) String() string {
	if f.text == "" {
		return "0"
	}
	return f.text
}
