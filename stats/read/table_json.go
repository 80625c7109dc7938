package read

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/ggufplan/ggufplan/stats"
)

// documents reads JSON that is not a trace: tables of counts, profiles and
// responses of serving engines, one value or several in a row. Which one it is
// shows only as its keys come by.
type documents struct {
	opt Options
	s   *jsonScanner

	logical  *matrix // "logical_count", or a bare table
	format   string  // of logical
	layout   string
	seed     *matrix // "count"
	mass     [][]float64
	tokens   *uint64
	profiles map[int]*profile // by layer number
	plain    map[int][]float64
	routed   *routed       // ids with their shape
	raw      []*rawReading // ids without
	trace    *tally
	table    countTable // of objects of one expert
	unknown  []string
	row      int      // of the object at hand in a list of layers, from 1
	rowAxis  bool     // layers are known by their rows alone
	listed   string   // the key of the list that logical came from
	placed   string   // a key that only placements have
	keys     []string // of the first object, for the message
}

func sniffJSON(head []byte) bool {
	head = bytes.TrimLeft(bytes.TrimPrefix(head, []byte("\xef\xbb\xbf")), " \t\r\n")
	return len(head) > 0 && (head[0] == '{' || head[0] == '[')
}

// firstKeys returns the keys of the first object of a JSON text of which head
// is the start, and of the objects right below it under the keys in deep.
func firstKeys(head []byte, deep ...string) map[string]bool {
	s := newJSONScanner(context.Background(), nil)
	s.reset(bytes.TrimPrefix(head, []byte("\xef\xbb\xbf")))
	keys := make(map[string]bool)
	var value func(depth int) error
	value = func(depth int) error {
		c, err := s.peek()
		if err != nil {
			return err
		}
		switch {
		case c == '[' && depth < 4:
			return s.array(func(int) error { return value(depth + 1) })
		case c == '{' && depth < 4:
			return s.object(func(key string) error {
				keys[key] = true
				if slices.Contains(deep, key) {
					return value(depth + 1)
				}
				return s.skip()
			})
		}
		return s.skip()
	}
	// The text may be cut anywhere: the keys up to there are what there is.
	_ = value(0)
	return keys
}

// readTableJSON reads count tables, profiles and rankings.
func readTableJSON(ctx context.Context, src *source, opt Options) (*stats.Evidence, error) {
	d := &documents{opt: opt, s: newJSONScanner(ctx, src)}
	ev, err := d.read()
	if err != nil {
		return nil, src.errorf("%w", err)
	}
	return ev, nil
}

func (d *documents) read() (*stats.Evidence, error) {
	if err := d.s.skipBOM(); err != nil {
		return nil, err
	}
	for {
		more, err := d.s.more()
		if err != nil {
			return nil, err
		}
		if !more {
			break
		}
		if err := d.value(); err != nil {
			return nil, err
		}
	}
	return d.evidence()
}

// value reads one value at the top level.
func (d *documents) value() error {
	c, err := d.s.peek()
	if err != nil {
		return d.s.wrap(err)
	}
	switch c {
	case '{':
		return d.object(false)
	case '[':
		return d.list()
	}
	return d.s.fault("%q, want an object or a list", c)
}

// list reads a bare table, or a list of objects.
func (d *documents) list() error {
	var rows *matrix
	err := d.s.array(func(i int) error {
		c, err := d.s.peek()
		if err != nil {
			return err
		}
		if c == '{' && rows == nil {
			return d.object(true)
		}
		if c != '[' {
			return fmt.Errorf("%q, want a row of counts", c)
		}
		if rows == nil {
			rows = &matrix{opt: d.opt}
		}
		return d.rowOrStep(rows)
	})
	if err != nil || rows == nil {
		return err
	}
	return d.setLogical(rows, "table")
}

func (d *documents) setLogical(m *matrix, format string) error {
	if d.logical != nil {
		return d.s.fault("a second table of counts")
	}
	if m.row > 0 {
		if m.steps > 0 {
			return d.s.fault("a table that is 2-dimensional in part")
		}
		if err := m.endStep(); err != nil {
			return d.s.wrap(err)
		}
	}
	d.logical, d.format = m, format
	return nil
}

// table reads a table of 2 or 3 dimensions.
func (d *documents) readTable() (*matrix, error) {
	m := &matrix{opt: d.opt}
	if err := d.s.array(func(int) error { return d.rowOrStep(m) }); err != nil {
		return nil, err
	}
	return m, nil
}

// rowOrStep reads one element of a table: a row of numbers, or a list of rows.
func (d *documents) rowOrStep(m *matrix) error {
	row := make([]float64, 0, m.experts)
	nested := false
	err := d.s.array(func(i int) error {
		c, err := d.s.peek()
		if err != nil {
			return err
		}
		if c == '[' {
			if len(row) > 0 || m.row > 0 && !nested {
				return errors.New("a list, want a number")
			}
			nested = true
			inner, err := d.s.numbers(row, maxExperts)
			if err != nil {
				return err
			}
			row = inner[:0]
			return m.addRow(inner)
		}
		if nested || m.steps > 0 {
			return errors.New("a number, want a list")
		}
		if i >= maxExperts {
			return fmt.Errorf("a row is longer than %d", maxExperts)
		}
		v, err := d.s.number()
		row = append(row, v)
		return err
	})
	if err != nil {
		return err
	}
	if nested {
		return m.endStep()
	}
	return m.addRow(row)
}

// object reads an object at the top level, or in a list there.
func (d *documents) object(inList bool) error {
	first := d.keys == nil
	rec := traceRecord{chosen: d.opt.CountColumn}
	var response responseFacts
	err := d.s.object(func(key string) error {
		if first && len(d.keys) < 64 {
			d.keys = append(d.keys, key)
		}
		if layer, ok := layerKey(key); ok {
			return d.layer(layer)
		}
		if done, err := d.responseField(key, &response); done || err != nil {
			return err
		}
		if placementKeys[key] {
			d.placed = key
			return d.s.skip()
		}
		switch key {
		case "logical_count":
			m, err := d.readTable()
			if err != nil {
				return err
			}
			return d.setLogical(m, "sglang-recorder")
		case "logical_count_layout":
			layout, err := d.s.str()
			d.layout = layout
			return err
		case "count":
			if c, err := d.s.peek(); err != nil || c != '[' {
				return d.s.skip()
			}
			if d.seed != nil {
				return fmt.Errorf("a second %q", key)
			}
			m, err := d.readTable()
			if err == nil && m.row > 0 {
				err = m.endStep()
			}
			d.seed = m
			return err
		case "mass":
			return d.readMass()
		case "layers":
			if c, err := d.s.peek(); err != nil || c != '[' || inList {
				return d.s.skip()
			}
			return d.layerList()
		case "topk", "top_k", "num_experts_per_tok":
			if c, err := d.s.peek(); inList || d.opt.TopK > 0 || err != nil || c < '0' || c > '9' {
				break
			}
			k, err := d.s.whole()
			if err == nil && (k == 0 || k > maxTopK) {
				err = fmt.Errorf("%s %d: want 1 to %d", key, k, maxTopK)
			}
			d.opt.TopK = int(k)
			return err
		case "tokens":
			if c, err := d.s.peek(); err != nil || !isLiteral(c) {
				return d.s.skip()
			}
			return rec.field(d.s, key)
		}
		if inList && rec.knows(key) {
			return rec.field(d.s, key)
		}
		if matrixKeys[key] || !inList && key == d.opt.CountColumn {
			if c, err := d.s.peek(); err != nil || c != '[' {
				return d.s.skip()
			}
			return d.countList(key)
		}
		if inList && roleOf(key) == roleUnknown {
			return rec.field(d.s, key) // notes the key
		}
		return d.s.skip()
	})
	if err != nil {
		return err
	}
	if err := d.endScope(&response, nil); err != nil {
		return d.s.wrap(err)
	}
	if rec.has&(hasTokens|hasLayer) == hasTokens {
		d.tokens = &rec.tokens
	}
	if d.row > 0 && rec.has&(hasLayer|hasCounts) == hasCounts {
		rec.layer, rec.has, d.rowAxis = uint64(d.row-1), rec.has|hasLayer, true
	}
	if rec.complete() {
		if d.trace == nil {
			d.trace = newTally(d.opt)
		}
		for _, key := range rec.unknown {
			if len(d.unknown) < 4 && !slices.Contains(d.unknown, key) {
				d.unknown = append(d.unknown, key)
			}
		}
		return d.s.wrap(rec.count(d.trace, &d.table, d.opt.CountColumn))
	}
	return nil
}

// matrixKeys are the keys under which a table of counts by layer and expert is
// published.
var matrixKeys = map[string]bool{"expert_popularity": true, "histogram": true, "expert_counts": true, "expert_hits": true,
	"counts": true, "tokens_per_expert": true, "activation_counts": true, "expert_count_matrix": true}

// layerKey reads a layer's number from a key such as "3" or "layer_3".
func layerKey(key string) (uint64, bool) {
	for _, prefix := range []string{"layer_", "layers.", "layer.", "layer", "blk."} {
		if number, ok := strings.CutPrefix(key, prefix); ok {
			key = number
			break
		}
	}
	n, err := strconv.ParseUint(key, 10, 32)
	return n, err == nil
}

// countList reads a table under its key; several of one key, as in a file of
// one object per batch, are steps.
func (d *documents) countList(key string) error {
	if d.logical != nil && d.listed != key {
		return fmt.Errorf("%q beside %q: a second table of counts", key, d.listed)
	}
	if d.logical == nil {
		m, err := d.readTable()
		if err != nil {
			return err
		}
		d.listed = key
		return d.setLogical(m, "table")
	}
	err := d.s.array(func(int) error {
		row, err := d.s.numbers(nil, maxExperts)
		if err == nil {
			err = d.logical.addRow(row)
		}
		return err
	})
	if err != nil {
		return err
	}
	return d.logical.endStep()
}

// layerList reads a list of objects, one a layer.
func (d *documents) layerList() error {
	return d.s.array(func(i int) error {
		if c, err := d.s.peek(); err != nil || c != '{' {
			return d.s.skip()
		}
		d.row = i + 1
		defer func() { d.row = 0 }()
		return d.object(true)
	})
}

func (d *documents) readMass() error {
	if null, err := d.s.null(); null || err != nil {
		return err
	}
	d.mass = d.mass[:0]
	return d.s.array(func(i int) error {
		if i >= maxLayers {
			return fmt.Errorf("more than %d layers", maxLayers)
		}
		row, err := d.s.numbers(nil, maxExperts)
		d.mass = append(d.mass, row)
		return err
	})
}

// layer reads the value of a key that is a layer number.
func (d *documents) layer(n uint64) error {
	if n >= maxLayers {
		return fmt.Errorf("layer %d is over the limit of %d layers", n, maxLayers)
	}
	layer := int(n)
	if d.plain[layer] != nil || d.profiles[layer] != nil {
		return fmt.Errorf("layer %d comes twice", n)
	}
	c, err := d.s.peek()
	if err != nil {
		return err
	}
	if c == '[' {
		row, err := d.s.numbers(nil, maxExperts)
		if err != nil {
			return err
		}
		if len(row) == 0 {
			return fmt.Errorf("layer %d has no experts", n)
		}
		if d.plain == nil {
			d.plain = make(map[int][]float64)
		}
		d.plain[layer] = row
		return nil
	}
	p := &profile{}
	err = d.s.object(func(key string) error {
		dst := p.list(key)
		switch {
		case key == "total_tokens":
			if null, err := d.s.null(); null || err != nil {
				return err
			}
			tokens, err := d.s.whole()
			p.tokens = &tokens
			return err
		case dst == nil:
			return d.s.skip()
		}
		if null, err := d.s.null(); null || err != nil {
			return err
		}
		values, err := d.s.numbers(nil, maxExperts)
		*dst = values
		return err
	})
	if err != nil {
		return err
	}
	if p.counts == nil {
		return nil
	}
	if d.profiles == nil {
		d.profiles = make(map[int]*profile)
	}
	d.profiles[layer] = p
	return nil
}

// evidence turns what was found into evidence: exactly one kind of statistics
// must be there.
func (d *documents) evidence() (*stats.Evidence, error) {
	var found []string
	for name, there := range map[string]bool{
		"logical_count or a table": d.logical != nil, "count": d.seed != nil, "layers by number": d.plain != nil,
		"a profile": d.profiles != nil, "routed_experts": d.routed != nil && d.routed.found, "raw routed_experts": d.raw != nil, "a trace": d.trace != nil,
	} {
		if there {
			found = append(found, name)
		}
	}
	slices.Sort(found)
	switch {
	case len(found) > 1:
		return nil, fmt.Errorf("holds several kinds of statistics: %v", found)
	case len(found) == 0 && d.placed != "":
		return nil, refusePlacement(d.placed)
	case len(found) == 0:
		return nil, refuseContent("keys", d.keys)
	case d.logical != nil:
		kind := stats.KindExact
		if d.format == "sglang-recorder" {
			kind = stats.KindScaled // every rank of a tensor-parallel group adds the same tokens
			d.logical.summed = d.layout == "rank_layer_expert"
		}
		return d.logical.evidence(d.format, kind)
	case d.seed != nil:
		return d.seedEvidence()
	case d.profiles != nil:
		return profileEvidence("expert-profile", d.profiles, false, d.opt)
	case d.plain != nil:
		return plainEvidence(d.plain, d.opt)
	case d.raw != nil:
		return d.rawEvidence()
	case d.trace != nil:
		axis := stats.AxisBlocks
		if d.rowAxis {
			axis = stats.AxisRows
		}
		return d.table.close(d.trace, d.unknown, "json", axis, d.opt)
	}
	return d.routed.evidence()
}

// seedEvidence reads {"count", "mass", "tokens"}: counts are exact where every
// layer's sum is the same whole number of experts times the tokens.
func (d *documents) seedEvidence() (*stats.Evidence, error) {
	topK := uint64(0)
	if d.tokens != nil && *d.tokens > 0 && d.seed.layers > 0 {
		topK = commonTopK(d.seed.whole, *d.tokens)
	}
	kind := stats.KindScaled
	if topK > 0 {
		kind = stats.KindExact
		if d.opt.TopK > 0 && uint64(d.opt.TopK) != topK {
			return nil, fmt.Errorf("%d experts per token, where %d were stated", topK, d.opt.TopK)
		}
		d.seed.opt.TopK = int(topK)
	}
	ev, err := d.seed.evidence("count-seed", kind)
	if err != nil || d.mass == nil {
		return ev, err
	}
	if len(d.mass) != ev.Rows {
		return nil, fmt.Errorf("mass has %d layers, count %d", len(d.mass), ev.Rows)
	}
	for i := range ev.Layers {
		l := &ev.Layers[i]
		mass := d.mass[l.Index]
		if len(mass) != d.seed.experts {
			return nil, fmt.Errorf("layer %d: mass has %d experts, count %d", l.Index, len(mass), d.seed.experts)
		}
		if err := checkSignal(mass); err != nil {
			return nil, fmt.Errorf("layer %d: mass: %w", l.Index, err)
		}
		l.GateWeightSum = mass
	}
	return ev, nil
}

// commonTopK returns the whole number of activations per token that all layers
// with counts share, 0 if there is none.
func commonTopK(rows [][]float64, tokens uint64) uint64 {
	var topK uint64
	for _, row := range rows {
		var slots, largest uint64
		for _, v := range row {
			slots += uint64(v)
			largest = max(largest, uint64(v))
		}
		if slots == 0 {
			continue
		}
		if slots%tokens != 0 || largest > tokens || topK != 0 && slots/tokens != topK {
			return 0
		}
		topK = slots / tokens
	}
	return topK
}

// plainEvidence reads {"3": [12, 0, 7], ...}: a ranking of the experts where
// every list is a permutation of all of them, else counts.
func plainEvidence(layers map[int][]float64, opt Options) (*stats.Evidence, error) {
	experts := 0
	ranking := true
	for _, n := range slices.Sorted(maps.Keys(layers)) {
		row := layers[n]
		if experts == 0 {
			experts = len(row)
		}
		ranking = ranking && len(row) == experts && isPermutation(row)
	}
	if !ranking {
		profiles := make(map[int]*profile)
		for n, row := range layers {
			profiles[n] = &profile{counts: row}
		}
		return profileEvidence("layer-table", profiles, false, opt)
	}
	ev := &stats.Evidence{Kind: stats.KindRank, LayerAxis: stats.AxisBlocks, ExpertCount: experts, TopK: opt.TopK, Inputs: []stats.Input{{Format: "ranking", Kind: stats.KindRank}}}
	for _, n := range slices.Sorted(maps.Keys(layers)) {
		weights := make([]float64, experts)
		for place, e := range layers[n] {
			weights[int(e)] = float64(experts - 1 - place)
		}
		ev.Layers = append(ev.Layers, stats.Layer{Index: n, Kind: stats.LayerRouted, TopK: opt.TopK, Weights: weights})
	}
	return ev, nil
}

func isPermutation(row []float64) bool {
	seen := make([]bool, len(row))
	for _, v := range row {
		if v < 0 || v >= float64(len(row)) || v != float64(int(v)) || seen[int(v)] {
			return false
		}
		seen[int(v)] = true
	}
	return true
}
