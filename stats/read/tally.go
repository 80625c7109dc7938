package read

import (
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/ggufplan/ggufplan/stats"
)

// Limits on what a file may claim before it is believed. They bound memory,
// which is layers x experts.
const (
	maxLayers  = 512       // llama.cpp's LLAMA_MAX_LAYERS
	maxExperts = 4096      // four times llama.cpp's LLAMA_MAX_EXPERTS: room for replicas in physical ids
	maxTopK    = 1024      // llama.cpp's LLAMA_MAX_EXPERTS: a token cannot use more
	maxCount   = 1<<53 - 1 // whole numbers stay exact in float64 and JSON
)

// A tally counts routed tokens per layer and expert. Its memory is layers x
// experts, whatever the length of the trace.
type tally struct {
	layers  []*layerTally // by layer number, nil where none was seen
	experts int           // experts per layer, 0 where not stated
	stated  string        // who stated it, for messages
	topK    int           // experts per token as the caller stated, 0 where unknown
}

// layerTally is one layer of a tally.
type layerTally struct {
	counts    []uint64
	slots     uint64 // sum of counts
	tokens    uint64
	untokened bool // some counts came without their number of tokens
	topK      int  // of every token so far; -1 where they differ

	// lastSeen holds the serial of the last token of each expert.
	lastSeen []uint32
	serial   uint32

	gate, gateSq []float64
	ungated      bool // some tokens carried no weights
	unnormalized bool // some tokens' weights did not sum to 1

	atBlock       []uint64 // counts when the current block began
	slotsAtBlock  uint64
	tokensAtBlock uint64
	moments       stats.BlockMoments
	scratch       []float64
}

func newTally(opt Options) *tally {
	t := &tally{experts: opt.Experts, topK: opt.TopK}
	if t.experts > 0 {
		t.stated = "stated number of experts"
	}
	return t
}

// setExperts takes the number of experts that the file itself states.
// used reports whether anything was counted.
func (t *tally) used() bool {
	return slices.ContainsFunc(t.layers[:], func(l *layerTally) bool { return l != nil })
}

func (t *tally) setExperts(n uint64) error {
	switch {
	case n == 0 || n > maxExperts:
		return fmt.Errorf("%d experts: must be from 1 to %d", n, maxExperts)
	case t.experts > 0 && uint64(t.experts) != n:
		return fmt.Errorf("%d experts, where the %s is %d", n, t.stated, t.experts)
	}
	t.experts, t.stated = int(n), "file's number of experts"
	for i, l := range t.layers {
		if l != nil && len(l.counts) > t.experts {
			return fmt.Errorf("layer %d has expert %d, where the %s is %d", i, len(l.counts)-1, t.stated, t.experts)
		}
	}
	return nil
}

// SetTopK takes the number of experts per token that the file itself states.
func (t *tally) setTopK(n uint64) error {
	switch {
	case n == 0 || n > maxTopK:
		return fmt.Errorf("%d experts per token: must be from 1 to %d", n, maxTopK)
	case t.topK > 0 && uint64(t.topK) != n:
		return fmt.Errorf("%d experts per token, where %d were stated", n, t.topK)
	}
	t.topK = int(n)
	return nil
}

// layer returns the tally of a layer, which begins empty.
func (t *tally) layer(n uint64) (*layerTally, error) {
	if n < uint64(len(t.layers)) && t.layers[n] != nil {
		return t.layers[n], nil
	}
	if n >= maxLayers {
		return nil, fmt.Errorf("layer %d is over the limit of %d layers (as in llama.cpp)", n, maxLayers)
	}
	for uint64(len(t.layers)) <= n {
		t.layers = append(t.layers, nil)
	}
	t.layers[n] = &layerTally{counts: make([]uint64, t.experts), lastSeen: make([]uint32, t.experts)}
	return t.layers[n], nil
}

// grow makes room for an expert that lies beyond what was seen so far.
func (t *tally) grow(l *layerTally, expert uint64) error {
	if t.experts > 0 {
		return fmt.Errorf("expert %d: the %s is %d", expert, t.stated, t.experts)
	}
	if expert >= maxExperts {
		return fmt.Errorf("expert %d is over the limit of %d experts", expert, maxExperts)
	}
	more := int(expert) + 1 - len(l.counts)
	l.counts = append(l.counts, make([]uint64, more)...)
	l.lastSeen = append(l.lastSeen, make([]uint32, more)...)
	return nil
}

// token counts one token, or n tokens alike, that used the experts; weights
// runs parallel to experts or is empty.
func (t *tally) token(layer uint64, experts []uint32, weights []float64, n uint64) error {
	if t.topK > 0 && len(experts) != t.topK {
		return fmt.Errorf("%d experts for a token, where %d were stated", len(experts), t.topK)
	}
	l, err := t.layer(layer)
	if err != nil {
		return err
	}
	for _, e := range experts {
		if uint64(e) >= uint64(len(l.counts)) {
			if err := t.grow(l, uint64(e)); err != nil {
				return err
			}
		}
	}
	if l.slots+n*uint64(len(experts)) > maxCount {
		return fmt.Errorf("layer %d has more than %d activations", layer, uint64(maxCount))
	}
	if len(weights) > 0 {
		l.weigh(experts, weights, float64(n))
	} else {
		l.ungated = true
	}
	if !l.add(experts, n) {
		for i, e := range experts {
			if slices.Contains(experts[:i], e) {
				return fmt.Errorf("duplicate expert %d for one token", e)
			}
		}
	}
	return nil
}

// room returns the tally of a layer if it has room for all the experts of a
// token, else nil.
func (t *tally) room(layer uint64, experts []uint32) *layerTally {
	if layer >= uint64(len(t.layers)) || t.topK > 0 && len(experts) != t.topK {
		return nil
	}
	l := t.layers[layer]
	if l == nil {
		return nil
	}
	for _, e := range experts {
		if e >= uint32(len(l.counts)) {
			return nil
		}
	}
	return l
}

// add counts n tokens alike, for whose experts there is room. It reports false
// if an expert seems to be listed twice; the caller must look.
func (l *layerTally) add(experts []uint32, n uint64) bool {
	l.serial++
	distinct := true
	for _, e := range experts {
		if l.lastSeen[e] == l.serial {
			distinct = false // or the serial came round
		}
		l.lastSeen[e] = l.serial
		l.counts[e] += n
	}
	if l.topK != len(experts) {
		if l.slots == 0 {
			l.topK = len(experts)
		} else {
			l.topK = -1
		}
	}
	l.tokens += n
	l.slots += n * uint64(len(experts))
	if l.tokens-l.tokensAtBlock >= stats.BlockTokens {
		l.endBlock()
	}
	return distinct
}

// activation counts one activation of which the token is not known.
func (t *tally) activation(layer uint64, expert uint32, weights []float64) error {
	l, err := t.layer(layer)
	if err != nil {
		return err
	}
	if int(expert) >= len(l.counts) {
		if err := t.grow(l, uint64(expert)); err != nil {
			return err
		}
	}
	l.counts[expert]++
	l.slots++
	l.untokened = true
	if len(weights) > 0 {
		l.weigh([]uint32{expert}, weights, 1)
	} else {
		l.ungated = true
	}
	l.unnormalized = true
	if l.slots-l.slotsAtBlock >= t.blockSlots() {
		l.endBlock()
	}
	return nil
}

// blockSlots is how many single activations make a block.
func (t *tally) blockSlots() uint64 {
	if t.topK > 0 {
		return uint64(t.topK) * stats.BlockTokens
	}
	return defaultBlockSlots
}

// routedToken is token for a server's record, where padding may leave a token
// fewer experts than it was routed to.
func (t *tally) routedToken(layer uint64, experts []uint32) error {
	topK := t.topK
	t.topK = 0
	err := t.token(layer, experts, nil, 1)
	t.topK = topK
	return err
}

// weigh adds router weights.
func (l *layerTally) weigh(experts []uint32, weights []float64, n float64) {
	if len(l.gate) < len(l.counts) {
		l.gate = append(l.gate, make([]float64, len(l.counts)-len(l.gate))...)
		l.gateSq = append(l.gateSq, make([]float64, len(l.counts)-len(l.gateSq))...)
	}
	var sum float64
	for i, e := range experts {
		g := weights[i]
		sum += g
		l.gate[e] += float64(n * g)
		l.gateSq[e] += float64(n * float64(g*g))
	}
	// Weights are often printed with few digits.
	if math.Abs(sum-1) > 0.002 {
		l.unnormalized = true
	}
}

// block counts a block of tokens given as the count of every expert.
func (t *tally) block(layer uint64, counts []uint64, tokens uint64, known bool) error {
	l, err := t.layer(layer)
	if err != nil {
		return err
	}
	if len(counts) > len(l.counts) {
		if err := t.grow(l, uint64(len(counts)-1)); err != nil {
			return err
		}
	}
	var slots uint64
	for e, n := range counts {
		if n > maxCount {
			return fmt.Errorf("expert %d: a count of %d is over %d", e, n, uint64(maxCount))
		}
		if slots+n > maxCount {
			return fmt.Errorf("the counts of experts 0 to %d sum to %d, over %d", e, slots+n, uint64(maxCount))
		}
		if known && n > tokens {
			return fmt.Errorf("expert %d has %d activations in a block of %d tokens", e, n, tokens)
		}
		slots += n
	}
	if l.slots+slots > maxCount {
		return fmt.Errorf("layer %d has more than %d activations", layer, uint64(maxCount))
	}
	topK := -1
	switch {
	case slots == 0:
		return nil
	case known && slots%tokens == 0:
		topK = int(slots / tokens)
	case !known && t.topK > 0 && slots%uint64(t.topK) == 0:
		topK, tokens = t.topK, slots/uint64(t.topK)
	}
	if t.topK > 0 && topK != t.topK {
		return fmt.Errorf("%d activations in a block of %d tokens, where %d experts per token were stated", slots, tokens, t.topK)
	}
	if l.slots == 0 {
		l.topK = topK
	} else if l.topK != topK {
		l.topK = -1
	}
	for e, n := range counts {
		l.counts[e] += n
	}
	l.slots += slots
	l.tokens += tokens
	l.untokened = l.untokened || tokens == 0
	l.ungated = true
	l.endBlock()
	return nil
}

// endBlock closes the block that the counts since the last call make up.
func (l *layerTally) endBlock() {
	if len(l.atBlock) < len(l.counts) {
		l.atBlock = append(l.atBlock, make([]uint64, len(l.counts)-len(l.atBlock))...)
		l.scratch = make([]float64, len(l.counts))
	}
	for e, n := range l.counts {
		l.scratch[e] = float64(n - l.atBlock[e])
		l.atBlock[e] = n
	}
	l.slotsAtBlock, l.tokensAtBlock = l.slots, l.tokens
	l.moments.Add(l.scratch[:len(l.counts)])
}

// width is the number of experts per layer: as stated, else one more than the
// largest seen in any layer.
func (t *tally) width() int {
	width := t.experts
	for _, l := range t.layers {
		if l != nil {
			width = max(width, len(l.counts))
		}
	}
	return width
}

// evidence closes the tally. Layers that nothing was seen of are left out; on
// axis "rows" they count as rows, since the number of rows tells how they map
// onto a model.
func (t *tally) evidence(format string, axis stats.LayerAxis) (*stats.Evidence, error) {
	ev := &stats.Evidence{Kind: stats.KindExact, LayerAxis: axis, ExpertCount: t.experts, OpenExperts: t.experts == 0, Inputs: []stats.Input{{Format: format, Kind: stats.KindExact}}}
	width := t.width()
	topK := 0
	for i, l := range t.layers {
		if l == nil || l.slots == 0 {
			continue
		}
		layer := l.finish(i, width, t.topK)
		ev.Layers = append(ev.Layers, layer)
		if layer.TopK > 0 && topK == 0 {
			topK = layer.TopK
		}
		if layer.TopK > 0 && topK != layer.TopK {
			topK = -1
		}
	}
	ev.TopK = max(topK, 0)
	if axis == stats.AxisRows {
		ev.Rows = len(t.layers)
	}
	if len(ev.Layers) == 0 {
		return nil, errNoActivations
	}
	return ev, nil
}

func (l *layerTally) finish(index, width, topK int) stats.Layer {
	out := stats.Layer{Index: index, Kind: stats.LayerRouted, Counts: pad(l.counts, width)}
	if l.topK > 0 {
		topK = l.topK
	}
	out.TopK = topK
	if out.Tokens = tokensOf(l.slots, topK); l.tokens > 0 && !l.untokened {
		out.Tokens = new(l.tokens)
	}
	if l.gate != nil && !l.ungated {
		out.GateWeightSum = pad(l.gate, width)
		out.GateWeightSqSum = pad(l.gateSq, width)
		if !l.unnormalized {
			out.GateWeightNorm = "topk_normalized"
		}
	}
	out.Blocks = l.moments.Summary(topK, width)
	return out
}

// tokensOf returns the tokens of a layer from its activations and the experts
// per token, nil where they are unknown or contradict each other.
func tokensOf(activations uint64, topK int) *uint64 {
	if topK < 1 || activations == 0 || activations%uint64(topK) != 0 {
		return nil
	}
	return new(activations / uint64(topK))
}

// pad returns values with zeros up to the width.
func pad[T uint64 | float64](values []T, width int) []T {
	out := make([]T, width)
	copy(out, values)
	return out
}

// wholeNumber reads a count or an id, which other programs may write as 12.0
// or 1e3.
func wholeNumber(text string) (uint64, bool) {
	if n, err := strconv.ParseUint(text, 10, 64); err == nil {
		return n, true
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || !validNumber([]byte(text)) || !(v >= 0 && v <= maxCount) || v != math.Trunc(v) {
		return 0, false
	}
	return uint64(v), true
}
