//go:build !purego

package quant

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"os"
	"testing"
)

// withoutVectors runs f with the Go code alone.
func withoutVectors(f func()) {
	defer func(v, h bool) { vectors, vectorHalves = v, h }(vectors, vectorHalves)
	vectors, vectorHalves = false, false
	f()
}

// needVectors skips a test of the vector code where the processor cannot run
// it. With GGUFPLAN_REQUIRE_VECTORS set, as CI sets it, that fails the test.
func needVectors(t *testing.T) {
	t.Helper()
	switch {
	case vectors && vectorHalves:
	case os.Getenv("GGUFPLAN_REQUIRE_VECTORS") != "":
		t.Fatal("this processor has no AVX2 or no F16C, and both are required")
	default:
		t.Skip("SKIPPED, NOT TESTED: this processor has no AVX2 or no F16C")
	}
}

// TestDecodersAgree wants the vector instructions and the Go code to decode
// any bits to the same bits, and NaN to NaN: rows of every number of blocks up
// to more than a turn of the vector loops, with the halves where conversions
// go wrong at every place of a block.
func TestDecodersAgree(t *testing.T) {
	needVectors(t)
	edges := []uint16{0, 0x8000, 1, 0x83ff, 0x0400, 0x7bff, 0xfbff, 0x7c00, 0xfc00, 0x7c01, 0x7e00, 0xfe01, 0xffff}
	for typ := F16; typ <= Q2_0; typ++ {
		if !CanDecode(typ) {
			continue
		}
		f, _ := Lookup(typ)
		n, size := int(f.Layout.WeightsPerBlock), int(f.Layout.BytesPerBlock)
		r := rand.New(rand.NewPCG(7, uint64(typ)))
		compare := func(src []byte) {
			t.Helper()
			got, want := make([]float32, len(src)/size*n+1), make([]float32, len(src)/size*n+1)
			guard := float32(12345)
			got[len(got)-1] = guard
			got, want = got[:len(got)-1], want[:len(want)-1]
			if err := Decode(typ, got, src); err != nil {
				t.Fatal(err)
			}
			withoutVectors(func() {
				if err := Decode(typ, want, src); err != nil {
					t.Fatal(err)
				}
			})
			for i := range want {
				x, y := got[i], want[i]
				if math.Float32bits(x) != math.Float32bits(y) && (x == x || y == y) {
					t.Fatalf("%v: %d blocks: weight %d is %v, in Go %v; block %x", typ, len(src)/size, i, x, y, src[i/n*size:][:size])
				}
			}
			if got[:len(got)+1][len(got)] != guard {
				t.Fatalf("%v: %d blocks: wrote past the last weight", typ, len(src)/size)
			}
		}
		random := func(blocks int) []byte {
			src := make([]byte, blocks*size)
			for i := range src {
				src[i] = byte(r.Uint32())
			}
			return src
		}
		for blocks := range 40 {
			compare(random(blocks))
		}
		for at := 0; at+2 <= size; at++ {
			src := random(len(edges))
			for i, h := range edges {
				binary.LittleEndian.PutUint16(src[i*size+at:], h)
			}
			compare(src)
		}
	}
}

// TestHalvesAgree converts every binary16 and bfloat16 both ways, bit by bit.
func TestHalvesAgree(t *testing.T) {
	var src []byte
	for h := range 1 << 16 {
		src = binary.LittleEndian.AppendUint16(src, uint16(h))
	}
	for _, typ := range []Type{F16, BF16} {
		got, want := make([]float32, 1<<16), make([]float32, 1<<16)
		if err := Decode(typ, got, src); err != nil {
			t.Fatal(err)
		}
		withoutVectors(func() {
			if err := Decode(typ, want, src); err != nil {
				t.Fatal(err)
			}
		})
		for h := range want {
			if math.Float32bits(got[h]) != math.Float32bits(want[h]) {
				t.Fatalf("%v: %#x is %#x, in Go %#x", typ, h, math.Float32bits(got[h]), math.Float32bits(want[h]))
			}
		}
	}
}

// TestEncodersAgree wants the vector instructions and the Go code to encode
// rows to the same bytes, with and without importance.
func TestEncodersAgree(t *testing.T) {
	needVectors(t)
	const columns = 512
	r := rand.New(rand.NewPCG(11, 1))
	for typ := F16; typ <= Q2_0; typ++ {
		if !CanEncode(typ) {
			continue
		}
		f, _ := Lookup(typ)
		for _, shape := range []struct {
			name string
			at   func(i int) float64
		}{
			{"Gaussian", func(int) float64 { return r.NormFloat64() }},
			{"zeros of any sign", func(i int) float64 { return math.Copysign(0, r.Float64()-0.5) }},
			{"few magnitudes", func(int) float64 { return float64(r.IntN(9)-4) / 4 }},
			{"positive", func(int) float64 { return 1 + r.Float64() }},
			{"or zero", func(int) float64 { return max(0, r.NormFloat64()) }},
			{"subnormal", func(int) float64 { return 1e-42 * r.NormFloat64() }},
			{"outliers", func(i int) float64 { return r.NormFloat64() * float64(1+i%97/96*1000) }},
			{"each binade", func(int) float64 { return math.Ldexp(r.NormFloat64(), -r.IntN(24)) }},
		} {
			row, weights := make([]float32, columns), make([]float32, columns)
			for i := range row {
				row[i] = float32(shape.at(i))
				weights[i] = float32(math.Exp(r.NormFloat64())) * float32(r.IntN(8))
			}
			for _, w := range [][]float32{weights, nil} {
				if w == nil && EncodeNeedsWeights(typ) {
					continue
				}
				encode := func() []byte {
					enc, err := NewEncoder(typ)
					if err != nil {
						t.Fatal(err)
					}
					out := make([]byte, columns/f.Layout.WeightsPerBlock*f.Layout.BytesPerBlock)
					if err := enc.EncodeRow(out, row, w); err != nil {
						t.Fatalf("%v: %s: %v", typ, shape.name, err)
					}
					return out
				}
				got := encode()
				var want []byte
				withoutVectors(func() { want = encode() })
				if !bytes.Equal(got, want) {
					t.Errorf("%v: %s, importance %t: the bytes differ", typ, shape.name, w != nil)
				}
			}
		}
	}
}
