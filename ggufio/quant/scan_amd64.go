//go:build !purego

package quant

import "golang.org/x/sys/cpu"

// vectors says that the processor has the instructions of scan_amd64.s.
var vectors = cpu.X86.HasAVX2

// HasVectors reports whether encoders use the processor's vectors here, which
// makes most of them three to five times as fast.
func HasVectors() bool { return vectors }

//go:noescape
func residualsAVX2(sum *lanes, x, w *float32, n int, inv, off *lanes, lo, hi float32)

//go:noescape
func fitMomentsAVX2(m *moments, x, w, wx *float32, n int, inv, off *lanes, lo, hi float32)

//go:noescape
func roundLevelsAVX2(q *uint8, x *float32, n int, inv, off, lo, hi, bias float32)

func residuals(sum *lanes, x, w []float32, inv, off *lanes, lo, hi float32) {
	if !vectors || len(x) == 0 {
		residualsGo(sum, x, w, inv, off, lo, hi)
		return
	}
	w = w[:len(x)]
	residualsAVX2(sum, &x[0], &w[0], len(x), inv, off, lo, hi)
}

func fitMoments(m *moments, x, w, wx []float32, inv, off *lanes, lo, hi float32) {
	if !vectors || len(x) == 0 {
		fitMomentsGo(m, x, w, wx, inv, off, lo, hi)
		return
	}
	w, wx = w[:len(x)], wx[:len(x)]
	fitMomentsAVX2(m, &x[0], &w[0], &wx[0], len(x), inv, off, lo, hi)
}

func roundLevels(q []uint8, x []float32, inv, off, lo, hi, bias float32) {
	if !vectors || len(x) == 0 || len(x)%16 != 0 {
		roundLevelsGo(q, x, inv, off, lo, hi, bias)
		return
	}
	q = q[:len(x)]
	roundLevelsAVX2(&q[0], &x[0], len(x), inv, off, lo, hi, bias)
}

//go:noescape
func extremesAVX2(r *valueRange, x *float32, n int)

func extremes(x []float32) (r valueRange) {
	if !vectors || len(x) == 0 || len(x)%16 != 0 {
		return extremesGo(x)
	}
	extremesAVX2(&r, &x[0], len(x))
	return r
}

//go:noescape
func e2m1PlacesAVX2(q *[32]uint8, x *[32]float32, inv float32)

func e2m1Places(q *[32]uint8, x *[32]float32, inv float32) {
	if !vectors {
		e2m1PlacesGo(q, x, inv)
		return
	}
	e2m1PlacesAVX2(q, x, inv)
}

//go:noescape
func refineAVX2(best, gain *lanes, x *[16]lanes, inv *lanes, weigh, lo, hi float32)

func refine(best, gain *lanes, x *[16]lanes, inv *lanes, weigh, lo, hi float32) {
	if !vectors {
		refineGo(best, gain, x, inv, weigh, lo, hi)
		return
	}
	refineAVX2(best, gain, x, inv, weigh, lo, hi)
}
