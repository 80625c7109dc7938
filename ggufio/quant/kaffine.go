package quant

import (
	"encoding/binary"
	"math"
)

// Q2_K, Q4_K and Q5_K: weight = d × scale × q − dmin × min, with scale and min
// of a sub-block small integers.
//
// The search runs in three steps. Each sub-block gets the real scale and
// offset that minimise its weighted squared error: levels are rounded with a
// family of scales and offsets, least squares over the levels gives each its
// best scale and offset, the best of those is refined by a second, narrower
// family. Then d and dmin follow from the largest of them. Last, each
// sub-block takes the integers, among the neighbours of its real scale and
// offset, with the smallest exact error; least squares over all sub-blocks
// adjusts d and dmin to them, and the integers are chosen once more.
type affine struct {
	sub       int     // weights per sub-block
	hi        float32 // largest level
	maxCode   int32   // largest scale and min
	anyOffset bool    // offsets may be positive, as in Q4_1 and Q5_1
	coarse    []family
	fine      []family
	steps     []codeStep
	objective objective
	again     int // times that d and dmin are adjusted
	pack      func(dst []byte, s *affineScratch)
	blockLen  int
}

// A family is eight ways to round: stretch is added to the largest level that
// the range of the sub-block is mapped to, shift to all levels.
type family struct {
	stretch, shift lanes
}

// A codeStep is eight neighbours of a pair of scale and min.
type codeStep struct {
	scale, min [ways]int32
}

type affineScratch struct {
	*affine
	importance
	y, wy      [superBlock]float32 // weights less the least of their sub-block; w × y
	scale, min [16]float32         // real scale and −offset of each sub-block
	super
	q [superBlock]uint8
}

// super is the scales of a super-block as they are written.
type super struct {
	sc, mc   [16]int32 // integer scales and mins
	d, dmin  float32
	hd, hmin uint16
}

func newAffine(a *affine) func() rowEncoder {
	return func() rowEncoder { return &affineScratch{affine: a} }
}

func (s *affineScratch) encodeRow(dst []byte, row, weights []float32) int {
	for block := 0; len(row) >= superBlock && len(dst) >= s.blockLen; block++ {
		x := row[:superBlock]
		s.load(x, columnsOf(weights, block*superBlock, superBlock), s.objective, meanSquare(x))
		if !s.encode(x) {
			return block
		}
		s.pack(dst[:s.blockLen], s)
		row, dst = row[superBlock:], dst[s.blockLen:]
	}
	return -1
}

// encode finds the scales, mins and levels of a super-block, and reports
// whether d and dmin fit binary16.
func (s *affineScratch) encode(x []float32) bool {
	var maxScale, maxMin float32
	for k := 0; k*s.sub < superBlock; k++ {
		at := k * s.sub
		s.scale[k], s.min[k] = s.realFit(x[at:at+s.sub], at)
		maxScale, maxMin = max(maxScale, s.scale[k]), max(maxMin, s.min[k])
	}
	if !s.setSuper(maxScale/float32(s.maxCode), maxMin/float32(s.maxCode)) {
		return false
	}
	least := s.chooseCodes(x, false)
	for range s.again {
		before := s.super
		if !s.adjust(x) {
			break
		}
		e := s.chooseCodes(x, true)
		if !(e < least) {
			s.super = before
			break
		}
		least = e
	}
	for k := 0; k*s.sub < superBlock; k++ {
		at := k * s.sub
		inv, off := s.grid(s.sc[k], s.mc[k])
		roundLevels(s.q[at:at+s.sub], x[at:at+s.sub], inv, off, 0, s.hi, 0)
	}
	return true
}

// setSuper rounds d and dmin, not to zero unless they are.
func (s *affineScratch) setSuper(d, dmin float32) bool {
	s.hd, s.hmin = floatToHalf(d), floatToHalf(dmin)
	if s.hd == 0 {
		s.hd = 1 // also where it is zero, so that no scale is
	}
	if s.hmin == 0 && dmin > 0 {
		s.hmin = 1
	}
	s.d, s.dmin = HalfToFloat(s.hd), HalfToFloat(s.hmin)
	return !isHalfInf(s.hd) && !isHalfInf(s.hmin)
}

// grid returns the factor and offset that map weights to levels.
func (s *affineScratch) grid(sc, mc int32) (inv, off float32) {
	inv = 1 / float32(s.d*float32(sc))
	return inv, float32(float32(s.dmin*float32(mc)) * inv)
}

// realFit returns the scale ≥ 0 and −offset (≥ 0 unless anyOffset) of the sub-block at an index of
// its super-block.
func (s *affineScratch) realFit(x []float32, at int) (scale, offset float32) {
	n := len(x)
	y, wy, w := s.y[at:at+n], s.wy[at:at+n], s.w[at:at+n]
	all, used := ranges(x, w)
	if !s.anyOffset {
		all.lo, used.lo = min(all.lo, 0), min(used.lo, 0)
	}
	lo := used.lo
	span := used.hi - lo
	if !(span > 0x1p-60) { // below any scale
		return 0, -lo
	}
	var sumW, sumY float32
	for i, v := range x {
		v -= lo
		y[i] = v
		p := float32(w[i] * v)
		wy[i] = p
		sumW += w[i]
		sumY += p
	}
	b := affineBest{w: float64(sumW), y: float64(sumY), lo: float64(lo), anyOffset: s.anyOffset}
	s.tryFamilies(&b, y, w, wy, used, lo)
	if all != used { // columns without weight do not count, but levels may suit them
		s.tryFamilies(&b, y, w, wy, all, lo)
	}
	var m moments
	var inv, off lanes
	for f := range s.fine {
		if !(b.scale > 0) {
			break
		}
		c := &s.fine[f]
		// Levels of the best fit so far, stretched at their far end.
		base := float32(1 / b.scale)
		start := float32(-b.offset / b.scale)
		for j := range ways {
			stretch := c.stretch[j]
			inv[j] = base * (1 + stretch/s.hi)
			off[j] = float32(start*(1+stretch/s.hi)) + c.shift[j]
		}
		fitMoments(&m, y, w, wy, &inv, &off, 0, s.hi)
		b.take(&m)
	}
	if !(b.scale > 0) {
		return span / s.hi, -lo
	}
	offset = -(float32(b.offset) + lo)
	if !s.anyOffset {
		offset = max(0, offset)
	}
	return float32(b.scale), offset
}

// tryFamilies maps a range to the levels in each way of the coarse families.
// y is the values less lo.
func (s *affineScratch) tryFamilies(b *affineBest, y, w, wy []float32, r valueRange, lo float32) {
	var m moments
	var inv, off lanes
	for f := range s.coarse {
		c := &s.coarse[f]
		for j := range ways {
			inv[j] = (s.hi + c.stretch[j]) / (r.hi - r.lo)
			off[j] = float32((lo-r.lo)*inv[j]) + c.shift[j]
		}
		fitMoments(&m, y, w, wy, &inv, &off, 0, s.hi)
		b.take(&m)
	}
}

// affineBest is the best fit so far of y ≈ scale × q + offset.
type affineBest struct {
	anyOffset     bool
	w, y, lo      float64 // Σ w, Σ w y, what was taken from the weights
	gain          float64 // Σ w y² less the error
	scale, offset float64
}

func (b *affineBest) take(m *moments) {
	for j := range ways {
		q, qq, yq := float64(m.q[j]), float64(m.qq[j]), float64(m.xq[j])
		det := float64(b.w*qq) - float64(q*q)
		if !(det > float64(b.w*qq)*1e-6) { // all levels alike
			continue
		}
		scale := (float64(b.w*yq) - float64(q*b.y)) / det
		offset := (float64(qq*b.y) - float64(q*yq)) / det
		gain := float64(scale*yq) + float64(offset*b.y)
		if offset+b.lo > 0 && !b.anyOffset {
			// Offsets of weights are never positive: fix it at zero, −lo here.
			offset = -b.lo
			scale = (yq - float64(offset*q)) / qq
			// Σ w y² − Σ w (y − s q − o)²
			gain = 2*(float64(scale*yq)+float64(offset*b.y)) - float64(float64(scale*scale)*qq) -
				2*float64(float64(scale*offset)*q) - float64(float64(offset*offset)*b.w)
		}
		// The sums are good to a few parts in 10^7: what is not clearly better
		// would only scatter the scales of like sub-blocks.
		if scale > 0 && (gain > b.gain*(1+1e-6) || b.scale == 0) {
			b.gain, b.scale, b.offset = gain, scale, offset
		}
	}
}

// chooseCodes gives each sub-block the integers with the smallest error, near
// its real scale and min or, from the second time on, near those it has. It
// returns the error of all.
func (s *affineScratch) chooseCodes(x []float32, near bool) float32 {
	var total float32
	var inv, off, sum lanes
	var sc, mc [ways]int32
	for k := 0; k*s.sub < superBlock; k++ {
		at := k * s.sub
		var sc0, mc0 int32
		if near {
			sc0, mc0 = s.sc[k], s.mc[k]
		} else {
			sc0 = roundToInt(min(s.scale[k]/s.d, 100))
			if s.dmin > 0 {
				mc0 = roundToInt(min(s.min[k]/s.dmin, 100))
			}
		}
		best := float32(-1)
		steps := s.steps
		switch {
		case s.dmin == 0:
			steps = scaleSteps
		case near:
			steps = steps[:1]
		}
		for t := range steps {
			for j := range ways {
				sc[j] = max(1, min(s.maxCode, sc0+steps[t].scale[j]))
				mc[j] = max(0, min(s.maxCode, mc0+steps[t].min[j]))
				inv[j], off[j] = s.grid(sc[j], mc[j])
			}
			residuals(&sum, x[at:at+s.sub], s.w[at:at+s.sub], &inv, &off, 0, s.hi)
			for j := range ways {
				e := float32(sum[j] * float32(float32(sc[j])*float32(sc[j])))
				if best < 0 || e < best {
					best, s.sc[k], s.mc[k] = e, sc[j], mc[j]
				}
			}
		}
		total += best
	}
	return float32(total*s.d) * s.d
}

// adjust fits d and dmin to the integers and their levels, and reports whether
// either changed.
func (s *affineScratch) adjust(x []float32) bool {
	var p paraboloid
	for k := 0; k*s.sub < superBlock; k++ {
		at := k * s.sub
		inv, off := s.grid(s.sc[k], s.mc[k])
		roundLevels(s.q[at:at+s.sub], x[at:at+s.sub], inv, off, 0, s.hi, 0)
		var sw, sx, sq, sqq, sxq float64
		w := s.w[at : at+s.sub]
		q := s.q[at : at+s.sub]
		for i, v := range x[at : at+s.sub] {
			l, g, y := float64(q[i]), float64(w[i]), float64(v)
			wl, wy := float64(g*l), float64(g*y)
			sw += g
			sx += wy
			sq += wl
			sqq += float64(wl * l)
			sxq += float64(wy * l)
		}
		sc, mc := float64(s.sc[k]), float64(s.mc[k])
		p.dd += float64(float64(sc*sc) * sqq)
		p.dm += float64(float64(sc*mc) * sq)
		p.mm += float64(float64(mc*mc) * sw)
		p.d += float64(sc * sxq)
		p.m += float64(mc * sx)
	}
	hd, hmin := s.hd, s.hmin
	d, dmin := p.minimum()
	if s.dmin == 0 {
		dmin = 0
	}
	if !(d > 0) || !(dmin >= 0) || d > 65504 || dmin > 65504 {
		return false
	}
	s.hd, s.hmin = p.nearestHalves(d, dmin)
	s.d, s.dmin = HalfToFloat(s.hd), HalfToFloat(s.hmin)
	return s.hd != hd || s.hmin != hmin
}

// A paraboloid is the error of a super-block as a function of d and dmin, the
// rest fixed, but for a constant:
//
//	Σ w (x − d sc q + dmin mc)² = dd d² − 2 dm d dmin + mm dmin² − 2 d' d + 2 m' dmin + …
type paraboloid struct {
	dd, dm, mm, d, m float64
}

func (p *paraboloid) at(d, dmin float64) float64 {
	return float64(d*(float64(p.dd*d)-2*float64(p.dm*dmin)-2*p.d)) +
		float64(dmin*(float64(p.mm*dmin)+2*p.m))
}

// minimum returns where the error is least; dmin is 0 where it does not matter.
func (p *paraboloid) minimum() (d, dmin float64) {
	det := float64(p.dd*p.mm) - float64(p.dm*p.dm)
	switch {
	case det > float64(p.dd*p.mm)*1e-9:
		return (float64(p.d*p.mm) - float64(p.dm*p.m)) / det, (float64(p.d*p.dm) - float64(p.dd*p.m)) / det
	case p.dd > 0:
		return p.d / p.dd, 0
	}
	return 0, 0
}

// nearestHalves returns the best of the binary16 numbers around the minimum.
func (p *paraboloid) nearestHalves(d, dmin float64) (hd, hmin uint16) {
	h, m := floatToHalf(float32(d)), floatToHalf(float32(dmin))
	best := math.Inf(1)
	for i := range 3 {
		for j := range 3 {
			a, b := h+uint16(i)-1, m+uint16(j)-1
			if a == 0 || a >= halfInf || b >= halfInf || (dmin == 0) != (b == 0) {
				continue
			}
			if e := p.at(float64(HalfToFloat(a)), float64(HalfToFloat(b))); e < best {
				best, hd, hmin = e, a, b
			}
		}
	}
	return hd, hmin
}

var kSteps = codeStep{
	[ways]int32{0, 1, -1, 0, 0, 1, -1, 1},
	[ways]int32{0, 0, 0, 1, -1, 1, -1, -1},
}

var kSteps2 = codeStep{
	[ways]int32{-1, 2, 2, 2, -2, -2, 0, 0},
	[ways]int32{1, 0, 1, 2, -1, -2, 2, -2},
}

// scaleSteps serves where there are no mins.
var scaleSteps = []codeStep{
	{scale: [ways]int32{0, 1, -1, 2, -2, 3, -3, -4}},
	{scale: [ways]int32{4, 5, -5, 6, -6, 7, -7, 8}},
}

var (
	wideFamily = family{
		lanes{0, -0.9, -0.5, 0.3, 0.6, 0.9, 1.3, 1.8},
		lanes{0, 0, 0, 0, -0.2, -0.3, -0.4, -0.6},
	}
	// clippedFamily gives up one end of the range for the other.
	clippedFamily = family{
		lanes{-1.5, -2.2, -3, 1, 1, 2.2, 3, 3},
		lanes{0, 0, 0, 0, -1, -1.1, 0, -3},
	}
	narrowFamily = family{
		lanes{0, 0, 0, -0.4, 0.4, -0.25, 0.25, 0.7},
		lanes{0, -0.2, 0.2, 0.2, -0.2, 0, 0, -0.4},
	}
)

var (
	affineQ4K = affine{
		objective: objective{2, offsetAbs},
		sub:       32, hi: 15, maxCode: 63, again: 1, pack: packQ4_K, blockLen: q4kBytes,
		coarse: []family{wideFamily}, fine: []family{narrowFamily}, steps: []codeStep{kSteps, kSteps2},
	}
	affineQ5K = affine{
		objective: objective{2, offsetAbs},
		sub:       32, hi: 31, maxCode: 63, again: 1, pack: packQ5_K, blockLen: q5kBytes,
		coarse: []family{wideFamily}, fine: []family{narrowFamily}, steps: []codeStep{kSteps, kSteps2},
	}
	affineQ2K = affine{
		objective: objective{1, absolute},
		sub:       16, hi: 3, maxCode: 15, again: 2, pack: packQ2_K, blockLen: q2kBytes,
		coarse: []family{wideFamily}, fine: []family{narrowFamily}, steps: []codeStep{kSteps, kSteps2},
	}
)

// packScales4 is the inverse of unpackScales4.
func packScales4(packed []byte, sc, mc *[16]int32) {
	packed = packed[:12]
	for s := range 4 {
		packed[s] = byte(sc[s] | sc[s+4]>>4<<6)
		packed[s+4] = byte(mc[s] | mc[s+4]>>4<<6)
		packed[s+8] = byte(sc[s+4]&15 | mc[s+4]&15<<4)
	}
}

func packQ4_K(dst []byte, s *affineScratch) {
	dst = dst[:q4kBytes]
	binary.LittleEndian.PutUint16(dst, s.hd)
	binary.LittleEndian.PutUint16(dst[2:], s.hmin)
	packScales4(dst[4:], &s.sc, &s.mc)
	for k := range 4 {
		q, out := (*[64]uint8)(s.q[64*k:]), (*[32]byte)(dst[16+32*k:])
		for i := range out {
			out[i] = q[i] | q[i+32]<<4
		}
	}
}

func packQ5_K(dst []byte, s *affineScratch) {
	dst = dst[:q5kBytes]
	binary.LittleEndian.PutUint16(dst, s.hd)
	binary.LittleEndian.PutUint16(dst[2:], s.hmin)
	packScales4(dst[4:], &s.sc, &s.mc)
	var fifth [32]byte
	for k := range 4 {
		q, out := (*[64]uint8)(s.q[64*k:]), (*[32]byte)(dst[48+32*k:])
		for i := range out {
			a, b := q[i], q[i+32]
			out[i] = a&15 | b<<4
			fifth[i] |= (a>>4 | b>>4<<1) << (2 * k)
		}
	}
	copy(dst[16:], fifth[:])
}

func packQ2_K(dst []byte, s *affineScratch) {
	dst = dst[:q2kBytes]
	for k := range 16 {
		dst[k] = byte(s.sc[k] | s.mc[k]<<4)
	}
	for h := range 2 {
		q, out := (*[128]uint8)(s.q[128*h:]), (*[32]byte)(dst[16+32*h:])
		for i := range out {
			out[i] = q[i] | q[i+32]<<2 | q[i+64]<<4 | q[i+96]<<6
		}
	}
	binary.LittleEndian.PutUint16(dst[80:], s.hd)
	binary.LittleEndian.PutUint16(dst[82:], s.hmin)
}
