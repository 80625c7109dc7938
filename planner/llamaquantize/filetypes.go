package llamaquantize

import (
	"strings"

	"github.com/ggufplan/ggufplan/ggufio/quant"
)

// A FileType is what llama-quantize is asked for: a name such as "Q4_K_M" for
// a mix of tensor types.
type FileType struct {
	Name    string
	Number  uint32     // llama_ftype, as general.file_type records it
	Default quant.Type // the type that the mix starts from
}

// fileTypes lists what llama-quantize v0.5.0 offers, COPY apart, from few to
// many bits.
var fileTypes = []FileType{
	{"Q1_0", 40, quant.Q1_0},
	{"IQ1_S", 24, quant.IQ1_S},
	{"TQ1_0", 36, quant.TQ1_0},
	{"IQ1_M", 31, quant.IQ1_M},
	{"TQ2_0", 37, quant.TQ2_0},
	{"IQ2_XXS", 19, quant.IQ2_XXS},
	{"Q2_0", 41, quant.Q2_0},
	{"IQ2_XS", 20, quant.IQ2_XS},
	{"IQ2_S", 28, quant.IQ2_XS},
	{"IQ2_M", 29, quant.IQ2_S},
	{"Q2_K_S", 21, quant.Q2_K},
	{"Q2_K", 10, quant.Q2_K},
	{"IQ3_XXS", 23, quant.IQ3_XXS},
	{"IQ3_XS", 22, quant.IQ3_S},
	{"Q3_K_S", 11, quant.Q3_K},
	{"IQ3_S", 26, quant.IQ3_S},
	{"IQ3_M", 27, quant.IQ3_S},
	{"Q3_K_M", 12, quant.Q3_K},
	{"Q3_K_L", 13, quant.Q3_K},
	{"MXFP4_MOE", 38, quant.MXFP4},
	{"IQ4_XS", 30, quant.IQ4_XS},
	{"IQ4_NL", 25, quant.IQ4_NL},
	{"Q4_0", 2, quant.Q4_0},
	{"Q4_K_S", 14, quant.Q4_K},
	{"Q4_K_M", 15, quant.Q4_K},
	{"Q4_1", 3, quant.Q4_1},
	{"Q5_0", 8, quant.Q5_0},
	{"Q5_K_S", 16, quant.Q5_K},
	{"Q5_K_M", 17, quant.Q5_K},
	{"Q5_1", 9, quant.Q5_1},
	{"Q6_K", 18, quant.Q6_K},
	{"Q8_0", 7, quant.Q8_0},
	{"BF16", 32, quant.BF16},
	{"F16", 1, quant.F16},
	{"F32", 0, quant.F32},
}

// fileTypeAliases are llama-quantize's other names.
var fileTypeAliases = map[string]string{"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"}

// FileTypes returns the file types, from few to many bits.
func FileTypes() []FileType { return append([]FileType(nil), fileTypes...) }

// OfKAndIQ reports whether a file type is made of K and IQ types, as files that
// people ship are.
func OfKAndIQ(ft FileType) bool {
	name := ft.Default.String()
	return strings.HasPrefix(name, "IQ") || strings.HasPrefix(name, "Q") && strings.HasSuffix(name, "_K")
}

// FileTypeByName returns the file type of a name in any case, llama-quantize's
// aliases included (Q4_K is Q4_K_M), and whether there is one.
func FileTypeByName(name string) (FileType, bool) {
	name = strings.ToUpper(name)
	if full, ok := fileTypeAliases[name]; ok {
		name = full
	}
	for _, ft := range fileTypes {
		if ft.Name == name {
			return ft, true
		}
	}
	return FileType{}, false
}

// quantized reports whether the file type's default is a quantized type: only
// then does llama-quantize apply its mix, rules and shape fallbacks.
func (ft FileType) quantized() bool {
	f, _ := quant.Lookup(ft.Default)
	return f.Quantized
}
