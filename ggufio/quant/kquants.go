package quant

import "encoding/binary"

// The K types: super-blocks of 256 weights in sub-blocks of 16 or 32, whose
// scales (and offsets) are themselves quantized.
//
//	Q2_K  16 × (scale nibble, min nibble), 64 bytes of levels, d, dmin
//	      weight = d × scale × q − dmin × min
//	Q3_K  32 bytes of third bits, 64 bytes of levels, 12 bytes of scales, d
//	      weight = d × (scale − 32) × (q − 4)
//	Q4_K  d, dmin, 12 bytes of scales and mins, 128 bytes of levels
//	      weight = d × scale × q − dmin × min
//	Q5_K  d, dmin, 12 bytes of scales and mins, 32 bytes of fifth bits, 128 bytes of levels
//	      weight = d × scale × q − dmin × min
//	Q6_K  128 bytes of low nibbles, 64 bytes of high pairs, 16 int8 scales, d
//	      weight = d × scale × (q − 32)
const (
	superBlock = 256

	q2kBytes = 16 + 64 + 2 + 2
	q3kBytes = 32 + 64 + 12 + 2
	q4kBytes = 2 + 2 + 12 + 128
	q5kBytes = 2 + 2 + 12 + 32 + 128
	q6kBytes = 128 + 64 + 16 + 2
)

func decodeQ2_K(dst []float32, src []byte) {
	var table [4]float32
	for len(dst) >= superBlock && len(src) >= q2kBytes {
		d := halfToFloat(binary.LittleEndian.Uint16(src[80:]))
		dmin := halfToFloat(binary.LittleEndian.Uint16(src[82:]))
		for s, b := range src[:16] { // sub-block s: 16 weights
			scale, offset := d*float32(b&15), float32(dmin*float32(b>>4))
			for i := range table {
				table[i] = float32(scale*float32(i)) - offset
			}
			// Each 32 bytes hold four times 32 weights, in pairs of bits.
			q := (*[16]byte)(src[16+s/8*32+s%2*16:])
			y := (*[16]float32)(dst[16*s:])
			shift := s / 2 % 4 * 2
			for i, b := range q {
				y[i] = table[b>>shift&3]
			}
		}
		dst, src = dst[superBlock:], src[q2kBytes:]
	}
}

// unpackScales3 returns the 16 scales of a Q3_K block. Their low nibbles fill
// eight bytes, low halves first; their top pairs fill four bytes, scale s in
// byte s mod 4.
func unpackScales3(packed *[12]byte) (scales [16]int8) {
	for s := range 8 {
		scales[s] = int8(packed[s]&15|packed[8+s%4]>>(s/4*2)<<4&48) - 32
		scales[s+8] = int8(packed[s]>>4|packed[8+s%4]>>(s/4*2+4)<<4&48) - 32
	}
	return scales
}

func decodeQ3_K(dst []float32, src []byte) {
	var table [8]float32
	for len(dst) >= superBlock && len(src) >= q3kBytes {
		d := halfToFloat(binary.LittleEndian.Uint16(src[108:]))
		scales := unpackScales3((*[12]byte)(src[96:]))
		for s, scale := range scales { // sub-block s: 16 weights
			scale := d * float32(scale)
			for i := range table {
				table[i] = scale * float32(i-4)
			}
			q := (*[16]byte)(src[32+s/8*32+s%2*16:])
			third := (*[16]byte)(src[s%2*16:])
			y := (*[16]float32)(dst[16*s:])
			shift, bit := s/2%4*2, s/2
			for i, b := range q {
				y[i] = table[b>>shift&3|third[i]>>bit<<2&4]
			}
		}
		dst, src = dst[superBlock:], src[q3kBytes:]
	}
}

// unpackScales4 returns the eight scales and mins of a Q4_K or Q5_K block, six
// bits each: the first four scales, then the first four mins, in the low bits
// of eight bytes; the nibbles of the last four in four bytes, scale below; the
// top pairs of those above the first four.
func unpackScales4(packed *[12]byte) (scales, mins [8]uint8) {
	for s := range 4 {
		scales[s], mins[s] = packed[s]&63, packed[s+4]&63
		scales[s+4] = packed[s+8]&15 | packed[s]>>6<<4
		mins[s+4] = packed[s+8]>>4 | packed[s+4]>>6<<4
	}
	return scales, mins
}

func decodeQ4_K(dst []float32, src []byte) {
	var low, high [16]float32
	for len(dst) >= superBlock && len(src) >= q4kBytes {
		d := halfToFloat(binary.LittleEndian.Uint16(src))
		dmin := halfToFloat(binary.LittleEndian.Uint16(src[2:]))
		scales, mins := unpackScales4((*[12]byte)(src[4:]))
		for s := 0; s < 8; s += 2 { // sub-blocks s and s+1: 32 weights each
			scale0, min0 := d*float32(scales[s]), float32(dmin*float32(mins[s]))
			scale1, min1 := d*float32(scales[s+1]), float32(dmin*float32(mins[s+1]))
			for i := range low {
				low[i] = float32(scale0*float32(i)) - min0
				high[i] = float32(scale1*float32(i)) - min1
			}
			q := (*[32]byte)(src[16+16*s:])
			y := (*[64]float32)(dst[32*s:])
			for i, b := range q {
				y[i] = low[b&15]
				y[i+32] = high[b>>4]
			}
		}
		dst, src = dst[superBlock:], src[q4kBytes:]
	}
}

func decodeQ5_K(dst []float32, src []byte) {
	var low, high [32]float32
	for len(dst) >= superBlock && len(src) >= q5kBytes {
		d := halfToFloat(binary.LittleEndian.Uint16(src))
		dmin := halfToFloat(binary.LittleEndian.Uint16(src[2:]))
		scales, mins := unpackScales4((*[12]byte)(src[4:]))
		fifth := (*[32]byte)(src[16:])
		for s := 0; s < 8; s += 2 {
			scale0, min0 := d*float32(scales[s]), float32(dmin*float32(mins[s]))
			scale1, min1 := d*float32(scales[s+1]), float32(dmin*float32(mins[s+1]))
			for i := range low {
				low[i] = float32(scale0*float32(i)) - min0
				high[i] = float32(scale1*float32(i)) - min1
			}
			q := (*[32]byte)(src[48+16*s:])
			y := (*[64]float32)(dst[32*s:])
			for i, b := range q {
				h := fifth[i] >> s
				y[i] = low[b&15|h<<4&16]
				y[i+32] = high[b>>4|h<<3&16]
			}
		}
		dst, src = dst[superBlock:], src[q5kBytes:]
	}
}

func decodeQ6_K(dst []float32, src []byte) {
	for len(dst) >= superBlock && len(src) >= q6kBytes {
		d := halfToFloat(binary.LittleEndian.Uint16(src[208:]))
		for s, scale := range src[192:208] { // sub-block s: 16 weights
			scale := d * float32(int8(scale))
			// Half a block: 64 bytes of low nibbles, the low halves first, and
			// 32 bytes of high pairs.
			half, quarter := s/8, s/2%4
			q := (*[16]byte)(src[64*half+quarter%2*32+s%2*16:])
			pairs := (*[16]byte)(src[128+32*half+s%2*16:])
			y := (*[16]float32)(dst[16*s:])
			shift, pair := quarter/2*4, quarter*2
			for i, b := range q {
				y[i] = scale * float32(int32(b>>shift&15|pairs[i]>>pair<<4&48)-32)
			}
		}
		dst, src = dst[superBlock:], src[q6kBytes:]
	}
}
