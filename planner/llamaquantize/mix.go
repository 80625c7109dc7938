package llamaquantize

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/quant"
)

// Mix returns the type that llama-quantize v0.5.0 gives each tensor of the
// model for a file type, with no rule and no importance matrix, parallel to
// m.Tensors. Tensors that it copies keep their type. It is an error where
// llama-quantize would stop: a model of experts with a feed-forward tensor
// outside its blocks.
func Mix(m *ggufio.Model, ft FileType) ([]quant.Type, error) { return MixWith(m, ft, false) }

// MixWith is [Mix] with or without an importance matrix: a few file types
// trust one with smaller types.
func MixWith(m *ggufio.Model, ft FileType, imatrix bool) ([]quant.Type, error) {
	return NewMixer(m).types(ft, imatrix)
}

// MixBeforeFallback is [Mix] without the shape fallback.
func MixBeforeFallback(m *ggufio.Model, ft FileType) ([]quant.Type, error) {
	return NewMixer(m).beforeFallback(ft, false)
}

// A Mixer holds what a model's mixes go by, so that those of many file types
// need one look at its tensors.
type Mixer struct {
	model       *ggufio.Model
	order       []int // as the loader visits the tensors
	categories  []category
	quantizable []bool
	start       mixer // before the first tensor, of no file type
}

// NewMixer looks at a model's tensors.
func NewMixer(m *ggufio.Model) *Mixer {
	x := &Mixer{model: m, order: LoaderOrder(m), categories: make([]category, len(m.Tensors)), quantizable: make([]bool, len(m.Tensors))}
	for i := range m.Tensors {
		x.categories[i] = categoryOf(m.Tensors[i].Name)
		x.quantizable[i] = Quantizable(&m.Tensors[i])
	}
	x.start = newMixer(m, x.categories)
	return x
}

func (x *Mixer) types(ft FileType, imatrix bool) ([]quant.Type, error) {
	types, err := x.beforeFallback(ft, imatrix)
	if err != nil {
		return nil, err
	}
	for i, t := range types {
		if x.quantizable[i] {
			types[i] = quant.ShapeFallback(t, x.model.Tensors[i].Shape[0])
		}
	}
	return types, nil
}

func (x *Mixer) beforeFallback(ft FileType, imatrix bool) ([]quant.Type, error) {
	types := make([]quant.Type, len(x.order))
	one := x.start
	one.ft, one.imatrix = ft, imatrix
	for _, i := range x.order {
		t := &x.model.Tensors[i]
		types[i] = t.Type
		if !x.quantizable[i] {
			continue
		}
		types[i] = ft.Default
		if !ft.quantized() {
			continue
		}
		mixed, err := one.choose(t, x.categories[i])
		if err != nil {
			return nil, err
		}
		types[i] = mixed
	}
	return types, nil
}

// Quantizable reports whether llama-quantize may change the tensor's type at
// all. No rule reaches the others.
func Quantizable(t *ggufio.Tensor) bool { return quant.Quantizable(t.Name, t.Shape) }

// LoaderOrder returns the indices of the tensors as llama.cpp's loader visits
// them: by block number, those outside blocks first, then by name.
func LoaderOrder(m *ggufio.Model) []int {
	order := make([]int, len(m.Tensors))
	blocks := make([]int, len(m.Tensors))
	for i := range order {
		order[i] = i
		blocks[i] = -1
		if b, ok := blockNumber(m.Tensors[i].Name); ok {
			blocks[i] = b
		}
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(blocks[a], blocks[b]), strings.Compare(m.Tensors[a].Name, m.Tensors[b].Name))
	})
	return order
}

// blockNumber reads the number after "blk.".
func blockNumber(name string) (int, bool) {
	rest, ok := strings.CutPrefix(name, "blk.")
	if !ok {
		return 0, false
	}
	digits := 0
	for digits < len(rest) && '0' <= rest[digits] && rest[digits] <= '9' {
		digits++
	}
	n, err := strconv.Atoi(rest[:digits])
	return n, err == nil && n < 1<<31
}

// A category is what the mix tells tensors apart by. It goes by parts of
// names, so expert and shared-expert tensors fall under their projection.
type category int

const (
	categoryOther category = iota
	categoryOutput
	categoryTokenEmbedding
	categoryQKV
	categoryKVB
	categoryV
	categoryK
	categoryQ
	categoryAttentionOutput
	categoryUp
	categoryGate
	categoryDown
)

var categories = []struct {
	part string
	category
}{
	{"attn_qkv.weight", categoryQKV},
	{"attn_kv_b.weight", categoryKVB},
	{"attn_v.weight", categoryV},
	{"attn_k.weight", categoryK},
	{"attn_q.weight", categoryQ},
	{"attn_output.weight", categoryAttentionOutput},
	{"ffn_up", categoryUp},
	{"ffn_gate", categoryGate},
	{"ffn_down", categoryDown},
}

func categoryOf(name string) category {
	if name == quant.OutputTensor {
		return categoryOutput
	}
	if quant.IsTokenEmbedding(name) {
		return categoryTokenEmbedding
	}
	for _, c := range categories {
		if strings.Contains(name, c.part) {
			return c.category
		}
	}
	return categoryOther
}

// holdsValues reports whether the tensor computes attention values, alone or
// with others; rounding them costs the most.
func (c category) holdsValues() bool {
	return c == categoryV || c == categoryQKV || c == categoryKVB
}

// A mixer decides tensor after tensor: llama-quantize's choice depends on how
// many of a kind came before.
type mixer struct {
	ft      FileType
	imatrix bool

	falcon    bool
	bailing3  bool
	type70B   bool
	tied      bool // no output.weight: the token embedding serves as output
	experts   int
	layers    int // MTP blocks included
	headRatio int // query heads per key/value head in block 0; 0 without the latter
	values    int // tensors that hold values, in the whole model

	valuesSeen, downSeen, gateSeen, upSeen int
}

func newMixer(m *ggufio.Model, categories []category) mixer {
	a := &m.Architecture
	x := mixer{
		falcon:   a.Name == "falcon",
		bailing3: a.Name == "bailingmoe3",
		type70B:  isType70B(a),
		tied:     true,
		experts:  a.ExpertCount,
		layers:   a.BlockCount,
	}
	if heads, kv := firstHeads(a); kv > 0 {
		x.headRatio = heads / kv
	}
	for _, c := range categories {
		switch {
		case c == categoryOutput:
			x.tied = false
		case c.holdsValues():
			x.values++
		}
	}
	return x
}

// firstHeads returns block 0's query heads and key/value heads. Metadata
// without the latter means as many.
func firstHeads(a *ggufio.Architecture) (heads, kv int) {
	if len(a.HeadCount) > 0 {
		heads = a.HeadCount[0]
	}
	kv = heads
	if len(a.HeadCountKV) > 0 {
		kv = a.HeadCountKV[0]
	}
	return heads, kv
}

// isType70B reports whether llama.cpp takes the model for one of 70B
// parameters, which it does by the number of blocks.
func isType70B(a *ggufio.Architecture) bool {
	blocks := a.BlockCount - a.NextNBlocks
	switch a.Name {
	case "llama", "llama-embed":
		heads, kv := firstHeads(a)
		return blocks == 80 && a.ExpertCount != 8 && heads != kv
	case "qwen2", "deci":
		return blocks == 80
	case "jais2":
		return blocks == 68
	}
	return false
}

// is reports whether the file type is one of those named.
func (x *mixer) is(names ...string) bool { return slices.Contains(names, x.ft.Name) }

// lowBit is the group of file types whose mix has rules of its own.
func (x *mixer) lowBit() bool {
	return x.is("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M")
}

// choose returns the type of a tensor that the mix may change, before the
// shape fallback, and counts it.
func (x *mixer) choose(t *ggufio.Tensor, c category) (quant.Type, error) {
	switch {
	case c == categoryOutput || c == categoryTokenEmbedding && x.tied:
		return x.output(t), nil
	case x.is("MXFP4_MOE"):
		stacked := len(t.Shape) > 2 && t.Shape[2] > 1
		if x.bailing3 && c != categoryUp && c != categoryGate && c != categoryDown {
			stacked = false // its attention has stacked matrices too
		}
		if stacked {
			return quant.MXFP4, nil
		}
		return quant.Q8_0, nil
	case c == categoryTokenEmbedding:
		return x.tokenEmbedding(), nil
	case x.lowBit():
		return x.lowBitTensor(c), nil
	case c.holdsValues():
		return x.valueTensor(), nil
	}
	switch c {
	case categoryK:
		if x.experts == 8 {
			return quant.Q8_0, nil
		}
		return x.queryOrKey(), nil
	case categoryQ:
		return x.queryOrKey(), nil
	case categoryAttentionOutput:
		return x.attentionOutput(), nil
	case categoryDown:
		i, err := x.layer(t, &x.downSeen)
		return x.down(i), err
	case categoryGate:
		i, err := x.layer(t, &x.gateSeen)
		return x.gateOrUp(i), err
	case categoryUp:
		i, err := x.layer(t, &x.upSeen)
		return x.gateOrUp(i), err
	}
	return x.ft.Default, nil
}

// layer returns which layer a feed-forward tensor belongs to, and counts it:
// in a model of experts by its name, else by how many came before.
func (x *mixer) layer(t *ggufio.Tensor, seen *int) (int, error) {
	i := *seen
	*seen++
	if x.experts <= 1 {
		return i, nil
	}
	i, ok := blockNumber(t.Name)
	if !ok || i >= x.layers {
		return 0, fmt.Errorf("tensor %s: llama-quantize refuses a model of %d blocks and %d experts with such a tensor", t.Name, x.layers, x.experts)
	}
	return i, nil
}

// moreBits picks the first and last eighth of n and every third between.
func moreBits(i, n int) bool {
	return i < n/8 || i >= 7*n/8 || (i-n/8)%3 == 2
}

func (x *mixer) output(t *ggufio.Tensor) quant.Type {
	def, _ := quant.Lookup(x.ft.Default)
	switch {
	case x.is("MXFP4_MOE"), x.falcon, t.Shape[0]%def.Layout.WeightsPerBlock != 0:
		return quant.Q8_0
	case x.lowBit(), x.is("IQ3_XXS"):
		return quant.Q5_K
	case x.ft.Default == quant.Q8_0:
		return quant.Q8_0
	}
	return quant.Q6_K
}

func (x *mixer) tokenEmbedding() quant.Type {
	switch {
	case x.is("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS"):
		return quant.Q2_K
	case x.is("IQ2_S", "IQ2_M", "IQ3_XXS"):
		return quant.IQ3_S
	case x.is("TQ1_0", "TQ2_0", "Q2_0"):
		return quant.Q4_K
	}
	return x.ft.Default
}

func (x *mixer) lowBitTensor(c category) quant.Type {
	wider := quant.Q2_K
	if x.is("IQ2_S", "IQ2_M") {
		wider = quant.IQ3_S
	}
	switch {
	case c.holdsValues():
		x.valuesSeen++
		if x.headRatio >= 4 || x.experts >= 4 {
			return quant.Q4_K
		}
		return wider
	case c == categoryK && x.experts == 8:
		return quant.Q4_K
	case c == categoryDown:
		x.downSeen++
		if x.downSeen-1 < x.layers/8 {
			return wider
		}
	case c == categoryAttentionOutput && x.experts == 8:
		return quant.Q5_K
	case c == categoryAttentionOutput && x.is("IQ1_S", "IQ1_M"):
		return quant.IQ2_XXS
	case c == categoryAttentionOutput && x.is("IQ2_S", "IQ2_M"):
		return quant.IQ3_S
	}
	return x.ft.Default
}

func (x *mixer) valueTensor() quant.Type {
	v := x.valuesSeen
	x.valuesSeen++
	grouped := x.headRatio >= 4 // few values serve many queries
	t := x.ft.Default
	switch {
	case x.is("Q2_K") && !grouped:
		t = quant.Q3_K
	case x.is("IQ3_XXS") && !grouped && !x.imatrix:
		t = quant.IQ3_S
	case x.is("Q2_K", "Q2_K_S", "IQ3_XXS", "IQ3_XS", "IQ3_S") && grouped, x.is("IQ3_M"):
		t = quant.Q4_K
	case x.is("Q3_K_M") && v < 2, x.is("Q3_K_L"):
		t = quant.Q5_K
	case x.is("Q3_K_M"):
		t = quant.Q4_K
	case x.is("IQ4_NL", "IQ4_XS") && grouped, x.is("Q4_K_S") && v < 4:
		t = quant.Q5_K
	case x.is("Q4_K_M", "Q5_K_M") && moreBits(v, x.values):
		t = quant.Q6_K
	}
	if x.type70B && (t == quant.Q3_K || t == quant.Q4_K) {
		t = quant.Q5_K
	}
	if x.experts == 8 {
		t = quant.Q8_0
	}
	return t
}

func (x *mixer) queryOrKey() quant.Type {
	switch {
	case x.is("IQ3_XS"):
		return quant.IQ3_XXS
	case x.is("IQ3_XXS"):
		return quant.IQ2_S
	}
	return x.ft.Default
}

func (x *mixer) attentionOutput() quant.Type {
	if x.falcon {
		if x.is("Q3_K_L") {
			return quant.Q4_K
		}
		return x.ft.Default
	}
	if x.experts == 8 {
		if x.is("Q2_K", "IQ3_XXS", "IQ3_XS", "IQ3_S", "IQ3_M", "Q3_K_S", "Q3_K_M", "IQ4_NL", "IQ4_XS", "Q4_K_S", "Q4_K_M") {
			return quant.Q5_K
		}
		return x.ft.Default
	}
	switch {
	case x.is("Q2_K"):
		return quant.Q3_K
	case x.is("IQ3_XXS"):
		return quant.IQ3_S
	case x.is("Q3_K_M", "IQ3_M"):
		return quant.Q4_K
	case x.is("Q3_K_L"):
		return quant.Q5_K
	}
	return x.ft.Default
}

func (x *mixer) down(i int) quant.Type {
	first := i < x.layers/8
	firstHalf := i < x.layers/16
	more := moreBits(i, x.layers)
	switch x.ft.Name {
	case "Q2_K":
		return quant.Q3_K
	case "Q2_K_S":
		if first {
			return quant.Q4_K
		}
	case "IQ3_XXS":
		switch {
		case x.imatrix:
		case first:
			return quant.Q4_K
		default:
			return quant.Q3_K
		}
	case "IQ3_M":
		if first || x.experts == 8 && more {
			return quant.Q4_K
		}
	case "Q3_K_M":
		switch {
		case firstHalf:
			return quant.Q5_K
		case !x.falcon || more:
			return quant.Q4_K
		}
	case "Q3_K_L":
		if x.falcon {
			return quant.Q4_K
		}
		return quant.Q5_K
	case "Q4_K_M":
		switch {
		case x.falcon && !firstHalf && more:
			return quant.Q5_K
		case x.falcon && firstHalf, !x.falcon && more:
			return quant.Q6_K
		}
	case "Q5_K_M":
		if more {
			return quant.Q6_K
		}
	case "IQ4_NL", "IQ4_XS":
		if first && !x.imatrix {
			return quant.Q5_K
		}
	case "Q4_0":
		if first && x.imatrix {
			return quant.Q4_1
		}
	case "Q5_0":
		if first && x.imatrix {
			return quant.Q5_1
		}
	case "Q4_K_S":
		if first && !x.falcon {
			return quant.Q5_K
		}
	}
	return x.ft.Default
}

func (x *mixer) gateOrUp(i int) quant.Type {
	if x.is("IQ3_XS") && i >= x.layers/8 && i < 7*x.layers/8 {
		return quant.IQ3_XXS
	}
	return x.ft.Default
}
