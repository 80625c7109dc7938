package memory

import (
	"math/bits"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/quant"
)

// dims are the widths of what a run computes, in values per token.
type dims struct {
	heads             uint64
	query, key, value uint64 // of all heads of the widest block
	latent            uint64 // queries of latent attention, beside query
	feedForward       uint64 // of dense blocks and shared experts
	expertWidth       uint64 // of one expert
	used, experts     uint64
	inner, groups     uint64 // of recurrent blocks; groups is of all groups' states
	kda               bool   // recurrent blocks are of Kimi's delta attention
	index             uint64 // index queries of all heads
	indexHeads        uint64
}

// readDims reads the widths that compute buffers go by.
func (s *Shape) readDims(m *ggufio.Model, h *header) {
	d := &s.dims
	n := s.blocks
	most := func(key string) uint64 {
		top := uint64(0)
		for _, v := range h.perBlock(key, n, 0) {
			top = max(top, v)
		}
		return top
	}
	d.heads = most("attention.head_count")
	headsKV := d.heads
	if _, ok := h.meta.Lookup(h.prefix + "attention.head_count_kv"); ok {
		headsKV = most("attention.head_count_kv")
	}
	if d.heads > 0 {
		key, value := h.number("attention.key_length", s.embd/d.heads), h.number("attention.value_length", s.embd/d.heads)
		key, value = max(key, h.number("attention.key_length_swa", 0)), max(value, h.number("attention.value_length_swa", 0))
		d.query, d.key, d.value = d.heads*key, headsKV*key, headsKV*value
	}
	d.latent = d.heads * h.number("attention.key_length_mla", 0)
	d.feedForward = most("expert_shared_feed_forward_length")
	dense := most("feed_forward_length")
	d.expertWidth, d.used = most("expert_feed_forward_length"), most("expert_used_count")
	for i := range m.Tensors {
		t := &m.Tensors[i]
		if len(t.Shape) < 2 || t.Layer < 0 || s.prunes(t) {
			continue
		}
		d.experts = max(d.experts, uint64(t.Experts()))
		switch t.Role {
		case ggufio.RoleExpertUp:
			d.expertWidth = max(d.expertWidth, t.Shape[1])
		case ggufio.RoleSharedExpert:
			d.feedForward = max(d.feedForward, t.Shape[1])
		case ggufio.RoleDenseFFN:
			d.feedForward = max(d.feedForward, dense)
		}
	}
	d.inner, d.groups = h.number("ssm.inner_size", 0), h.number("ssm.group_count", 0)*h.number("ssm.state_size", 0)
	if kda := h.number("kda.head_dim", 0); kda > 0 {
		d.inner, d.groups, d.kda = d.heads*kda, d.heads*kda, true
	}
	if indexed[s.architecture] {
		d.indexHeads = h.number("attention.indexer.head_count", 0)
		d.index = d.indexHeads * h.number("attention.indexer.key_length", 0)
	}
}

// prunes reports whether a tensor's block computes its feed-forward network for
// the outputs that are asked for alone: the last one does.
func (s *Shape) prunes(t *ggufio.Tensor) bool {
	return uint64(t.Layer)+s.next+1 >= s.blocks && s.architecture != "cohere2moe"
}

// A graph is what llama.cpp's graph of a batch takes beside weights and caches,
// in bytes, estimated from above. The graph is a chain of stages whose results
// are given up one after the other, so that the widest stage decides:
// attention, a dense or an expert feed-forward network, a recurrent block, an
// index, the output. The widths were read off the graphs of the architectures
// and checked against what llama.cpp logs for them.
type graph struct {
	inputs    uint64 // that last as long as the graph, above all masks of cells × tokens
	attention uint64 // the stage of attention
	rest      uint64 // the widest of the other stages
	states    uint64 // copies of states
}

// bytes is what the graph takes where all of it runs on one device.
func (g *graph) bytes() uint64 { return g.inputs + max(g.attention, g.rest) + g.states }

// graph estimates the graph of a batch, with flash attention or without.
func (s *Shape) graph(o *Options, tokens uint64, flash bool) graph {
	full, windowed := s.cells(o)
	d := &s.dims
	var state, cells, masks, turns uint64
	kinds := map[bool]uint64{true: windowed, false: full}
	for i := range s.layers {
		l := &s.layers[i]
		state = max(state, l.ShiftState+l.MainState)
		if n, ok := kinds[l.Windowed]; ok && l.Cached {
			cells, masks, turns = max(cells, n), masks+n, turns+o.turnBytes(l)
			delete(kinds, l.Windowed)
		}
	}
	if cacheless[s.architecture] {
		masks = tokens
	}
	g := graph{inputs: 2*tokens*masks + turns + 64*tokens + 1<<14} // and numbers of tokens and cells
	if !flash {
		g.inputs += 2 * tokens * masks // of F32
		if d.index > 0 {
			g.inputs += 2 * tokens * full // the index has a mask of F16 still
		}
	}
	if s.architecture == "minimax-01" {
		g.inputs += times(4, tokens, tokens, d.heads) // decay between any two tokens
	}
	e := s.embd
	stage := func(width uint64) uint64 { return times(4, tokens, width+width/32) }
	g.attention = stage(2*e + 2*d.query + 2*d.key + 2*d.value + 2*d.latent)
	if d.index > 0 {
		g.attention = max(g.attention, stage(4*e+2*d.index+s.indexScores()*full))
	}
	if !flash {
		g.attention += g.attention + times(4, tokens, cells, d.heads)
	}
	g.rest = stage(6*e + 3*d.feedForward)
	if d.experts > 0 {
		wide := d.used * d.expertWidth
		experts := 6*e + 3*wide + 3*d.experts
		if d.used*e > 2*wide {
			// What the experts give does not fit where their inner values were.
			experts += d.used * e
		}
		g.rest = max(g.rest, stage(experts))
	}
	if state > 0 {
		recurrent := stage(2*e + 2*(2*d.inner+2*d.groups) + 2*(d.inner+2*d.groups))
		if g.rest = max(g.rest, recurrent); recurrences[s.architecture].kind == recurrentBoth {
			g.attention += recurrent
		}
	}
	outputs := o.Sequences * (s.vocab + 4*e)
	g.rest = max(g.rest, 4*(2*tokens*e+outputs+outputs/32))
	// Delta rules write the new state beside the old one.
	copies := uint64(6)
	if recurrences[s.architecture].kind == recurrentInterval || d.kda {
		copies = 9
	}
	g.states = times(copies, o.Sequences, state)
	return g
}

// tooMany is more bytes than any run takes.
const tooMany = 1 << 60

// times is a product of numbers that may come from a header, at most tooMany.
func times(factors ...uint64) uint64 {
	product := uint64(1)
	for _, f := range factors {
		if hi, lo := bits.Mul64(product, f); hi == 0 && lo < tooMany {
			product = lo
		} else {
			product = tooMany
		}
	}
	return product
}

// turnBytes is the size of the matrices that turn keys and values of a
// quantized cache: llama_kv_cache's build_input_k_rot.
func (o *Options) turnBytes(l *layer) uint64 {
	sum := uint64(0)
	if quantized(o.KeyType) && l.KeyHead%64 == 0 {
		n := l.KeyHead & -l.KeyHead // the largest power of 2 in it
		sum += 4 * n * n
	}
	if quantized(o.ValueType) && l.ValueHead%64 == 0 {
		sum += 4 * 64 * 64
	}
	return sum
}

func quantized(t quant.Type) bool {
	f, ok := quant.Lookup(t)
	return ok && f.Layout.WeightsPerBlock > 1
}

// indexScores is how many values per token and cell an index takes.
func (s *Shape) indexScores() uint64 {
	if s.architecture == "minimax-m3" {
		return max(5, 2*s.dims.indexHeads)
	}
	return 5
}
