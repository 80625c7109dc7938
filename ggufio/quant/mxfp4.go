package quant

import "math"

// e2m1Near holds the place of the e2m1Twice level nearest to each interval of
// length 1/2 from 0 on: the midpoints between levels are multiples of 1/2.
var e2m1Near = func() (near [32]uint8) {
	for i := range near {
		t := float32(float32(i)/2) + 0.25
		best := float32(1000)
		for p, level := range e2m1Twice[:8] {
			if d := magnitude(t - level); d < best {
				best, near[i] = d, uint8(p)
			}
		}
	}
	return near
}()

// e2m1Place returns the place of the level nearest to t.
func e2m1Place(t float64) uint8 {
	if t < 0 {
		return e2m1Near[int(min(float64(-t*2), 31))&31] | 8
	}
	return e2m1Near[int(min(float64(t*2), 31))&31]
}

// mxfp4Encoder writes MXFP4.
type mxfp4Encoder struct{ q [32]uint8 }

func newMXFP4() rowEncoder { return new(mxfp4Encoder) }

// encodeRow follows the rule of GGML's encoder, which is the OCP MX
// specification's and uses no importance: the scale makes the exponent of the
// largest weight the largest level's.
func (s *mxfp4Encoder) encodeRow(dst []byte, row, _ []float32) int {
	for len(row) >= 32 && len(dst) >= mxfp4Bytes {
		x := row[:32]
		q := (*[16]byte)(dst[1:])
		top := maxMagnitude(x)
		exponent := 0
		if top > 0 {
			// top is in [2^(e−1), 2^e), the largest level in [4, 8).
			_, e := math.Frexp(float64(top))
			exponent = max(0, e-1-2+127)
		}
		dst[0] = byte(exponent)
		if top > 0x1p-100 && top < 0x1p100 {
			e2m1Places(&s.q, (*[32]float32)(x), 1/halfExponent(byte(exponent)))
			packNibbles(q, &s.q)
		} else {
			inv := math.Ldexp(1, 128-exponent)
			for i := range q {
				q[i] = e2m1Place(float64(float64(x[i])*inv)) | e2m1Place(float64(float64(x[i+16])*inv))<<4
			}
		}
		row, dst = row[32:], dst[mxfp4Bytes:]
	}
	return -1
}

// e2m1PlacesGo writes the places of the levels nearest to x × inv, which must
// be below 2^22.
func e2m1PlacesGo(q *[32]uint8, x *[32]float32, inv float32) {
	for i, v := range x {
		b := math.Float32bits(v * inv)
		u := min(uint32(int32(float32(math.Float32frombits(b&0x7fffffff)*2))), 31)
		q[i] = e2m1Near[u&31] | uint8(b>>31<<3)
	}
}
