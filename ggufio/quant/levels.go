package quant

import "math"

// halfOverflow is the least number that rounds past binary16's range.
const halfOverflow = 65520

// ruledScale rounds a scale to a binary16; ok is false if it overflows. inverse
// is that of d itself, 0 where d is too small to be stored.
func ruledScale(d float32) (half uint16, inverse float32, ok bool) {
	if d >= halfOverflow {
		return 0, 0, false
	}
	half = floatToHalf(d)
	if half == 0 {
		return 0, 0, true
	}
	return half, 1 / d, true
}

// levelBytesGo writes x × inverse rounded to the nearest integer, ties to even,
// between lo and hi, less lo.
func levelBytesGo(dst []uint8, x []float32, inverse, lo, hi float32) {
	for i, v := range x {
		v = min(max(v*inverse, lo), hi)
		dst[i] = uint8(math.Float32bits(float32(v+0x1.8p23)) - math.Float32bits(float32(lo+0x1.8p23)))
	}
}

// largestBitsGo returns the largest of the numbers' bits under mask.
func largestBitsGo(x []float32, mask uint32) uint32 {
	var m0, m1, m2, m3 uint32
	for ; len(x) >= 4; x = x[4:] {
		m0 = max(m0, math.Float32bits(x[0])&mask)
		m1 = max(m1, math.Float32bits(x[1])&mask)
		m2 = max(m2, math.Float32bits(x[2])&mask)
		m3 = max(m3, math.Float32bits(x[3])&mask)
	}
	for _, v := range x {
		m0 = max(m0, math.Float32bits(v)&mask)
	}
	return max(m0, m1, m2, m3)
}

// plusBitsGo writes a bit for each number, set where its sign is plus.
func plusBitsGo(dst []uint8, x []float32) {
	for i := range dst {
		y := x[8*i : 8*i+8]
		dst[i] = ^uint8(math.Float32bits(y[0])>>31 | math.Float32bits(y[1])>>31<<1 |
			math.Float32bits(y[2])>>31<<2 | math.Float32bits(y[3])>>31<<3 |
			math.Float32bits(y[4])>>31<<4 | math.Float32bits(y[5])>>31<<5 |
			math.Float32bits(y[6])>>31<<6 | math.Float32bits(y[7])>>31<<7)
	}
}
