//go:build !amd64 || purego

package quant

// HasVectors reports whether encoders use the processor's vectors here.
func HasVectors() bool { return false }

func residuals(sum *lanes, x, w []float32, inv, off *lanes, lo, hi float32) {
	residualsGo(sum, x, w, inv, off, lo, hi)
}

func fitMoments(m *moments, x, w, wx []float32, inv, off *lanes, lo, hi float32) {
	fitMomentsGo(m, x, w, wx, inv, off, lo, hi)
}

func roundLevels(q []uint8, x []float32, inv, off, lo, hi, bias float32) {
	roundLevelsGo(q, x, inv, off, lo, hi, bias)
}

func extremes(x []float32) valueRange { return extremesGo(x) }

func e2m1Places(q *[32]uint8, x *[32]float32, inv float32) { e2m1PlacesGo(q, x, inv) }

func refine(best, gain *lanes, x *[16]lanes, inv *lanes, weigh, lo, hi float32) {
	refineGo(best, gain, x, inv, weigh, lo, hi)
}
