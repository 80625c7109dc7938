package quant

import (
	"encoding/binary"
	"math"
)

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

// encodeQ1_0 gives each block the mean magnitude, by importance, as its scale:
// of all scales that leaves the least error.
func encodeQ1_0(dst []byte, row, weights []float32) int {
	for block := 0; len(row) >= 128; block++ {
		x := row[:128]
		var d float64
		if weights != nil {
			d = meanMagnitude(x, weights[:128])
			weights = weights[128:]
		} else {
			d = meanMagnitude(x, nil)
		}
		if d >= halfOverflow {
			return block
		}
		binary.LittleEndian.PutUint16(dst, floatToHalf(float32(d)))
		out := dst[2:q1_0Bytes]
		for i := range out {
			y := x[8*i : 8*i+8]
			out[i] = ^byte(math.Float32bits(y[0])>>31 | math.Float32bits(y[1])>>31<<1 |
				math.Float32bits(y[2])>>31<<2 | math.Float32bits(y[3])>>31<<3 |
				math.Float32bits(y[4])>>31<<4 | math.Float32bits(y[5])>>31<<5 |
				math.Float32bits(y[6])>>31<<6 | math.Float32bits(y[7])>>31<<7)
		}
		row, dst = row[128:], dst[q1_0Bytes:]
	}
	return -1
}

// meanMagnitude is Σ w |x| / Σ w, or the plain mean if no weight counts.
func meanMagnitude(x, w []float32) float64 {
	var s0, s1, s2, s3 float64
	if w != nil {
		var t0, t1 float64
		w = w[:len(x)]
		for i := 0; i+4 <= len(x); i += 4 {
			w0, w1, w2, w3 := float64(w[i]), float64(w[i+1]), float64(w[i+2]), float64(w[i+3])
			s0 += float64(w0 * float64(magnitude(x[i])))
			s1 += float64(w1 * float64(magnitude(x[i+1])))
			s2 += float64(w2 * float64(magnitude(x[i+2])))
			s3 += float64(w3 * float64(magnitude(x[i+3])))
			t0 += w0 + w1
			t1 += w2 + w3
		}
		if t0+t1 > 0 {
			return (s0 + s1 + (s2 + s3)) / (t0 + t1)
		}
		s0, s1, s2, s3 = 0, 0, 0, 0
	}
	for i := 0; i+4 <= len(x); i += 4 {
		s0 += float64(magnitude(x[i]))
		s1 += float64(magnitude(x[i+1]))
		s2 += float64(magnitude(x[i+2]))
		s3 += float64(magnitude(x[i+3]))
	}
	return (s0 + s1 + (s2 + s3)) / float64(len(x))
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
