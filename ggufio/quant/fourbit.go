package quant

import (
	"encoding/binary"
	"math"
)

// nonLinear holds the 16 levels of IQ4_NL and IQ4_XS, part of the format.
var nonLinear = [16]float32{-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113}

// e2m1Twice holds twice the 16 values of OCP's FP4 (E2M1): the sign is the
// top bit of the nibble. GGML halves the scale instead, so 8 stands for −0 and
// decodes to +0.
var e2m1Twice = [16]float32{0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12}

func decodeIQ4_NL(dst []float32, src []byte) {
	var table [16]float32
	for len(dst) >= 32 && len(src) >= iq4nlBytes {
		d := HalfToFloat(binary.LittleEndian.Uint16(src))
		for i, level := range nonLinear {
			table[i] = d * level
		}
		expandNibbles((*[32]float32)(dst), (*[16]byte)(src[2:]), &table)
		dst, src = dst[32:], src[iq4nlBytes:]
	}
}

// IQ4_XS: 256 weights: binary16 d; 16 bits with the top two bits of eight
// scales, low pair first; four bytes with the low nibbles of those; then 16
// bytes for each 32 weights as in IQ4_NL. weight = d × (scale − 32) × level.
const iq4xsBytes = 2 + 2 + 4 + 128

func decodeIQ4_XS(dst []float32, src []byte) {
	var table [16]float32
	for len(dst) >= 256 && len(src) >= iq4xsBytes {
		d := HalfToFloat(binary.LittleEndian.Uint16(src))
		high := uint32(binary.LittleEndian.Uint16(src[2:]))
		low := binary.LittleEndian.Uint32(src[4:])
		for k := range 8 {
			scale := d * float32(int32(low&15|high<<4&48)-32)
			low, high = low>>4, high>>2
			for i, level := range nonLinear {
				table[i] = scale * level
			}
			expandNibbles((*[32]float32)(dst[32*k:]), (*[16]byte)(src[8+16*k:]), &table)
		}
		dst, src = dst[256:], src[iq4xsBytes:]
	}
}

// halfExponent is 2^(e−128), half of what E8M0 means by e; 255, its NaN, is a
// number here as in GGML.
func halfExponent(e byte) float32 {
	if e < 2 {
		return math.Float32frombits(0x200000 << e)
	}
	return math.Float32frombits(uint32(e-1) << 23)
}

func decodeMXFP4(dst []float32, src []byte) {
	var table [16]float32
	for len(dst) >= 32 && len(src) >= mxfp4Bytes {
		d := halfExponent(src[0])
		for i, level := range e2m1Twice {
			table[i] = d * level
		}
		expandNibbles((*[32]float32)(dst), (*[16]byte)(src[1:]), &table)
		dst, src = dst[32:], src[mxfp4Bytes:]
	}
}
