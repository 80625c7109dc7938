package main

import (
	"fmt"
	"math/big"
	"regexp"
	"strings"
)

var sizePattern = regexp.MustCompile(`^(?i)([0-9]+)(?:\.([0-9]+))?\s*([KMGT](?:B|iB)?|B)?$`)

// parseSize reads a number of bytes such as "12GiB", "1.5g" or "4096B": K, M,
// G and T alone or with B are powers of 1000, with iB powers of 1024. A number
// without a unit is refused: it may be bytes, or GiB, or percent. A fraction
// of a byte is dropped.
func parseSize(s string) (uint64, error) {
	const hint = "write a number and a unit, such as 12GiB, or 4096B for bytes"
	m := sizePattern.FindStringSubmatch(strings.TrimSpace(s))
	if m == nil {
		return 0, hinted(fmt.Errorf("%q is not a size", s), hint)
	}
	unit := strings.ToUpper(m[3])
	if unit == "" {
		return 0, &unitlessError{s}
	}
	base := int64(1000)
	if strings.HasSuffix(unit, "IB") {
		base = 1024
	}
	exp := int64(strings.IndexByte("BKMGT", unit[0]))
	r, ok := new(big.Rat).SetString(m[1] + "." + m[2] + "0")
	if !ok {
		return 0, hinted(fmt.Errorf("%q is not a size", s), hint)
	}
	r.Mul(r, new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(base), big.NewInt(exp), nil)))
	n := new(big.Int).Quo(r.Num(), r.Denom())
	if !n.IsUint64() || n.Uint64() > 1<<62 {
		return 0, hinted(fmt.Errorf("%q is over the limit of 2^62 bytes", s), hint)
	}
	return n.Uint64(), nil
}

// A unitlessError is a size without a unit.
type unitlessError struct{ text string }

func (e *unitlessError) Error() string {
	return fmt.Sprintf("%q has no unit", e.text)
}
