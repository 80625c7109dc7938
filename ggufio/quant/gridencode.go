package quant

import "math"

// A gridFormat is what the encoders of the IQ types with signs differ in.
type gridFormat struct {
	book       *codebook
	subWeights int     // weights that share a scale
	parity     bool    // each eight weights have an even number of minuses
	unit       float32 // weight = d × unit × (2q+1) × level × sign, q four bits
	bytes      int
	pack       func(dst []byte, e *gridEncoder)
}

const (
	superWeights = 256 // weights in a super-block
	maxSubs      = 16  // most sub-blocks in one
)

// A gridEncoder holds one super-block. Weights and importances are scaled by
// powers of two to the order of one, so that no product leaves the range.
type gridEncoder struct {
	*gridFormat
	s searcher

	// Magnitudes and importances, dims lanes per batch of eight codewords;
	// flipped has each magnitude's sign changed where the eight weights it
	// belongs to have an odd number of minuses.
	x, w, flipped [32]lanes
	signs         [32]uint8 // of each eight weights
	odd           [32]bool  // whether one of these signs must be flipped
	exponent      int       // x × 2^exponent are the row's weights

	top   [maxSubs]float32 // largest magnitude of each sub-block
	mean  [maxSubs]float32 // mean magnitude, by importance
	scale [maxSubs]float32 // what to search with
	cost  [maxSubs]float32 // what was found
	a, b  [maxSubs]float32 // Σ w level², Σ w x level
	code  [64]uint16
	flip  [32]uint8 // the sign that was flipped, 8 if none
	q     [maxSubs]uint8
	half  uint16
}

func (f *gridFormat) newEncoder() rowEncoder {
	return &gridEncoder{gridFormat: f, s: searcher{book: f.book}}
}

func (e *gridEncoder) encodeRow(dst []byte, row, weights []float32) int {
	for block := 0; len(row) >= superWeights; block++ {
		var w []float32
		if weights != nil {
			w, weights = weights[:superWeights], weights[superWeights:]
		}
		out := dst[:e.bytes]
		clear(out)
		if e.load(row[:superWeights], w) {
			if !e.solve() {
				return block
			}
			e.pack(out, e)
		}
		row, dst = row[superWeights:], dst[e.bytes:]
	}
	return -1
}

// load takes a super-block; it reports false if all weights are zero.
func (e *gridEncoder) load(row, weights []float32) bool {
	largest := maxMagnitude(row)
	if largest == 0 {
		return false
	}
	e.exponent = binaryExponent(largest)
	down := math.Ldexp(1, -e.exponent)
	wdown := 0.0
	if weights != nil {
		if m := maxMagnitude(weights); m > 0 {
			wdown = math.Ldexp(1, -binaryExponent(m))
		}
	}
	dims := e.book.dims
	for sub := range superWeights / e.subWeights {
		begin := sub * e.subWeights
		total := float32(0)
		for i := begin; i < begin+e.subWeights; i++ {
			at, lane := i/(8*dims)*dims+i%dims, i/dims&7
			e.x[at][lane] = float32(float64(magnitude(row[i])) * down)
			e.w[at][lane] = 1
			if weights != nil {
				e.w[at][lane] = float32(float64(magnitude(weights[i])) * wdown)
			}
			total += e.w[at][lane]
		}
		e.top[sub], e.mean[sub] = 0, 0
		for i := begin; i < begin+e.subWeights; i++ {
			at, lane := i/(8*dims)*dims+i%dims, i/dims&7
			if total == 0 {
				e.w[at][lane] = unseenWeight
			}
			if e.w[at][lane] > 0 {
				e.top[sub] = max(e.top[sub], e.x[at][lane])
			}
			e.mean[sub] += float32(e.w[at][lane] * e.x[at][lane])
		}
		if total > 0 {
			e.mean[sub] /= total
		} else {
			e.mean[sub] /= float32(e.subWeights) * unseenWeight
		}
	}
	for k := range e.signs {
		s := uint8(0)
		n := 0
		for j, v := range row[8*k : 8*k+8] {
			if v < 0 {
				s |= 1 << j
				n++
			}
		}
		e.signs[k], e.odd[k] = s, e.parity && n%2 == 1
		for i := 8 * k; i < 8*k+8; i++ {
			at, lane := i/(8*dims)*dims+i%dims, i/dims&7
			e.flipped[at][lane] = e.x[at][lane]
			if e.odd[k] {
				e.flipped[at][lane] = -e.x[at][lane]
			}
		}
	}
	return true
}

// unseenWeight is the importance of a sub-block whose weights have none: they
// are encoded as well as the others permit.
const unseenWeight = 0x1p-40

// binaryExponent returns e with 2^e ≤ x < 2^(e+1), for x > 0.
func binaryExponent(x float32) int {
	_, e := math.Frexp(float64(x))
	return e - 1
}

// evaluate finds the cost of each sub-block at e.scale; with codewords, it
// keeps the codewords too.
func (e *gridEncoder) evaluate(codewords bool) {
	clear(e.cost[:])
	dims := e.book.dims
	per := e.subWeights / dims
	for batch := range superWeights / (8 * dims) {
		var scale lanes
		for i := range scale {
			scale[i] = e.scale[(8*batch+i)/per]
		}
		x, w, flipped := e.x[dims*batch:][:dims], e.w[dims*batch:][:dims], e.flipped[dims*batch:][:dims]
		if !e.parity {
			e.s.search(x, nil, w, &scale, e.book.level)
			for i, c := range e.s.best {
				e.cost[(8*batch+i)/per] += c
				if codewords {
					e.code[8*batch+i] = e.s.codeword(i)
				}
			}
			continue
		}
		if dims == 8 {
			e.s.search(x, flipped, w, &scale, e.book.level)
			for i, c := range e.s.best {
				e.cost[(8*batch+i)/per] += c
				if codewords {
					e.code[8*batch+i] = e.s.codeword(i)
				}
			}
			continue
		}
		e.s.search(x, flipped, w, &scale, e.book.level)
		odd := e.s.best
		if codewords {
			for i := range odd {
				e.code[8*batch+i] = e.s.codeword(i)
			}
		}
		e.s.search(x, nil, w, &scale, e.book.level)
		for i := 0; i < 8; i += 2 {
			c0, c1 := odd[i]+e.s.best[i+1], e.s.best[i]+odd[i+1]
			e.cost[(8*batch+i)/per] += min(c0, c1)
			if codewords {
				if c0 <= c1 {
					e.code[8*batch+i+1] = e.s.codeword(i + 1)
				} else {
					e.code[8*batch+i] = e.s.codeword(i)
				}
			}
		}
	}
	if codewords {
		e.sums()
	}
}

// sums computes the sums of which the cost is made, and chooses which signs to
// flip: those that cost least.
func (e *gridEncoder) sums() {
	clear(e.a[:])
	clear(e.b[:])
	dims := e.book.dims
	for k := range e.signs {
		var a, b float32
		flip, least := uint8(8), float32(maxCost)
		for j := range 8 {
			i := 8*k + j
			at, lane := i/(8*dims)*dims+i%dims, i/dims&7
			level := e.book.level[e.book.word[e.code[i/dims]][i%dims]]
			wl := e.w[at][lane] * level
			p := e.x[at][lane] * wl
			a += float32(wl * level)
			b += p
			if e.odd[k] && p < least {
				flip, least = uint8(j), p
			}
		}
		if flip < 8 {
			b -= 2 * least
		}
		e.flip[k] = flip
		e.a[8*k/e.subWeights] += a
		e.b[8*k/e.subWeights] += b
	}
}

const (
	ladderRatio = 0.87
	ladderSteps = 10
)

// solve chooses scales and codewords; it reports false if d is out of range.
func (e *gridEncoder) solve() bool {
	subs := superWeights / e.subWeights
	var best, bestCost [maxSubs]float32
	levels := e.book.level
	for i := range subs {
		best[i], bestCost[i] = 0, maxCost
		e.scale[i] = e.top[i] / levels[len(levels)-1] * 1.15
	}
	try := func() {
		e.evaluate(false)
		for i := range subs {
			if e.cost[i] < bestCost[i] {
				best[i], bestCost[i] = e.scale[i], e.cost[i]
			}
		}
	}
	for range ladderSteps {
		try()
		for i := range subs {
			e.scale[i] *= ladderRatio
		}
	}
	// Weights of nearly one magnitude are best served by one low level.
	for _, level := range levels[:2] {
		for i := range subs {
			e.scale[i] = e.mean[i] / level
		}
		try()
	}
	e.scale = best
	e.evaluate(true)
	var fit [maxSubs]float32
	largest := float32(0)
	for i := range subs {
		if e.a[i] > 0 && e.b[i] > 0 {
			fit[i] = e.b[i] / e.a[i]
		}
		largest = max(largest, fit[i])
	}
	if largest == 0 {
		return true // nothing of importance: a block of zeros
	}
	// d
	d, least := float32(0), float32(maxCost)
	for k := range dSteps {
		try := largest / (31 * e.unit) * (0.9 + 0.03*float32(k))
		c := float32(0)
		for i := range subs {
			t := e.stepScale(try, e.nearest(fit[i], try)) - fit[i]
			c += float32(e.a[i] * float32(t*t))
		}
		if c < least {
			d, least = try, c
		}
	}
	var ok bool
	if d, ok = e.round(d); !ok {
		return false
	}
	var q0 [maxSubs]uint8
	for i := range subs {
		q0[i] = e.nearest(fit[i], d)
		bestCost[i] = maxCost
	}
	for off := -qWindow; off <= qWindow; off++ {
		for i := range subs {
			e.scale[i] = e.stepScale(d, uint8(max(0, min(15, int(q0[i])+off))))
		}
		e.evaluate(false)
		for i := range subs {
			if e.cost[i] < bestCost[i] {
				bestCost[i], e.q[i] = e.cost[i], uint8(max(0, min(15, int(q0[i])+off)))
			}
		}
	}
	for range refits {
		for i := range subs {
			e.scale[i] = e.stepScale(d, e.q[i])
		}
		e.evaluate(true)
		var a, b float32
		for i := range subs {
			m := e.stepScale(1, e.q[i])
			a += float32(float32(m*m) * e.a[i])
			b += m * e.b[i]
		}
		if b <= 0 {
			break
		}
		if d, ok = e.round(b / a); !ok {
			return false
		}
	}
	return true
}

var (
	dSteps  = 20
	qWindow = 1
	refits  = 1
)

func (e *gridEncoder) stepScale(d float32, q uint8) float32 {
	return d * (e.unit * float32(2*int(q)+1))
}

func (e *gridEncoder) nearest(s, d float32) uint8 {
	v := (s/(d*e.unit) - 1) / 2
	return uint8(max(0, min(15, roundToInt(max(-1, min(20, v))))))
}

func (e *gridEncoder) round(d float32) (float32, bool) {
	v := math.Ldexp(float64(d), e.exponent)
	if v > 65519 {
		return 0, false
	}
	e.half = floatToHalf(float32(v))
	return float32(math.Ldexp(float64(halfToFloat(e.half)), -e.exponent)), true
}

// minuses returns the signs of eight weights as encoded.
func (e *gridEncoder) minuses(k int) uint8 { return e.signs[k] ^ uint8(1<<e.flip[k]) }
