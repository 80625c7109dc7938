package quant

import "encoding/binary"

// The one-bit IQ types give eight weights one codeword of −1, 0 and 1, shifted
// by ±⅛.
const (
	// IQ1_S: a binary16 scale d, 32 index bytes, then per 32 weights 16 bits:
	// four times three high index bits, the three-bit scale, the sign of the
	// shift. weight = d (2s+1) × (codeword + shift).
	iq1sBytes = 50
	// IQ1_M: 32 index bytes; per 16 weights a byte of two times three high index
	// bits and the sign of the shift; four times 16 bits of four three-bit
	// scales, one per 16 weights, above them four bits of the binary16 scale d.
	iq1mBytes = 56
)

// iq1Shift is what a codeword is shifted by; a sign bit makes it negative.
const iq1Shift = 0.125

var iq1Shifts = [2]float32{iq1Shift, -iq1Shift}

func decodeIQ1S(dst []float32, src []byte) {
	var g groups
	for len(dst) >= superWeights && len(src) >= iq1sBytes {
		d := HalfToFloat(binary.LittleEndian.Uint16(src))
		for ib := range 8 {
			low, high := src[2+4*ib:6+4*ib], binary.LittleEndian.Uint16(src[34+2*ib:])
			scale := d * float32(2*(high>>12&7)+1)
			shift := iq1Shifts[high>>15]
			for k := range 4 {
				g.code[4*ib+k] = uint16(low[k]) | high&7<<8
				g.scale[4*ib+k], g.shift[4*ib+k] = scale, shift
				high >>= 3
			}
		}
		expandShifted((*[superWeights]float32)(dst), iq1Grid, &g)
		dst, src = dst[superWeights:], src[iq1sBytes:]
	}
}

func decodeIQ1M(dst []float32, src []byte) {
	var g groups
	for len(dst) >= superWeights && len(src) >= iq1mBytes {
		low, high := src[:32], src[32:48]
		var scales [4]uint16
		var half uint16
		for i := range scales {
			scales[i] = binary.LittleEndian.Uint16(src[48+2*i:])
			half |= scales[i] >> 12 << (4 * i)
		}
		d := HalfToFloat(half)
		for ib := range 16 {
			scale := d * float32(2*(scales[ib/4]>>(3*(ib&3))&7)+1)
			h := uint16(high[ib])
			g.code[2*ib], g.code[2*ib+1] = uint16(low[2*ib])|h&7<<8, uint16(low[2*ib+1])|h>>4&7<<8
			g.scale[2*ib], g.scale[2*ib+1] = scale, scale
			g.shift[2*ib], g.shift[2*ib+1] = iq1Shifts[h>>3&1], iq1Shifts[h>>7]
		}
		expandShifted((*[superWeights]float32)(dst), iq1Grid, &g)
		dst, src = dst[superWeights:], src[iq1mBytes:]
	}
}

// iq1sTries and iq1mTries fit one weight far larger than the others, and
// Gaussians; a scale that fewer weights share is worth fewer tries.
var (
	iq1Exact  = []float32{1 / iq1Shift, 1 / (1 - iq1Shift), 1 / (1 + iq1Shift)}
	iq1sTries = tries{ofTop: []float32{0.89}, ofMean: []float32{1.8, 1.3}, ofDominant: iq1Exact}
	iq1mTries = tries{ofTop: []float32{0.89}, ofMean: []float32{1.5}, ofDominant: iq1Exact}
)

var (
	iq1sFormat = &gridFormat{iq1Book, 32, shiftPerSub, 7, iq1sTries, iq1sBytes, packIQ1S}
	iq1mFormat = &gridFormat{iq1Book, 16, shiftPerGroup, 7, iq1mTries, iq1mBytes, packIQ1M}
)

func packIQ1S(dst []byte, e *gridEncoder) {
	binary.LittleEndian.PutUint16(dst, e.half)
	for ib := range 8 {
		high := uint16(e.q[ib])<<12 | uint16(e.down[4*ib])<<15
		for g := range 4 {
			c := e.code[4*ib+g]
			dst[2+4*ib+g] = byte(c)
			high |= c >> 8 << (3 * g)
		}
		binary.LittleEndian.PutUint16(dst[34+2*ib:], high)
	}
}

func packIQ1M(dst []byte, e *gridEncoder) {
	for g := range 32 {
		c := e.code[g]
		dst[g] = byte(c)
		dst[32+g/2] |= (byte(c>>8) | e.down[g]<<3) << (g & 1 * 4)
	}
	for i := range 4 {
		scales := e.half >> (4 * i) << 12
		for j := range 4 {
			scales |= uint16(e.q[4*i+j]) << (3 * j)
		}
		binary.LittleEndian.PutUint16(dst[48+2*i:], scales)
	}
}
