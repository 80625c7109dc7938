package quant

import (
	"fmt"
	"strings"
)

// A Type is a tensor type by its number in a GGUF file.
type Type uint32

// GGML's types as of llama.cpp v0.5.0. The gaps (4, 5, 31 to 33, 36 to 38) are
// numbers that GGML once used and now refuses.
const (
	F32     Type = 0
	F16     Type = 1
	Q4_0    Type = 2
	Q4_1    Type = 3
	Q5_0    Type = 6
	Q5_1    Type = 7
	Q8_0    Type = 8
	Q8_1    Type = 9
	Q2_K    Type = 10
	Q3_K    Type = 11
	Q4_K    Type = 12
	Q5_K    Type = 13
	Q6_K    Type = 14
	Q8_K    Type = 15
	IQ2_XXS Type = 16
	IQ2_XS  Type = 17
	IQ3_XXS Type = 18
	IQ1_S   Type = 19
	IQ4_NL  Type = 20
	IQ3_S   Type = 21
	IQ2_S   Type = 22
	IQ4_XS  Type = 23
	I8      Type = 24
	I16     Type = 25
	I32     Type = 26
	I64     Type = 27
	F64     Type = 28
	IQ1_M   Type = 29
	BF16    Type = 30
	TQ1_0   Type = 34
	TQ2_0   Type = 35
	MXFP4   Type = 39
	NVFP4   Type = 40
	Q1_0    Type = 41
	Q2_0    Type = 42
)

// A Format is one row of the type table.
type Format struct {
	Type      Type
	Name      string // GGML's name in upper case, such as "Q4_K"
	Layout    BlockLayout
	Quantized bool
}

var formats = []Format{
	{F32, "F32", BlockLayout{1, 4, 0}, false},
	{F16, "F16", BlockLayout{1, 2, 0}, false},
	{BF16, "BF16", BlockLayout{1, 2, 0}, false},
	{F64, "F64", BlockLayout{1, 8, 0}, false},
	{I8, "I8", BlockLayout{1, 1, 0}, false},
	{I16, "I16", BlockLayout{1, 2, 0}, false},
	{I32, "I32", BlockLayout{1, 4, 0}, false},
	{I64, "I64", BlockLayout{1, 8, 0}, false},
	{Q4_0, "Q4_0", BlockLayout{32, 18, 0}, true},
	{Q4_1, "Q4_1", BlockLayout{32, 20, 0}, true},
	{Q5_0, "Q5_0", BlockLayout{32, 22, 0}, true},
	{Q5_1, "Q5_1", BlockLayout{32, 24, 0}, true},
	{Q8_0, "Q8_0", BlockLayout{32, 34, 0}, true},
	{Q8_1, "Q8_1", BlockLayout{32, 36, 0}, true},
	{Q2_K, "Q2_K", BlockLayout{256, 84, 0}, true},
	{Q3_K, "Q3_K", BlockLayout{256, 110, 0}, true},
	{Q4_K, "Q4_K", BlockLayout{256, 144, 0}, true},
	{Q5_K, "Q5_K", BlockLayout{256, 176, 0}, true},
	{Q6_K, "Q6_K", BlockLayout{256, 210, 0}, true},
	{Q8_K, "Q8_K", BlockLayout{256, 292, 0}, true},
	{IQ1_S, "IQ1_S", BlockLayout{256, 50, 0}, true},
	{IQ1_M, "IQ1_M", BlockLayout{256, 56, 0}, true},
	{IQ2_XXS, "IQ2_XXS", BlockLayout{256, 66, 0}, true},
	{IQ2_XS, "IQ2_XS", BlockLayout{256, 74, 0}, true},
	{IQ2_S, "IQ2_S", BlockLayout{256, 82, 0}, true},
	{IQ3_XXS, "IQ3_XXS", BlockLayout{256, 98, 0}, true},
	{IQ3_S, "IQ3_S", BlockLayout{256, 110, 0}, true},
	{IQ4_NL, "IQ4_NL", BlockLayout{32, 18, 0}, true},
	{IQ4_XS, "IQ4_XS", BlockLayout{256, 136, 0}, true},
	{TQ1_0, "TQ1_0", BlockLayout{256, 54, 0}, true},
	{TQ2_0, "TQ2_0", BlockLayout{256, 66, 0}, true},
	{MXFP4, "MXFP4", BlockLayout{32, 17, 0}, true},
	{NVFP4, "NVFP4", BlockLayout{64, 36, 0}, true},
	{Q1_0, "Q1_0", BlockLayout{128, 18, 0}, true},
	{Q2_0, "Q2_0", BlockLayout{64, 18, 0}, true},
}

var (
	byType = map[Type]Format{}
	byName = map[string]Format{}
)

func init() {
	for _, f := range formats {
		byType[f.Type] = f
		byName[f.Name] = f
	}
}

// Lookup returns the format of a type number, and whether there is one.
func Lookup(t Type) (Format, bool) {
	f, ok := byType[t]
	return f, ok
}

// ByName returns the format of a name, in any case, and whether there is one.
func ByName(name string) (Format, bool) {
	f, ok := byName[strings.ToUpper(name)]
	return f, ok
}

// String returns the type's name in upper case, such as "Q4_K".
func (t Type) String() string {
	if f, ok := byType[t]; ok {
		return f.Name
	}
	return fmt.Sprintf("type %d", uint32(t))
}
