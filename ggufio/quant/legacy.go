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

// unpackNibbles writes the levels of 16 bytes, each less bias.
func unpackNibbles(level *[32]uint8, q *[16]byte, bias uint64) {
	for i := 0; i < 16; i += 8 {
		w := word(q[i:])
		putWord(level[i:], less(w&each15, bias))
		putWord(level[16+i:], less(w>>4&each15, bias))
	}
}

// unpackNibbles5 does the same with the fifth bits in high.
func unpackNibbles5(level *[32]uint8, q *[16]byte, high uint32, bias uint64) {
	for i := 0; i < 16; i += 8 {
		w := word(q[i:])
		putWord(level[i:], less(w&each15|spreadBits[high>>i&255]<<4, bias))
		putWord(level[16+i:], less(w>>4&each15|spreadBits[high>>(16+i)&255]<<4, bias))
	}
}

func decodeQ4_0(dst []float32, src []byte) {
	c := newChunk()
	for len(dst) > 0 {
		n := min(len(dst)/32, 8)
		for k := range n {
			block := (*[q4_0Bytes]byte)(src)
			c.scale[k] = HalfToFloat(binary.LittleEndian.Uint16(block[:]))
			unpackNibbles((*[32]uint8)(c.level[32*k:]), (*[16]byte)(block[2:]), 8*each1)
			src = src[q4_0Bytes:]
		}
		c.expand(dst[:32*n], 32)
		dst = dst[32*n:]
	}
}

func decodeQ4_1(dst []float32, src []byte) {
	var c chunk
	for len(dst) > 0 {
		n := min(len(dst)/32, 8)
		for k := range n {
			block := (*[q4_1Bytes]byte)(src)
			c.scale[k] = HalfToFloat(binary.LittleEndian.Uint16(block[:]))
			c.offset[k] = HalfToFloat(binary.LittleEndian.Uint16(block[2:]))
			unpackNibbles((*[32]uint8)(c.level[32*k:]), (*[16]byte)(block[4:]), 0)
			src = src[q4_1Bytes:]
		}
		c.expand(dst[:32*n], 32)
		dst = dst[32*n:]
	}
}

func decodeQ5_0(dst []float32, src []byte) {
	c := newChunk()
	for len(dst) > 0 {
		n := min(len(dst)/32, 8)
		for k := range n {
			block := (*[q5_0Bytes]byte)(src)
			c.scale[k] = HalfToFloat(binary.LittleEndian.Uint16(block[:]))
			high := binary.LittleEndian.Uint32(block[2:])
			unpackNibbles5((*[32]uint8)(c.level[32*k:]), (*[16]byte)(block[6:]), high, 16*each1)
			src = src[q5_0Bytes:]
		}
		c.expand(dst[:32*n], 32)
		dst = dst[32*n:]
	}
}

func decodeQ5_1(dst []float32, src []byte) {
	var c chunk
	for len(dst) > 0 {
		n := min(len(dst)/32, 8)
		for k := range n {
			block := (*[q5_1Bytes]byte)(src)
			c.scale[k] = HalfToFloat(binary.LittleEndian.Uint16(block[:]))
			c.offset[k] = HalfToFloat(binary.LittleEndian.Uint16(block[2:]))
			high := binary.LittleEndian.Uint32(block[4:])
			unpackNibbles5((*[32]uint8)(c.level[32*k:]), (*[16]byte)(block[8:]), high, 0)
			src = src[q5_1Bytes:]
		}
		c.expand(dst[:32*n], 32)
		dst = dst[32*n:]
	}
}
