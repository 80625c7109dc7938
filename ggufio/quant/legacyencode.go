package quant

import (
	"encoding/binary"
	"math"
)

// With importance, the encoders of this file search as those of the K types
// do: eight ways to map the block to its levels at once, least squares for
// scale and offset, and the binary16 neighbours of the best by exact error.
// Without, the scale follows the largest weight of a block, or its range, and
// levels are rounded: what the formats were made for.

// blockScratch is the memory of one encoder of 32-weight blocks.
type blockScratch struct {
	signedLevels
	fitScratch
	q         [32]uint8
	objective objective
	bytes     int
	pack      func(dst []byte, h uint16, q *[32]uint8)
}

// newScaled makes an encoder of a type whose block has a scale and no offset.
func newScaled(b blockScratch) func() rowEncoder {
	return func() rowEncoder { s := b; return (*scaledEncoder)(&s) }
}

type scaledEncoder blockScratch

func (s *scaledEncoder) encodeRow(dst []byte, row, weights []float32) int {
	var mean float32
	if weights != nil {
		mean = meanSquare(row)
	}
	for block := 0; len(row) >= 32 && len(dst) >= s.bytes; block++ {
		x := row[:32]
		var h uint16
		if weights == nil && !s.nonlinear { // the largest weight is the lowest level
			h = floatToHalf(farthest(x) / s.lo)
		} else {
			if s.nonlinear {
				mean = meanSquare(x)
			}
			s.load(x, columnsOf(weights, block*32, 32), s.objective, mean)
			h = s.search(x)
		}
		if isHalfInf(h) {
			return block
		}
		var inv float32
		if h&0x7fff != 0 {
			inv = 1 / HalfToFloat(h)
		}
		s.round(s.q[:], x, inv)
		s.pack(dst[:s.bytes], h, &s.q)
		row, dst = row[32:], dst[s.bytes:]
	}
	return -1
}

// search returns the scale of a block with the smallest weighted error.
func (s *scaledEncoder) search(x []float32) uint16 {
	w := s.w[:32]
	all, used := ranges(x, w)
	best := scaleFit{gain: -1}
	s.scan(&s.fitScratch, x, w, all, used, func(int) { best.take(&s.moments) })
	// The nearest binary16, and its neighbours.
	var inv, sum, scale lanes
	var half [ways]uint16
	h := floatToHalf(best.scale)
	if h&0x7fff == 0 {
		if best.gain <= 0 {
			return 0
		}
		h |= 1
	}
	for j, step := range [ways]int32{0, 1, -1, 2, -2, 3, -3, 4} {
		half[j] = h
		if m := int32(h&0x7fff) + step; m > 0 && m < halfInf {
			half[j] = h&0x8000 | uint16(m)
		}
		scale[j] = HalfToFloat(half[j])
		inv[j] = 1 / scale[j]
	}
	if isHalfInf(h) {
		return h
	}
	s.residuals(&sum, x, w, &inv)
	least := float32(math.MaxFloat32)
	if s.nonlinear { // no level is zero, so a scale of zero may be best
		least, h = 0, 0
		for i, v := range x {
			least += float32(s.wx[i] * v)
		}
	}
	for j := range ways {
		if e := float32(sum[j]*scale[j]) * scale[j]; e < least {
			least, h = e, half[j]
		}
	}
	return h
}

// A scaleFit is the scale that least squares gives a block's best levels, and
// the error it removes.
type scaleFit struct{ scale, gain float32 }

// take keeps the best scale of a scan. What is not clearly better is rounding.
func (b *scaleFit) take(m *moments) {
	for j := range ways {
		if !(m.qq[j] > 0) {
			continue
		}
		scale := m.xq[j] / m.qq[j]
		if gain := float32(scale * m.xq[j]); gain > b.gain*(1+1e-6) || b.gain < 0 {
			b.scale, b.gain = scale, gain
		}
	}
}

// farthest returns the weight farthest from zero, the first of equals.
func farthest(x []float32) float32 {
	r := rangeOf(x)
	if -r.lo != r.hi {
		return r.farther()
	}
	for _, v := range x {
		if magnitude(v) == r.hi {
			return v
		}
	}
	return 0
}

func packQ4_0(dst []byte, h uint16, q *[32]uint8) {
	binary.LittleEndian.PutUint16(dst, h)
	packNibbles((*[16]byte)(dst[2:]), q)
}

func packQ5_0(dst []byte, h uint16, q *[32]uint8) {
	binary.LittleEndian.PutUint16(dst, h)
	binary.LittleEndian.PutUint32(dst[2:], packNibbles5((*[16]byte)(dst[6:]), q))
}

// packNibbles5 is the inverse of unpackNibbles5; it returns the fifth bits.
func packNibbles5(dst *[16]byte, q *[32]uint8) (high uint32) {
	packNibbles(dst, q)
	for i := 0; i < 32; i += 8 {
		high |= uint32(gatherBits(word(q[i:])>>4&each1)) << i
	}
	return high
}

var (
	newQ4_0 = newScaled(blockScratch{
		objective: objective{weighted: 1}, bytes: q4_0Bytes, pack: packQ4_0,
		signedLevels: signedLevels{lo: -8, hi: 7,
			low:  []lanes{{-8, -7.6, -7.2, -6.8, -8.4, -8.8, -9.3, -6.3}},
			high: []lanes{{7, 6.6, 6.2, 7.4, 7.8, 5.8, 8.2, 8.7}},
		},
	})
	newQ5_0 = newScaled(blockScratch{
		objective: objective{weighted: 1}, bytes: q5_0Bytes, pack: packQ5_0,
		signedLevels: signedLevels{lo: -16, hi: 15,
			low:  []lanes{{-16, -15.6, -15.2, -14.8, -16.4, -16.8, -17.3, -14.2}},
			high: []lanes{{15, 14.6, 14.2, 15.4, 15.8, 13.6, 16.2, 16.8}},
		},
	})
	newIQ4_NL = newScaled(blockScratch{
		objective: objective{2, offsetAbs}, signedLevels: symmetricIQ4XS.signedLevels, bytes: iq4nlBytes, pack: packQ4_0,
	})
)

// newPaired makes an encoder of a type whose block has a scale and an offset.
func newPaired(levels float32, bytes int, pack func(dst []byte, h, m uint16, q *[32]uint8)) func() rowEncoder {
	return func() rowEncoder {
		return &pairedEncoder{
			affineScratch: affineScratch{affine: &affine{
				objective: objective{weighted: 1}, sub: 32, hi: levels, anyOffset: true, coarse: []family{wideFamily, clippedFamily}, fine: []family{narrowFamily, narrowFamily},
			}},
			bytes: bytes, pack: pack,
		}
	}
}

type pairedEncoder struct {
	affineScratch
	bytes int
	pack  func(dst []byte, h, m uint16, q *[32]uint8)
}

func (s *pairedEncoder) encodeRow(dst []byte, row, weights []float32) int {
	var mean float32
	if weights != nil {
		mean = meanSquare(row)
	}
	for block := 0; len(row) >= 32 && len(dst) >= s.bytes; block++ {
		x := row[:32]
		var h, m uint16
		if weights == nil {
			r := rangeOf(x)
			h, m = floatToHalf(float32(r.hi/s.hi)-float32(r.lo/s.hi)), floatToHalf(r.lo)
			if h == 0 && r.hi > r.lo {
				h = 1
			}
		} else {
			s.load(x, weights[block*32:block*32+32], s.objective, mean)
			h, m = s.search(x)
		}
		if isHalfInf(h) || isHalfInf(m) {
			return block
		}
		var inv, off float32
		if h != 0 {
			inv = 1 / HalfToFloat(h)
			off = -HalfToFloat(m) * inv
		}
		roundLevels(s.q[:32], x, inv, float32(off), 0, s.hi, 0)
		s.pack(dst[:s.bytes], h, m, (*[32]uint8)(s.q[:32]))
		row, dst = row[32:], dst[s.bytes:]
	}
	return -1
}

// search returns the scale and offset of a block with the smallest weighted
// error.
func (s *pairedEncoder) search(x []float32) (h, m uint16) {
	d, minus := s.realFit(x, 0)
	h, m = floatToHalf(d), floatToHalf(-minus)
	if isHalfInf(h) || isHalfInf(m) {
		return h, m
	}
	if h == 0 {
		h = 1
	}
	// Neighbours of both in binary16.
	var inv, off, sum, scale lanes
	var halves, offsets [ways]uint16
	least := float32(math.MaxFloat32)
	bestH, bestM := h, m
	for _, steps := range pairSteps {
		for j := range ways {
			halves[j] = max(1, min(halfInf-1, uint16(int32(h)+steps.scale[j])))
			offsets[j] = m
			if n := int32(m&0x7fff) + steps.min[j]; n >= 0 && n < halfInf {
				offsets[j] = m&0x8000 | uint16(n)
			}
			scale[j] = HalfToFloat(halves[j])
			inv[j] = 1 / scale[j]
			off[j] = -float32(HalfToFloat(offsets[j]) * inv[j])
		}
		residuals(&sum, x, s.w[:32], &inv, &off, 0, s.hi)
		for j := range ways {
			if e := float32(sum[j]*scale[j]) * scale[j]; e < least {
				least, bestH, bestM = e, halves[j], offsets[j]
			}
		}
	}
	return bestH, bestM
}

var pairSteps = []codeStep{{
	[ways]int32{0, 1, -1, 0, 0, 1, -1, 1},
	[ways]int32{0, 0, 0, 1, -1, 1, -1, -1},
}}

func packQ4_1(dst []byte, h, m uint16, q *[32]uint8) {
	binary.LittleEndian.PutUint16(dst, h)
	binary.LittleEndian.PutUint16(dst[2:], m)
	packNibbles((*[16]byte)(dst[4:]), q)
}

func packQ5_1(dst []byte, h, m uint16, q *[32]uint8) {
	binary.LittleEndian.PutUint16(dst, h)
	binary.LittleEndian.PutUint16(dst[2:], m)
	binary.LittleEndian.PutUint32(dst[4:], packNibbles5((*[16]byte)(dst[8:]), q))
}

var (
	newQ4_1 = newPaired(15, q4_1Bytes, packQ4_1)
	newQ5_1 = newPaired(31, q5_1Bytes, packQ5_1)
)
