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
	var c chunk
	for len(dst) >= superBlock {
		block := (*[q2kBytes]byte)(src)
		d := HalfToFloat(binary.LittleEndian.Uint16(block[80:]))
		dmin := HalfToFloat(binary.LittleEndian.Uint16(block[82:]))
		for s, b := range block[:16] { // sub-block s: 16 weights
			c.scale[s], c.offset[s] = d*float32(b&15), -float32(dmin*float32(b>>4))
		}
		for h := range 2 { // each 32 bytes hold four times 32 weights, in pairs of bits
			q, level := (*[32]byte)(block[16+32*h:]), (*[128]uint8)(c.level[128*h:])
			for i := 0; i < 32; i += 8 {
				w := word(q[i:])
				putWord(level[i:], w&each3)
				putWord(level[32+i:], w>>2&each3)
				putWord(level[64+i:], w>>4&each3)
				putWord(level[96+i:], w>>6&each3)
			}
		}
		c.expand(dst[:superBlock], 16)
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
	c := newChunk()
	for len(dst) >= superBlock {
		block := (*[q3kBytes]byte)(src)
		d := HalfToFloat(binary.LittleEndian.Uint16(block[108:]))
		for s, scale := range unpackScales3((*[12]byte)(block[96:])) { // sub-block s: 16 weights
			c.scale[s] = d * float32(scale)
		}
		for h := range 2 {
			q, level := (*[32]byte)(block[32+32*h:]), (*[128]uint8)(c.level[128*h:])
			for i := 0; i < 32; i += 8 {
				w, third := word(q[i:]), word(block[i:])>>(4*h)
				putWord(level[i:], less(w&each3|third&each1<<2, 4*each1))
				putWord(level[32+i:], less(w>>2&each3|third>>1&each1<<2, 4*each1))
				putWord(level[64+i:], less(w>>4&each3|third>>2&each1<<2, 4*each1))
				putWord(level[96+i:], less(w>>6&each3|third>>3&each1<<2, 4*each1))
			}
		}
		c.expand(dst[:superBlock], 16)
		dst, src = dst[superBlock:], src[q3kBytes:]
	}
}

// unpackScales4 takes the eight scales and mins of a Q4_K or Q5_K block, six
// bits each, as scales and offsets: the first four scales, then the first four
// mins, are in the low bits of eight bytes; the nibbles of the last four in
// four bytes, scale below; the top pairs of those above the first four.
func (c *chunk) unpackScales4(block *[16]byte) {
	d := HalfToFloat(binary.LittleEndian.Uint16(block[:]))
	dmin := HalfToFloat(binary.LittleEndian.Uint16(block[2:]))
	scales, mins, low := word(block[4:])&0xffffffff, word(block[8:])&0xffffffff, word(block[8:])>>32
	c.multiply8(
		scales&0x3f3f3f3f|(low&0x0f0f0f0f|scales>>2&0x30303030)<<32, d,
		mins&0x3f3f3f3f|(low>>4&0x0f0f0f0f|mins>>2&0x30303030)<<32, -dmin)
}

func decodeQ4_K(dst []float32, src []byte) {
	var c chunk
	for len(dst) >= superBlock {
		block := (*[q4kBytes]byte)(src)
		c.unpackScales4((*[16]byte)(block[:]))
		for k := range 4 { // 32 bytes: the low nibbles of 32 weights, the high ones of the next
			q, level := (*[32]byte)(block[16+32*k:]), (*[64]uint8)(c.level[64*k:])
			w0, w1, w2, w3 := word(q[:]), word(q[8:]), word(q[16:]), word(q[24:])
			putWord(level[:], w0&each15)
			putWord(level[8:], w1&each15)
			putWord(level[16:], w2&each15)
			putWord(level[24:], w3&each15)
			putWord(level[32:], w0>>4&each15)
			putWord(level[40:], w1>>4&each15)
			putWord(level[48:], w2>>4&each15)
			putWord(level[56:], w3>>4&each15)
		}
		c.expand(dst[:superBlock], 32)
		dst, src = dst[superBlock:], src[q4kBytes:]
	}
}

func decodeQ5_K(dst []float32, src []byte) {
	var c chunk
	for len(dst) >= superBlock {
		block := (*[q5kBytes]byte)(src)
		c.unpackScales4((*[16]byte)(block[:]))
		for k := range 4 {
			q, level := (*[32]byte)(block[48+32*k:]), (*[64]uint8)(c.level[64*k:])
			for i := 0; i < 32; i += 8 {
				w, fifth := word(q[i:]), word(block[16+i:])>>(2*k)
				putWord(level[i:], w&each15|fifth&each1<<4)
				putWord(level[32+i:], w>>4&each15|fifth>>1&each1<<4)
			}
		}
		c.expand(dst[:superBlock], 32)
		dst, src = dst[superBlock:], src[q5kBytes:]
	}
}

func decodeQ6_K(dst []float32, src []byte) {
	c := newChunk()
	for len(dst) >= superBlock {
		block := (*[q6kBytes]byte)(src)
		d := HalfToFloat(binary.LittleEndian.Uint16(block[208:]))
		for s, scale := range block[192:208] { // sub-block s: 16 weights
			c.scale[s] = d * float32(int8(scale))
		}
		for h := range 2 { // 64 bytes of low nibbles, the low halves first, and 32 bytes of high pairs
			q, pairs := (*[64]byte)(block[64*h:]), (*[32]byte)(block[128+32*h:])
			level := (*[128]uint8)(c.level[128*h:])
			for i := 0; i < 32; i += 8 {
				w, w2, p := word(q[i:]), word(q[32+i:]), word(pairs[i:])
				putWord(level[i:], less(w&each15|p&each3<<4, 32*each1))
				putWord(level[32+i:], less(w2&each15|p>>2&each3<<4, 32*each1))
				putWord(level[64+i:], less(w>>4&each15|p>>4&each3<<4, 32*each1))
				putWord(level[96+i:], less(w2>>4&each15|p>>6&each3<<4, 32*each1))
			}
		}
		c.expand(dst[:superBlock], 16)
		dst, src = dst[superBlock:], src[q6kBytes:]
	}
}
