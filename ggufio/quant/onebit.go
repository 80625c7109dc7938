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

// A q1_0Encoder encodes Q1_0.
type q1_0Encoder struct{ levelBlock }

func newQ1_0Encoder() rowEncoder { return &q1_0Encoder{} }

// encodeRow gives each block the mean magnitude, by importance, as its scale:
// of all scales that leaves the least error.
func (e *q1_0Encoder) encodeRow(dst []byte, row, weights []float32) int {
	for block := 0; len(row) >= 128; block++ {
		var w []float32
		if weights != nil {
			w, weights = weights[:128], weights[128:]
		}
		var half uint16
		if e.load(row[:128], w) {
			var ok bool
			if half, _, ok = e.round(e.mean()); !ok {
				return block
			}
		}
		binary.LittleEndian.PutUint16(dst, half)
		plusBits(dst[2:q1_0Bytes], row[:128])
		row, dst = row[128:], dst[q1_0Bytes:]
	}
	return -1
}

// A q2_0Encoder encodes Q2_0.
type q2_0Encoder struct {
	levelBlock
	level [64]uint8
}

func newQ2_0Encoder() rowEncoder {
	return &q2_0Encoder{levelBlock: levelBlock{lo: -1, hi: 2}}
}

func (e *q2_0Encoder) encodeRow(dst []byte, row, weights []float32) int {
	for block := 0; len(row) >= 64; block++ {
		var w []float32
		if weights != nil {
			w, weights = weights[:64], weights[64:]
		}
		var half uint16
		var inverse float32
		if e.load(row[:64], w) {
			var ok bool
			if half, inverse, ok = e.round(e.choose()); !ok {
				return block
			}
		}
		binary.LittleEndian.PutUint16(dst, half)
		levelBytes(e.level[:], e.x, inverse, e.lo, e.hi)
		for i := range 16 {
			v := binary.LittleEndian.Uint32(e.level[4*i:])
			dst[2+i] = byte(v | v>>6 | v>>12 | v>>18)
		}
		row, dst = row[64:], dst[q2_0Bytes:]
	}
	return -1
}

// choose finds d. Its sign says which sign gets the level of 2, so starts come
// in both: near the best d of a Gaussian, and with the largest weight at 2, or
// at 1.
func (e *q2_0Encoder) choose() float32 {
	mean := 1.2 * e.mean()
	return e.refine(mean, -mean, e.highest/2, e.lowest/2, e.largest())
}
