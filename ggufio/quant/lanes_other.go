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

func levelSums(x, w []float32, inverse, lo, hi float32) (wxq, wqq float32) {
	return levelSumsGo(x, w, inverse, lo, hi)
}

func surveyOf(x, w []float32) survey { return surveyGo(x, w) }

func largestBits(x []float32, mask uint32) uint32 { return largestBitsGo(x, mask) }

func plusBits(dst []uint8, x []float32) { plusBitsGo(dst, x) }

func levelBytes(dst []uint8, x []float32, inverse, lo, hi float32) {
	levelBytesGo(dst, x, inverse, lo, hi)
}

func e2m1Costs(cost *[scalesTried]float32, x, w *[16]float32, scales, inverses *[scalesTried]float32) {
	e2m1CostsGo(cost, x, w, scales, inverses)
}
