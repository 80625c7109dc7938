package memory

import (
	"fmt"
	"math"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/quant"
)

// Options describe a run.
type Options struct {
	ContextTokens uint64 // -c: of all sequences together
	Sequences     uint64 // -np: server slots, each with its share of the context; 0 stands for 1
	BatchTokens   uint64 // -ub: tokens evaluated at once; 0 for llama.cpp's 512
	KeyType       quant.Type
	ValueType     quant.Type
	Placement     Placement

	// ComputeMargin multiplies the estimate of compute buffers; 0 stands for 1.
	ComputeMargin float64
}

// DefaultBatchTokens is llama.cpp's n_ubatch.
const DefaultBatchTokens = 512

// MaxContextTokens and MaxSequences bound what may be asked for: far above
// any model, and llama.cpp's LLAMA_MAX_SEQ.
const (
	MaxContextTokens = 1 << 28
	MaxSequences     = 256
)

// cachePadding is what llama.cpp rounds numbers of cells up to.
const cachePadding = 256

// cells returns the tokens that the cache of one sequence holds, and the one
// of layers with a window: llama_context's constructor, llama_kv_cache_iswa.
func (s *Shape) cells(o *Options) (full, windowed uint64) {
	full = ggufio.Padded(ggufio.Padded(o.ContextTokens, cachePadding)/o.Sequences, cachePadding)
	windowed = ggufio.Padded(min(full, s.windowTokens+o.batch(full*o.Sequences)), cachePadding)
	return full, windowed
}

// batch returns the tokens that are evaluated at once in a context.
func (o *Options) batch(contextTokens uint64) uint64 {
	n := o.BatchTokens
	if n == 0 {
		n = DefaultBatchTokens
	}
	return min(n, contextTokens)
}

func (o *Options) check() error {
	switch {
	case o.ContextTokens == 0 || o.ContextTokens > MaxContextTokens:
		return fmt.Errorf("a context of %d tokens: want 1 to %d", o.ContextTokens, MaxContextTokens)
	case o.Sequences > MaxSequences:
		return fmt.Errorf("%d sequences: want 1 to %d", o.Sequences, MaxSequences)
	case o.BatchTokens > MaxContextTokens:
		return fmt.Errorf("a batch of %d tokens: want 1 to %d", o.BatchTokens, MaxContextTokens)
	case o.ComputeMargin < 0 || math.IsNaN(o.ComputeMargin) || o.ComputeMargin > 100:
		return fmt.Errorf("a compute margin of %v: want more than 0, at most 100", o.ComputeMargin)
	}
	return nil
}

// CacheTypes are the types that llama.cpp takes for keys and values, as its
// command line names them.
func CacheTypes() []quant.Type {
	return []quant.Type{quant.F32, quant.F16, quant.BF16, quant.Q8_0, quant.Q4_0, quant.Q4_1, quant.IQ4_NL, quant.Q5_0, quant.Q5_1}
}

// LayerCache is what one block keeps of a run, in bytes.
type layerCache struct {
	cacheBytes uint64 // keys and values, index keys included
	stateBytes uint64 // of recurrent layers
}

// cache returns what each block keeps.
func (s *Shape) cache(o *Options) ([]layerCache, error) {
	if s.unknown != nil {
		return nil, s.unknown
	}
	keys, ok := quant.Lookup(o.KeyType)
	values, ok2 := quant.Lookup(o.ValueType)
	if !ok || !ok2 {
		return nil, fmt.Errorf("a cache of types %s and %s: they have no layout", o.KeyType, o.ValueType)
	}
	if s.latent && o.KeyType != o.ValueType {
		return nil, fmt.Errorf("a cache of types %s and %s: a model with latent attention takes one type for both", keys.Name, values.Name)
	}
	full, windowed := s.cells(o)
	out := make([]layerCache, len(s.layers))
	for i := range s.layers {
		l := &s.layers[i]
		n := full
		if l.Windowed {
			n = windowed
		}
		rule := s.rule(o.Placement.device(i, int(s.blocks)))
		var sum sizes
		if l.Cached {
			sum.tensor(rule, &keys, l.KeyHead, l.KeyWidth, n*o.Sequences)
			sum.tensor(rule, &values, l.ValueHead, l.ValueWidth, n*o.Sequences)
		}
		if l.Indexed {
			sum.tensor(rule, &keys, l.IndexKey, l.IndexKey, full*o.Sequences)
			sum.tensor(rule, &values, l.IndexValue, l.IndexValue, full*o.Sequences)
		}
		out[i].cacheBytes = sum.bytes
		if sum.err != nil {
			return nil, fmt.Errorf("blk.%d: %w", i, sum.err)
		}
		if l.Recurrent {
			var state sizes
			f32, _ := quant.Lookup(quant.F32)
			state.tensor(rule, &f32, 1, l.ShiftState, o.Sequences)
			state.tensor(rule, &f32, 1, l.MainState, o.Sequences)
			if state.err != nil {
				return nil, fmt.Errorf("blk.%d: %w", i, state.err)
			}
			out[i].stateBytes = state.bytes
		}
	}
	return out, nil
}

// sizes adds up tensors as a buffer holds them.
type sizes struct {
	bytes uint64
	err   error
}

// tensor adds rows of a width; head is what of a row must divide into blocks.
func (s *sizes) tensor(b *bufferRule, f *quant.Format, head, width, rows uint64) {
	if s.err != nil || width == 0 || rows == 0 {
		return
	}
	if head%f.Layout.WeightsPerBlock != 0 {
		s.err = fmt.Errorf("heads of %d values do not divide into blocks of %s", head, f.Name)
		return
	}
	n, err := f.Layout.EncodedBytes(rows, width)
	if err != nil {
		s.err = err
		return
	}
	s.add(b.held(f, width, n))
}

func (s *sizes) add(n uint64) {
	if s.bytes += n; s.bytes > math.MaxInt64 || n > math.MaxInt64 {
		s.bytes, s.err = 0, fmt.Errorf("its memory adds up to more than 2^63-1 bytes")
	}
}

// A bufferRule is how the buffers of a device hold tensors.
type bufferRule struct {
	alignment  uint64
	rowWeights uint64 // what the last row of a quantized tensor is padded to a multiple of
}

// GPUAlignment is that of tensors in CUDA's buffers.
const GPUAlignment = 128

// The rules of CPU buffers, and of CUDA's: ggml-cuda.cu,
// ggml_backend_cuda_buffer_type_get_alloc_size.
var (
	hostRule = bufferRule{alignment: 32, rowWeights: 1}
	cudaRule = bufferRule{alignment: GPUAlignment, rowWeights: 512}
)

// held is what a tensor of a row width takes.
func (b *bufferRule) held(f *quant.Format, width, sizeBytes uint64) uint64 {
	if f.Layout.WeightsPerBlock > 1 && width%b.rowWeights != 0 {
		short := b.rowWeights - width%b.rowWeights
		if n, err := f.Layout.EncodedBytes(1, ggufio.Padded(short, f.Layout.WeightsPerBlock)); err == nil {
			sizeBytes += n
		}
	}
	return ggufio.Padded(sizeBytes, b.alignment)
}
