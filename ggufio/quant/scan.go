package quant

import "math"

// The searches of the encoders try eight scales at once: lane j of a scan
// rounds the weights with scale and offset j. Sums run over the weights in
// order, in float32, lane by lane apart, so that vector instructions give the
// same bits as the Go code.

const ways = 8

// roundBias, added and subtracted, rounds to the nearest integer, ties to
// even, below 2^22; beyond, it leaves the order of values as it was, which is
// all that clamping needs.
const roundBias = 0x1.8p23

// roundClamp rounds t to an integer from lo to hi.
func roundClamp(t, lo, hi float32) float32 {
	q := (float32(t) + roundBias) - roundBias // t may be a product: the conversion keeps it from being fused
	if q < lo {
		q = lo
	}
	if q > hi {
		q = hi
	}
	return q
}

// residualsGo sums w × (t − q)² for t = x × inv + off, in each lane, with q the
// nearest level from lo to hi. x and w are equally long.
func residualsGo(sum *lanes, x, w []float32, inv, off *lanes, lo, hi float32) {
	w = w[:len(x)]
	for j := 0; j < ways; j += 2 {
		inv0, off0, inv1, off1 := inv[j], off[j], inv[j+1], off[j+1]
		var s0, s1 float32
		for i, v := range x {
			t0, t1 := float32(v*inv0)+off0, float32(v*inv1)+off1
			r0, r1 := t0-roundClamp(t0, lo, hi), t1-roundClamp(t1, lo, hi)
			s0 += float32(w[i] * float32(r0*r0))
			s1 += float32(w[i] * float32(r1*r1))
		}
		sum[j], sum[j+1] = s0, s1
	}
}

// moments are what a least-squares fit of scale and offset needs, per lane.
type moments struct {
	q, qq, xq lanes // Σ w q, Σ w q², Σ w x q
}

// fitMomentsGo sums the moments of the levels that the lanes give; wx is w × x.
func fitMomentsGo(m *moments, x, w, wx []float32, inv, off *lanes, lo, hi float32) {
	w = w[:len(x)]
	wx = wx[:len(x)]
	for j := range ways {
		inv, off := inv[j], off[j]
		var sq, sqq, sxq float32
		for i, v := range x {
			q := roundClamp(float32(v*inv)+off, lo, hi)
			wq := float32(w[i] * q)
			sq += wq
			sqq += float32(wq * q)
			sxq += float32(wx[i] * q)
		}
		m.q[j], m.qq[j], m.xq[j] = sq, sqq, sxq
	}
}

// roundLevelsGo writes the levels of x, plus bias.
func roundLevelsGo(q []uint8, x []float32, inv, off, lo, hi, bias float32) {
	q = q[:len(x)]
	for i, v := range x {
		q[i] = uint8(int32(roundClamp(float32(v*inv)+off, lo, hi) + bias))
	}
}

// An objective says how much a weight's error counts beside the importance of
// its column. GGML's own searches let large weights count for more than their
// share of the squared error, which real models reward: with the plain squared
// error alone, a Q2_K model strays further from the original although its
// weights are closer. The factors with importance are GGML's, type by type;
// those without keep a share of the plain squared error.
type objective struct {
	// weighted is k in sqrt(k × mean square + x²), the factor that goes with
	// importance; 0 for none.
	weighted float32
	// plain is the factor without importance.
	plain plainFactor
}

type plainFactor uint8

const (
	squared   plainFactor = iota // x² + mean square / 2; GGML: x²
	absolute                     // |x| + root mean square / 4; GGML: |x|
	offsetAbs                    // |x| + root mean square
)

// An importance holds the weights of a super-block's errors.
type importance struct {
	w [superBlock]float32
}

// weightFloor keeps weights of importance 0 from being encoded as anything at
// all, and the sums from being 0. It is relative to the largest importance.
const weightFloor = 0x1p-40

// load weighs the errors of x, of at most 256 weights; columns holds the
// importance of their columns or is nil. meanSquare is that of the weights
// that the objective names. The largest column counts about 1.
func (m *importance) load(x, columns []float32, o objective, meanSquare float32) {
	w := m.w[:len(x)]
	// Where squares leave the range of float32, nothing but the range matters:
	// the type holds neither.
	measured := measurable(meanSquare)
	if columns == nil {
		m.loadPlain(x, o.plain, meanSquare, measured)
		return
	}
	columns = columns[:len(x)]
	scale := maxMagnitude(columns)
	switch {
	case scale == 0:
		scale = 1
	case scale < 0x1p-100: // 1/scale would be infinite
		scale = 0x1p100
	default:
		scale = 1 / scale
	}
	if o.weighted == 0 || !measured {
		for i, c := range columns {
			w[i] = float32(c*scale) + weightFloor
		}
		return
	}
	spread := float32(o.weighted * meanSquare)
	scale /= sqrt32(spread)
	for i, c := range columns {
		w[i] = float32(float32(c*scale)*sqrt32(spread+float32(x[i]*x[i]))) + weightFloor
	}
}

func measurable(meanSquare float32) bool { return meanSquare > 0x1p-100 && meanSquare < 0x1p100 }

func (m *importance) loadPlain(x []float32, f plainFactor, meanSquare float32, measured bool) {
	w := m.w[:len(x)]
	if !measured {
		for i := range w {
			w[i] = 1
		}
		return
	}
	rms := sqrt32(meanSquare)
	switch f {
	case squared:
		scale := 1 / meanSquare
		for i, v := range x {
			w[i] = float32(float32(v*v)*scale) + 0.5
		}
	case absolute:
		scale := 1 / rms
		for i, v := range x {
			w[i] = float32(magnitude(v)*scale) + 0.25
		}
	case offsetAbs:
		scale := 1 / rms
		for i, v := range x {
			w[i] = float32(magnitude(v)*scale) + 1
		}
	}
}

// sqrt32 is correctly rounded.
func sqrt32(x float32) float32 { return float32(math.Sqrt(float64(x))) }

// meanSquare returns the mean of x².
func meanSquare(x []float32) float32 {
	var s0, s1, s2, s3 float32
	n := float32(len(x))
	for ; len(x) >= 4; x = x[4:] {
		s0 += float32(x[0] * x[0])
		s1 += float32(x[1] * x[1])
		s2 += float32(x[2] * x[2])
		s3 += float32(x[3] * x[3])
	}
	return ((s0 + s1) + (s2 + s3)) / n
}

// columnsOf returns the importance of n columns from at on, or nil.
func columnsOf(weights []float32, at, n int) []float32 {
	if weights == nil {
		return nil
	}
	return weights[at : at+n]
}

// halfAbove rounds a positive number up to a binary16.
func halfAbove(f float32) uint16 {
	h := floatToHalf(f)
	if HalfToFloat(h) < f {
		h++
	}
	return h
}

// A valueRange is the least and the largest of some values.
type valueRange struct{ lo, hi float32 }

// farther returns the bound that is farther from zero.
func (r valueRange) farther() float32 {
	if -r.lo > r.hi {
		return r.lo
	}
	return r.hi
}

// rangeOf returns the range of values; a bound that is zero is not −0, so that
// the order in which they are compared does not matter.
func rangeOf(x []float32) valueRange {
	r := extremes(x)
	if r.lo == 0 {
		r.lo = 0
	}
	if r.hi == 0 {
		r.hi = 0
	}
	return r
}

func extremesGo(x []float32) valueRange {
	r := valueRange{x[0], x[0]}
	for _, v := range x {
		r.lo, r.hi = min(r.lo, v), max(r.hi, v)
	}
	return r
}

// ranges returns the range of all values, and of those that have weight: the
// largest weight of a super-block is 1, but a sub-block may have none, and
// then all its values count.
func ranges(x, w []float32) (all, used valueRange) {
	w = w[:len(x)]
	all = valueRange{x[0], x[0]}
	used = valueRange{math.MaxFloat32, -math.MaxFloat32}
	for i, v := range x {
		if v < all.lo {
			all.lo = v
		}
		if v > all.hi {
			all.hi = v
		}
		if w[i] > weightFloor {
			if v < used.lo {
				used.lo = v
			}
			if v > used.hi {
				used.hi = v
			}
		}
	}
	if used.lo > used.hi {
		used = all
	}
	return all, used
}
