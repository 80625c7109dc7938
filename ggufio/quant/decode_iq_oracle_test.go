package quant

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio/gguftest/llamacpp"
)

// codebookTypes are the types of this file's oracle.
var codebookTypes = []Type{IQ1_S, IQ1_M, IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S, TQ1_0, TQ2_0, NVFP4, Q1_0, Q2_0}

// TestDecodeBlocksOfAnyBits decodes every byte value at every place of a block
// and every scale, infinite and NaN ones too, as the library does.
func TestDecodeBlocksOfAnyBits(t *testing.T) {
	lib := llamacpp.Load(t)
	for _, typ := range codebookTypes {
		f, _ := Lookup(typ)
		n, size := int(f.Layout.WeightsPerBlock), int(f.Layout.BytesPerBlock)
		rng := rand.New(rand.NewPCG(1, uint64(typ)))
		const blocks = 1 << 16
		src := make([]byte, blocks*size)
		for i := range src {
			src[i] = byte(rng.Uint32())
		}
		for b := range blocks {
			block := src[b*size : (b+1)*size]
			switch typ { // each of the 65536 scales once
			case NVFP4:
			case IQ1_M:
				for i := range 4 {
					block[49+2*i] = block[49+2*i]&15 | byte(b>>(4*i)&15)<<4
				}
			case TQ1_0, TQ2_0:
				block[size-2], block[size-1] = byte(b), byte(b>>8)
			default:
				block[0], block[1] = byte(b), byte(b>>8)
			}
		}
		got, want := make([]float32, n*blocks), make([]float32, n*blocks)
		if err := Decode(typ, got, src); err != nil {
			t.Fatal(err)
		}
		lib.Decode(uint32(typ), src, want)
		bad := 0
		for i := range want {
			if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
				if bad++; bad == 1 {
					t.Errorf("%v: block %d, weight %d: %v (%#x), the library %v (%#x)", typ, i/n, i%n,
						got[i], math.Float32bits(got[i]), want[i], math.Float32bits(want[i]))
				}
			}
		}
		if bad > 0 {
			t.Errorf("%v: %d of %d weights differ", typ, bad, len(want))
		}
	}
}
