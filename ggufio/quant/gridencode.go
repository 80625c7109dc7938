package quant

import "math"

// A gridFormat is what the encoders of the one-bit IQ types differ in.
type gridFormat struct {
	book       func() *codebook
	subWeights int // weights that share a scale
	shifts     shiftRule
	maxQ       int // largest multiple: weight = d × (2q+1) × (level + shift)
	tries      tries
	bytes      int
	pack       func(dst []byte, e *gridEncoder)
}

// A shiftRule says what shares a shift by ±⅛.
type shiftRule uint8

const (
	shiftPerSub   shiftRule = iota // a sub-block
	shiftPerGroup                  // a codeword
)

const (
	superWeights = 256 // weights in a super-block
	maxSubs      = 16  // most sub-blocks in one
	batches      = superWeights / (8 * bookDims)
)

// A gridEncoder holds one super-block. Weights and importances are scaled by
// powers of two to the order of one, so that no product leaves the range.
type gridEncoder struct {
	*gridFormat
	s searcher

	// Weights and importances, eight lanes per batch of eight codewords.
	x, w      [superWeights / 8]lanes
	exponent  int     // x × 2^exponent are the row's weights
	norm      float32 // Σ w x²
	dominated bool    // by one weight's importance, some sub-block is
	top       [maxSubs]float32
	mean      [maxSubs]float32 // of magnitudes, by importance

	// What evaluate is asked and answers.
	scale [maxSubs]float32
	cost  [maxSubs]float32
	down  [32]uint8        // 1 where a codeword is shifted down
	a, b  [maxSubs]float32 // Σ w level², Σ w x level

	// The encoding.
	code [32]uint16
	q    [maxSubs]uint8
	half uint16
}

func (f *gridFormat) newEncoder() rowEncoder {
	return &gridEncoder{gridFormat: f, s: searcher{book: f.book()}}
}

func (e *gridEncoder) encodeRow(dst []byte, row, weights []float32) int {
	return encodeSupers(e, e.bytes, dst, row, weights)
}

func (e *gridEncoder) packInto(dst []byte) { e.pack(dst, e) }

// A superEncoder encodes one super-block: solve finds how, or that its best
// code is all zero bytes, and reports false where its scale is out of range.
type superEncoder interface {
	load(row, weights []float32) bool // false if all weights are zero
	solve() (found, ok bool)
	packInto(dst []byte)
}

// encodeSupers encodes a row's super-blocks, each in size bytes, and returns
// the first that failed, or -1.
func encodeSupers(e superEncoder, size int, dst []byte, row, weights []float32) int {
	for block := 0; len(row) >= superWeights; block++ {
		out := dst[:size]
		clear(out)
		if e.load(row[:superWeights], columnsOf(weights, block*superWeights, superWeights)) {
			found, ok := e.solve()
			if !ok {
				return block
			}
			if found {
				e.packInto(out)
			}
		}
		row, dst = row[superWeights:], dst[size:]
	}
	return -1
}

// dominant is the part of a sub-block's importance that makes a weight its only
// concern.
const dominant = 0.9

// unseenWeight is the importance of a sub-block whose weights have none: they
// are encoded as well as the others permit.
const unseenWeight = 0x1p-40

// load takes a super-block; it reports false if all weights are zero.
func (e *gridEncoder) load(row, weights []float32) bool {
	largest := maxMagnitude(row)
	if largest == 0 {
		return false
	}
	e.exponent = binaryExponent(largest)
	scale := math.Ldexp(1, -e.exponent)
	weigh := 0.0
	if weights != nil {
		if m := maxMagnitude(weights); m > 0 {
			weigh = math.Ldexp(1, -binaryExponent(m))
		}
	}
	e.norm, e.dominated = 0, false
	for sub := range superWeights / e.subWeights {
		begin := sub * e.subWeights
		var total, product, top, heaviest float32
		for i := begin; i < begin+e.subWeights; i++ {
			at, lane := place(i)
			x := float32(float64(row[i]) * scale)
			w := float32(1)
			if weights != nil {
				w = float32(float64(magnitude(weights[i])) * weigh)
			}
			m := magnitude(x)
			if w > 0 {
				top = max(top, m)
			}
			total += w
			heaviest = max(heaviest, w)
			product += float32(w * m)
			e.x[at][lane], e.w[at][lane] = x, w
			e.norm += float32(float32(w*x) * x)
		}
		e.dominated = e.dominated || heaviest > dominant*total
		if total == 0 {
			for i := begin; i < begin+e.subWeights; i++ {
				at, lane := place(i)
				e.w[at][lane] = unseenWeight
				top = max(top, magnitude(e.x[at][lane]))
				total += unseenWeight
				product += float32(unseenWeight * magnitude(e.x[at][lane]))
			}
		}
		e.top[sub], e.mean[sub] = top, product/total
	}
	return true
}

// place says where the i-th weight of the super-block is in x and w.
func place(i int) (at, lane int) { return i>>6<<3 | i&7, i >> 3 & 7 }

// tries says which scales are tried for a sub-block: parts of its largest
// magnitude and of its mean magnitude.
type tries struct {
	ofTop, ofMean []float32
	// Of the mean, where one weight dominates a sub-block: then
	// the mean is that weight, and these give it a level exactly.
	ofDominant []float32
}

// solve chooses scales and codewords. It reports whether the block is better
// than zeros, and ok false if its scale is out of range.
func (e *gridEncoder) solve() (found, ok bool) {
	fit, largest := e.fitScales()
	if largest == 0 {
		return false, true
	}
	d, ok := e.round(e.chooseD(&fit, largest))
	if !ok || d == 0 {
		return false, ok
	}
	e.chooseQ(d, &fit)
	for i := range e.subs() {
		e.scale[i] = e.stepScale(d, e.q[i])
	}
	e.evaluateCodewords()
	var a, b float32
	for i := range e.subs() {
		m := e.stepScale(1, e.q[i])
		a += float32(float32(m*m) * e.a[i])
		b += float32(m * e.b[i])
	}
	if b <= 0 {
		return true, true
	}
	d, ok = e.round(b / a * e.unshrink(a, b))
	return d != 0, ok
}

// mostExcess is how much more error, for its size, may lessen the bias.
const mostExcess = 0.15

// unshrink returns what to multiply the least-squares d = b/a by, b being
// Σ w x q, a Σ w q² and e.norm Σ w x². Least squares draws weights towards zero,
// all alike, and errors that agree do not cancel in a product: the d of least
// error leaves a model far worse than one that keeps Σ w x q d = Σ w x². With r
// the part of the norm that is lost, this d is 1/(1−r) as large and adds the
// part r/(1−r) to the error; mostExcess bounds that part.
func (e *gridEncoder) unshrink(a, b float32) float32 {
	excess := max(0, min(1, float32(e.norm*a)/float32(b*b)-1))
	return 1 + min(excess, float32(math.Sqrt(float64(mostExcess*excess))))
}

func (e *gridEncoder) subs() int { return superWeights / e.subWeights }

// fitScales finds the best scale of each sub-block by itself, and the largest.
func (e *gridEncoder) fitScales() (fit [maxSubs]float32, largest float32) {
	subs := e.subs()
	var best [maxSubs]float32
	for i := range subs {
		best[i] = maxCost
	}
	var down [32]uint8
	per := 32 / subs
	try := func(of *[maxSubs]float32, part float32) {
		for i := range subs {
			e.scale[i] = of[i] * part
		}
		e.evaluate()
		for i := range subs {
			if e.cost[i] < best[i] {
				best[i], fit[i] = e.cost[i], e.scale[i]
				copy(down[per*i:per*i+per], e.down[per*i:])
			}
		}
	}
	for _, part := range e.tries.ofTop {
		try(&e.top, part)
	}
	for _, part := range e.tries.ofMean {
		try(&e.mean, part)
	}
	if e.dominated {
		for _, part := range e.tries.ofDominant {
			try(&e.mean, part)
		}
	}
	e.scale, e.down = fit, down
	e.evaluateCodewords()
	for i := range subs {
		fit[i] = 0
		if e.a[i] > 0 && e.b[i] > 0 {
			fit[i] = e.b[i] / e.a[i]
		}
		largest = max(largest, fit[i])
	}
	return fit, largest
}

// chooseD finds the d whose multiples are nearest to the scales.
func (e *gridEncoder) chooseD(fit *[maxSubs]float32, largest float32) float32 {
	d, least := float32(0), float32(maxCost)
	for k := range dSteps {
		try := largest / e.stepScale(1, uint8(e.maxQ)) * (0.9 + float32(0.03*float32(k)))
		c, inverse := float32(0), 0.5/try
		for i, a := range e.a[:e.subs()] {
			q := roundToInt(max(0, min(float32(e.maxQ), float32(fit[i]*inverse)-0.5)))
			t := float32(try*float32(2*q+1)) - fit[i]
			c += float32(a * float32(t*t))
		}
		if c < least {
			d, least = try, c
		}
	}
	return d
}

// chooseQ takes the multiple of d that is nearest to the scale of each sub-block.
func (e *gridEncoder) chooseQ(d float32, fit *[maxSubs]float32) {
	for i := range e.subs() {
		e.q[i] = e.nearest(fit[i], d)
	}
}

// dSteps values of d are compared, from 0.9 to 1.5 times the one that gives the
// largest scale the largest multiple.
const dSteps = 20

func (e *gridEncoder) stepScale(d float32, q uint8) float32 {
	return float32(d * float32(2*int(q)+1))
}

func (e *gridEncoder) nearest(s, d float32) uint8 {
	v := (s/d - 1) / 2
	return uint8(roundToInt(max(0, min(float32(e.maxQ), v))))
}

// round rounds d to what the block can hold; it reports false if d overflows.
func (e *gridEncoder) round(d float32) (float32, bool) {
	v := math.Ldexp(float64(d), e.exponent)
	if v >= halfOverflow {
		return 0, false
	}
	e.half = floatToHalf(float32(v))
	return float32(math.Ldexp(float64(HalfToFloat(e.half)), -e.exponent)), true
}
