package planner

import "github.com/ggufplan/ggufplan/ggufio/quant"

// typicalErrors are relative errors weighted by an imatrix, over expert weights
// of testdata/bytemoe-2x8. Made by: go test ./planner -run TypicalErrors -update-typical
var typicalErrors = map[quant.Type]float64{
	quant.F16:     0,
	quant.BF16:    2.79e-06,
	quant.Q4_0:    0.0057,
	quant.Q4_1:    0.00376,
	quant.Q5_0:    0.00139,
	quant.Q5_1:    0.000881,
	quant.Q8_0:    2.75e-05,
	quant.Q2_K:    0.0518,
	quant.Q3_K:    0.017,
	quant.Q4_K:    0.00388,
	quant.Q5_K:    0.00101,
	quant.Q6_K:    0.000245,
	quant.IQ1_S:   0.186,
	quant.IQ1_M:   0.142,
	quant.IQ2_XXS: 0.0921,
	quant.IQ2_XS:  0.0617,
	quant.IQ2_S:   0.0475,
	quant.IQ3_XXS: 0.0213,
	quant.IQ3_S:   0.0134,
	quant.IQ4_NL:  0.00466,
	quant.IQ4_XS:  0.00477,
	quant.TQ1_0:   0.624,
	quant.TQ2_0:   0.624,
	quant.MXFP4:   0.0137,
	quant.NVFP4:   0.00886,
	quant.Q1_0:    0.368,
	quant.Q2_0:    0.491,
}
