package quant

import "math"

// A levelBlock is a block whose weights are d × an integer between lo and hi.
type levelBlock struct {
	x, w     []float32 // weights × 2^-exponent, and importances scaled alike
	exponent int
	lo, hi   float32
	survey
	scaled [2][superWeights]float32 // where x and w are not the caller's own
}

// A survey is what one look at a block finds.
type survey struct {
	highest, lowest float32 // of x and 0
	largestW        float32
	wx, ww          float32 // Σ w |x|, Σ w
}

// Products of numbers in this range, and sums of them, are exact enough and do
// not overflow. Other blocks are scaled by powers of two.
const (
	safeLow  = 0x1p-30
	safeHigh = 0x1p20
)

// load takes a block; it reports false if its weights are all zero.
func (b *levelBlock) load(row, weights []float32) bool {
	b.x, b.w, b.exponent = row, weights, 0
	if weights == nil {
		b.w = allOnes[:len(row)]
	}
	b.look()
	if b.highest == 0 && b.lowest == 0 {
		return false
	}
	if largest := b.largest(); largest < safeLow || largest > safeHigh {
		b.exponent = binaryExponent(largest)
		b.x = rescale(b.scaled[0][:len(row)], row, -b.exponent)
	} else if b.largestW >= safeLow && b.largestW <= safeHigh {
		return true
	}
	if b.largestW == 0 {
		b.w = allOnes[:len(row)]
	} else {
		b.w = rescale(b.scaled[1][:len(row)], b.w, -binaryExponent(b.largestW))
	}
	b.look()
	return true
}

func (b *levelBlock) largest() float32 { return max(b.highest, -b.lowest) }

// mean is the mean magnitude by importance.
func (b *levelBlock) mean() float32 {
	if b.ww == 0 {
		return 0
	}
	return b.wx / b.ww
}

func (b *levelBlock) look() { b.survey = surveyOf(b.x, b.w) }

var allOnes = func() (ones [superWeights]float32) {
	for i := range ones {
		ones[i] = 1
	}
	return ones
}()

// rescale writes x × 2^exponent.
func rescale(dst, x []float32, exponent int) []float32 {
	by := math.Ldexp(1, exponent)
	for i, v := range x {
		dst[i] = float32(float64(v) * by)
	}
	return dst
}

// surveyGo takes blocks of whole eights, in eight lanes.
func surveyGo(x, w []float32) survey {
	var high, low, top, wx, ww lanes
	for len(x) >= 8 && len(w) >= 8 {
		for i := range 8 {
			high[i], low[i], top[i] = max(high[i], x[i]), min(low[i], x[i]), max(top[i], w[i])
			wx[i] += float32(w[i] * magnitude(x[i]))
			ww[i] += w[i]
		}
		x, w = x[8:], w[8:]
	}
	s := survey{wx: total(&wx), ww: total(&ww)}
	for i := range high {
		s.highest, s.lowest, s.largestW = max(s.highest, high[i]), min(s.lowest, low[i]), max(s.largestW, top[i])
	}
	return s
}

// sums returns Σ w x q and Σ w q² where q is the level nearest to x × inverse.
// With d = b/a their error is Σ w x² − b²/a.
func (b *levelBlock) sums(inverse float32) (wxq, wqq float32) {
	return levelSums(b.x, b.w, inverse, b.lo, b.hi)
}

// total adds up lanes, halves first.
func total(l *lanes) float32 {
	return (l[0] + l[4] + (l[1] + l[5])) + (l[2] + l[6] + (l[3] + l[7]))
}

const largestInverse = 0x1p40

// refine returns the best d that it finds by rounding to levels at each start
// and fitting d to them, and once more at the best; 0 if no start is of use.
func (b *levelBlock) refine(starts ...float32) float32 {
	best, gain := float32(0), float32(0)
	try := func(d float32) {
		inverse := 1 / d
		if !(magnitude(inverse) < largestInverse) {
			return
		}
		wxq, wqq := b.sums(inverse)
		if g := wxq * wxq; wqq > 0 && g > float32(gain*wqq) {
			best, gain = wxq/wqq, g/wqq
		}
	}
	for _, d := range starts {
		try(d)
	}
	if best != 0 {
		try(best)
	}
	return best
}

// halfOverflow is the least number that rounds past binary16's range.
const halfOverflow = 65520

// round rounds d to a binary16; ok is false if it overflows. inverse is that
// of the rounded d, 0 if that is 0.
func (b *levelBlock) round(d float32) (half uint16, inverse float32, ok bool) {
	by := 1.0
	if b.exponent != 0 {
		by = math.Ldexp(1, b.exponent)
	}
	v := float64(d) * by
	if math.Abs(v) >= halfOverflow {
		return 0, 0, false
	}
	half = floatToHalf(float32(v))
	if half&0x7fff == 0 {
		return 0, 0, true
	}
	inverse = float32(by / float64(halfToFloat(half)))
	return half, max(-largestInverse, min(largestInverse, inverse)), true
}

// levelSumsGo adds up w x q and w q² in eight lanes, q being x × inverse
// rounded to the nearest integer, ties to even, between lo and hi.
func levelSumsGo(x, w []float32, inverse, lo, hi float32) (wxq, wqq float32) {
	var sx, sq lanes
	for len(x) >= 8 && len(w) >= 8 {
		for i := range 8 {
			v := min(max(x[i]*inverse, lo), hi)
			q := float32(v+0x1.8p23) - 0x1.8p23
			wq := w[i] * q
			sx[i] += float32(wq * x[i])
			sq[i] += float32(wq * q)
		}
		x, w = x[8:], w[8:]
	}
	return total(&sx), total(&sq)
}

// levelBytesGo writes these integers less lo.
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
