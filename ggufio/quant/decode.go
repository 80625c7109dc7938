package quant

import "encoding/binary"

// Decoders take blocks apart into levels, small integers in bytes, eight at a
// time in the bytes of a word, and multiply those up to 256 at a time:
//
//	weight = scale × level + offset
//
// A type without offsets adds −0, which changes nothing.

// A chunk is the levels of up to 256 weights. Its scales and offsets belong to
// as many weights each as its method says.
type chunk struct {
	level         [256]uint8 // two's complement
	scale, offset [16]float32
}

// newChunk returns a chunk without offsets.
func newChunk() (c chunk) {
	for i := range c.offset {
		c.offset[i] = minusZero
	}
	return c
}

// expandGo writes the weights of n scales, a multiple of 32 weights.
func (c *chunk) expandGo(dst []float32, weightsPerScale int) {
	for i := 0; len(dst) >= weightsPerScale; i++ {
		y, q := dst[:weightsPerScale], c.level[i*weightsPerScale:][:weightsPerScale]
		scale, offset := c.scale[i], c.offset[i]
		for j, level := range q {
			y[j] = float32(scale*float32(int8(level))) + offset
		}
		dst = dst[weightsPerScale:]
	}
}

// multiply8Go sets eight scales to d × the bytes of codes, and eight offsets to
// m × the bytes of mins.
func (c *chunk) multiply8Go(codes uint64, d float32, mins uint64, m float32) {
	for i := range 8 {
		c.scale[i], c.offset[i] = d*float32(codes&255), m*float32(mins&255)
		codes, mins = codes>>8, mins>>8
	}
}

// Eight bytes at a time: the same number in every byte.
const (
	each1   = 0x0101010101010101
	each3   = 3 * each1
	each15  = 15 * each1
	eachTop = 0x80 * each1
)

// less subtracts the bytes of y from those of x, both below 128.
func less(x, y uint64) uint64 { return (x | eachTop - y) ^ eachTop }

func word(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }

func putWord(b []byte, w uint64) { binary.LittleEndian.PutUint64(b, w) }

// spreadBits holds the bits of each byte in the bytes of a word, from the
// lowest on.
var spreadBits = func() (t [256]uint64) {
	for i := range t {
		for bit := range 8 {
			t[i] |= uint64(i>>bit&1) << (8 * bit)
		}
	}
	return t
}()

// gatherBits is the inverse of spreadBits.
func gatherBits(w uint64) uint8 { return uint8(w * 0x0102040810204080 >> 56) }
