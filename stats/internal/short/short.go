// Package short reads the short whole numbers of routing traces, several bytes
// at once. Callers check that the bytes are there.
package short

import (
	"encoding/binary"
	"math/bits"
)

// Traces are long rows of small numbers whose digits are hard to predict, so
// the loops below look at 4 or 8 bytes at once and have no branch that depends
// on how many digits there are.
//
// XOR with '0' turns digits into 0 to 9. Adding 0x76 then sets the top bit of
// every byte that is no digit. A carry can only come out of a byte that is not
// ASCII, and only into bytes after it; none of the loops looks past a byte
// that is neither a digit nor the separator it expects.
const (
	zeros32, above32 = 0x30303030, 0x76767676
	zeros64, above64 = 0x3030303030303030, 0x7676767676767676
	tops32, tops64   = 0x80808080, 0x8080808080808080
)

// Number reads a whole number of up to 4 digits from the 4 bytes at b[i], which
// must exist, and width is the number of digits, 0 if there is none.
func Number(b []byte, i int) (v uint32, width int) {
	t := binary.LittleEndian.Uint32(b[i:]) ^ zeros32
	width = bits.TrailingZeros32((t+above32|t)&tops32) >> 3
	return decimalOf(t, width), width
}

// decimalOf is the number of the first width bytes of t, at most 4, which hold
// the values of digits.
func decimalOf(t uint32, width int) uint32 {
	t <<= uint(32 - 8*width) // the last digit goes on top
	return t&0xff*1000 + t>>8&0xff*100 + t>>16&0xff*10 + t>>24
}

// Pair reads two numbers with a comma between and the end of the line after
// them from the 9 bytes at b[i], which must exist. length is what they take, 0
// if they are spelled otherwise or are longer.
func Pair(b []byte, i int) (first, second uint32, length int) {
	w := binary.LittleEndian.Uint64(b[i:])
	t := w ^ zeros64
	other := (t + above64 | t) & tops64
	comma := bits.TrailingZeros64(other) >> 3
	end := bits.TrailingZeros64(other&(other-1)) >> 3
	if end > 7 || comma-1 > 3 || end-comma-2 > 3 || comma == 0 || end == comma+1 || b[i+comma] != ',' {
		return 0, 0, 0
	}
	length = end + 1
	if b[i+end] == '\r' {
		length++
	}
	if b[i+length-1] != '\n' {
		return 0, 0, 0
	}
	return decimalOf(uint32(t), comma), decimalOf(uint32(t>>uint(8*comma+8)), end-comma-1), length
}

// List appends the numbers at b[i], of up to 4 digits and with one separator
// between any two, to ids. end is where they end. ok is false if there is
// anything else, or more than most numbers.
func List(b []byte, i int, separator byte, ids []uint32, most int) (_ []uint32, end int, ok bool) {
	for i+8 <= len(b) {
		w := binary.LittleEndian.Uint64(b[i:])
		t := w ^ zeros64
		other := (t + above64 | t) & tops64
		start := 0
		for ; other != 0; other &= other - 1 {
			at := bits.TrailingZeros64(other) >> 3
			digits := uint32(t >> uint(8*start))
			width := at - start
			if width == 0 || width > 4 || width > 1 && digits&0xff == 0 || len(ids) == most {
				return ids, i, false
			}
			ids = append(ids, decimalOf(digits, width))
			if byte(w>>uint(8*at)) != separator {
				return ids, i + at, true
			}
			start = at + 1
		}
		if start == 0 {
			return ids, i, false
		}
		i += start
	}
	// The last few bytes of the text.
	for {
		start := i
		var id uint32
		for i < len(b) && b[i]-'0' <= 9 {
			id = 10*id + uint32(b[i]-'0')
			i++
		}
		width := i - start
		if width == 0 || width > 4 || width > 1 && b[start] == '0' || len(ids) == most || i == len(b) {
			return ids, i, false
		}
		ids = append(ids, id)
		if b[i] != separator {
			return ids, i, true
		}
		i++
	}
}
