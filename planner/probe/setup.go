package probe

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strconv"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner"
	"github.com/ggufplan/ggufplan/stats"
	"github.com/ggufplan/ggufplan/stats/measure"
)

// Options say what to probe.
type Options struct {
	Model     *ggufio.Model // weights are encoded from
	Reference *ggufio.Model // runs start from and are compared with; nil for Model
	Evidence  *stats.Evidence
	Errors    *measure.Result // of Model, in [Options.ErrorTypes]; nil for typical ones

	ProbeType     quant.Type
	Bands         string // a number of depth bands, or [measure.BandsTensor]
	Text          *measure.ProbeText
	ContextTokens int
	Chunks        int           // at most, of a piece of the text
	Part          *measure.Part // nil for all runs
	Generator     string
}

// What a dozen runs come to.
const (
	DefaultBands = "4"
	precision    = 0.1 // standard error over what a run shows
	wholeType    = quant.Q6_K
)

// mixtures says which types each mixture draws from. A tensor at Q2_K does more
// damage for its error than at three or four bits, and would decide all of
// them: two are without.
var mixtures = [][]quant.Type{
	{quant.Q2_K, quant.Q3_K, quant.Q4_K, quant.Q6_K},
	{quant.Q3_K, quant.Q4_K, quant.Q6_K},
	{quant.Q3_K, quant.Q4_K},
}

// ErrorTypes lists the types that errors are needed in.
func (o *Options) ErrorTypes() []quant.Type {
	types := slices.Clone(mixtures[0])
	if !slices.Contains(types, o.ProbeType) {
		types = append(types, o.ProbeType)
	}
	return types
}

// A Setup is what is to be run.
type Setup struct {
	Record measure.Probe // without runs

	options   Options
	reference *ggufio.Model
	tensors   []planner.ProbeTensor
	simulated bool // copies hold weights after a round trip
}

// New settles the runs of a probe.
func New(o Options) (*Setup, error) {
	s := &Setup{options: o, reference: o.Model, simulated: true}
	if o.Reference != nil {
		s.reference = o.Reference
	}
	var err error
	if s.tensors, err = planner.ProbeTensors(o.Model, o.Evidence, o.Errors, o.ErrorTypes()); err != nil {
		return nil, err
	}
	for i := range s.tensors {
		t := s.tensors[i].Tensor
		r, ok := s.reference.TensorByName(t.Name)
		if !ok || !slices.Equal(r.Shape, t.Shape) {
			return nil, fmt.Errorf("%s: is no version of %s: tensor %s is not there or of another shape", s.reference.Files[0].Name, o.Model.Files[0].Name, t.Name)
		}
		if f, _ := quant.Lookup(r.Type); f.Quantized {
			s.simulated = false
		}
	}
	if len(s.reference.Tensors) != len(o.Model.Tensors) {
		return nil, fmt.Errorf("%s: has %d tensors, %s has %d", s.reference.Files[0].Name, len(s.reference.Tensors), o.Model.Files[0].Name, len(o.Model.Tensors))
	}
	probeType := slices.Index(o.ErrorTypes(), o.ProbeType)
	p := &s.Record
	p.Generator, p.Model, p.Statistics = o.Generator, identify(o.Model), []measure.Input{}
	if o.Reference != nil {
		other := identify(o.Reference)
		p.Reference = &other
	}
	if o.Evidence != nil {
		for _, in := range o.Evidence.Inputs {
			p.Statistics = append(p.Statistics, measure.Input{Name: in.Name, SHA256: in.SHA256})
		}
	}
	p.Text, p.ContextTokens, p.Chunks = o.Text, uint64(o.ContextTokens), uint64(o.Chunks)
	p.Copies = measure.CopiesQuantized
	if s.simulated {
		p.Copies = measure.CopiesSimulated
	}
	p.ProbeType, p.WholeType, p.Bands, p.Part = o.ProbeType.String(), wholeType.String(), o.Bands, o.Part
	for _, t := range o.ErrorTypes() {
		p.Types = append(p.Types, t.String())
	}
	layers := max(1, o.Model.Architecture.BlockCount-o.Model.Architecture.NextNBlocks)
	for i := range s.tensors {
		x := &s.tensors[i]
		group, err := groupOf(x, o.Bands, layers)
		if err != nil {
			return nil, err
		}
		t := measure.ProbeTensor{Name: x.Tensor.Name, Group: group, Typical: x.Typical, Errors: x.Errors}
		for m := range mixtures {
			sum := sha256.Sum256([]byte(measure.MixtureName(m) + " " + x.Tensor.Name))
			t.Mixtures = append(t.Mixtures, mixtures[m][int(sum[0])%len(mixtures[m])].String())
		}
		if x.Errors[probeType] == 0 && o.Bands == measure.BandsTensor {
			return nil, fmt.Errorf("tensor %s: is %v already: %v would change nothing", x.Tensor.Name, x.Tensor.Type, o.ProbeType)
		}
		p.Tensors = append(p.Tensors, t)
	}
	return s, nil
}

// withErrors returns the setup with measured errors in the place of typical
// ones. The setup itself stays as it is: what a state belongs to follows from it.
func (s *Setup) withErrors(errors *measure.Result) (*Setup, error) {
	own := *s
	o := &own.options
	o.Errors = errors
	var err error
	if own.tensors, err = planner.ProbeTensors(o.Model, o.Evidence, o.Errors, o.ErrorTypes()); err != nil {
		return nil, err
	}
	own.Record.Tensors = slices.Clone(s.Record.Tensors)
	for i := range own.tensors {
		own.Record.Tensors[i].Errors = own.tensors[i].Errors
	}
	return &own, nil
}

func identify(m *ggufio.Model) measure.Model {
	return measure.Model{Name: m.Name, Architecture: m.Architecture.Name, Files: m.FileIDs()}
}

// groupOf returns the group of a tensor: its class in one of some bands of
// depth, or itself (the experts of a projection that are tensors of their own
// together).
func groupOf(x *planner.ProbeTensor, bands string, layers int) (string, error) {
	t := x.Tensor
	switch {
	case bands == measure.BandsTensor && t.Expert >= 0:
		return fmt.Sprintf("blk.%d.%s", t.Layer, t.Role), nil
	case bands == measure.BandsTensor:
		return t.Name, nil
	case t.Layer < 0:
		return x.Class, nil
	}
	n, err := strconv.Atoi(bands)
	if err != nil || n < 1 || n > measure.MaxBands {
		return "", fmt.Errorf("bands: %q is neither %s nor a number from 1 to %d", bands, measure.BandsTensor, measure.MaxBands)
	}
	return fmt.Sprintf("%s.%d", x.Class, n*t.Layer/layers), nil
}

// A Run is one file to be scored.
type Run struct {
	Name string
	Kind string
	size uint64 // bytes of the reference's tensors that it changes

	types map[string]quant.Type // of the tensors that it changes, after shape fallback
}

// Runs lists the runs of the probe, or of its part.
func (s *Setup) Runs() []Run {
	var list []Run
	for i, name := range s.Record.RunNames() {
		if part := s.options.Part; part != nil && i%part.Of != part.Index-1 {
			continue
		}
		list = append(list, s.run(name))
	}
	return list
}

func (s *Setup) run(name string) Run {
	r := Run{Name: name, Kind: measure.RunGroup, types: map[string]quant.Type{}}
	mixture := -1
	for m := range mixtures {
		if name == measure.MixtureName(m) {
			r.Kind, mixture = measure.RunMixture, m
		}
	}
	if name == measure.RunWhole {
		r.Kind = measure.RunWhole
	}
	for i := range s.tensors {
		t := &s.Record.Tensors[i]
		typ := s.Record.ProbeType
		switch {
		case r.Kind == measure.RunWhole:
			typ = s.Record.WholeType
		case r.Kind == measure.RunMixture:
			typ = t.Mixtures[mixture]
		case t.Group != name:
			continue
		}
		r.types[t.Name] = s.tensors[i].Types[slices.Index(s.Record.Types, typ)]
		r.size += s.tensors[i].Tensor.SizeBytes
	}
	return r
}

// ScoredTokens returns how many tokens llama-perplexity scores of some chunks:
// the second half of each, but for the last.
func ScoredTokens(contextTokens, chunks uint64) uint64 {
	return (contextTokens - 1 - contextTokens/2) * chunks
}

// LogitsBytes returns the size of a file of base logits.
func LogitsBytes(contextTokens, chunks, vocabulary uint64) uint64 {
	row := 2 * (2*((vocabulary+1)/2) + 4)
	return logitsHeaderBytes + 4*contextTokens*chunks + row*ScoredTokens(contextTokens, chunks)
}

// SpaceBytes returns the most that a probe takes on the disk: the copy or the
// whole file, and the base logits of a piece of the text where it makes them.
func (s *Setup) SpaceBytes(makesLogits bool) uint64 {
	need := max(s.reference.FileBytes(), s.wholeBytes())
	if makesLogits {
		need += LogitsBytes(s.Record.ContextTokens, s.Record.Chunks, vocabulary(s.reference))
	}
	return need
}

// wholeBytes is about what the whole run's file takes.
func (s *Setup) wholeBytes() uint64 {
	size := s.options.Model.FileBytes()
	for i := range s.tensors {
		x := &s.tensors[i]
		size -= x.Tensor.SizeBytes
		f, _ := quant.Lookup(x.Types[slices.Index(s.Record.Types, s.Record.WholeType)])
		n, _ := f.Layout.EncodedBytes(x.Tensor.Rows(), x.Tensor.Shape[0])
		size += n
	}
	return size
}

// vocabulary returns a model's number of words, 0 where it does not say.
func vocabulary(m *ggufio.Model) uint64 {
	if t, ok := m.TensorByName("token_embd.weight"); ok && len(t.Shape) > 1 {
		return t.Shape[1]
	}
	return 0
}
