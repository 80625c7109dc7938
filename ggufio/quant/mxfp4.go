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

// mxfp4Encoder writes MXFP4. The scale is a power of two, so there is little
// to search: the one that holds the largest weight without clipping it much,
// and its neighbours, by exact error.
type mxfp4Encoder struct {
	importance
	q [32]uint8
}

func newMXFP4() rowEncoder { return new(mxfp4Encoder) }

func (s *mxfp4Encoder) encodeRow(dst []byte, row, weights []float32) int {
	for block := 0; len(row) >= 32 && len(dst) >= mxfp4Bytes; block++ {
		x := row[:32]
		s.load(x, columnsOf(weights, block*32, 32), objective{}, 0)
		q := (*[16]byte)(dst[1:])
		if top := maxMagnitude(x); top > 0x1p-100 && top < 0x1p100 {
			exponent := s.searchNormal(x, top)
			dst[0] = byte(exponent)
			e2m1Places(&s.q, (*[32]float32)(x), 1/halfExponent(byte(exponent)))
			packNibbles(q, &s.q)
		} else {
			exponent := s.search(x)
			dst[0] = byte(exponent)
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

var e2m1NearLevel = func() (near [32]float32) {
	for i, p := range e2m1Near {
		near[i] = e2m1Twice[p]
	}
	return near
}()

// e2m1ResidualsGo sums w × (t − nearest level)² for t = |x × inv| times 4, 2, 1
// and ½, in eight lanes each.
func e2m1ResidualsGo(sum *[4]lanes, x, w *[32]float32, inv float32) {
	*sum = [4]lanes{}
	for i, v := range x {
		t := magnitude(float32(v * inv))
		r0 := float32(t*4) - e2m1NearLevel[min(uint32(int32(float32(t*8))), 31)&31]
		r1 := float32(t*2) - e2m1NearLevel[min(uint32(int32(float32(t*4))), 31)&31]
		r2 := t - e2m1NearLevel[min(uint32(int32(float32(t*2))), 31)&31]
		r3 := float32(t*0.5) - e2m1NearLevel[min(uint32(int32(t)), 31)&31]
		lane, g := i&7, w[i]
		sum[0][lane] += float32(g * float32(r0*r0))
		sum[1][lane] += float32(g * float32(r1*r1))
		sum[2][lane] += float32(g * float32(r2*r2))
		sum[3][lane] += float32(g * float32(r3*r3))
	}
}

// searchNormal is search where neither scales nor squares leave the normal
// range of float32. Columns without importance count as far as their weights
// set the exponents that are tried.
func (s *mxfp4Encoder) searchNormal(x []float32, top float32) int {
	middle := int(math.Float32bits(top)>>23) - 126 + 128 - 4
	var sum [4]lanes // exponents middle − 2 to middle + 1
	e2m1Residuals(&sum, (*[32]float32)(x), (*[32]float32)(s.w[:]), 1/halfExponent(byte(middle)))
	best, least := 0, float32(math.MaxFloat32)
	for j, unit := range [4]float32{1. / 16, 1. / 4, 1, 4} {
		if e := float32(total(&sum[j]) * unit); e < least {
			best, least = j, e
		}
	}
	return middle - 2 + best
}

// search returns the biased exponent with the smallest weighted error.
func (s *mxfp4Encoder) search(x []float32) int {
	w := s.w[:32]
	all, used := ranges(x, w)
	best, least := 0, math.Inf(1)
	tried := [2]int{-1, -1}
	for i, r := range [2]valueRange{used, all} {
		top := magnitude(r.farther())
		if top == 0 {
			continue
		}
		// top is in [2^(e−1), 2^e); 12 × 2^(exponent−128) is 0.75 to 1.5 times that.
		_, e := math.Frexp(float64(top))
		middle := max(1, e+128-4)
		if i == 1 && middle == tried[0] {
			break
		}
		tried[i] = middle
		for _, exponent := range [3]int{middle, middle + 1, middle - 1} {
			if exponent > 252 { // its largest levels are past the range of float32
				continue
			}
			d := math.Ldexp(1, exponent-128)
			inv := math.Ldexp(1, 128-exponent)
			sum := 0.0
			for i, v := range x {
				t := float64(float64(v) * inv)
				r := t - float64(e2m1Twice[e2m1Place(t)&15])
				sum += float64(float64(w[i]) * float64(r*r))
			}
			if e := float64(float64(sum*d) * d); e < least {
				best, least = exponent, e
			}
		}
	}
	return best
}
