package quant

import (
	"encoding/binary"
	"math"
)

// Q3_K, Q6_K and IQ4_XS: weight = d × scale × level, scale a small signed
// integer, levels from lo to hi or those of nonLinear.
//
// The search gives each sub-block the real scale with the smallest weighted
// squared error, among scales that map its largest weight near either end of
// the levels, which are not symmetric; takes d from the largest; and chooses
// the integers around each real scale by exact error. Where levels are few,
// least squares adjusts d to them and the integers are chosen once more.
type symmetric struct {
	signedLevels
	sub              int
	minCode, maxCode int32 // range of the scale; 0 only where no level is zero
	room             float32
	plain            []float32 // low without importance, if it has a search of its own
	objective        objective
	pack             func(dst []byte, s *symmetricScratch)
	blockLen         int
}

type symmetricScratch struct {
	*symmetric
	fitScratch
	gain  [2]float32     // of the scales of the sub-block in hand
	scale [2][16]float32 // best real scales that map the largest weight below and above 0
	least float32        // error of the integer of the sub-block in hand
	best  [16]float32    // the better of the two
	code  [16]int32
	d     float32
	hd    uint16
	q     [superBlock]uint8
}

func newSymmetric(a *symmetric) func() rowEncoder {
	return func() rowEncoder { return &symmetricScratch{symmetric: a} }
}

func (s *symmetricScratch) encodeRow(dst []byte, row, weights []float32) int {
	for block := 0; len(row) >= superBlock && len(dst) >= s.blockLen; block++ {
		x := row[:superBlock]
		if mean := meanSquare(x); weights == nil && s.plain != nil && measurable(mean) {
			if !s.encodePlain(x, mean) {
				return block
			}
		} else if s.load(x, columnsOf(weights, block*superBlock, superBlock), s.objective, mean); !s.encode(x) {
			return block
		}
		s.pack(dst[:s.blockLen], s)
		row, dst = row[superBlock:], dst[s.blockLen:]
	}
	return -1
}

func (s *symmetricScratch) encode(x []float32) bool {
	var top float32
	for k := 0; k*s.sub < superBlock; k++ {
		at := k * s.sub
		s.realScale(x[at:at+s.sub], s.w[at:at+s.sub], k)
		if magnitude(s.best[k]) > magnitude(top) {
			top = s.best[k]
		}
	}
	if !s.setSuper(halfAbove, top) {
		return false
	}
	if s.d == 0 {
		s.zero()
		return true
	}
	least := s.chooseCodes(x, false)
	if code, hd, d := s.code, s.hd, s.d; s.adjust(x) && !(s.chooseCodes(x, true) < least) {
		s.code, s.hd, s.d = code, hd, d
	}
	for k := 0; k*s.sub < superBlock; k++ {
		at := k * s.sub
		s.round(s.q[at:at+s.sub], x[at:at+s.sub], s.inverse(k))
	}
	return true
}

// setSuper sets d so that the largest scale gets the far end of the negative
// integers, and reports whether it fits binary16.
func (s *symmetricScratch) setSuper(round func(float32) uint16, top float32) bool {
	d := -top / s.room
	s.hd = round(magnitude(d))
	if isHalfInf(s.hd) {
		return false
	}
	if d < 0 {
		s.hd |= 0x8000
	}
	s.d = HalfToFloat(s.hd)
	return true
}

// encodePlain is encode without importance, of 16 sub-blocks: from each start
// a scale is fitted to the levels that it gives, twice, and the nearest integer
// taken. Each lane holds a sub-block.
func (s *symmetricScratch) encodePlain(x []float32, mean float32) bool {
	var columns [16]lanes
	var top, gain, best, inv lanes
	var largest float32
	for h := range 2 {
		for k := range ways {
			y := (*[16]float32)(x[128*h+16*k:])
			for i, v := range y {
				columns[i][k] = v
			}
			top[k] = rangeOf(y[:]).farther()
		}
		gain, best = lanes{}, lanes{}
		for _, start := range s.plain {
			for k, t := range top {
				inv[k] = 0
				if magnitude(t) > 0x1p-60 { // else below any scale
					inv[k] = start / t
				}
			}
			refine(&best, &gain, &columns, &inv, 1/mean, s.lo, s.hi)
		}
		for k, scale := range best {
			s.best[8*h+k] = scale
			if magnitude(scale) > magnitude(largest) {
				largest = scale
			}
		}
	}
	if !s.setSuper(floatToHalf, largest) {
		return false
	}
	if s.d == 0 {
		s.zero()
		return true
	}
	perD := 1 / s.d
	for k, scale := range s.best {
		s.code[k] = int32(roundClamp(scale*perD, float32(s.minCode), float32(s.maxCode)))
		roundLevels(s.q[16*k:16*k+16], x[16*k:16*k+16], s.inverse(k), 0, s.lo, s.hi, -s.lo)
	}
	return true
}

// refineGo rounds weights to levels with the factors inv, fits scales to the
// levels, and does so once more with those. It keeps the best scale of each
// lane and the error that it removes. An error counts x² × weigh + ½.
func refineGo(best, gain *lanes, x *[16]lanes, inv *lanes, weigh, lo, hi float32) {
	for k := range ways {
		inv := inv[k]
		for range 2 {
			var qq, xq float32
			for i := range x {
				v := x[i][k]
				q := roundClamp(float32(v*inv), lo, hi)
				wq := float32((float32(float32(v*v)*weigh) + 0.5) * q)
				qq += float32(wq * q)
				xq += float32(wq * v)
			}
			scale := xq / qq
			if g := float32(scale * xq); g > gain[k] {
				best[k], gain[k] = scale, g
			}
			inv = 0
			if qq > 0 {
				inv = qq / xq
			}
		}
	}
}

// inverse returns the factor that maps sub-block k to its levels.
func (s *symmetricScratch) inverse(k int) float32 {
	if s.code[k] == 0 {
		return 0
	}
	return 1 / float32(s.d*float32(s.code[k]))
}

// zero makes a block of zeros.
func (s *symmetricScratch) zero() {
	for k := range s.code {
		s.code[k] = s.maxCode
	}
	for i := range s.q {
		s.q[i] = uint8(int32(-s.lo))
		if s.nonlinear {
			s.q[i] = nonLinearZero
		}
	}
}

// signedLevels are the levels of a type without offsets.
type signedLevels struct {
	lo, hi    float32 // if not nonlinear
	nonlinear bool
	low, high []lanes // level, real, that the largest magnitude is mapped to
}

// A fitScratch is the memory of a search for scales.
type fitScratch struct {
	importance
	wx  [superBlock]float32 // w × x
	inv lanes
	moments
}

// residuals sums w × (x × inv − level)² in each lane.
func (l *signedLevels) residuals(sum *lanes, x, w []float32, inv *lanes) {
	if l.nonlinear {
		nonLinearResiduals(sum, x, w, inv)
		return
	}
	residuals(sum, x, w, inv, &noOffset, l.lo, l.hi)
}

var noOffset lanes

// round writes the places of the nearest levels to x × inv.
func (l *signedLevels) round(q []uint8, x []float32, inv float32) {
	if l.nonlinear {
		for i, v := range x {
			q[i] = nonLinearPlace(float32(v * inv))
		}
		return
	}
	roundLevels(q, x, inv, 0, l.lo, l.hi, -l.lo)
}

// scan tries the scales that suit the range of the weights, and that of those
// that have importance. Take is told the side of the levels that the inverse
// scales s.inv favour; least squares over s.moments gives the scale that suits
// those levels best and the error that it removes.
func (l *signedLevels) scan(s *fitScratch, x, w []float32, all, used valueRange, take func(side int)) {
	wx := s.wx[:len(x)]
	for i, v := range x {
		wx[i] = float32(w[i] * v)
	}
	for n, r := range [2]valueRange{used, all} {
		top := r.farther()
		if magnitude(top) < 0x1p-60 || n == 1 && all == used { // below any scale, or done
			continue
		}
		for side, family := range [2][]lanes{l.low, l.high} {
			for f := range family {
				for j := range ways {
					s.inv[j] = family[f][j] / top
				}
				if l.nonlinear {
					nonLinearMoments(&s.moments, x, w, wx, &s.inv)
				} else {
					fitMoments(&s.moments, x, w, wx, &s.inv, &noOffset, l.lo, l.hi)
				}
				take(side)
			}
		}
	}
}

// realScale finds the real scales of sub-block k.
func (s *symmetricScratch) realScale(x, w []float32, k int) {
	all, used := ranges(x, w)
	s.scale[0][k], s.scale[1][k], s.best[k] = 0, 0, 0
	if len(s.low) == 0 { // the integers are fine enough to search them alone
		s.best[k] = used.farther() / s.lo
		return
	}
	s.gain = [2]float32{-1, -1}
	s.scan(&s.fitScratch, x, w, all, used, func(side int) {
		for j := range ways {
			// As inv has the sign of its side, so has the best scale,
			// unless the levels are worth nothing.
			if !(s.qq[j] > 0) || s.xq[j] > 0 != (s.inv[j] > 0) {
				continue
			}
			scale := s.xq[j] / s.qq[j]
			if gain := scale * s.xq[j]; gain > s.gain[side]*(1+1e-6) {
				s.gain[side], s.scale[side][k] = gain, scale
			}
		}
	})
	s.best[k] = s.scale[0][k]
	if s.gain[1] > s.gain[0] {
		s.best[k] = s.scale[1][k]
	}
}

// The neighbours that are tried as integers: around the best scale alone, or
// around the best of either sign.
var (
	aroundOne = [ways]int32{0, 1, -1, 2, -2, 3, -3, 4}
	aroundFar = [ways]int32{-5, 6, 8, -10, -18, -28, -38, -49}
	aroundTwo = [ways / 2]int32{0, 1, -1, 2}
)

// chooseCodes chooses the integer of each sub-block and returns the error.
func (s *symmetricScratch) chooseCodes(x []float32, near bool) float32 {
	var total float32
	var code [ways]int32
	perD := 1 / s.d
	for k := 0; k*s.sub < superBlock; k++ {
		at := k * s.sub
		x, w := x[at:at+s.sub], s.w[at:at+s.sub]
		s.least = math.MaxFloat32
		switch {
		case near || len(s.low) == 0:
			c := s.code[k]
			if !near {
				c = int32(roundClamp(float32(s.best[k]*perD), float32(s.minCode), float32(s.maxCode)))
			}
			for _, steps := range [2]*[ways]int32{&aroundOne, &aroundFar} {
				for j := range ways {
					code[j] = s.stepCode(c, steps[j])
				}
				s.take(x, w, k, &code)
				if near {
					break
				}
			}
			if !near && max(c-s.code[k], s.code[k]-c) > 8 {
				c = s.code[k]
				for j := range ways {
					code[j] = s.stepCode(c, aroundOne[j])
				}
				s.take(x, w, k, &code)
			}
		default:
			for side := range 2 {
				c := int32(roundClamp(float32(s.scale[side][k]*perD), float32(s.minCode), float32(s.maxCode)))
				for j := range ways / 2 {
					code[j*2+side] = s.stepCode(c, aroundTwo[j])
				}
			}
			s.take(x, w, k, &code)
		}
		if s.nonlinear { // no level is zero, so a scale of zero may be best
			var zero float32
			for i, v := range x {
				t := float32(v * perD)
				zero += float32(w[i] * float32(t*t))
			}
			if zero <= s.least {
				s.least, s.code[k] = zero, 0
			}
		}
		total += s.least
	}
	return float32(total*s.d) * s.d
}

// take gives sub-block k the best of the integers, if it is better than s.least.
func (s *symmetricScratch) take(x, w []float32, k int, code *[ways]int32) {
	var inv, sum lanes
	for j := range ways {
		inv[j] = 1 / float32(s.d*float32(code[j]))
	}
	s.residuals(&sum, x, w, &inv)
	for j := range ways {
		e := float32(sum[j] * float32(code[j]*code[j]))
		if e < s.least {
			s.least, s.code[k] = e, code[j]
		}
	}
}

// stepCode moves an integer away from zero, or towards it, within its range
// and its sign.
func (s *symmetric) stepCode(c, step int32) int32 {
	if c < 0 {
		return min(max(c-step, s.minCode), -1)
	}
	return max(min(c+step, s.maxCode), 1)
}

// adjust fits d to the integers and their levels, and reports whether it
// changed.
func (s *symmetricScratch) adjust(x []float32) bool {
	var num, den float64
	for k := 0; k*s.sub < superBlock; k++ {
		at := k * s.sub
		q, w := s.q[at:at+s.sub], s.w[at:at+s.sub]
		s.round(q, x[at:at+s.sub], s.inverse(k))
		var xq, qq float32
		for i, v := range x[at : at+s.sub] {
			level := float32(q[i]) + s.lo
			if s.nonlinear {
				level = nonLinear[q[i]&15]
			}
			wl := float32(w[i] * level)
			xq += float32(wl * v)
			qq += float32(wl * level)
		}
		c := float64(s.code[k])
		num += float64(c * float64(xq))
		den += float64(float64(c*c) * float64(qq))
	}
	if !(den > 0) {
		return false
	}
	h := floatToHalf(float32(num / den))
	if h == s.hd || h&0x7fff == 0 || isHalfInf(h) {
		return false
	}
	s.hd, s.d = h, HalfToFloat(h)
	return true
}

var (
	symmetricQ3K = symmetric{
		objective: objective{2, squared},
		sub:       16, minCode: -32, maxCode: 31, room: 31,
		signedLevels: signedLevels{
			lo: -4, hi: 3,
			low:  []lanes{{-4, -3.7, -3.4, -3.1, -4.3, -4.6, -4.9, -2.8}},
			high: []lanes{{3, 2.7, 2.45, 3.25, 3.5, 3.75, 4, 4.3}},
		},
		plain: []float32{-4, -4.6},
		pack:  packQ3_K, blockLen: q3kBytes,
	}
	symmetricQ6K = symmetric{
		objective: objective{0, squared},
		sub:       16, minCode: -128, maxCode: 127, room: 119,
		signedLevels: signedLevels{lo: -32, hi: 31},
		pack:         packQ6_K, blockLen: q6kBytes,
	}
	symmetricIQ4XS = symmetric{
		objective: objective{2, offsetAbs},
		sub:       32, minCode: -32, maxCode: 31, room: 31,
		signedLevels: signedLevels{
			nonlinear: true,
			low:       []lanes{{-127, -122, -117, -111, -132, -138, -144, -104}},
			high:      []lanes{{113, 108, 103, 98, 118, 123, 129, 136}},
		},
		pack: packIQ4_XS, blockLen: iq4xsBytes,
	}
)

func packQ3_K(dst []byte, s *symmetricScratch) {
	dst = dst[:q3kBytes]
	third := (*[32]byte)(dst)
	*third = [32]byte{}
	for h := range 2 {
		q, out := (*[128]uint8)(s.q[128*h:]), (*[32]byte)(dst[32+32*h:])
		for i := 0; i < 32; i += 8 {
			a, b, c, d := word(q[i:]), word(q[32+i:]), word(q[64+i:]), word(q[96+i:])
			putWord(out[i:], a&each3|b&each3<<2|c&each3<<4|d&each3<<6)
			a, b, c, d = a>>2&each1, b>>2&each1, c>>2&each1, d>>2&each1
			putWord(third[i:], word(third[i:])|(a|b<<1|c<<2|d<<3)<<(4*h))
		}
	}
	scales := (*[12]byte)(dst[96:])
	*scales = [12]byte{}
	for k := range 8 {
		a, b := byte(s.code[k]+32), byte(s.code[k+8]+32)
		scales[k] = a&15 | b<<4
		scales[8+k%4] |= a>>4<<(k/4*2) | b>>4<<(k/4*2+4)
	}
	binary.LittleEndian.PutUint16(dst[108:], s.hd)
}

func packQ6_K(dst []byte, s *symmetricScratch) {
	dst = dst[:q6kBytes]
	for h := range 2 {
		q := (*[128]uint8)(s.q[128*h:])
		low, pairs := (*[64]byte)(dst[64*h:]), (*[32]byte)(dst[128+32*h:])
		for i := 0; i < 32; i += 8 {
			a, b, c, d := word(q[i:]), word(q[32+i:]), word(q[64+i:]), word(q[96+i:])
			putWord(low[i:], a&each15|c&each15<<4)
			putWord(low[32+i:], b&each15|d&each15<<4)
			putWord(pairs[i:], a>>4&each3|b>>4&each3<<2|c>>4&each3<<4|d>>4&each3<<6)
		}
	}
	for k := range 16 {
		dst[192+k] = byte(s.code[k])
	}
	binary.LittleEndian.PutUint16(dst[208:], s.hd)
}

func packIQ4_XS(dst []byte, s *symmetricScratch) {
	dst = dst[:iq4xsBytes]
	var low uint32
	var high uint16
	for k := range 8 {
		c := uint32(s.code[k] + 32)
		low |= c & 15 << (4 * k)
		high |= uint16(c>>4) << (2 * k)
		packNibbles((*[16]byte)(dst[8+16*k:]), (*[32]uint8)(s.q[32*k:]))
	}
	binary.LittleEndian.PutUint16(dst, s.hd)
	binary.LittleEndian.PutUint16(dst[2:], high)
	binary.LittleEndian.PutUint32(dst[4:], low)
}

// packNibbles is the inverse of unpackNibbles.
func packNibbles(dst *[16]byte, q *[32]uint8) {
	for i := 0; i < 16; i += 8 {
		putWord(dst[i:], word(q[i:])&each15|word(q[16+i:])&each15<<4)
	}
}
