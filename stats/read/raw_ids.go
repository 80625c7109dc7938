package read

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"github.com/ggufplan/ggufplan/stats"
)

// Raw int32 ids come without a shape, [tokens][layers][k]. With the layers
// stated there is one way to read them; with a model at hand its layers may be
// counted with and without the dense ones, and with and without the blocks of
// multi-token prediction. All ways are followed at once, in memory that does
// not grow with the ids, until they contradict the ids.

// A rawReading is one way to read raw ids.
type rawReading struct {
	routed
	dense   []bool  // layers without routed experts, nil where unknown
	partial []int64 // the token that is being read
	last    []int64 // the token before it
	rows    int     // tokens of the value
	held    []heldToken
	err     error // why this is not the way
}

// A heldToken is the last token of a value, which is counted once it is known
// whether it belongs to the response.
type heldToken struct {
	ids  []int64
	rows int // tokens of the value, this one included
}

// maxHeld bounds how many values of one response are held back; those beyond
// are counted as they are.
const maxHeld = 1024

// rawReadings returns the ways to read raw ids, the likeliest first.
func rawReadings(opt Options) ([]*rawReading, error) {
	if opt.Layers > 0 && opt.TopK > 0 {
		return []*rawReading{newRawReading(opt, opt.Layers, nil)}, nil
	}
	if opt.Model == nil {
		return nil, refuseShape()
	}
	arch := opt.Model.Architecture
	moe := opt.Model.MoELayers()
	if opt.TopK == 0 {
		for _, layer := range moe {
			k := 0
			if layer < len(arch.ExpertUsedCount) {
				k = arch.ExpertUsedCount[layer]
			}
			if k == 0 || opt.TopK != 0 && opt.TopK != k {
				return nil, stats.Curable(stats.StateTopK, "routed_experts is an array without a shape, and the model does not say how many experts every token uses")
			}
			opt.TopK = k
		}
	}
	// Servers run the trunk, and number it as the model's publisher does.
	trunk := arch.BlockCount - arch.NextNBlocks
	inTrunk := 0
	for _, layer := range moe {
		if layer < trunk {
			inTrunk++
		}
	}
	var readings []*rawReading
	for _, layers := range []int{trunk, arch.BlockCount, inTrunk, len(moe)} {
		if layers < 1 || opt.Layers > 0 && layers != opt.Layers || slices.ContainsFunc(readings, func(r *rawReading) bool { return r.layers == layers }) {
			continue
		}
		var dense []bool
		if layers == trunk || layers == arch.BlockCount {
			dense = make([]bool, layers)
			for layer := range dense {
				dense[layer] = !slices.Contains(moe, layer)
			}
		}
		readings = append(readings, newRawReading(opt, layers, dense))
	}
	if len(readings) == 0 {
		return nil, fmt.Errorf("routed_experts of %d layers, where the model has %d blocks, %d of them with experts", opt.Layers, arch.BlockCount, len(moe))
	}
	return readings, nil
}

func newRawReading(opt Options, layers int, dense []bool) *rawReading {
	r := &rawReading{dense: dense}
	r.opt, r.tally = opt, newTally(opt)
	r.err = r.setShape(layers, opt.TopK)
	return r
}

// rawIDs reads raw int32 ids in all ways that are left.
func (d *documents) rawIDs(in io.Reader, facts *responseFacts) error {
	if d.raw == nil {
		readings, err := rawReadings(d.opt)
		if err != nil {
			return err
		}
		d.raw = readings
	}
	topK := d.raw[0].topK
	ids := make([]int64, topK)
	raw := make([]byte, 4*topK)
	for {
		n, err := io.ReadFull(in, raw)
		if err == io.EOF {
			return d.endRaw(facts)
		}
		if err == io.ErrUnexpectedEOF {
			return stats.Curable(stats.MendShape,
				"routed_experts ends with %d bytes, which are not %d int32 ids of a token's experts", n, topK)
		}
		if err != nil {
			return err
		}
		for i := range ids {
			ids[i] = int64(int32(binary.LittleEndian.Uint32(raw[4*i:])))
		}
		for _, r := range d.raw {
			r.feed(ids)
		}
		if _, err := d.bestRaw(); err != nil {
			return err
		}
	}
}

// feed takes the ids of one token in one layer.
func (r *rawReading) feed(ids []int64) {
	if r.err != nil {
		return
	}
	r.partial = append(r.partial, ids...)
	if len(r.partial) < r.layers*r.topK {
		return
	}
	r.count(r.last)
	r.last, r.partial = r.partial, r.last[:0]
	r.rows++
}

// count counts a token, if there is one.
func (r *rawReading) count(token []int64) {
	if r.err == nil && len(token) > 0 {
		r.err = r.add(token)
	}
}

// endRaw closes one value of raw ids.
func (d *documents) endRaw(facts *responseFacts) error {
	hold := len(d.raw[0].held) < maxHeld
	for _, r := range d.raw {
		if r.err == nil && len(r.partial) > 0 {
			r.err = stats.Curable(stats.MendShape,
				"routed_experts ends inside token %d: it is not int32 of %d layers x %d experts per token", r.rows, r.layers, r.topK)
		}
		if hold {
			r.held = append(r.held, heldToken{slices.Clone(r.last), r.rows})
		} else {
			r.count(r.last)
		}
		r.last, r.partial, r.rows = r.last[:0], r.partial[:0], 0
	}
	if hold {
		facts.values++
	}
	_, err := d.bestRaw()
	return err
}

// endScope closes a choice of a response, or with no outer scope the response.
// What a choice does not know of its length the response may.
//
// Servers route all tokens but the last one they generate. Where one row more
// came and the length is known, that row is left over from another request.
func (d *documents) endScope(facts, outer *responseFacts) error {
	if facts.values == 0 {
		return nil
	}
	known := facts.hasPrompt && facts.hasCompletion
	if !known && outer != nil {
		outer.values += facts.values
		outer.start = max(outer.start, facts.start)
		return nil
	}
	for _, r := range d.raw {
		held := r.held[len(r.held)-facts.values:]
		rows := int64(0)
		for _, t := range held {
			rows += int64(t.rows)
		}
		// Several choices share the prompt; completion is of all of them.
		left := known && rows == int64(facts.values)*(facts.prompt-facts.start)+facts.completion
		for _, t := range held {
			if !left {
				r.count(t.ids)
			}
		}
		r.held = r.held[:len(r.held)-facts.values]
	}
	_, err := d.bestRaw()
	return err
}

// bestRaw returns the likeliest way to read the raw ids that is left, or what
// is wrong with the likeliest of all.
func (d *documents) bestRaw() (*rawReading, error) {
	for _, r := range d.raw {
		if r.err == nil {
			return r, nil
		}
	}
	return nil, d.raw[0].err
}

// contradicts reports why the ids cannot be the model's, nil if they can.
func (r *rawReading) contradicts() error {
	for layer, l := range r.tally.layers {
		if l != nil && l.slots > 0 && r.dense != nil && r.dense[layer] {
			return fmt.Errorf("routed_experts, read as %d layers, has experts in layer %d, which has none in the model", r.layers, layer)
		}
	}
	return nil
}

// rawEvidence closes the raw ids.
func (d *documents) rawEvidence() (*stats.Evidence, error) {
	for _, r := range d.raw {
		if r.err == nil {
			r.err = r.contradicts()
		}
	}
	r, err := d.bestRaw()
	if err != nil {
		return nil, err
	}
	ev, err := r.evidence()
	if err == nil && r.dense != nil {
		ev.LayerAxis, ev.Rows = stats.AxisBlocks, 0 // the model's dense layers were found in place
	}
	return ev, err
}
