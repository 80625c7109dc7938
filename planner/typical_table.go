package planner

import "github.com/ggufplan/ggufplan/ggufio/quant"

// typicalErrors are relative errors weighted by an imatrix, over expert weights
// of testdata/bytemoe-2x8. Made by: go test ./planner -run TypicalErrors -update-typical
var typicalErrors = map[quant.Type]float64{
	quant.BF16:    2.83e-06,
	quant.Q4_0:    0.0057,
	quant.Q4_1:    0.00364,
	quant.Q5_0:    0.00138,
	quant.Q5_1:    0.000839,
	quant.Q8_0:    2.81e-05,
	quant.Q2_K:    0.0506,
	quant.Q3_K:    0.017,
	quant.Q4_K:    0.00382,
	quant.Q5_K:    0.000945,
	quant.Q6_K:    0.000224,
	quant.IQ1_S:   0.179,
	quant.IQ1_M:   0.14,
	quant.IQ2_XXS: 0.0941,
	quant.IQ2_XS:  0.0624,
	quant.IQ2_S:   0.0478,
	quant.IQ3_XXS: 0.0215,
	quant.IQ3_S:   0.0134,
	quant.IQ4_NL:  0.0044,
	quant.IQ4_XS:  0.0045,
	quant.TQ1_0:   0.631,
	quant.TQ2_0:   0.631,
	quant.MXFP4:   0.0133,
	quant.NVFP4:   0.00876,
	quant.Q1_0:    0.375,
	quant.Q2_0:    0.488,
}
