package planner

import "github.com/ggufplan/ggufplan/ggufio/quant"

// typicalErrors are relative errors weighted by an imatrix, over expert weights
// of testdata/bytemoe-2x8. Made by: go test ./planner -run TypicalErrors -update-typical
var typicalErrors = map[quant.Type]float64{
	quant.BF16:    2.83e-06,
	quant.Q4_0:    0.00557,
	quant.Q4_1:    0.00369,
	quant.Q5_0:    0.00136,
	quant.Q5_1:    0.000873,
	quant.Q8_0:    2.81e-05,
	quant.Q2_K:    0.0487,
	quant.Q3_K:    0.0166,
	quant.Q4_K:    0.00377,
	quant.Q5_K:    0.000939,
	quant.Q6_K:    0.000224,
	quant.IQ1_S:   0.154,
	quant.IQ1_M:   0.118,
	quant.IQ2_XXS: 0.0685,
	quant.IQ2_XS:  0.0509,
	quant.IQ2_S:   0.0403,
	quant.IQ3_XXS: 0.0185,
	quant.IQ3_S:   0.011,
	quant.IQ4_NL:  0.00435,
	quant.IQ4_XS:  0.00443,
	quant.TQ1_0:   0.189,
	quant.TQ2_0:   0.189,
	quant.MXFP4:   0.0124,
	quant.NVFP4:   0.00503,
	quant.Q1_0:    0.364,
	quant.Q2_0:    0.109,
}
