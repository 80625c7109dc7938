//go:build !amd64 || purego

package quant

func (c *chunk) expand(dst []float32, weightsPerScale int) { c.expandGo(dst, weightsPerScale) }

func (c *chunk) multiply8(codes uint64, d float32, mins uint64, m float32) {
	c.multiply8Go(codes, d, mins, m)
}

func decodeQ8_0(dst []float32, src []byte) { decodeQ8_0Go(dst, src) }

func decodeF16(dst []float32, src []byte) { decodeF16Go(dst, src) }

func decodeBF16(dst []float32, src []byte) { decodeBF16Go(dst, src) }
