//go:build !purego

package quant

import "golang.org/x/sys/cpu"

// vectorHalves says that the processor converts binary16.
var vectorHalves = cpu.X86.HasAVX && cpu.X86.HasF16C

// expandAVX2 writes 32 n weights. The scale and offset of the second half of
// each 32 follow those of the first after half bytes.
//
//go:noescape
func expandAVX2(dst *float32, level *uint8, n int, scale, offset *float32, half int)

// multiply8AVX2 sets scale to d × the bytes of codes, and offset to m × the
// bytes of mins.
//
//go:noescape
func multiply8AVX2(scale, offset *float32, codes, mins uint64, d, m float32)

// q8_0AVX2 decodes n blocks of Q8_0.
//
//go:noescape
func q8_0AVX2(dst *float32, src *byte, n int)

// halvesF16C converts n numbers, a multiple of 16.
//
//go:noescape
func halvesF16C(dst *float32, src *byte, n int)

// brainsAVX2 converts n numbers, a multiple of 16.
//
//go:noescape
func brainsAVX2(dst *float32, src *byte, n int)

// expand writes weights, a multiple of 32, of which each 16 or 32 share a
// scale and an offset.
func (c *chunk) expand(dst []float32, weightsPerScale int) {
	if !vectors || len(dst) == 0 {
		c.expandGo(dst, weightsPerScale)
		return
	}
	half := 0
	if weightsPerScale == 16 {
		half = 4
	}
	dst = dst[:min(len(dst), len(c.level))]
	expandAVX2(&dst[0], &c.level[0], len(dst)/32, &c.scale[0], &c.offset[0], half)
}

func (c *chunk) multiply8(codes uint64, d float32, mins uint64, m float32) {
	if !vectors {
		c.multiply8Go(codes, d, mins, m)
		return
	}
	multiply8AVX2(&c.scale[0], &c.offset[0], codes, mins, d, m)
}

func decodeQ8_0(dst []float32, src []byte) {
	n := len(dst) / 32
	if !vectors || !vectorHalves || n == 0 {
		decodeQ8_0Go(dst, src)
		return
	}
	src = src[:n*q8_0Bytes]
	q8_0AVX2(&dst[0], &src[0], n)
}

func decodeF16(dst []float32, src []byte) {
	n := len(dst) &^ 15
	if vectorHalves && n > 0 {
		src = src[:2*len(dst)]
		halvesF16C(&dst[0], &src[0], n)
		dst, src = dst[n:], src[2*n:]
	}
	decodeF16Go(dst, src)
}

func decodeBF16(dst []float32, src []byte) {
	n := len(dst) &^ 15
	if vectors && n > 0 {
		src = src[:2*len(dst)]
		brainsAVX2(&dst[0], &src[0], n)
		dst, src = dst[n:], src[2*n:]
	}
	decodeBF16Go(dst, src)
}
