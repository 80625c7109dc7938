//go:build !amd64 || purego

package quant

func distances(dst, x, w []lanes, s *lanes, levels []float32) { distancesGo(dst, x, w, s, levels) }

func sums(dst, p, q []lanes) { sumsGo(dst, p, q) }

func scan(best *lanes, rank *[8]int32, lo, hi []lanes, book *codebook) {
	scanGo(best, rank, lo, hi, book)
}

func largestBits(x []float32, mask uint32) uint32 { return largestBitsGo(x, mask) }

func plusBits(dst []uint8, x []float32) { plusBitsGo(dst, x) }

func levelBytes(dst []uint8, x []float32, inverse, lo, hi float32) {
	levelBytesGo(dst, x, inverse, lo, hi)
}
