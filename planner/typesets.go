package planner

import (
	"slices"

	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner/frequency"
)

// DefaultTypeSet is the set of types that are candidates where none are named.
const DefaultTypeSet = "k+iq"

// TypeSetNames lists the named sets of candidate types.
func TypeSetNames() []string { return []string{"k", DefaultTypeSet, "legacy", "all"} }

// TypeSet returns the types of a named set by ascending bits per weight, and
// whether there is one of the name: k has Q2_K to Q6_K and Q8_0; k+iq besides
// the IQ types from IQ1_M up; legacy Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0; all every
// type that llama-quantize writes and whose typical error is known.
func TypeSet(name string) ([]frequency.Type, bool) {
	k := []quant.Type{quant.Q2_K, quant.Q3_K, quant.Q4_K, quant.Q5_K, quant.Q6_K, quant.Q8_0}
	var types []quant.Type
	switch name {
	case "k":
		types = k
	case DefaultTypeSet:
		types = append(k, quant.IQ1_M, quant.IQ2_XXS, quant.IQ2_XS, quant.IQ2_S, quant.IQ3_XXS, quant.IQ3_S, quant.IQ4_NL, quant.IQ4_XS)
	case "legacy":
		types = []quant.Type{quant.Q4_0, quant.Q4_1, quant.Q5_0, quant.Q5_1, quant.Q8_0}
	case "all":
		for _, f := range quant.Formats() {
			if _, ok := typicalError(f.Type); ok && f.Quantized && f.WritableBy(quant.LlamaCpp) {
				types = append(types, f.Type)
			}
		}
	default:
		return nil, false
	}
	list := make([]frequency.Type, len(types))
	for i, t := range types {
		list[i] = frequency.GGML(t)
	}
	slices.SortFunc(list, compareTypes)
	return list, true
}
