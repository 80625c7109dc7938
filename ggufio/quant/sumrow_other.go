//go:build !amd64 || purego

package quant

func sumPlain(s *rowLanes, x []float32) { sumPlainGo(s, x) }

func sumWeighted(s *rowLanes, x []float32, columns []float64) { sumWeightedGo(s, x, columns) }
