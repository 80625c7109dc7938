//go:build !purego

package quant

func distances(dst, x, w []lanes, s *lanes, levels []float32) {
	if !vectors {
		distancesGo(dst, x, w, s, levels)
		return
	}
	_, _ = dst[len(x)*len(levels)-1], w[len(x)-1]
	distancesAVX2(&dst[0], &x[0], &w[0], s, &levels[0], len(x), len(levels))
}

func sums(dst, p, q []lanes) {
	if !vectors {
		sumsGo(dst, p, q)
		return
	}
	_ = dst[len(p)*len(q)-1]
	sumsAVX2(&dst[0], &p[0], &q[0], len(p), len(q))
}

var unscanned = lanes{maxCost, maxCost, maxCost, maxCost, maxCost, maxCost, maxCost, maxCost}

func scan(best *lanes, rank *[8]int32, lo, hi []lanes, book *codebook) {
	if !vectors {
		scanGo(best, rank, lo, hi, book)
		return
	}
	*best = unscanned
	scanAVX2(best, rank, &lo[0], &hi[0], &book.list[0], len(book.list))
}

func largestBits(x []float32, mask uint32) uint32 {
	if !vectors || len(x) < 8 {
		return largestBitsGo(x, mask)
	}
	whole := len(x) &^ 7
	return max(largestBitsAVX2(&x[0], len(x)/8, mask), largestBitsGo(x[whole:], mask))
}

func plusBits(dst []uint8, x []float32) {
	if !vectors {
		plusBitsGo(dst, x)
		return
	}
	_ = x[8*len(dst)-1]
	plusBitsAVX2(&dst[0], &x[0], len(dst))
}

func levelBytes(dst []uint8, x []float32, inverse, lo, hi float32) {
	if !vectors {
		levelBytesGo(dst, x, inverse, lo, hi)
		return
	}
	_ = dst[len(x)-1]
	levelBytesAVX2(&dst[0], &x[0], len(x)/32, inverse, lo, hi)
}

//go:noescape
func largestBitsAVX2(x *float32, n int, mask uint32) uint32

//go:noescape
func plusBitsAVX2(dst *uint8, x *float32, n int)

//go:noescape
func levelBytesAVX2(dst *uint8, x *float32, n int, inverse, lo, hi float32)

//go:noescape
func distancesAVX2(dst, x, w, s *lanes, levels *float32, dims, n int)

//go:noescape
func sumsAVX2(dst, p, q *lanes, np, nq int)

//go:noescape
func scanAVX2(best *lanes, rank *[8]int32, lo, hi *lanes, list *uint16, n int)
