//go:build !amd64 || purego

package quant

func expand8(dst *[superWeights]float32, grid [][8]float32, g *groups) { expand8Go(dst, grid, g) }

func expand44(dst *[superWeights]float32, grid [][4]float32, g *groups) { expand44Go(dst, grid, g) }

func expandShifted(dst *[superWeights]float32, grid [][8]float32, g *groups) {
	expandShiftedGo(dst, grid, g)
}

func expandTQ1(dst *[superWeights]float32, src *[tq1_0Bytes]byte, d float32) {
	expandTQ1Go(dst, src, d)
}

func expandTQ2(dst *[superWeights]float32, src *[tq2_0Bytes]byte, d float32) {
	expandTQ2Go(dst, src, d)
}
