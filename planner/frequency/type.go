package frequency

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/ggufplan/ggufplan/ggufio/quant"
)

// A Type is what a plan can give a tensor: a GGML type, or one that GGML does
// not have and the user declared by its block. Types are comparable.
type Type struct {
	Name     string // GGML's name in upper case, or the declared one
	Layout   quant.BlockLayout
	GGML     quant.Type // meaningless where Declared
	Declared bool
}

// GGML returns the planner's form of a GGML type. It panics on a number that
// the type table lacks: types of files are checked when the file is read.
func GGML(t quant.Type) Type {
	f, ok := quant.Lookup(t)
	if !ok {
		panic(fmt.Sprintf("frequency: %v is not in the type table", t))
	}
	return Type{Name: f.Name, Layout: f.Layout, GGML: t}
}

// String returns the type's name.
func (t Type) String() string { return t.Name }

// BitsPerWeight is for people to read; sizes are computed from the layout.
func (t Type) BitsPerWeight() float64 { return t.Layout.BitsPerWeight() }

// Types holds the types a plan may name: GGML's and the declared ones. The
// zero value holds GGML's alone.
type Types struct {
	declared []Type
}

// Limits of a declared block. The largest block of GGML has 256 weights in 292
// bytes; these leave room for anything a runtime would use and keep every size
// of a real tensor far below 2^62.
const (
	maxDeclaredWeights = 1 << 16
	maxDeclaredBytes   = 1 << 20
	maxDeclaredTypes   = 64
)

var declaredName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]{0,31}$`)

// Declare adds a type of the user's: weights of a row share a block of bytes.
// Names are letters, digits and underscores, and differ from each other and
// from GGML's in more than case.
func (ts *Types) Declare(name string, weightsPerBlock, bytesPerBlock uint64) (Type, error) {
	switch {
	case !declaredName.MatchString(name):
		return Type{}, fmt.Errorf("type name %q: want a letter, then up to 31 letters, digits or underscores", name)
	case weightsPerBlock == 0 || weightsPerBlock > maxDeclaredWeights:
		return Type{}, fmt.Errorf("type %s: %d weights per block: want 1 to %d", name, weightsPerBlock, maxDeclaredWeights)
	case bytesPerBlock == 0 || bytesPerBlock > maxDeclaredBytes:
		return Type{}, fmt.Errorf("type %s: %d bytes per block: want 1 to %d", name, bytesPerBlock, maxDeclaredBytes)
	case len(ts.declared) == maxDeclaredTypes:
		return Type{}, fmt.Errorf("type %s: more than %d declared types", name, maxDeclaredTypes)
	}
	if f, ok := quant.ByName(name); ok {
		return Type{}, fmt.Errorf("type name %q is taken by %s", name, f.Name)
	}
	for _, d := range ts.declared {
		if strings.EqualFold(d.Name, name) {
			return Type{}, fmt.Errorf("duplicate type name %q", name)
		}
	}
	t := Type{
		Name:     name,
		Layout:   quant.BlockLayout{WeightsPerBlock: weightsPerBlock, BytesPerBlock: bytesPerBlock},
		Declared: true,
	}
	ts.declared = append(ts.declared, t)
	return t, nil
}

// Declared lists the declared types in the order of their declaration.
func (ts *Types) Declared() []Type { return append([]Type(nil), ts.declared...) }

// Lookup returns the type of a name, in any case.
func (ts *Types) Lookup(name string) (Type, error) {
	for _, d := range ts.declared {
		if strings.EqualFold(d.Name, name) {
			return d, nil
		}
	}
	f, ok := quant.ByName(name)
	if !ok {
		return Type{}, fmt.Errorf("%q is not a type", name)
	}
	return GGML(f.Type), nil
}
