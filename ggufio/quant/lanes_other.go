//go:build !amd64 || purego

package quant

func distances(dst, x, w []lanes, s *lanes, levels []float32) { distancesGo(dst, x, w, s, levels) }

func sums(dst, p, q []lanes) { sumsGo(dst, p, q) }

func oddSums(dst, p, pOdd, q, qOdd []lanes) { oddSumsGo(dst, p, pOdd, q, qOdd) }

func scan(best *lanes, rank *[8]int32, lo, hi []lanes, list []uint16) {
	scanGo(best, rank, lo, hi, list)
}

func scanOdd(best *lanes, rank *[8]int32, lo, loOdd, hi, hiOdd []lanes, list []uint16) {
	scanOddGo(best, rank, lo, loOdd, hi, hiOdd, list)
}

func levelSums(wxq, wqq *lanes, x, w []float32, inverse, lo, hi float32) {
	levelSumsGo(wxq, wqq, x, w, inverse, lo, hi)
}

func levelBytes(dst []uint8, x []float32, inverse, lo, hi float32) {
	levelBytesGo(dst, x, inverse, lo, hi)
}

func e2m1Costs(cost *[scalesTried]float32, x, w *[16]float32, scales, inverses *[scalesTried]float32) {
	e2m1CostsGo(cost, x, w, scales, inverses)
}

func surveyLanes(high, low, top, wx, ww *lanes, x, w []float32) {
	surveyLanesGo(high, low, top, wx, ww, x, w)
}
