package quant

// nonLinearZero is the place of the level nearest zero.
const nonLinearZero = 8

// nonLinearNear holds the place of the nearest of the nonLinear levels to
// each half-open interval of length 1/2 from −128 on: the midpoints between
// levels are multiples of 1/2.
var nonLinearNear = func() (near [512]uint8) {
	for i := range near {
		t := float32(float32(i)/2) - 128 + 0.25
		best := float32(1000)
		for p, level := range nonLinear {
			if d := magnitude(t - level); d < best {
				best, near[i] = d, uint8(p)
			}
		}
	}
	return near
}()

var nonLinearNearLevel = func() (near [512]float32) {
	for i, p := range nonLinearNear {
		near[i] = nonLinear[p]
	}
	return near
}()

// nonLinearInterval returns the interval of nonLinearNear that t lies in, the
// first or last where it lies outside.
func nonLinearInterval(t float32) int32 {
	if t < -128 {
		return 0
	}
	if t > 127 {
		return 511
	}
	return int32(float32(t*2) + 256)
}

func nonLinearPlace(t float32) uint8 { return nonLinearNear[nonLinearInterval(t)&511] }

// nonLinearResiduals sums w × (x × inv − nearest level)² in each lane.
func nonLinearResiduals(sum *lanes, x, w []float32, inv *lanes) {
	w = w[:len(x)]
	for j := 0; j < ways; j += 2 {
		inv0, inv1 := inv[j], inv[j+1]
		var s0, s1 float32
		for i, v := range x {
			t0, t1 := float32(v*inv0), float32(v*inv1)
			r0 := t0 - nonLinearNearLevel[nonLinearInterval(t0)&511]
			r1 := t1 - nonLinearNearLevel[nonLinearInterval(t1)&511]
			s0 += float32(w[i] * float32(r0*r0))
			s1 += float32(w[i] * float32(r1*r1))
		}
		sum[j], sum[j+1] = s0, s1
	}
}

// nonLinearMoments sums the moments that scales need of the levels nearest to
// x × inv; wx is w × x.
func nonLinearMoments(m *moments, x, w, wx []float32, inv *lanes) {
	w = w[:len(x)]
	wx = wx[:len(x)]
	for j := 0; j < ways; j += 2 {
		inv0, inv1 := inv[j], inv[j+1]
		var qq0, qq1, xq0, xq1 float32
		for i, v := range x {
			q0 := nonLinearNearLevel[nonLinearInterval(float32(v*inv0))&511]
			q1 := nonLinearNearLevel[nonLinearInterval(float32(v*inv1))&511]
			qq0 += float32(w[i] * float32(q0*q0))
			qq1 += float32(w[i] * float32(q1*q1))
			xq0 += float32(wx[i] * q0)
			xq1 += float32(wx[i] * q1)
		}
		m.qq[j], m.qq[j+1], m.xq[j], m.xq[j+1] = qq0, qq1, xq0, xq1
	}
}
