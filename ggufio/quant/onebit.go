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
		d := HalfToFloat(binary.LittleEndian.Uint16(src))
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
		d := HalfToFloat(binary.LittleEndian.Uint16(src))
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

// encodeQ1_0 follows the rule of GGML's encoder, which uses no importance: d is
// the mean magnitude.
func encodeQ1_0(dst []byte, row, _ []float32) int {
	for block := 0; len(row) >= 128; block++ {
		x := row[:128]
		sum := 0.0
		for _, v := range x {
			sum += float64(magnitude(v))
		}
		half, _, ok := ruledScale(float32(sum / 128))
		if !ok {
			return block
		}
		binary.LittleEndian.PutUint16(dst, half)
		plusBits(dst[2:q1_0Bytes], x)
		row, dst = row[128:], dst[q1_0Bytes:]
	}
	return -1
}

// A q2_0Encoder encodes Q2_0.
type q2_0Encoder struct{ level [64]uint8 }

func newQ2_0Encoder() rowEncoder { return &q2_0Encoder{} }

// encodeRow follows the rule of GGML's encoder, which searches nothing and uses
// no importance: d is the largest magnitude, so the level of 2 d stays unused.
func (e *q2_0Encoder) encodeRow(dst []byte, row, _ []float32) int {
	for block := 0; len(row) >= 64; block++ {
		x := row[:64]
		half, inverse, ok := ruledScale(maxMagnitude(x))
		if !ok {
			return block
		}
		binary.LittleEndian.PutUint16(dst, half)
		levelBytes(e.level[:], x, inverse, -1, 1)
		for i := range 16 {
			v := binary.LittleEndian.Uint32(e.level[4*i:])
			dst[2+i] = byte(v | v>>6 | v>>12 | v>>18)
		}
		row, dst = row[64:], dst[q2_0Bytes:]
	}
	return -1
}
