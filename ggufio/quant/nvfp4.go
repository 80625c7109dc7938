package quant

import "math"

// NVFP4: 64 weights in four sub-blocks of 16. Four scale bytes, unsigned E4M3
// floats, come first; then eight bytes per sub-block, the low nibbles its first
// eight weights. weight = scale × E2M1 value.
const nvfp4Bytes = 36

// nvfp4Scales holds the scale of each byte, halved, to go with e2m1Twice. The
// top bit is ignored; 0x7f, but not 0xff, stands for NaN in E4M3 and reads as 0.
var nvfp4Scales = func() (t [256]float32) {
	for i := range t {
		exponent, mantissa := i>>3&15, float32(i&7)
		if exponent == 0 {
			t[i] = mantissa * 0x1p-10
			continue
		}
		t[i] = (8 + mantissa) * 0x1p-11 * float32(uint32(1)<<exponent)
	}
	t[0x7f] = 0
	return t
}()

func decodeNVFP4(dst []float32, src []byte) {
	for len(dst) >= 64 && len(src) >= nvfp4Bytes {
		for sub := range 4 {
			scale := nvfp4Scales[src[sub]]
			q, y := src[4+8*sub:12+8*sub], dst[16*sub:16*sub+16]
			for i, b := range q {
				y[i] = scale * e2m1Twice[b&15]
				y[i+8] = scale * e2m1Twice[b>>4]
			}
		}
		dst, src = dst[64:], src[nvfp4Bytes:]
	}
}

// nvfp4Largest is the largest scale, 0x7e; weights past six times what would
// still round to it overflow.
const (
	nvfp4Largest  = 0x7e
	nvfp4Overflow = 6 * 464
)

// encodeNVFP4 follows the rule of GGML's encoder, which searches nothing and
// uses no importance: a scale makes the largest weight the largest level.
func encodeNVFP4(dst []byte, row, _ []float32) int {
	for block := 0; len(row) >= 64; block++ {
		for sub := range 4 {
			x := row[16*sub : 16*sub+16]
			largest := maxMagnitude(x)
			if largest >= nvfp4Overflow {
				return block
			}
			code := uint8(max(0, min(nvfp4Largest, nearestE4M3(largest/6))))
			dst[sub] = code
			packNVFP4(dst[4+8*sub:12+8*sub], x, code)
		}
		row, dst = row[64:], dst[nvfp4Bytes:]
	}
	return -1
}

// nearestE4M3 returns the byte of the scale nearest to s, a positive number
// below 465, or 1 or less where s is small.
func nearestE4M3(s float32) int {
	if s < 0x1p-6 {
		return int(roundToInt(s * 0x1p9))
	}
	return int((math.Float32bits(s)+1<<19)>>20) - 120<<3
}

// nvfp4Inverses holds the inverse of each positive number in nvfp4Scales.
var nvfp4Inverses = func() (t [256]float32) {
	for i, s := range nvfp4Scales {
		if s > 0 {
			t[i] = 1 / s
		}
	}
	return t
}()

// packNVFP4 writes the nibbles nearest to the weights at a scale.
func packNVFP4(dst []byte, x []float32, code uint8) {
	inverse := 2 * nvfp4Inverses[code]
	for i := range 8 {
		dst[i] = nearestE2M1(x[i], inverse) | nearestE2M1(x[i+8], inverse)<<4
	}
}

// nearestE2M1 returns the nibble nearest to x, where |x| × inverse is four
// times a magnitude. There is no −0.
func nearestE2M1(x, inverse float32) uint8 {
	v := uint32(min(int32(magnitude(x)*inverse), 24))
	return e2m1Nibbles[v|math.Float32bits(x)>>31<<5]
}

// e2m1Nibbles is indexed by the integer part of four times a magnitude, and 32
// more for negative weights: levels meet at multiples of ¼.
var e2m1Nibbles = func() (t [64]uint8) {
	for i := range t {
		v := float32(i&31) + 0.5
		for n, level := range e2m1Twice[:8] {
			if magnitude(v-2*level) < magnitude(v-2*e2m1Twice[t[i]]) {
				t[i] = uint8(n)
			}
		}
	}
	for i := range t[32:] {
		if t[i] != 0 {
			t[32+i] = t[i] | 8
		} else {
			t[32+i] = 0
		}
	}
	return t
}()
