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
