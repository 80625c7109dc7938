package memory

import (
	"math"
	"slices"

	"github.com/ggufplan/ggufplan/ggufio"
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
		// The last block computes no more than the rows that are asked for.
		pruned := uint64(t.Layer)+s.next+1 >= n && s.architecture != "cohere2moe"
		if len(t.Shape) < 2 || t.Layer < 0 || pruned {
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

// computeBytes estimates from above what llama.cpp's graph of a batch needs
// beside weights and caches. The graph is a chain of stages whose results are
// given up one after the other, so that the widest stage decides: attention,
// a dense or an expert feed-forward network, a recurrent block, an index.
// Inputs, above all the attention mask of cells × tokens in F16, last as long
// as the graph. The widths were read off the graphs of the architectures and
// checked against what llama.cpp logs for them.
//
// inputs is the part of all that the CPU holds for a model that lies on the
// card.
func (s *Shape) computeBytes(o *Options) (all, inputs uint64) {
	full, windowed := s.cells(o)
	tokens := o.batch(full * o.Sequences)
	d := &s.dims
	var masks, state, scores uint64
	var cached, window bool
	for i := range s.layers {
		l := &s.layers[i]
		cached = cached || l.Cached && !l.Windowed
		window = window || l.Cached && l.Windowed
		state = max(state, l.ShiftState+l.MainState)
	}
	if cached {
		masks += 2 * full
	}
	if window {
		masks += 2 * windowed
	}
	if cacheless[s.architecture] {
		masks = 2 * tokens
	}
	if s.architecture == "grok" { // without flash attention
		scores = 4*full*d.heads + 2*full
	}
	e := s.embd
	wide := d.used * d.expertWidth
	stages := []uint64{
		2*e + 2*d.query + 2*d.key + 2*d.value + 2*d.latent, // attention
		6*e + 3*d.feedForward,
	}
	if d.experts > 0 {
		experts := 6*e + 3*wide + 3*d.experts
		if d.used*e > 2*wide {
			// What the experts give does not fit where their inner values were.
			experts += d.used * e
		}
		stages = append(stages, experts)
	}
	if state > 0 {
		stages = append(stages, 2*e+2*(2*d.inner+2*d.groups)+2*(d.inner+2*d.groups))
	}
	if d.index > 0 {
		stages = append(stages, 4*e+2*d.index+s.indexScores()*full)
	}
	top := uint64(0)
	for _, n := range stages {
		top = max(top, n)
	}
	outputs := o.Sequences * (s.vocab + 4*e) // the last stage
	// Delta rules write the new state beside the old one.
	copies := uint64(6)
	if recurrences[s.architecture].kind == recurrentInterval || d.kda {
		copies = 9
	}
	top += top / 32
	all = tokens*(masks+scores) + 4*max(tokens*top, 2*tokens*e+outputs+outputs/32) + copies*o.Sequences*state
	return all, tokens*(masks+8*e) + 4*outputs
}

// indexScores is how many values per token and cell an index takes.
func (s *Shape) indexScores() uint64 {
	if s.architecture == "minimax-m3" {
		return max(5, 2*s.dims.indexHeads)
	}
	return 5
}

// addCompute puts the compute buffers where they lie. With a card they are on
// both sides, since parts of the graph may run on either.
func (s *Shape) addCompute(r *Run, m *ggufio.Model, o *Options) {
	all, inputs := s.computeBytes(o)
	r.CPU.Compute = o.scaled(all)
	if o.Placement.GPULayers == 0 {
		return
	}
	r.GPU.Compute = o.scaled(all)
	if !slices.ContainsFunc(m.Tensors, func(t ggufio.Tensor) bool { return t.Layer >= 0 && s.use(&t, o.Placement, false).on[CPU] }) {
		r.CPU.Compute = o.scaled(inputs)
	}
}

// scaled applies the margin.
func (o *Options) scaled(n uint64) uint64 {
	if o.ComputeMargin == 0 {
		return n
	}
	return uint64(math.Ceil(o.ComputeMargin * float64(n)))
}

// CopyBytes is what the card's compute buffer holds of weights that stay in
// RAM: for a batch that is worth it, llama.cpp copies them over, a tensor at a
// time (ggml_backend_sched with op_offload). That is the largest, and as much
// again where it does not fit into the place of a smaller one before it.
func (s *Shape) CopyBytes(m *ggufio.Model, weights []Weight, o Options) uint64 {
	largest := uint64(0)
	for i := range m.Tensors {
		if s.Copied(&m.Tensors[i], o.Placement) {
			largest = max(largest, weights[i].SizeBytes)
		}
	}
	return o.CopiesOf(largest)
}

// Copied reports whether a tensor is one that [Shape.CopyBytes] counts.
func (s *Shape) Copied(t *ggufio.Tensor, p Placement) bool {
	return p.GPULayers > 0 && t.Layer >= 0 && s.use(t, p, false).on[CPU]
}

// CopiesOf is what copies take of tensors the largest of which has a size.
func (o *Options) CopiesOf(largestBytes uint64) uint64 { return o.scaled(2 * largestBytes) }
