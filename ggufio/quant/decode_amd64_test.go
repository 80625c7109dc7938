//go:build !purego

package quant

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"
)

// withoutVectors runs f with the Go code alone.
func withoutVectors(f func()) {
	defer func(v, h bool) { vectors, vectorHalves = v, h }(vectors, vectorHalves)
	vectors, vectorHalves = false, false
	f()
}

// TestDecodersAgree wants the vector instructions and the Go code to decode
// any bits to the same bits, and NaN to NaN: rows of every number of blocks up
// to more than a turn of the vector loops, with the halves where conversions
// go wrong at every place of a block.
func TestDecodersAgree(t *testing.T) {
	if !vectors || !vectorHalves {
		t.Skip("SKIPPED, NOT TESTED: this processor has no AVX2 or no F16C")
	}
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
