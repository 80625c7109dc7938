package quant

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestScansAgree wants the vector instructions and the Go code to give the
// same bits.
func TestScansAgree(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{1, 7, 16, 32, 256} {
		for trial := range 200 {
			x, w, wx := make([]float32, n), make([]float32, n), make([]float32, n)
			scale := float32(math.Ldexp(1, trial%40-20))
			for i := range x {
				x[i] = float32(r.NormFloat64()) * scale
				w[i] = r.Float32()
				if r.IntN(5) == 0 {
					x[i], w[i] = 0, weightFloor
				}
				wx[i] = w[i] * x[i]
			}
			var inv, off lanes
			for j := range ways {
				inv[j], off[j] = float32(r.NormFloat64())*20/scale, float32(r.IntN(9))
			}
			lo, hi := float32(-r.IntN(33)), float32(r.IntN(32))

			var got, want lanes
			residuals(&got, x, w, &inv, &off, lo, hi)
			residualsGo(&want, x, w, &inv, &off, lo, hi)
			if got != want {
				t.Fatalf("residuals of %d: %v, in Go %v", n, got, want)
			}
			var m, m2 moments
			fitMoments(&m, x, w, wx, &inv, &off, lo, hi)
			fitMomentsGo(&m2, x, w, wx, &inv, &off, lo, hi)
			if m != m2 {
				t.Fatalf("fitMoments of %d: %v, in Go %v", n, m, m2)
			}
			q, q2 := make([]uint8, n), make([]uint8, n)
			roundLevels(q, x, inv[0], off[0], lo, hi, -lo)
			roundLevelsGo(q2, x, inv[0], off[0], lo, hi, -lo)
			for i := range q {
				if q[i] != q2[i] {
					t.Fatalf("roundLevels of %d: %v, in Go %v", n, q, q2)
				}
			}
		}
	}
}

// TestFourBitScansAgree does the same for the levels of MXFP4, at and around
// each midpoint between two levels.
func TestFourBitScansAgree(t *testing.T) {
	var x [32]float32
	r := rand.New(rand.NewPCG(3, 4))
	for trial := range 2000 {
		for i := range x {
			x[i] = float32(12 * r.NormFloat64())
			if trial%2 == 0 {
				x[i] = float32(r.IntN(57)-28) / 2
				x[i] = math.Float32frombits(math.Float32bits(x[i]) + uint32(r.IntN(3)) - 1)
				if x[i] != x[i] { // one less than zero
					x[i] = 0
				}
			}
		}
		inv := float32(math.Ldexp(1, trial%7-3))
		var got, want [32]uint8
		e2m1Places(&got, &x, inv)
		e2m1PlacesGo(&want, &x, inv)
		if got != want {
			t.Fatalf("places of %v × %v: %v, in Go %v", x, inv, got, want)
		}
		if a, b := extremes(x[:]), extremesGo(x[:]); a != b {
			t.Fatalf("range of %v: %v, in Go %v", x, a, b)
		}
	}
}

// TestRefineAgrees does the same for scales of sub-blocks in lanes, with
// sub-blocks of zeros, of one value and of values below any scale.
func TestRefineAgrees(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for trial := range 500 {
		var x [16]lanes
		var inv lanes
		scale := math.Ldexp(1, trial%60-30)
		for k := range ways {
			top := float32(0)
			for i := range x {
				switch v := float32(r.NormFloat64() * scale); r.IntN(trial%8 + 1) {
				case 0:
					x[i][k] = v
				case 1:
					x[i][k] = float32(scale)
				}
				if k == trial%9 {
					x[i][k] = 0
				}
				if magnitude(x[i][k]) > magnitude(top) {
					top = x[i][k]
				}
			}
			if top != 0 && k != trial%11 {
				inv[k] = -4 / top
			}
		}
		var best, gain, best2, gain2 lanes
		weigh := float32(1 / (scale * scale))
		refine(&best, &gain, &x, &inv, weigh, -4, 3)
		refineGo(&best2, &gain2, &x, &inv, weigh, -4, 3)
		if best != best2 || gain != gain2 {
			t.Fatalf("%v × %v: scales %v, gains %v; in Go %v, %v", x, inv, best, gain, best2, gain2)
		}
	}
}
