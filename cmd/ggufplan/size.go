package main

import (
	"fmt"
	"math/big"
	"regexp"
	"strings"
)

var sizePattern = regexp.MustCompile(`^([0-9]+)(?:\.([0-9]+))?([KMGT](?:B|iB)?|B)?$`)

// parseSize reads a number of bytes such as "12GiB", "1.5G" or "4096": K, M, G
// and T alone or with B are powers of 1000, with iB powers of 1024. A fraction
// of a byte is dropped.
func parseSize(s string) (uint64, error) {
	bad := func() error {
		return hinted(fmt.Errorf("%q is not a size", s), "write a number and a unit, such as 12GiB")
	}
	m := sizePattern.FindStringSubmatch(s)
	if m == nil {
		return 0, bad()
	}
	base := int64(1000)
	if strings.HasSuffix(m[3], "iB") {
		base = 1024
	}
	exp := int64(0)
	if m[3] != "" {
		exp = int64(strings.IndexByte("BKMGT", m[3][0]))
	}
	r, ok := new(big.Rat).SetString(m[1] + "." + m[2] + "0")
	if !ok {
		return 0, bad()
	}
	r.Mul(r, new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(base), big.NewInt(exp), nil)))
	n := new(big.Int).Quo(r.Num(), r.Denom())
	if !n.IsUint64() || n.Uint64() > 1<<62 {
		return 0, hinted(fmt.Errorf("%q is over the limit of 2^62 bytes", s), "write a number and a unit, such as 12GiB")
	}
	return n.Uint64(), nil
}
