package quant

import "math"

// A shellFormat is what the encoders of the IQ types of magnitudes differ in.
// They follow GGML's choices, step by step, so that an error measured here is
// that of the file llama-quantize writes: an exhaustive search of these
// codebooks leaves up to a third less error, and a model far better than any
// real file.
type shellFormat struct {
	book       func() *shellBook
	subWeights int     // weights that share a scale
	even       bool    // eight weights have an even number of minuses
	spread     float32 // importance × sqrt(spread × mean square + x²)
	tries      int     // scales tried to each side of the first
	step       float32 // between them, in levels of the largest weight
	fitFirst   bool    // the scales are about a fit, not about the largest weight
	again      bool    // at the scale found, codewords that need no list are sought again too
	least      float64 // a sub-block of smaller weights counts as zeros
	stretch    float32 // of d: it makes up for errors that draw weights to zero
	bytes      int
	pack       func(dst []byte, e *shellEncoder)
}

// mostQ is the largest multiple: a sub-block's scale is d × (2q+1), in units.
const mostQ = 15

// negligible is too small beside the super-block's largest weight, which is at
// the order of one, to have a scale of its own, whatever the type says.
const negligible = 0x1p-40

// A shellEncoder holds one super-block.
type shellEncoder struct {
	*shellFormat
	book *shellBook
	s    shellSearch

	x, w     [superWeights]float32 // magnitudes by powers of two at the order of one
	minus    [32]uint8             // signs of each eight weights
	exponent int                   // x × 2^exponent are the row's weights

	word  [64]uint16
	scale [maxSubs]float32
	q     [maxSubs]uint8
	half  uint16
}

func (f *shellFormat) newEncoder() rowEncoder {
	return &shellEncoder{shellFormat: f, book: f.book()}
}

func (e *shellEncoder) encodeRow(dst []byte, row, weights []float32) int {
	return encodeSupers(e, e.bytes, dst, row, weights)
}

func (e *shellEncoder) packInto(dst []byte) { e.pack(dst, e) }

// load takes a super-block; it reports false if all weights are zero.
func (e *shellEncoder) load(row, weights []float32) bool {
	largest := maxMagnitude(row)
	if largest == 0 {
		return false
	}
	e.exponent = binaryExponent(largest)
	scale, weigh := math.Ldexp(1, -e.exponent), 0.0
	if weights != nil {
		if m := maxMagnitude(weights); m > 0 {
			weigh = math.Ldexp(1, -binaryExponent(m))
		}
	}
	for i, v := range row {
		e.x[i] = float32(float64(v) * scale)
	}
	spread := float32(e.spread * meanSquare(e.x[:]))
	for i, v := range e.x {
		if weights == nil {
			e.w[i] = v * v
		} else {
			e.w[i] = float32(float64(weights[i])*weigh) * sqrt32(spread+float32(v*v))
		}
	}
	for k := range e.minus {
		e.loadSigns(k)
	}
	return true
}

// loadSigns takes the signs off eight weights. Where the number of minuses must
// be even and is not, the weight that matters least keeps the wrong one: its
// magnitude is negative.
func (e *shellEncoder) loadSigns(k int) {
	x, w := e.x[8*k:8*k+8], e.w[8*k:8*k+8]
	var bits uint8
	odd, least, at := false, float32(0), 0
	for j, v := range x {
		if c := float32(w[j] * float32(v*v)); j == 0 || c < least {
			least, at = c, j
		}
		if v < 0 {
			bits |= 1 << j
			odd = !odd
			x[j] = -v
		}
	}
	if odd && e.even {
		bits ^= 1 << at
		x[at] = -x[at]
	}
	e.minus[k] = bits
}

// solve chooses scales and codewords. It reports whether any sub-block has a
// scale, and ok false if the block's is out of range.
func (e *shellEncoder) solve() (found, ok bool) {
	largest := float32(0)
	for sub := range superWeights / e.subWeights {
		e.scale[sub] = e.fit(sub)
		largest = max(largest, e.scale[sub])
	}
	if largest < negligible {
		return false, true
	}
	d := largest / (2*mostQ + 1)
	v := math.Ldexp(float64(float32(d*e.stretch)), e.exponent)
	if v >= halfOverflow {
		return false, false
	}
	e.half = floatToHalf(float32(v))
	inverse := 1 / d
	for sub := range superWeights / e.subWeights {
		e.q[sub] = uint8(roundClamp(float32(float32(inverse*e.scale[sub])-1)*0.5, 0, mostQ))
	}
	return true, true
}

// fit chooses the codewords of a sub-block and returns its scale.
func (e *shellEncoder) fit(sub int) float32 {
	begin, n := sub*e.subWeights, e.subWeights/8
	x, w := e.s.x[:e.subWeights], e.s.w[:e.subWeights]
	copy(x, e.x[begin:])
	copy(w, e.w[begin:])
	words := e.word[begin/e.book.dims:][:e.subWeights/e.book.dims]
	clear(words)
	top, total := float32(0), float32(0)
	for i, v := range x {
		top = max(top, v)
		total += w[i]
	}
	if total == 0 { // no column is ever used: as well as may be
		for i := range w {
			w[i] = 1
		}
	}
	for i, v := range w {
		e.s.pick[i] = sqrt32(v)
	}
	if top < max(negligible, float32(math.Ldexp(e.least, -e.exponent))) {
		return 0
	}
	if e.fitFirst {
		top = min(3*wrappingFit(x, w, top), 1/negligible)
	}
	if top <= 0 {
		return 0
	}

	highest := float32(2*e.book.levels - 1)
	scale, best := top/highest, float32(0)
	var entry [8]uint32
	for k := -e.tries; k <= e.tries; k++ {
		inverse := (highest + float32(float32(k)*e.step)) / top
		e.s.search(e.book, n, inverse, 1/inverse)
		a, b := e.s.qx.sum(), e.s.qq.sum()
		if b > 0 && float32(a*a) > float32(best*b) {
			scale = a / b
			best = float32(scale * a)
			copy(words, e.s.word[:])
			entry = e.s.entry
		}
	}
	if scale > 0 {
		e.s.search(e.book, n, 1/scale, scale)
		for i := range words {
			if entry[i]&entryWord == 0 || e.again {
				words[i] = e.s.word[i]
			}
		}
		if a, b := e.moments(words, x, w); b > 0 {
			scale = a / b
		}
	}
	if scale < 0 {
		for k := range n {
			e.minus[begin/8+k] ^= 0xff
		}
		return -scale
	}
	return scale
}

// moments returns Σ w x q and Σ w q² of a sub-block.
func (e *shellEncoder) moments(words []uint16, x, w []float32) (a, b float32) {
	bits := e.book.bits()
	for k, word := range words {
		for j := range e.book.dims {
			i := k*e.book.dims + j
			q := float32(2*(word>>(j*bits)&(1<<bits-1)) + 1)
			wq := w[i] * q
			a += float32(wq * x[i])
			b += float32(wq * q)
		}
	}
	return a, b
}

// wrappingFit returns a scale s such that s × (0 … 4) are near x, the largest of
// which is top. A weight with the wrong sign is negative, and GGML keeps its level
// in a byte: −1 counts as 255 from then on, and the scale that follows may be far
// too large. Files have that error, so it is made here too.
func wrappingFit(x, w []float32, top float32) float32 {
	const levels, rounds = 4, 5
	var inverses, zero, sums lanes
	for i := range inverses {
		k := i - 4
		if k >= 0 {
			k++
		}
		inverses[i] = (float32(float32(k)*0.1) + levels) / top
	}
	inverse := levels / top
	least := float32(0)
	for i, v := range x {
		r := v - float32(roundClamp(float32(v*inverse), -128, levels)/inverse)
		least += float32(w[i] * float32(r*r))
	}
	residuals(&sums, x, w, &inverses, &zero, -128, levels)
	for i, c := range sums {
		if c /= float32(inverses[i] * inverses[i]); c < least {
			least, inverse = c, inverses[i]
		}
	}

	var level [32]float32
	var a, b float32
	for i, v := range x {
		l := roundClamp(float32(v*inverse), -128, levels)
		a += float32(float32(w[i]*v) * l)
		b += float32(float32(w[i]*l) * l)
		level[i] = wrapped(l)
	}
	for range rounds {
		changed := false
		for i, v := range x {
			wl := float32(w[i] * level[i])
			a1, b1 := a-float32(wl*v), b-float32(wl*level[i])
			if a1 <= 0 || b1 <= 0 {
				continue
			}
			l := roundClamp(float32(v*b1)/a1, -128, levels)
			if l == level[i] {
				continue
			}
			wl = float32(w[i] * l)
			a1 += float32(wl * v)
			b1 += float32(wl * l)
			if float32(float32(a1*a1)*b) > float32(float32(a*a)*b1) {
				level[i], a, b, changed = wrapped(l), a1, b1, true
			}
		}
		if !changed {
			break
		}
	}
	if b <= 0 {
		return 0
	}
	return a / b
}

// wrapped is a level as a byte holds it.
func wrapped(level float32) float32 { return float32(uint8(int32(level))) }

// code returns the number of a group's codeword.
func (e *shellEncoder) code(group int) uint16 { return e.book.code[e.word[group]] }
