package planner

import (
	"fmt"
	"math/bits"
	"slices"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner/frequency"
	"github.com/ggufplan/ggufplan/planner/llamaquantize"
	"github.com/ggufplan/ggufplan/planner/manifest"
	"github.com/ggufplan/ggufplan/planner/memory"
	"github.com/ggufplan/ggufplan/stats"
)

// A frame is a problem with everything settled that no policy decides: what
// cannot be quantized, what is pinned, what the base gives, and the facts
// about each MoE layer. A policy reads it and returns a decision.
type frame struct {
	problem *Problem
	slots   []slot     // parallel to Model.Tensors
	layers  []moeLayer // ascending

	activations uint64 // sum of all counts
	baseName    string // canonical
}

// A slotState says who decides about a tensor.
type slotState int

const (
	slotOpen   slotState = iota // the policy, and where it is silent the base
	slotPinned                  // a pin
	slotKept                    // nobody: llama-quantize does not quantize it
)

// A slot is one tensor while it is being planned.
type slot struct {
	tensor *ggufio.Tensor
	source frequency.Type
	state  slotState

	// settled is the type the tensor gets unless the policy says otherwise:
	// the source's, the pin's or the base's. An open routed expert has none.
	settled frequency.Type
	reason  string // why settled

	layer int // index into frame.layers for a routed expert's tensor, else -1

	resolved []resolution // what resolve was asked before: hundreds of experts have a few types
}

type resolution struct {
	chosen     frequency.Type
	mayEnlarge bool
	outcome    outcome
}

// matrices returns how many equal parts of the tensor can have types of their
// own: the experts that it holds, or 1.
func (s *slot) matrices() int { return max(1, s.tensor.Experts()) }

// expertOf returns which of its layer's experts the i-th matrix of a routed
// expert's tensor belongs to: a tensor that is not fused holds one, of any
// number.
func expertOf(t *ggufio.Tensor, i int) int {
	if t.Expert >= 0 {
		return t.Expert
	}
	return i
}

// An outcome is what becomes of a type that was chosen for a tensor.
type outcome struct {
	Type      frequency.Type
	SizeBytes uint64 // of the whole tensor in Type; every expert takes an equal share
	Fallback  bool   // rows do not divide into the chosen type's blocks
	Kept      bool   // the chosen type would save no bytes over the source's, which stays
}

// An UnfitTypeError reports a type that a tensor cannot have: its rows do not
// divide into the type's blocks, and the type has no fallback.
type UnfitTypeError struct {
	Tensor string
	Type   string
	Err    error
}

func (e *UnfitTypeError) Error() string {
	return fmt.Sprintf("%s: type %s: %v", e.Tensor, e.Type, e.Err)
}

func (e *UnfitTypeError) Unwrap() error { return e.Err }

// A ForeignTypeError reports a model that llama.cpp cannot open: another
// engine's type is in it.
type ForeignTypeError struct {
	Tensor string
	Format quant.Format
}

func (e *ForeignTypeError) Error() string {
	return fmt.Sprintf("%s: its type %s is %s's own, which llama.cpp cannot open: such a model is not planned", e.Tensor, e.Format.Name, e.Format.Engine)
}

// resolve applies what holds for any choice: llama.cpp's shape fallback and, save
// for pins, that no tensor changes to a type that is no smaller. Types without a
// fallback (the declared ones) that do not divide the tensor's rows are an
// [*UnfitTypeError].
func (s *slot) resolve(t frequency.Type, mayEnlarge bool) (outcome, error) {
	for i := range s.resolved {
		if r := &s.resolved[i]; r.chosen == t && r.mayEnlarge == mayEnlarge {
			return r.outcome, nil
		}
	}
	o, err := s.resolveAnew(t, mayEnlarge)
	if err == nil {
		s.resolved = append(s.resolved, resolution{t, mayEnlarge, o})
	}
	return o, err
}

func (s *slot) resolveAnew(t frequency.Type, mayEnlarge bool) (outcome, error) {
	if t == s.source {
		return outcome{Type: t, SizeBytes: s.tensor.SizeBytes}, nil
	}
	got := t
	if !t.Declared {
		if f := quant.ShapeFallback(t.GGML, s.tensor.Shape[0]); f != t.GGML {
			got = frequency.GGML(f)
		}
	}
	size, err := sizeOf(got, s.tensor)
	if err != nil {
		return outcome{}, &UnfitTypeError{s.tensor.Name, got.Name, err}
	}
	if size >= s.tensor.SizeBytes && !mayEnlarge {
		return outcome{Type: s.source, SizeBytes: s.tensor.SizeBytes, Fallback: got != t, Kept: true}, nil
	}
	return outcome{Type: got, SizeBytes: size, Fallback: got != t}, nil
}

// sizeOf returns the bytes of a whole tensor in a type: those it has where that
// is the source's own.
func sizeOf(t frequency.Type, tensor *ggufio.Tensor) (uint64, error) {
	if t.Declared {
		return t.Layout.EncodedBytes(tensor.Rows(), tensor.Shape[0])
	}
	return llamaquantize.TensorBytes(tensor, t.GGML)
}

// A verdict is what a policy decided about an open slot: types as chosen,
// before [slot.resolve]. The zero verdict leaves the tensor to the base.
type verdict struct {
	Fused  frequency.Type
	Split  []frequency.Type // one per expert of a routed expert's tensor, else nil
	Reason string

	sensitivity sensitivity // of the budget policy
	up, down    *manifest.Step
}

// A decision is a policy's answer to a frame.
type decision struct {
	verdicts []verdict   // parallel to frame.slots; read for open slots
	layers   []LayerPlan // parallel to frame.layers
	findings []Finding
	budget   *manifest.Budget // of the budget policy, else nil

	placement *memory.Placement // of TargetMemory, else nil
	weighing  *weighing         // the same
}

// undecided returns a decision that holds the facts about experts and nothing
// else.
func (f *frame) undecided() *decision {
	d := &decision{verdicts: make([]verdict, len(f.slots)), layers: make([]LayerPlan, len(f.layers))}
	spread(len(f.layers), func(k int) error {
		d.layers[k] = f.facts(&f.layers[k])
		return nil
	})
	return d
}

// A moeLayer is a block that has routed experts, with what is known of them.
type moeLayer struct {
	index   int
	experts int
	slots   []int // its expert tensors, ascending

	// evidence is nil where the layer has no statistics: no entry, or traffic
	// that sums to 0.
	evidence *stats.Layer
	counts   []uint64  // kinds exact and scaled; nil for others
	weights  []float64 // kinds relative and rank; nil for others
	total    uint64    // sum of counts
	deff     float64   // design effect of the counts
}

// newFrame checks the problem and settles what no policy decides.
func newFrame(p *Problem) (*frame, error) {
	if err := p.Policy.complete(); err != nil {
		return nil, err
	}
	if p.Model == nil {
		return nil, fmt.Errorf("no model to plan")
	}
	if p.Model.IsTierFile() {
		return nil, ggufio.ErrTierFile
	}
	f := &frame{problem: p, slots: make([]slot, len(p.Model.Tensors))}
	base, err := f.base()
	if err != nil {
		return nil, err
	}
	for i := range f.slots {
		t := &p.Model.Tensors[i]
		if len(t.Shape) == 0 || t.Shape[0] == 0 || t.Parameters == 0 {
			return nil, fmt.Errorf("%s: a tensor without weights cannot be planned", t.Name)
		}
		if format, ok := quant.Lookup(t.Type); ok && format.Engine != quant.LlamaCpp {
			return nil, &ForeignTypeError{t.Name, format}
		}
		s := &f.slots[i]
		*s = slot{tensor: t, source: frequency.GGML(t.Type), layer: -1}
		switch {
		case !llamaquantize.Quantizable(t):
			s.state, s.settled, s.reason = slotKept, s.source, "llama-quantize does not quantize it"
		case !quant.CanDecode(t.Type):
			s.state, s.settled, s.reason = slotKept, s.source, "llama-quantize cannot convert "+s.source.Name
		case !t.Role.IsExpert() || t.Layer < 0:
			s.settled, s.reason = base[i], "base "+f.baseName
		}
	}
	if err := f.pin(); err != nil {
		return nil, err
	}
	if err := f.findLayers(); err != nil {
		return nil, err
	}
	return f, nil
}

// base returns what the base gives each tensor, before the shape fallback.
func (f *frame) base() ([]frequency.Type, error) {
	m := f.problem.Model
	types := make([]frequency.Type, len(m.Tensors))
	if f.problem.Policy.Base == BaseKeep {
		f.baseName = BaseKeep
		for i := range types {
			types[i] = frequency.GGML(m.Tensors[i].Type)
		}
		return types, nil
	}
	ft, ok := llamaquantize.FileTypeByName(f.problem.Policy.Base)
	if !ok {
		return nil, fmt.Errorf("base %q is neither %q nor a file type of llama-quantize", f.problem.Policy.Base, BaseKeep)
	}
	f.baseName = ft.Name
	mix, err := llamaquantize.MixBeforeFallback(m, ft)
	if err != nil {
		return nil, fmt.Errorf("base %s: %w", f.problem.Policy.Base, err)
	}
	for i, t := range mix {
		types[i] = frequency.GGML(t)
	}
	return types, nil
}

// A PinError reports a pin that cannot do anything.
type PinError struct {
	Pattern string
	Err     error
}

func (e *PinError) Error() string { return fmt.Sprintf("pin %q: %v", e.Pattern, e.Err) }

func (e *PinError) Unwrap() error { return e.Err }

// pin gives tensors the type of the first pin that matches their name.
func (f *frame) pin() error {
	for _, pin := range f.problem.Policy.Pins {
		if err := Plannable(pin.Type); err != nil {
			return &PinError{pin.Pattern.String(), err}
		}
		matched, first := false, ""
		for j := range f.slots {
			s := &f.slots[j]
			if !pin.Pattern.MatchString(s.tensor.Name) {
				continue
			}
			if s.state == slotKept {
				if first == "" {
					first = s.tensor.Name
				}
				continue
			}
			matched = true
			if s.state == slotPinned {
				continue // an earlier pin has it
			}
			s.state, s.settled, s.reason = slotPinned, pin.Type, fmt.Sprintf("pinned by %q", pin.Pattern)
		}
		switch {
		case matched:
		case first != "":
			return &PinError{pin.Pattern.String(), fmt.Errorf("matches only tensors that llama-quantize does not quantize, such as %s", first)}
		default:
			return &PinError{pin.Pattern.String(), fmt.Errorf("matches no tensor")}
		}
	}
	return nil
}

// Plannable reports why llama-quantize could not write a type; declared types
// are for runtimes of their own.
func Plannable(t frequency.Type) error {
	if t.Declared {
		return nil
	}
	if f, ok := quant.Lookup(t.GGML); !ok || !f.Writable {
		return fmt.Errorf("llama-quantize cannot write type %s", t.Name)
	}
	return nil
}

// evidenceName names the statistics in errors: their first input.
func (f *frame) evidenceName() string {
	if ev := f.problem.Evidence; ev != nil && len(ev.Inputs) > 0 {
		return ev.Inputs[0].Name
	}
	return "statistics"
}

// findLayers groups the expert tensors by block and attaches the evidence.
func (f *frame) findLayers() error {
	at := map[int]int{}
	for i := range f.slots {
		t := f.slots[i].tensor
		if !t.Role.IsExpert() || t.Layer < 0 {
			continue
		}
		k, ok := at[t.Layer]
		if !ok {
			k = len(f.layers)
			at[t.Layer] = k
			f.layers = append(f.layers, moeLayer{index: t.Layer})
		}
		l := &f.layers[k]
		l.slots = append(l.slots, i)
		l.experts = max(l.experts, t.Experts(), t.Expert+1)
	}
	slices.SortFunc(f.layers, func(a, b moeLayer) int { return a.index - b.index })
	for k := range f.layers {
		l := &f.layers[k]
		for _, i := range l.slots {
			s := &f.slots[i]
			s.layer = k
			if s.tensor.Expert < 0 && s.tensor.Experts() != l.experts {
				return fmt.Errorf("%s: %d experts where its layer has %d", s.tensor.Name, s.tensor.Experts(), l.experts)
			}
		}
		if err := f.attach(l); err != nil {
			return fmt.Errorf("%s: blk.%d: %w", f.evidenceName(), l.index, err)
		}
		var carry uint64
		if f.activations, carry = bits.Add64(f.activations, l.total, 0); carry != 0 {
			return fmt.Errorf("%s: blk.%d: counts of all layers add up to more than 2^64-1", f.evidenceName(), l.index)
		}
	}
	return nil
}
