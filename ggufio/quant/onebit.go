package quant

import "encoding/binary"

// The types of one and two bits without sub-blocks: a binary16 scale d, then
// the levels in order from the lowest bits.
const (
	q1_0Bytes = 18 // 128 weights: a set bit is d, else −d
	q2_0Bytes = 18 // 64 weights: d × (−1, 0, 1 or 2)
)

func decodeQ1_0(dst []float32, src []byte) {
	for len(dst) >= 128 && len(src) >= q1_0Bytes {
		d := halfToFloat(binary.LittleEndian.Uint16(src))
		values := [2]float32{-d, d}
		for i, b := range src[2:q1_0Bytes] {
			y := dst[8*i : 8*i+8]
			y[0] = values[b&1]
			y[1] = values[b>>1&1]
			y[2] = values[b>>2&1]
			y[3] = values[b>>3&1]
			y[4] = values[b>>4&1]
			y[5] = values[b>>5&1]
			y[6] = values[b>>6&1]
			y[7] = values[b>>7]
		}
		dst, src = dst[128:], src[q1_0Bytes:]
	}
}

func decodeQ2_0(dst []float32, src []byte) {
	for len(dst) >= 64 && len(src) >= q2_0Bytes {
		d := halfToFloat(binary.LittleEndian.Uint16(src))
		values := levels(d)
		for i, b := range src[2:q2_0Bytes] {
			y := dst[4*i : 4*i+4]
			y[0] = values[b&3]
			y[1] = values[b>>2&3]
			y[2] = values[b>>4&3]
			y[3] = values[b>>6]
		}
		dst, src = dst[64:], src[q2_0Bytes:]
	}
}
