package memory

import (
	"github.com/ggufplan/ggufplan/ggufio"
)

// Buffers are what a run holds on one device, in bytes.
type Buffers struct {
	Weights uint64
	Cache   uint64 // keys and values; 0 where not known
	State   uint64 // of recurrent layers; 0 where not known
	Compute uint64 // an upper estimate
}

// Total adds the buffers up.
func (b *Buffers) Total() uint64 { return b.Weights + b.Cache + b.State + b.Compute }

// A Run is what a model's run takes.
type Run struct {
	GPU, CPU Buffers // CPU.Weights as without mmap

	// MappedBytes is the size of the files' parts that llama.cpp maps in place
	// of CPU.Weights with mmap. Pages of it that hold no weights of the CPU are
	// read once at most and can be given up.
	MappedBytes uint64

	// CacheUnknown says why caches and states are not counted; nil where they
	// are.
	CacheUnknown *UnknownError

	card cardCompute
}

// Estimate returns what a run of a model takes with the given weights.
func (s *Shape) Estimate(m *ggufio.Model, weights []Weight, o Options) (*Run, error) {
	o.Sequences = max(1, o.Sequences)
	if err := o.check(); err != nil {
		return nil, err
	}
	w, err := s.weightBytes(m, weights, o.Placement, RepackNone)
	if err != nil {
		return nil, err
	}
	r, err := s.Beside(m, o)
	if err != nil {
		return nil, err
	}
	r.MappedBytes, r.GPU.Weights, r.CPU.Weights = w.Mapped, w.GPU, w.CPU
	if s.unknown == nil {
		r.GPU.Compute += r.CopiesOf(s.CopiedWeights(m, weights, &o))
	}
	return r, nil
}

// Beside returns what a run takes beside weights, and beside the copies of
// them that [Run.CopiesOf] counts.
func (s *Shape) Beside(m *ggufio.Model, o Options) (*Run, error) {
	o.Sequences = max(1, o.Sequences)
	if err := o.check(); err != nil {
		return nil, err
	}
	r := &Run{CacheUnknown: s.unknown}
	if s.unknown == nil {
		layers, err := s.cache(&o)
		if err != nil {
			return nil, err
		}
		var total [deviceCount]struct{ cache, state sizes }
		for i := range layers {
			t := &total[o.Placement.device(i, int(s.blocks))]
			t.cache.add(layers[i].cacheBytes)
			t.state.add(layers[i].stateBytes)
		}
		for d, b := range []*Buffers{CPU: &r.CPU, GPU: &r.GPU} {
			if err := total[d].cache.err; err != nil {
				return nil, err
			}
			if err := total[d].state.err; err != nil {
				return nil, err
			}
			b.Cache, b.State = total[d].cache.bytes, total[d].state.bytes
		}
		if err := s.addCompute(r, m, &o, layers); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// Repacked returns the weights that llama.cpp lays out anew for a processor in
// a run without a graphics card, and what is left of the other buffers then.
func (s *Shape) Repacked(m *ggufio.Model, weights []Weight, r Repack) (WeightBytes, error) {
	return s.weightBytes(m, weights, Placement{}, r)
}
