//go:build !purego

package quant

// sumPlain is sumPlainGo for a multiple of eight weights.
func sumPlain(s *rowLanes, x []float32) {
	if !vectors || len(x) == 0 {
		sumPlainGo(s, x)
		return
	}
	sumPlainAVX2(s, &x[0], len(x)/8)
}

// sumWeighted is sumWeightedGo for a multiple of eight weights.
func sumWeighted(s *rowLanes, x []float32, columns []float64) {
	if !vectors || len(x) == 0 {
		sumWeightedGo(s, x, columns)
		return
	}
	columns = columns[:len(x)]
	sumWeightedAVX2(s, &x[0], &columns[0], len(x)/8)
}

// The assembly adds up 8 n weights.

//go:noescape
func sumPlainAVX2(s *rowLanes, x *float32, n int)

//go:noescape
func sumWeightedAVX2(s *rowLanes, x *float32, columns *float64, n int)
