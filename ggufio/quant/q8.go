package quant

import (
	"encoding/binary"
	"math"
)

// Q8_0: 32 weights share a binary16 scale d; weight = d × int8.
const q8_0Bytes = 34

func decodeQ8_0Go(dst []float32, src []byte) {
	for len(dst) >= 32 && len(src) >= q8_0Bytes {
		d := HalfToFloat(binary.LittleEndian.Uint16(src))
		q := src[2:q8_0Bytes]
		y := dst[:32]
		for i := range y {
			y[i] = d * float32(int8(q[i]))
		}
		dst, src = dst[32:], src[q8_0Bytes:]
	}
}

// encodeQ8_0 gives the largest weight of a block the level ±127. With 255
// levels the rounding error is spread evenly whatever the scale, so a search
// gains nothing that matters, and importance changes nothing.
func encodeQ8_0(dst []byte, row, _ []float32) int {
	for block := 0; len(row) >= 32 && len(dst) >= q8_0Bytes; block++ {
		x := row[:32]
		d := maxMagnitude(x) / 127
		h := floatToHalf(d)
		if isHalfInf(h) {
			return block
		}
		binary.LittleEndian.PutUint16(dst, h)
		q := dst[2:q8_0Bytes]
		var inverse float32
		if h != 0 {
			inverse = 1 / HalfToFloat(h)
		}
		for i := range x {
			// Past 127 only where h is subnormal and was rounded down a lot.
			q[i] = byte(max(-127, min(127, roundToInt(x[i]*inverse))))
		}
		row, dst = row[32:], dst[q8_0Bytes:]
	}
	return -1
}

// maxMagnitude is the largest |x|; comparing bits orders magnitudes.
func maxMagnitude(x []float32) float32 {
	return math.Float32frombits(largestBits(x, 0x7fffffff))
}

// roundToInt rounds to the nearest integer, ties to even. |x| must be below
// 2^22: adding 1.5×2^23 leaves the integer in the low bits of the sum.
func roundToInt(x float32) int32 {
	return int32(math.Float32bits(float32(x)+0x1.8p23)&0x7fffff) - 0x400000
}
