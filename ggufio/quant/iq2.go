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
	var g groups
	for len(dst) >= superWeights && len(src) >= iq2xxsBytes {
		d := HalfToFloat(binary.LittleEndian.Uint16(src))
		for ib := range 8 {
			q := src[2+8*ib : 10+8*ib]
			tail := binary.LittleEndian.Uint32(q[4:])
			scale := d * (0.5 + float32(tail>>28)) * 0.25
			for k := range 4 {
				g.code[4*ib+k] = uint16(q[k])
				g.sign[4*ib+k] = uint32(evenSigns[tail&127])
				g.scale[4*ib+k] = scale
				tail >>= 7
			}
		}
		expand8((*[superWeights]float32)(dst), iq2xxsGrid, &g)
		dst, src = dst[superWeights:], src[iq2xxsBytes:]
	}
}

func decodeIQ2XS(dst []float32, src []byte) {
	var g groups
	for len(dst) >= superWeights && len(src) >= iq2xsBytes {
		d := HalfToFloat(binary.LittleEndian.Uint16(src))
		words, scales := src[2:66], src[66:iq2xsBytes]
		for i := range g.scale {
			q := binary.LittleEndian.Uint16(words[2*i:])
			g.code[i], g.sign[i] = q&511, uint32(evenSigns[q>>9])
		}
		spreadScales(&g, d, scales)
		expand8((*[superWeights]float32)(dst), iq2xsGrid, &g)
		dst, src = dst[superWeights:], src[iq2xsBytes:]
	}
}

func decodeIQ2S(dst []float32, src []byte) {
	var g groups
	for len(dst) >= superWeights && len(src) >= iq2sBytes {
		d := HalfToFloat(binary.LittleEndian.Uint16(src))
		low, signs, high, scales := src[2:34], src[34:66], src[66:74], src[74:iq2sBytes]
		for i := range g.scale {
			g.code[i] = uint16(low[i]) | uint16(high[i/4]>>(2*(i&3))&3)<<8
			g.sign[i] = uint32(signs[i])
		}
		spreadScales(&g, d, scales)
		expand8((*[superWeights]float32)(dst), iq2sGrid, &g)
		dst, src = dst[superWeights:], src[iq2sBytes:]
	}
}

// spreadScales sets the scale of each two groups from four bits.
func spreadScales(g *groups, d float32, scales []byte) {
	for i, s := range scales[:8] {
		s0, s1 := d*(0.5+float32(s&15))*0.25, d*(0.5+float32(s>>4))*0.25
		y := g.scale[4*i : 4*i+4]
		y[0], y[1], y[2], y[3] = s0, s0, s1, s1
	}
}

var (
	iq2xxsFormat = &shellFormat{iq2xxsShells, 32, true, 1, 6, 0.1, true, true, 1e-15, 1, iq2xxsBytes, packIQ2XXS}
	iq2xsFormat  = &shellFormat{iq2xsShells, 16, true, 1, 9, 0.1, false, false, 1e-15, 1, iq2xsBytes, packIQ2XS}
	iq2sFormat   = &shellFormat{iq2sShells, 16, false, 2, 9, 0.1, false, false, 1e-8, 0.9875, iq2sBytes, packIQ2S}
)

func packIQ2XXS(dst []byte, e *shellEncoder) {
	binary.LittleEndian.PutUint16(dst, e.half)
	for ib := range 8 {
		tail := uint32(e.q[ib]) << 28
		for g := range 4 {
			dst[2+8*ib+g] = byte(e.code(4*ib + g))
			tail |= uint32(e.minus[4*ib+g]&127) << (7 * g)
		}
		binary.LittleEndian.PutUint32(dst[6+8*ib:], tail)
	}
}

func packIQ2XS(dst []byte, e *shellEncoder) {
	binary.LittleEndian.PutUint16(dst, e.half)
	for g := range 32 {
		binary.LittleEndian.PutUint16(dst[2+2*g:], e.code(g)|uint16(e.minus[g]&127)<<9)
	}
	for i := range 8 {
		dst[66+i] = e.q[2*i] | e.q[2*i+1]<<4
	}
}

func packIQ2S(dst []byte, e *shellEncoder) {
	binary.LittleEndian.PutUint16(dst, e.half)
	for g := range 32 {
		c := e.code(g)
		dst[2+g] = byte(c)
		dst[34+g] = e.minus[g]
		dst[66+g/4] |= byte(c>>8) << (2 * (g & 3))
	}
	for i := range 8 {
		dst[74+i] = e.q[2*i] | e.q[2*i+1]<<4
	}
}
