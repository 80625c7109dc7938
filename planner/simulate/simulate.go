// Package simulate lays out a copy of a model in which every planned tensor's
// weights have been put through their planned types and back. The copy has
// the source's tensor types or F32, so any runtime runs it; its perplexity and KL
// divergence are those of the plan's weights.
//
// [New] decides what changes; planner/apply lays the copy's files out, writes
// them and reads them back. Files are those of the source, shard by shard.
//
// Weights are stored in the source's type, where the copy differs from the
// source in the bytes of changed tensors alone, or as F32, exactly as they
// decode; always so where the source's type is a quantized one, which would
// round them again. What a run computes in activations is not simulated.
package simulate

import (
	"fmt"
	"slices"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner/apply"
	"github.com/ggufplan/ggufplan/planner/manifest"
	"github.com/ggufplan/ggufplan/planner/verify"
	"github.com/ggufplan/ggufplan/stats"
)

// Options say what of the plan to simulate and how to store it.
type Options struct {
	Names []string // of the copy's files, one for each of the source's

	// Fused takes the fused plan, one type per tensor; otherwise the split
	// plan, one per expert.
	Fused bool

	// ExpertsOnly leaves all but routed experts as they are.
	ExpertsOnly bool

	// StoreF32 stores all changed tensors as F32, exactly; otherwise only those
	// whose source is quantized.
	StoreF32 bool

	// Columns gives the column weights that encoders use; nil for none.
	Columns stats.Columns
}

// A Copy is a simulated model that is to be written.
type Copy struct {
	*apply.Layout
	Tensors, Experts int // how many tensors change, and how many experts of them
}

// New lays out the copy of model that carries plan. It refuses a plan for
// another model, a type that cannot be encoded, and a changed tensor whose
// source cannot be decoded.
func New(plan *manifest.Manifest, model *ggufio.Model, o Options) (*Copy, error) {
	if err := verify.Source(plan, model); err != nil {
		return nil, err
	}
	c := &Copy{}
	tensors := make([]apply.Tensor, len(model.Tensors))
	for i := range model.Tensors {
		t := &model.Tensors[i]
		types, err := o.types(&plan.Tensors[i], t)
		if err != nil {
			return nil, fmt.Errorf("tensor %s: %w", t.Name, err)
		}
		tensors[i] = apply.Tensor{Name: t.Name, Type: t.Type, Shape: t.Shape, Source: t}
		changed := 0
		for _, typ := range types {
			if typ != t.Type {
				changed++
			}
		}
		if changed == 0 {
			continue
		}
		tensors[i].Rounded = types
		if f, ok := quant.Lookup(t.Type); o.StoreF32 || ok && f.Quantized {
			tensors[i].Type = quant.F32
		}
		c.Tensors++
		if t.Role.IsExpert() {
			c.Experts += changed
		}
	}
	if c.Tensors == 0 {
		return nil, fmt.Errorf("the plan changes no tensor")
	}
	var err error
	c.Layout, err = apply.Copy(model, tensors, o.Names, o.Columns)
	return c, err
}

// types returns the types of a tensor's experts, or its own; nil to leave it as
// it is.
func (o *Options) types(planned *manifest.Tensor, t *ggufio.Tensor) ([]quant.Type, error) {
	if o.ExpertsOnly && !t.Role.IsExpert() {
		return nil, nil
	}
	names := slices.Repeat([]string{planned.PlannedType}, max(1, t.Experts()))
	if t.Role.IsExpert() && t.Expert < 0 && !o.Fused && planned.ExpertTypes != nil {
		names = planned.ExpertTypes
	}
	types := make([]quant.Type, len(names))
	for i, name := range names {
		f, ok := quant.ByName(name)
		if !ok {
			return nil, fmt.Errorf("%s is not a type of GGML's: only those can be simulated", name)
		}
		types[i] = f.Type
	}
	return types, nil
}
