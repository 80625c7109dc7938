package frequency

import (
	"fmt"
	"math/big"
	"strconv"
	"strings"
)

// A Fraction is a decimal fraction, held exactly as it was written. The zero
// value is 0.
type Fraction struct {
	text string
}

// ParseFraction reads a decimal such as "0.9", ".95", "1" or "5e-1", of up to 20
// digits before and 60 after the point.
func ParseFraction(s string) (Fraction, error) {
	if !isFraction(s) {
		return Fraction{}, fmt.Errorf("%q is not a decimal fraction", s)
	}
	return Fraction{s}, nil
}

func isFraction(s string) bool {
	whole, s := cutDigits(s)
	places := 0
	if rest, ok := strings.CutPrefix(s, "."); ok {
		places, s = cutDigits(rest)
	}
	if whole+places == 0 || whole > 20 || places > 60 {
		return false
	}
	if s != "" && (s[0] == 'e' || s[0] == 'E') {
		s = s[1:]
		if s != "" && (s[0] == '+' || s[0] == '-') {
			s = s[1:]
		}
		var exponent int
		if exponent, s = cutDigits(s); exponent < 1 || exponent > 3 {
			return false
		}
	}
	return s == ""
}

// cutDigits counts the digits that a text begins with, and returns the rest.
func cutDigits(s string) (n int, rest string) {
	rest = strings.TrimLeft(s, "0123456789")
	return len(s) - len(rest), rest
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
