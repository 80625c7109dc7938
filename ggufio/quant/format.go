package quant

import (
	"fmt"
	"strings"
)

// An Engine is a program family that defines tensor types. ik_llama.cpp reads
// most of llama.cpp's types and adds its own.
type Engine uint8

// The engines.
const (
	LlamaCpp Engine = iota // GGML's types as of llama.cpp v0.5.0
	IKLlama                // types that only ik_llama.cpp has
)

// String returns the engine's name, such as "llama.cpp".
func (e Engine) String() string {
	if e == IKLlama {
		return "ik_llama.cpp"
	}
	return "llama.cpp"
}

// A Format is one row of the type table: everything that is known about a type
// without its codec.
type Format struct {
	Type      Type
	Name      string // GGML's name in upper case, such as "Q4_K"
	Layout    BlockLayout
	Quantized bool   // as ggml_is_quantized: false for floats and integers
	Engine    Engine // who defined the type

	// Writable says that its engine's llama-quantize writes the type when a
	// rule asks for it; with the others it aborts, or refuses the name.
	Writable bool

	// NeedsImatrix says that llama-quantize stops when a tensor other than
	// the token embedding and the output is to get the type and no importance
	// matrix covers it.
	NeedsImatrix bool

	// Fallback is what llama-quantize writes instead where a row does not
	// divide into the type's blocks; the type itself where there is nothing
	// but F16. FallbackIK is ik_llama.cpp's choice.
	Fallback, FallbackIK Type
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

// Formats returns the type table: llama.cpp's types, then ik_llama.cpp's own.
func Formats() []Format { return append([]Format(nil), formats...) }

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

// Spelling returns the type's name as the engine's own tables spell it, such
// as "q4_K" or "iq4_xs". ik_llama.cpp compares it case by case.
func (f Format) Spelling() string {
	switch f.Type {
	case Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, Q8_K:
		return "q" + f.Name[1:]
	case Q8_KV:
		return "q8_KV"
	case Q8_KV_R8:
		return "q8_KV_r8"
	}
	return strings.ToLower(f.Name)
}

// ShapeFallback returns the type that a tensor with rows of rowWeights weights
// gets when t is asked for: t where its blocks divide the row, else its
// fallback, else F16. ik_llama.cpp's own types follow its own table.
func ShapeFallback(t Type, rowWeights uint64) Type {
	f, ok := byType[t]
	if !ok {
		return t
	}
	next := f.Fallback
	if f.Engine == IKLlama {
		next = f.FallbackIK
	}
	return fallback(f, next, rowWeights)
}

// ShapeFallbackIK is [ShapeFallback] by ik_llama.cpp's table for all types.
func ShapeFallbackIK(t Type, rowWeights uint64) Type {
	f, ok := byType[t]
	if !ok {
		return t
	}
	return fallback(f, f.FallbackIK, rowWeights)
}

func fallback(f Format, next Type, rowWeights uint64) Type {
	switch {
	case rowWeights%f.Layout.WeightsPerBlock == 0:
		return f.Type
	case rowWeights%byType[next].Layout.WeightsPerBlock == 0:
		return next
	}
	return F16
}

// notInIK lists the types of llama.cpp's that ik_llama.cpp's llama-quantize
// does not know.
var notInIK = map[Type]bool{TQ1_0: true, TQ2_0: true, NVFP4: true, Q1_0: true, Q2_0: true}

// WritableBy reports whether the engine's llama-quantize writes the type.
func (f Format) WritableBy(e Engine) bool {
	if !f.Writable || e == LlamaCpp && f.Engine != LlamaCpp {
		return false
	}
	return e != IKLlama || !notInIK[f.Type]
}
