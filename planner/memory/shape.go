package memory

import (
	"fmt"
	"slices"

	"github.com/ggufplan/ggufplan/ggufio"
)

// An UnknownError says what of a model's memory cannot be computed from its
// header, and why.
type UnknownError struct {
	What   string // "key-value cache"
	Reason string
}

func (e *UnknownError) Error() string { return "the " + e.What + " is not known: " + e.Reason }

// maxWidth bounds the numbers that a header states, far above any model.
const maxWidth = 1 << 20

// A layer is what one block of a model keeps of the tokens it has seen. Widths
// are in values per token.
type layer struct {
	Cached                bool // keys, and values where ValueWidth is not 0
	KeyWidth, ValueWidth  uint64
	KeyHead, ValueHead    uint64 // of one head
	Group                 uint64 // query heads per head of keys
	Windowed              bool   // keeps a window's worth of tokens alone
	Indexed               bool   // keeps index keys as well
	IndexKey, IndexValue  uint64
	Recurrent             bool
	ShiftState, MainState uint64 // float32 values per sequence: llama.cpp's R and S
}

// A Shape is what a model's header says about the memory of a run.
type Shape struct {
	architecture string
	blocks, next uint64 // blocks, those of multi-token prediction included; how many these are
	embd, vocab  uint64
	layers       []layer // of all blocks
	windowTokens uint64  // 0: no window
	latent       bool    // keys alone are cached
	unknown      *UnknownError
	card         bufferRule
	positions    bool // the input is more than a token's embedding

	dims dims
}

// CacheUnknown says why the cache of the model is not known; nil where it is.
func (s *Shape) CacheUnknown() *UnknownError { return s.unknown }

// header reads a model's numbers and remembers the first that is wrong.
type header struct {
	meta   *ggufio.Metadata
	prefix string
	err    error
}

func (h *header) fail(err error) {
	if h.err == nil && err != nil {
		h.err = err
	}
}

// number reads a number, or otherwise where the key is absent.
func (h *header) number(key string, otherwise uint64) uint64 {
	v, ok, err := h.meta.Uint64(h.prefix + key)
	h.fail(err)
	if !ok {
		return otherwise
	}
	if v > maxWidth {
		h.fail(fmt.Errorf("%s%s: %d is more than %d", h.prefix, key, v, maxWidth))
		return otherwise
	}
	return v
}

// list reads an array of numbers or of bools; ok is false where the key is
// absent or no array.
func (h *header) list(key string) (v []uint64, ok bool) {
	p, found := h.meta.Lookup(h.prefix + key)
	if !found || p.Type != ggufio.ValueArray {
		return nil, false
	}
	if p.ElementType == ggufio.ValueBool {
		flags, _, err := h.meta.Bools(h.prefix + key)
		h.fail(err)
		for _, b := range flags {
			x := uint64(0)
			if b {
				x = 1
			}
			v = append(v, x)
		}
		return v, true
	}
	v, _, err := h.meta.Uint64s(h.prefix + key)
	h.fail(err)
	return v, true
}

// perBlock reads a number per block: an array, or one for all.
func (h *header) perBlock(key string, blocks, otherwise uint64) []uint64 {
	out := make([]uint64, blocks)
	if v, ok := h.list(key); ok {
		for i := range out {
			if i < len(v) {
				if v[i] > maxWidth {
					h.fail(fmt.Errorf("%s%s: item %d: %d is more than %d", h.prefix, key, i, v[i], maxWidth))
					continue
				}
				out[i] = v[i]
			}
		}
		return out
	}
	n := h.number(key, otherwise)
	for i := range out {
		out[i] = n
	}
	return out
}

// NewShape reads what the header of a model says about its memory. A number
// in it that cannot be is an error; an architecture that the package does not
// know is not: see [Shape.CacheUnknown].
func NewShape(m *ggufio.Model) (*Shape, error) {
	a := &m.Architecture
	h := &header{meta: m.Metadata, prefix: a.Name + "."}
	s := &Shape{card: cudaRule, architecture: a.Name, blocks: uint64(a.BlockCount), next: uint64(a.NextNBlocks)}
	s.embd = h.number("embedding_length", 0)
	s.vocab = vocabulary(m, h)
	s.layers = make([]layer, s.blocks)
	s.positions = a.Name == "grok" || slices.ContainsFunc(m.Tensors, func(t ggufio.Tensor) bool { return t.Name == "position_embd.weight" })
	s.readDims(m, h)
	if s.unknown = s.known(h); s.unknown == nil && !cacheless[a.Name] {
		s.readLayers(h)
	}
	if h.err != nil {
		return nil, fmt.Errorf("%s: %w", m.Files[0].Name, h.err)
	}
	return s, nil
}

// vocabulary is the number of tokens that the output tells apart.
func vocabulary(m *ggufio.Model, h *header) uint64 {
	for i := range m.Tensors {
		if t := &m.Tensors[i]; (t.Name == "output.weight" || t.Name == "token_embd.weight") && len(t.Shape) == 2 {
			return t.Shape[1]
		}
	}
	return h.number("vocab_size", 0)
}

// known says what stands in the way of knowing the cache.
func (s *Shape) known(h *header) *UnknownError {
	name := s.architecture
	_, windowed := windows[name]
	_, recurrent := recurrences[name]
	if !plain[name] && !windowed && !recurrent && !indexed[name] && !cacheless[name] && name != "exaone4" {
		return &UnknownError{"key-value cache", fmt.Sprintf("how llama.cpp keeps it for architecture %q is not in this program", name)}
	}
	if name == "glm-dsa" {
		trained, _, err := h.meta.Uint64(h.prefix + "context_length")
		h.fail(err)
		if _, listed := h.meta.Lookup(h.prefix + "attention.indexer.types"); trained >= 1<<20 && !listed {
			return &UnknownError{"key-value cache", "the file does not say which layers index (attention.indexer.types)"}
		}
	}
	return nil
}

// readLayers settles what each block keeps, in the order in which llama.cpp
// reads its hyperparameters: llama_model_base::load_hparams, then
// load_arch_hparams of the architecture, then create_memory.
func (s *Shape) readLayers(h *header) {
	n := s.blocks
	trunk := n - s.next
	heads := h.perBlock("attention.head_count", n, 0)
	headsKV := heads
	if _, ok := h.meta.Lookup(h.prefix + "attention.head_count_kv"); ok {
		headsKV = h.perBlock("attention.head_count_kv", n, 0)
	}
	firstHeads := uint64(0)
	if n > 0 {
		firstHeads = heads[0]
	}
	key, value := uint64(0), uint64(0)
	if firstHeads > 0 {
		key = h.number("attention.key_length", s.embd/firstHeads)
		value = h.number("attention.value_length", s.embd/firstHeads)
	}
	keySWA := h.number("attention.key_length_swa", key)
	valueSWA := h.number("attention.value_length_swa", value)
	latent := latents[s.architecture] && h.number("attention.key_length_mla", 0) != 0 && h.number("attention.value_length_mla", 0) != 0
	s.latent = latent
	windowed := s.readWindow(h, trunk, headsKV)
	recurrent := s.readRecurrence(h, trunk, headsKV)
	index := s.readIndex(h, trunk)
	indexKey := h.number("attention.indexer.key_length", 0)
	shift, main := s.stateWidths(h, firstHeads, key)
	cachedLayers := n
	switch {
	case s.architecture == "gemma3n":
		cachedLayers = 20
	case s.architecture == "gemma4":
		shared := h.number("attention.shared_kv_layers", 0)
		cachedLayers = n - min(n, shared)
	}
	kind := recurrences[s.architecture].kind
	feed := h.perBlock("feed_forward_length", n, 0)
	for i := range s.layers {
		il := uint64(i)
		l := &s.layers[i]
		l.Windowed = windowed[i]
		l.KeyHead, l.ValueHead = key, value
		if l.Windowed {
			l.KeyHead, l.ValueHead = keySWA, valueSWA
		}
		if headsKV[i] > 0 {
			l.Group = heads[i] / headsKV[i]
		}
		l.KeyWidth, l.ValueWidth = l.KeyHead*headsKV[i], l.ValueHead*headsKV[i]
		if latent {
			l.ValueWidth = 0
		}
		l.Recurrent = recurrent[i] && il < trunk
		l.Cached = il < cachedLayers
		switch kind {
		case recurrentNone:
			if s.next > 0 && trunk > 0 {
				l.Cached = l.Cached && il < trunk
			}
		case recurrentAll:
			l.Cached = false
		case recurrentBoth:
		case recurrentHeadless:
			l.Cached = !recurrent[i]
		case recurrentInterval:
			l.Cached = il < trunk && !recurrent[i]
		case recurrentNemotron:
			l.Cached = !recurrent[i] && feed[i] == 0
			l.Recurrent = l.Recurrent && feed[i] == 0
		}
		if l.Recurrent {
			l.ShiftState, l.MainState = shift, main
		}
		if index[i] && !l.Recurrent {
			l.Indexed, l.IndexKey = true, indexKey
			if !latent {
				l.IndexValue = l.ValueHead // one head
			}
		}
	}
}

// readWindow says which blocks attend to a window alone, and sets its size.
func (s *Shape) readWindow(h *header, trunk uint64, headsKV []uint64) []bool {
	out := make([]bool, s.blocks)
	w, ok := windows[s.architecture]
	switch s.architecture {
	case "exaone4": // the 32B model of 64 layers alone
		w, ok = window{period: 4, tokens: 4096}, trunk == 64
	case "lfm2": // every layer with attention
		if s.windowTokens = h.number("attention.sliding_window", 0); s.windowTokens > 0 {
			for i := range trunk {
				out[i] = headsKV[i] != 0
			}
		}
		return out
	}
	if !ok {
		return out
	}
	tokens := h.number("attention.sliding_window", w.tokens)
	_, given := h.meta.Lookup(h.prefix + "attention.sliding_window")
	if w.optional && tokens == 0 || s.architecture == "llama4" && given && tokens == 0 {
		return out
	}
	if w.fixedTokens > 0 {
		tokens = w.fixedTokens
	}
	s.windowTokens = tokens
	if list, ok := h.list("attention.sliding_window_pattern"); ok {
		for i := range out {
			out[i] = i < len(list) && list[i] != 0
		}
		return out
	}
	if w.period == 0 {
		h.fail(fmt.Errorf("%sattention.sliding_window_pattern: is absent or no array: llama.cpp does not load the model", h.prefix))
		return out
	}
	period := h.number("attention.sliding_window_pattern", uint64(w.period))
	for i := range trunk {
		switch {
		case period == 0:
			out[i] = true
		case w.denseFirst:
			out[i] = i%period != 0
		default:
			out[i] = i%period < period-1
		}
	}
	return out
}

// readRecurrence says which blocks are recurrent.
func (s *Shape) readRecurrence(h *header, trunk uint64, headsKV []uint64) []bool {
	out := make([]bool, s.blocks)
	r := recurrences[s.architecture]
	switch r.kind {
	case recurrentAll, recurrentBoth:
		for i := range out {
			out[i] = true
		}
	case recurrentHeadless:
		for i := range trunk {
			out[i] = headsKV[i] == 0
		}
	case recurrentNemotron:
		feed := h.perBlock("feed_forward_length", s.blocks, 0)
		for i := range trunk {
			out[i] = headsKV[i] == 0 && feed[i] == 0
		}
	case recurrentInterval:
		if _, ok := h.meta.Lookup(h.prefix + "attention.recurrent_layers"); ok {
			for i, v := range h.perBlock("attention.recurrent_layers", s.blocks, 0) {
				out[i] = v != 0
			}
			return out
		}
		interval := max(1, h.number("full_attention_interval", r.interval))
		for i := range trunk {
			out[i] = (i+1)%interval != 0
		}
	}
	return out
}

// readIndex says which blocks keep index keys.
func (s *Shape) readIndex(h *header, trunk uint64) []bool {
	out := make([]bool, s.blocks)
	types := make([]uint64, s.blocks)
	switch s.architecture {
	case "minimax-m3":
		for i := h.number("leading_dense_block_count", 0); i < s.blocks; i++ {
			out[i] = true
		}
		return out
	case "deepseek32":
		types = slices.Repeat([]uint64{1}, int(s.blocks))
	case "glm-dsa":
		types = h.perBlock("attention.indexer.types", s.blocks, 1)
	case "dots3note":
		types = h.perBlock("attention.indexer.types", s.blocks, 0)
	case "hy_v4":
		if h.number("attention.indexer.top_k", 0) > 0 {
			types = h.perBlock("attention.indexer.types", s.blocks, 0)
		}
	}
	for i := range trunk {
		out[i] = types[i] != 0
	}
	return out
}

// stateWidths returns the values per sequence that a recurrent layer keeps:
// llama_hparams::n_embd_r and n_embd_s.
func (s *Shape) stateWidths(h *header, heads, keyLength uint64) (shift, main uint64) {
	conv := h.number("ssm.conv_kernel", 0)
	inner, state, groups := h.number("ssm.inner_size", 0), h.number("ssm.state_size", 0), h.number("ssm.group_count", 0)
	before := max(conv, 1) - 1
	kda := h.number("kda.head_dim", 0)
	switch {
	case h.number("wkv.head_size", 0) != 0:
		return h.number("token_shift_count", 2) * s.embd, s.embd * h.number("wkv.head_size", 0)
	case h.number("shortconv.l_cache", 0) != 0:
		return s.embd * (h.number("shortconv.l_cache", 0) - 1), state * inner
	case kda != 0:
		if conv == 0 {
			before = 3
		}
		return 3 * before * heads * kda, kda * kda * heads
	}
	shift, main = before*(inner+2*groups*state), state*inner
	if s.architecture == "minimax-01" {
		main = keyLength * keyLength * heads
	}
	return shift, main
}
