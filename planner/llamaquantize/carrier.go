package llamaquantize

import "github.com/ggufplan/ggufplan/planner/manifest"

// Carrier returns the file type to run llama-quantize with. Its default must
// be a quantized type, or rules are ignored; and it must not be one of those
// that are refused without an importance matrix, whatever the rules say. Within
// that it is the plan's base, so that general.file_type is near the truth.
func Carrier(m *manifest.Manifest) string {
	switch base := m.Policy.Base; base {
	case "Q2_K", "Q3_K_S", "Q3_K_M", "Q3_K_L", "Q4_0", "Q4_1", "Q4_K_S", "Q4_K_M", "Q5_0", "Q5_1", "Q5_K_S", "Q5_K_M",
		"Q6_K", "Q8_0", "IQ3_XS", "IQ3_S", "IQ3_M", "IQ4_NL", "IQ4_XS":
		return base
	case "Q2_K_S", "IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XXS", "TQ1_0", "TQ2_0", "Q1_0", "Q2_0":
		return "Q2_K"
	}
	return "Q4_K_M"
}
