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

// scalesTried is how many scales are tried at a time.
const scalesTried = 16

// An nvfp4Encoder holds one sub-block.
type nvfp4Encoder struct {
	x, w [16]float32 // magnitudes and importances
	cost [scalesTried]float32
}

func newNVFP4Encoder() rowEncoder { return &nvfp4Encoder{} }

func (e *nvfp4Encoder) encodeRow(dst []byte, row, weights []float32) int {
	for block := 0; len(row) >= 64; block++ {
		weigh := float32(0)
		if weights != nil {
			// Scaled by a power of two where a cost could leave the range.
			if m := maxMagnitude(weights[:64]); m >= safeLow && m <= safeHigh {
				weigh = 1
			} else if m > 0 {
				weigh = float32(math.Ldexp(1, max(-126, min(126, -binaryExponent(m)))))
			}
		}
		for sub := range 4 {
			x := row[16*sub : 16*sub+16]
			total := float32(0)
			if weigh > 0 {
				for i, w := range weights[16*sub : 16*sub+16] {
					e.w[i] = float32(w * weigh)
					total += e.w[i]
				}
			}
			if total == 0 {
				for i := range e.w {
					e.w[i] = 1
				}
			}
			largest := maxMagnitude(x)
			if largest >= nvfp4Overflow {
				return block
			}
			code := uint8(0)
			if largest > 0 {
				for i, v := range x {
					e.x[i] = magnitude(v)
				}
				code = e.choose(largest)
			}
			dst[sub] = code
			e.pack(dst[4+8*sub:12+8*sub], x, code)
		}
		if weights != nil {
			weights = weights[64:]
		}
		row, dst = row[64:], dst[nvfp4Bytes:]
	}
	return -1
}

// choose returns the scale of least error. It tries those around the one that
// makes the largest weight the largest level, up to twice that, and goes on
// downwards while the smallest tried is the best.
func (e *nvfp4Encoder) choose(largest float32) uint8 {
	first := nearestE4M3(largest/6) - 5
	best, least := 0, float32(maxCost)
	for {
		first = max(1, min(nvfp4Largest+1-scalesTried, first))
		e2m1Costs(&e.cost, &e.x, &e.w, (*[scalesTried]float32)(nvfp4Scales[first:]), (*[scalesTried]float32)(nvfp4Inverses[first:]))
		found := false
		for i := len(e.cost) - 1; i >= 0; i-- {
			if e.cost[i] < least {
				best, least, found = first+i, e.cost[i], i == 0
			}
		}
		if !found || first == 1 {
			return uint8(best)
		}
		first -= scalesTried
	}
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

// pack writes the nibbles nearest to the weights at a scale.
func (e *nvfp4Encoder) pack(dst []byte, x []float32, code uint8) {
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

// roundE2M1 rounds twice a magnitude to twice the nearest level: to steps of 1
// below 4, of 2 below 8, of 4 up to 12. Ties go to the even multiple.
func roundE2M1(v float32) float32 {
	v = min(v, 12)
	magic := float32(0x1.8p25)
	if v < 8 {
		magic = 0x1.8p24
	}
	if v < 4 {
		magic = 0x1.8p23
	}
	return float32(v+magic) - magic
}

// e2m1CostsGo computes Σ w (x − scale × level)² for each scale, in the order in
// which vectors of eight are added up.
func e2m1CostsGo(cost *[scalesTried]float32, x, w *[16]float32, scales, inverses *[scalesTried]float32) {
	for k := range cost {
		var sum lanes
		for i := range 8 {
			t := x[i] - float32(scales[k]*roundE2M1(x[i]*inverses[k]))
			u := x[i+8] - float32(scales[k]*roundE2M1(x[i+8]*inverses[k]))
			sum[i] = float32(w[i]*float32(t*t)) + float32(w[i+8]*float32(u*u))
		}
		cost[k] = (sum[0] + sum[4] + (sum[1] + sum[5])) + (sum[2] + sum[6] + (sum[3] + sum[7]))
	}
}
