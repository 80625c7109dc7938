package quant_test

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio/gguftest/llamacpp"
	"github.com/ggufplan/ggufplan/ggufio/quant"
)

// decodable lists the types that the package reads, save F32, which needs no
// conversion.
func decodable() []quant.Format {
	var list []quant.Format
	for t := quant.F16; t <= quant.Q2_0; t++ {
		if f, ok := quant.Lookup(t); ok && quant.CanDecode(t) {
			list = append(list, f)
		}
	}
	return list
}

// edgeHalves are the binary16 values where conversions go wrong, as scales.
var edgeHalves = []uint16{
	0x0000, 0x8000, 0x0001, 0x8001, 0x03ff, 0x0400, 0x7bff, 0xfbff, 0x7c00, 0xfc00, 0x7c01, 0x7e00, 0xfe01, 0x3c00,
}

// decodeBlocks returns random blocks, and blocks that have each edge value in
// each place of two bytes.
func decodeBlocks(f quant.Format) []byte {
	r := rand.New(rand.NewPCG(uint64(f.Type), 1))
	size := int(f.Layout.BytesPerBlock)
	src := make([]byte, 512*size)
	for i := range src {
		src[i] = byte(r.Uint32())
	}
	for i := range 3 * size {
		src[i] = [3]byte{0x00, 0xff, 0x80}[i/size]
	}
	for at := 0; at+2 <= size; at += 2 {
		for _, h := range edgeHalves {
			block := make([]byte, size)
			for i := range block {
				block[i] = byte(r.Uint32())
			}
			binary.LittleEndian.PutUint16(block[at:], h)
			src = append(src, block...)
		}
	}
	if size == 2 { // all of them
		src = src[:0]
		for h := range 1 << 16 {
			src = binary.LittleEndian.AppendUint16(src, uint16(h))
		}
	}
	return src
}

// TestDecodeAgainstLibrary wants the library's bits; where a scale makes a
// weight NaN, any NaN.
func TestDecodeAgainstLibrary(t *testing.T) {
	llamacpp.Load(t)
	for _, f := range decodable() {
		t.Run(f.Name, func(t *testing.T) {
			src := decodeBlocks(f)
			want, err := oracleDecode(t, f, src)
			if err != nil {
				t.Fatal(err)
			}
			got := make([]float32, len(want))
			if err := quant.Decode(f.Type, got, src); err != nil {
				t.Fatal(err)
			}
			reportDecode(t, f, src, got, want)
		})
	}
}

func reportDecode(t *testing.T, f quant.Format, src []byte, got, want []float32) {
	t.Helper()
	n, size := int(f.Layout.WeightsPerBlock), int(f.Layout.BytesPerBlock)
	bad, worst, worstCount, first := 0, 0, 0, 0
	for b := range len(want) / n {
		count, at := 0, 0
		for i := n - 1; i >= 0; i-- {
			x, y := got[b*n+i], want[b*n+i]
			if math.Float32bits(x) != math.Float32bits(y) && (x == x || y == y || !f.Quantized) {
				count, at = count+1, i
			}
		}
		if count > 0 {
			bad++
		}
		if count > worstCount {
			worst, worstCount, first = b, count, at
		}
	}
	if bad > 0 {
		t.Errorf("%s: %d of %d blocks differ from the library; the worst, %d, in %d of %d weights, first %d: %v, want %v; block %x",
			f.Name, bad, len(want)/n, worst, worstCount, n, first, got[worst*n+first], want[worst*n+first], src[worst*size:(worst+1)*size])
	}
}
