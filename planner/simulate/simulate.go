// Package simulate writes a copy of a model in which every planned tensor's
// weights have been put through their planned types and back. The copy has
// the source's tensor types or F32, so any runtime runs it; its perplexity and KL
// divergence are those of the plan's weights.
//
// [New] decides what changes and lays the copy's files out; [Copy.Write] fills
// them; [Copy.Check] reads them back. Files are those of the source, shard by
// shard. Memory is bounded by [ChunkBytes] per worker, whatever the model.
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
	"github.com/ggufplan/ggufplan/planner/manifest"
	"github.com/ggufplan/ggufplan/planner/verify"
	"github.com/ggufplan/ggufplan/stats"
	"github.com/ggufplan/ggufplan/stats/measure"
)

// ChunkBytes bounds the source's bytes that a worker holds at once; their
// decoded form and their copy take up to six times as much. A single row may
// be longer.
const ChunkBytes = 128 << 10

// maxRowWeights bounds a row, for the sake of memory, as measuring does.
const maxRowWeights = 1 << 20

// Options say what of the plan to simulate and how to store it.
type Options struct {
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

	// Workers is the number of goroutines, 0 for one per processor up to 64.
	// The copy does not depend on it.
	Workers int

	// Progress is told the bytes of the source done and in all. It may be nil.
	Progress func(done, total uint64)
}

// A Copy is a simulated model that is to be written.
type Copy struct {
	Files []File // as the source's

	model   *ggufio.Model
	options Options
	changes []change // in file order
}

// A File is one file of the copy.
type File struct {
	Name      string // the source file's base name
	SizeBytes uint64

	header []byte // what the file starts with where it is not the source's; else nil
	kept   []kept // bytes that are the source's
}

// kept is a run of bytes that is copied from the source's file.
type kept struct {
	source, offset, size uint64
}

// A change is a tensor whose weights change.
type change struct {
	tensor  *ggufio.Tensor
	types   []quant.Type // per expert of a fused tensor, else one
	store   quant.Type
	offset  uint64 // in the copy's file
	experts []expertError
}

// An expertError is what an expert of a changed tensor loses: the sums over
// its chunks of rows, combined in their order.
type expertError struct {
	planned float64 // weighted squared error by the planned type
	norm    float64 // weighted squared norm
	stored  float64 // weighted squared error as read back
	allowed float64 // the most that storing can add, squared
}

// New lays out the copy of model that carries plan. It refuses a plan for
// another model, a type that cannot be encoded, and a changed tensor whose
// source cannot be decoded.
func New(plan *manifest.Manifest, model *ggufio.Model, options Options) (*Copy, error) {
	if err := verify.Source(plan, model); err != nil {
		return nil, err
	}
	c := &Copy{model: model, options: options}
	for i := range plan.Tensors {
		if err := c.addTensor(&plan.Tensors[i], &model.Tensors[i]); err != nil {
			return nil, fmt.Errorf("tensor %s: %w", model.Tensors[i].Name, err)
		}
	}
	if len(c.changes) == 0 {
		return nil, fmt.Errorf("the plan changes no tensor")
	}
	return c, c.layOut()
}

func (c *Copy) addTensor(planned *manifest.Tensor, t *ggufio.Tensor) error {
	if c.options.ExpertsOnly && !t.Role.IsExpert() {
		return nil
	}
	names := []string{planned.PlannedType}
	if t.Role.IsExpert() && t.Expert < 0 {
		names = slices.Repeat(names, max(1, t.Experts()))
		if !c.options.Fused && planned.ExpertTypes != nil {
			names = planned.ExpertTypes
		}
		if len(names) != max(1, t.Experts()) {
			return fmt.Errorf("the plan has types for %d experts, the tensor has %d", len(names), t.Experts())
		}
	}
	types := make([]quant.Type, len(names))
	changed := false
	for i, name := range names {
		f, ok := quant.ByName(name)
		if !ok {
			return fmt.Errorf("%s is not a type of GGML's: only those can be simulated", name)
		}
		types[i] = f.Type
		if f.Type == t.Type {
			continue
		}
		changed = true
		if !quant.CanEncode(f.Type) {
			return fmt.Errorf("%s cannot be encoded", name)
		}
		if t.Shape[0]%f.Layout.WeightsPerBlock != 0 {
			return fmt.Errorf("rows of %d weights do not divide into %s's blocks of %d", t.Shape[0], name, f.Layout.WeightsPerBlock)
		}
		if quant.EncodeNeedsWeights(f.Type) && !measure.Covers(c.options.Columns, t) {
			return fmt.Errorf("%s needs column weights: give an imatrix that has them for every column", name)
		}
	}
	if !changed {
		return nil
	}
	if !quant.CanDecode(t.Type) {
		return fmt.Errorf("its source is %s, which cannot be decoded", t.Type)
	}
	if t.Shape[0] > maxRowWeights {
		return fmt.Errorf("rows of %d weights are over the limit of %d", t.Shape[0], maxRowWeights)
	}
	store := t.Type
	if f, ok := quant.Lookup(t.Type); c.options.StoreF32 || ok && f.Quantized {
		store = quant.F32
	}
	c.changes = append(c.changes, change{tensor: t, types: types, store: store, experts: make([]expertError, len(types))})
	return nil
}

// Tensors returns how many tensors change, and how many experts of them.
func (c *Copy) Tensors() (tensors, experts int) {
	for i := range c.changes {
		if c.changes[i].tensor.Role.IsExpert() {
			for _, t := range c.changes[i].types {
				if t != c.changes[i].tensor.Type {
					experts++
				}
			}
		}
	}
	return len(c.changes), experts
}

// Experts calls f for every expert of every changed tensor with the relative
// error that its planned type costs it, 0 for an expert that keeps its type.
// It is known once the copy is written.
func (c *Copy) Experts(f func(t *ggufio.Tensor, slice int, relative float64)) {
	for i := range c.changes {
		for e := range c.changes[i].experts {
			x := &c.changes[i].experts[e]
			f(c.changes[i].tensor, e, stats.Relative(x.planned, x.norm))
		}
	}
}
