package memory

import (
	"fmt"
	"math"
	"slices"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/quant"
)

// offloadTokens is the least number of tokens for which a card takes over work
// on weights in RAM: it copies them, a tensor at a time, and a block's cache
// with them (ggml_backend_sched with op_offload).
const offloadTokens = 32

// attends reports whether CUDA has flash attention for a block: fattn.cu,
// ggml_cuda_get_best_fattn_kernel.
func (l *layer) attends(o *Options) bool {
	if o.KeyType == quant.IQ4_NL || o.ValueType == quant.IQ4_NL {
		return false
	}
	grouped := l.Group >= 2
	switch l.KeyHead {
	case 40, 64, 72, 80, 96, 112, 128, 256:
		return l.ValueHead == l.KeyHead
	case 192:
		return l.ValueHead == 128 && grouped && l.Group%8 == 0
	case 320:
		return l.ValueHead == 256 && grouped && l.Group%32 == 0
	case 512, 576:
		return l.ValueHead == 512 && grouped
	}
	return false
}

// flash says where llama.cpp has flash attention when there is a card: nowhere
// if the card lacks it, unless the cache's values need it; then the CPU has it.
// It tries a token per sequence, and finds none for a block in RAM either whose
// work the card takes over then.
func (s *Shape) flash(o *Options) (anywhere, onCard bool) {
	if s.architecture == "grok" {
		return false, false
	}
	anywhere, onCard = true, true
	for i := range s.layers {
		l := &s.layers[i]
		switch onGPU := o.Placement.onGPU(i, int(s.blocks)); {
		case !l.Cached:
		case onGPU && !l.attends(o):
			anywhere, onCard = quantized(o.ValueType), false
		case !onGPU && o.Sequences >= offloadTokens:
			anywhere = anywhere && quantized(o.ValueType)
		}
	}
	return anywhere, anywhere && onCard
}

// attentionExtra is what attention on the card takes beside its stage: F16
// copies of keys and values that it cannot read as they are, and a block's
// cache if that lies in RAM. It grows if a later block takes more than the first.
// Where the card has no flash attention and needs it, the CPU takes a copy of
// the cache: host.
func (s *Shape) attentionExtra(o *Options, layers []layerCache, tokens uint64, flash, onCard bool) (card, host uint64, grows bool) {
	full, windowed := s.cells(o)
	first := true
	for i := range s.layers {
		l := &s.layers[i]
		if !l.Cached {
			first = false
			continue
		}
		n := full
		if l.Windowed {
			n = windowed
		}
		onGPU := o.Placement.onGPU(i, int(s.blocks))
		if flash && !onCard && onGPU {
			host = max(host, 2*layers[i].cacheBytes)
			continue
		}
		if !onGPU && (tokens < offloadTokens || flash && !l.attends(o)) {
			host = max(host, 1) // attention itself
			continue
		}
		extra := uint64(0)
		if flash {
			if o.KeyType != quant.F16 {
				extra += times(2, n, o.Sequences, l.KeyWidth)
			}
			if o.ValueType != quant.F16 {
				extra += times(2, n, o.Sequences, l.ValueWidth)
			}
		}
		if extra > 0 {
			// They lie behind the result, which then fits nowhere else.
			result := times(4, tokens, s.dims.heads, l.ValueHead)
			if recurrences[s.architecture].kind == recurrentInterval {
				result *= 3 // it is gated
			}
			extra += result + 4*tokens*6*s.embd
		}
		if !flash {
			if extra += layers[i].cacheBytes; s.latent {
				extra += 2 * layers[i].cacheBytes // values, turned round
			}
		}
		if !onGPU {
			extra += layers[i].cacheBytes + layers[i].cacheBytes/2 // and what does not fit into a place before
		}
		grows = grows || extra > card && !first
		card, first = max(card, extra), false
	}
	return card, host, grows
}

// cardCompute is what the card's compute buffer is made of, beside copies of
// weights.
type cardCompute struct {
	always, attention, rest uint64
	copies                  bool // weights are copied,
	copiesAttention         bool // and those may lie beside what attention takes
	options                 Options
}

// bytes is the buffer with the weights that are copied.
func (c *cardCompute) bytes(w Copies) uint64 {
	if !c.copies {
		w = Copies{}
	}
	attention, rest := c.attention, c.rest+w.LargestBytes+w.SecondBytes
	if c.copiesAttention {
		attention += w.LargestBytes
	}
	return c.options.scaled(c.always + max(attention, rest))
}

// addCompute puts the compute buffers where they lie, and the output buffer with
// those of the CPU.
func (s *Shape) addCompute(r *Run, m *ggufio.Model, o *Options, layers []layerCache) error {
	full, _ := s.cells(o)
	tokens := o.batch(full * o.Sequences)
	outputs := 4 * o.Sequences * s.vocab // the output buffer
	if o.Placement.GPULayers == 0 {
		g := s.graph(o, tokens, s.architecture != "grok")
		r.CPU.Compute = o.scaled(g.bytes() + outputs)
		return r.checkCompute(s)
	}
	flash, onCard := s.flash(o)
	g := s.graph(o, tokens, flash)
	extra, hostExtra, grows := s.attentionExtra(o, layers, tokens, flash, onCard)
	blocksInRAM := !o.Placement.onGPU(0, int(s.blocks))
	r.card = cardCompute{always: g.inputs + g.states, attention: g.attention + extra, rest: g.rest,
		copies: tokens >= offloadTokens, copiesAttention: blocksInRAM || grows, options: *o}
	host := g.inputs + 8*tokens*s.embd
	if blocksInRAM || s.positions {
		host += 4 * tokens * s.embd
	}
	if blocksInRAM && !flash {
		// Scores and masks have several copies, of which little is known.
		host += 3 * tokens * full
		r.card.attention += times(4, tokens, full, s.dims.heads)
	}
	if hostExtra > 0 {
		host += g.attention + hostExtra
	}
	if slices.ContainsFunc(m.Tensors, func(t ggufio.Tensor) bool { return t.Layer >= 0 && s.use(&t, o.Placement, false).on[CPU] }) {
		few := tokens // that the CPU computes
		switch {
		case tokens < offloadTokens:
			r.card.always += 4 * tokens * 8 * s.embd // what goes to and fro
		case o.Sequences < offloadTokens || !blocksInRAM || !s.latent:
			few = offloadTokens - 1
		}
		small := s.graph(o, few, flash)
		host = max(host, small.bytes())
	}
	for i := range s.layers {
		if s.layers[i].Recurrent && !o.Placement.onGPU(i, int(s.blocks)) {
			host = max(host, g.bytes())
		}
	}
	r.GPU.Compute, r.CPU.Compute = r.card.bytes(Copies{}), o.scaled(host+outputs)
	return r.checkCompute(s)
}

func (r *Run) checkCompute(s *Shape) error {
	if max(r.GPU.Compute, r.CPU.Compute) >= tooMany {
		return fmt.Errorf("the widths of a %q model make compute buffers of more than 2^60 bytes", s.architecture)
	}
	return nil
}

// scaled applies the margin.
func (o *Options) scaled(n uint64) uint64 {
	if o.ComputeMargin == 0 {
		return n
	}
	return uint64(min(math.Ceil(o.ComputeMargin*float64(n)), 2*tooMany))
}

// Copied reports whether a tensor is one whose weights the card copies.
func (s *Shape) Copied(t *ggufio.Tensor, o *Options) bool {
	if o.Placement.GPULayers == 0 || t.Layer < 0 || !s.use(t, o.Placement, false).on[CPU] {
		return false
	}
	few := s.prunes(t) && o.Sequences < offloadTokens
	return !few || !t.Role.IsExpert()
}

// Copies are the weights that a card copies, a tensor at a time: the largest,
// and the largest of those that are smaller, 0 for none. Both may be held, since
// one does not fit into the place of a smaller one before it.
type Copies struct{ LargestBytes, SecondBytes uint64 }

// Add takes a tensor's size in.
func (c *Copies) Add(sizeBytes uint64) {
	switch {
	case sizeBytes > c.LargestBytes:
		c.LargestBytes, c.SecondBytes = sizeBytes, c.LargestBytes
	case sizeBytes < c.LargestBytes:
		c.SecondBytes = max(c.SecondBytes, sizeBytes)
	}
}

// Holds reports whether a tensor of a size makes the copies no larger.
func (c *Copies) Holds(sizeBytes uint64) bool {
	return sizeBytes == c.LargestBytes || sizeBytes <= c.SecondBytes
}

// HoldsAll reports it of several.
func (c *Copies) HoldsAll(sizesBytes []uint64) bool {
	return !slices.ContainsFunc(sizesBytes, func(n uint64) bool { return !c.Holds(n) })
}

// CopiedWeights are the weights of a model that the card copies.
func (s *Shape) CopiedWeights(m *ggufio.Model, weights []Weight, o *Options) Copies {
	var c Copies
	for i := range m.Tensors {
		if s.Copied(&m.Tensors[i], o) {
			c.Add(weights[i].SizeBytes)
		}
	}
	return c
}

// CopiesOf is how much larger the card's compute buffer is for copies of
// weights.
func (r *Run) CopiesOf(c Copies) uint64 { return r.card.bytes(c) - r.card.bytes(Copies{}) }
