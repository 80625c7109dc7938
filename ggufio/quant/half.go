package quant

import (
	"encoding/binary"
	"math"
)

// HalfToFloat widens an IEEE 754 binary16. NaN keeps its payload and becomes
// quiet.
func HalfToFloat(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	em := uint32(h&0x7fff) << 13 // exponent and mantissa in a binary32's place
	if em >= 1<<23 && em < 0x0f800000 {
		return math.Float32frombits(sign | em + 112<<23)
	}
	if em >= 0x0f800000 { // infinity, NaN
		if em > 0x0f800000 {
			em |= 1 << 22
		}
		return math.Float32frombits(sign | em | infBits)
	}
	// A subnormal is its mantissa times 2^-24.
	return math.Float32frombits(sign | math.Float32bits(float32(em>>13)*0x1p-24))
}

// floatToHalf rounds to the nearest binary16, ties to even; what rounds past
// its range becomes infinite. NaN does not occur.
func floatToHalf(f float32) uint16 {
	b := math.Float32bits(f)
	sign := uint16(b >> 16 & 0x8000)
	b &= 0x7fffffff
	switch {
	case b >= 0x47800000: // 65536
		return sign | 0x7c00
	case b < 0x38800000: // below 2^-14: adding 0.5 aligns to steps of 2^-24
		return sign | uint16(math.Float32bits(math.Float32frombits(b)+0.5)-0x3f000000)
	}
	b += 0xfff + b>>13&1
	return sign | uint16((b-112<<23)>>13)
}

const halfInf = 0x7c00

var minusZero = math.Float32frombits(1 << 31)

// isHalfInf reports whether a rounded scale left the binary16 range.
func isHalfInf(h uint16) bool { return h&0x7fff == halfInf }

func decodeF32(dst []float32, src []byte) {
	src = src[:4*len(dst)]
	for i := range dst {
		dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
	}
}

func encodeF32(dst []byte, row, _ []float32) int {
	for i, v := range row {
		binary.LittleEndian.PutUint32(dst[4*i:], math.Float32bits(v))
	}
	return -1
}

func decodeF16Go(dst []float32, src []byte) {
	src = src[:2*len(dst)]
	for i := range dst {
		dst[i] = HalfToFloat(binary.LittleEndian.Uint16(src[2*i:]))
	}
}

func encodeF16(dst []byte, row, _ []float32) int {
	for i, v := range row {
		h := floatToHalf(v)
		if isHalfInf(h) {
			return i
		}
		binary.LittleEndian.PutUint16(dst[2*i:], h)
	}
	return -1
}

func decodeBF16Go(dst []float32, src []byte) {
	src = src[:2*len(dst)]
	for i := range dst {
		dst[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(src[2*i:])) << 16)
	}
}

func encodeBF16(dst []byte, row, _ []float32) int {
	for i, v := range row {
		b := math.Float32bits(v)
		b += 0x7fff + b>>16&1 // nearest, ties to even
		if b&infBits == infBits {
			return i
		}
		binary.LittleEndian.PutUint16(dst[2*i:], uint16(b>>16))
	}
	return -1
}

// binaryExponent returns e with 2^e ≤ x < 2^(e+1), for x > 0.
func binaryExponent(x float32) int {
	_, e := math.Frexp(float64(x))
	return e - 1
}
