package quant

import "encoding/binary"

// The two-bit IQ types give eight weights one codeword of magnitudes, signs
// and a scale. A super-block of 256 has a binary16 scale d.
const (
	// IQ2_XXS: d, then per 32 weights four index bytes and 32 bits: four times
	// seven signs, above them the four-bit scale. weight = d (½+s)/4 × codeword.
	iq2xxsBytes = 66
	// IQ2_XS: d, 32 × (nine index bits, seven signs above them), then a
	// four-bit scale per 16 weights.
	iq2xsBytes = 74
	// IQ2_S: d, 32 index bytes, 32 sign bytes, then the two high index bits of
	// each group, then a four-bit scale per 16 weights.
	iq2sBytes = 82
)

func decodeIQ2XXS(dst []float32, src []byte) {
	for len(dst) >= 256 && len(src) >= iq2xxsBytes {
		d := halfToFloat(binary.LittleEndian.Uint16(src))
		for ib := range 8 {
			q := src[2+8*ib : 10+8*ib]
			tail := binary.LittleEndian.Uint32(q[4:])
			scale := d * (0.5 + float32(tail>>28)) * 0.25
			for g := range 4 {
				signs := evenSigns[tail>>(7*g)&127]
				scaled8(dst[32*ib+8*g:][:8], scale, &iq2xxsGrid[q[g]], signs)
			}
		}
		dst, src = dst[256:], src[iq2xxsBytes:]
	}
}

func decodeIQ2XS(dst []float32, src []byte) {
	for len(dst) >= 256 && len(src) >= iq2xsBytes {
		d := halfToFloat(binary.LittleEndian.Uint16(src))
		scales := src[66:iq2xsBytes]
		for g := range 32 {
			q := binary.LittleEndian.Uint16(src[2+2*g:])
			s := scales[g/4] >> (g & 2 * 2) & 15
			scale := d * (0.5 + float32(s)) * 0.25
			scaled8(dst[8*g:][:8], scale, &iq2xsGrid[q&511], evenSigns[q>>9])
		}
		dst, src = dst[256:], src[iq2xsBytes:]
	}
}

func decodeIQ2S(dst []float32, src []byte) {
	for len(dst) >= 256 && len(src) >= iq2sBytes {
		d := halfToFloat(binary.LittleEndian.Uint16(src))
		low, signs, high, scales := src[2:34], src[34:66], src[66:74], src[74:iq2sBytes]
		for g := range 32 {
			s := scales[g/4] >> (g & 2 * 2) & 15
			scale := d * (0.5 + float32(s)) * 0.25
			i := int(low[g]) | int(high[g/4]>>(2*(g&3))&3)<<8
			scaled8(dst[8*g:][:8], scale, &iq2sGrid[i], signs[g])
		}
		dst, src = dst[256:], src[iq2sBytes:]
	}
}

var (
	iq2xxsFormat = &gridFormat{iq2xxsBook, 32, evenMinuses, 0.125, 15, ladder(iq2xxsBook, 10, 0.87), iq2xxsBytes, packIQ2XXS}
	iq2xsFormat  = &gridFormat{iq2xsBook, 16, evenMinuses, 0.125, 15, ladder(iq2xsBook, 10, 0.87), iq2xsBytes, packIQ2XS}
	iq2sFormat   = &gridFormat{iq2sBook, 16, freeSigns, 0.125, 15, ladder(iq2sBook, 10, 0.87), iq2sBytes, packIQ2S}
)

func packIQ2XXS(dst []byte, e *gridEncoder) {
	binary.LittleEndian.PutUint16(dst, e.half)
	for ib := range 8 {
		tail := uint32(e.q[ib]) << 28
		for g := range 4 {
			dst[2+8*ib+g] = byte(e.code[4*ib+g])
			tail |= uint32(e.minuses(4*ib+g)&127) << (7 * g)
		}
		binary.LittleEndian.PutUint32(dst[6+8*ib:], tail)
	}
}

func packIQ2XS(dst []byte, e *gridEncoder) {
	binary.LittleEndian.PutUint16(dst, e.half)
	for g := range 32 {
		binary.LittleEndian.PutUint16(dst[2+2*g:], e.code[g]|uint16(e.minuses(g)&127)<<9)
	}
	for i := range 8 {
		dst[66+i] = e.q[2*i] | e.q[2*i+1]<<4
	}
}

func packIQ2S(dst []byte, e *gridEncoder) {
	binary.LittleEndian.PutUint16(dst, e.half)
	for g := range 32 {
		dst[2+g] = byte(e.code[g])
		dst[34+g] = e.minuses(g)
		dst[66+g/4] |= byte(e.code[g]>>8) << (2 * (g & 3))
	}
	for i := range 8 {
		dst[74+i] = e.q[2*i] | e.q[2*i+1]<<4
	}
}
