package quant

import "encoding/binary"

// The types of 32 weights per block, levels in nibbles: byte j of 16 holds
// weight j in its low and weight j+16 in its high half.
//
//	Q4_0    d, nibbles                  weight = d × (q − 8)
//	Q4_1    d, m, nibbles               weight = d × q + m
//	Q5_0    d, 32 high bits, nibbles    weight = d × (q − 16)
//	Q5_1    d, m, 32 high bits, nibbles weight = d × q + m
//	IQ4_NL  d, nibbles                  weight = d × nonLinear[q]
//	MXFP4   exponent, nibbles           weight = 2^(exponent−128) × e2m1Twice[q]
//
// d and m are binary16; high bit i belongs to weight i.
const (
	q4_0Bytes  = 2 + 16
	q4_1Bytes  = 4 + 16
	q5_0Bytes  = 6 + 16
	q5_1Bytes  = 8 + 16
	iq4nlBytes = 2 + 16
	mxfp4Bytes = 1 + 16
)

// expandNibbles looks the levels of a block up in its table of weights.
func expandNibbles(dst *[32]float32, q *[16]byte, table *[16]float32) {
	for i, b := range q {
		dst[i] = table[b&15]
		dst[i+16] = table[b>>4]
	}
}

// expandNibbles5 does the same with the fifth bits in high.
func expandNibbles5(dst *[32]float32, q *[16]byte, high uint32, table *[32]float32) {
	for i, b := range q {
		dst[i] = table[uint32(b&15)|high<<4&16]
		dst[i+16] = table[uint32(b>>4)|high>>12&16]
		high >>= 1
	}
}

func decodeQ4_0(dst []float32, src []byte) {
	var table [16]float32
	for len(dst) >= 32 && len(src) >= q4_0Bytes {
		d := halfToFloat(binary.LittleEndian.Uint16(src))
		for i := range table {
			table[i] = d * float32(i-8)
		}
		expandNibbles((*[32]float32)(dst), (*[16]byte)(src[2:]), &table)
		dst, src = dst[32:], src[q4_0Bytes:]
	}
}

func decodeQ4_1(dst []float32, src []byte) {
	var table [16]float32
	for len(dst) >= 32 && len(src) >= q4_1Bytes {
		d := halfToFloat(binary.LittleEndian.Uint16(src))
		m := halfToFloat(binary.LittleEndian.Uint16(src[2:]))
		for i := range table {
			table[i] = float32(d*float32(i)) + m
		}
		expandNibbles((*[32]float32)(dst), (*[16]byte)(src[4:]), &table)
		dst, src = dst[32:], src[q4_1Bytes:]
	}
}

func decodeQ5_0(dst []float32, src []byte) {
	var table [32]float32
	for len(dst) >= 32 && len(src) >= q5_0Bytes {
		d := halfToFloat(binary.LittleEndian.Uint16(src))
		for i := range table {
			table[i] = d * float32(i-16)
		}
		expandNibbles5((*[32]float32)(dst), (*[16]byte)(src[6:]), binary.LittleEndian.Uint32(src[2:]), &table)
		dst, src = dst[32:], src[q5_0Bytes:]
	}
}

func decodeQ5_1(dst []float32, src []byte) {
	var table [32]float32
	for len(dst) >= 32 && len(src) >= q5_1Bytes {
		d := halfToFloat(binary.LittleEndian.Uint16(src))
		m := halfToFloat(binary.LittleEndian.Uint16(src[2:]))
		for i := range table {
			table[i] = float32(d*float32(i)) + m
		}
		expandNibbles5((*[32]float32)(dst), (*[16]byte)(src[8:]), binary.LittleEndian.Uint32(src[4:]), &table)
		dst, src = dst[32:], src[q5_1Bytes:]
	}
}
