package quant

import "encoding/binary"

// The three-bit IQ types give four weights one codeword of magnitudes. A
// super-block of 256 has a binary16 scale d.
const (
	// IQ3_XXS: d, 64 index bytes, then per 32 weights 32 bits: four times seven
	// signs, above them the four-bit scale. weight = d (½+s)/2 × codeword.
	iq3xxsBytes = 98
	// IQ3_S: d, 64 index bytes, the ninth index bits, 32 sign bytes, then a
	// four-bit scale per 32 weights. weight = d (1+2s) × codeword.
	iq3sBytes = 110
)

func decodeIQ3XXS(dst []float32, src []byte) {
	var g groups
	for len(dst) >= superWeights && len(src) >= iq3xxsBytes {
		d := HalfToFloat(binary.LittleEndian.Uint16(src))
		for i, q := range src[2:66] {
			g.code[i] = uint16(q)
		}
		for ib := range 8 {
			tail := binary.LittleEndian.Uint32(src[66+4*ib:])
			scale := d * (0.5 + float32(tail>>28)) * 0.5
			for k := range 4 {
				g.sign[4*ib+k] = uint32(evenSigns[tail&127])
				g.scale[4*ib+k] = scale
				tail >>= 7
			}
		}
		expand44((*[superWeights]float32)(dst), iq3xxsGrid, &g)
		dst, src = dst[superWeights:], src[iq3xxsBytes:]
	}
}

func decodeIQ3S(dst []float32, src []byte) {
	var g groups
	for len(dst) >= superWeights && len(src) >= iq3sBytes {
		d := HalfToFloat(binary.LittleEndian.Uint16(src))
		low, high, signs, scales := src[2:66], src[66:74], src[74:106], src[106:iq3sBytes]
		for i, q := range low {
			g.code[i] = uint16(q) | uint16(high[i/8])<<(8-i&7)&256
		}
		for i, s := range signs {
			g.sign[i] = uint32(s)
		}
		for ib := range 8 {
			scale := d * float32(1+2*int(scales[ib/2]>>(ib&1*4)&15))
			y := g.scale[4*ib : 4*ib+4]
			y[0], y[1], y[2], y[3] = scale, scale, scale, scale
		}
		expand44((*[superWeights]float32)(dst), iq3sGrid, &g)
		dst, src = dst[superWeights:], src[iq3sBytes:]
	}
}

var (
	iq3xxsFormat = &shellFormat{iq3xxsShells, 32, true, 2, 15, 0.2, false, false, 1e-8, 1.0125, iq3xxsBytes, packIQ3XXS}
	iq3sFormat   = &shellFormat{iq3sShells, 32, false, 2, 9, 0.2, false, true, 0, 1.033, iq3sBytes, packIQ3S}
)

func packIQ3XXS(dst []byte, e *shellEncoder) {
	binary.LittleEndian.PutUint16(dst, e.half)
	for i := range 64 {
		dst[2+i] = byte(e.code(i))
	}
	for ib := range 8 {
		tail := uint32(e.q[ib]) << 28
		for g := range 4 {
			tail |= uint32(e.minus[4*ib+g]&127) << (7 * g)
		}
		binary.LittleEndian.PutUint32(dst[66+4*ib:], tail)
	}
}

func packIQ3S(dst []byte, e *shellEncoder) {
	binary.LittleEndian.PutUint16(dst, e.half)
	for i := range 64 {
		c := e.code(i)
		dst[2+i] = byte(c)
		dst[66+i/8] |= byte(c>>8) << (i & 7)
	}
	copy(dst[74:], e.minus[:])
	for i := range 4 {
		dst[106+i] = e.q[2*i] | e.q[2*i+1]<<4
	}
}
