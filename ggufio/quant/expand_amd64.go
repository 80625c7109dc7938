//go:build !purego

package quant

func expand8(dst *[superWeights]float32, grid [][8]float32, g *groups) {
	if !vectors {
		expand8Go(dst, grid, g)
		return
	}
	expand8AVX2(dst, &grid[0], g)
}

func expand44(dst *[superWeights]float32, grid [][4]float32, g *groups) {
	if !vectors {
		expand44Go(dst, grid, g)
		return
	}
	expand44AVX2(dst, &grid[0], g)
}

func expandShifted(dst *[superWeights]float32, grid [][8]float32, g *groups) {
	if !vectors {
		expandShiftedGo(dst, grid, g)
		return
	}
	expandShiftedAVX2(dst, &grid[0], g)
}

func expandTQ1(dst *[superWeights]float32, src *[tq1_0Bytes]byte, d float32) {
	if !vectors {
		expandTQ1Go(dst, src, d)
		return
	}
	expandTQ1AVX2(dst, src, d)
}

func expandTQ2(dst *[superWeights]float32, src *[tq2_0Bytes]byte, d float32) {
	if !vectors {
		expandTQ2Go(dst, src, d)
		return
	}
	expandTQ2AVX2(dst, src, d)
}

// The codes of groups must be within grid.

//go:noescape
func expand8AVX2(dst *[superWeights]float32, grid *[8]float32, from *groups)

//go:noescape
func expand44AVX2(dst *[superWeights]float32, grid *[4]float32, from *groups)

//go:noescape
func expandShiftedAVX2(dst *[superWeights]float32, grid *[8]float32, from *groups)

//go:noescape
func expandTQ1AVX2(dst *[superWeights]float32, src *[tq1_0Bytes]byte, d float32)

//go:noescape
func expandTQ2AVX2(dst *[superWeights]float32, src *[tq2_0Bytes]byte, d float32)
