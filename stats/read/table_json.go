package read

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
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
	modules  map[int][]float64 // by the names of experts' modules
	routed   *routed           // ids with their shape
	raw      []*rawReading     // ids without
	trace    *tally
	table    countTable // of objects of one expert
	unknown  []string
	row      int      // of the object at hand in a list of layers, from 1
	rowAxis  bool     // layers are known by their rows alone
	listed   string   // the key of the list that logical came from
	placed   string   // a key that only placements have
	keys     []string // of the first object, for the message
	nested   string   // a key that is not known, with lists or objects of numbers
	share    bool     // the table is of shares
	flat     string   // a key with a list of counts of one layer
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
	return d.read()
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
			return d.layer(key, layer)
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
			if c, err := d.s.peek(); inList || err != nil || c != '[' {
				break
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
			switch c, err := d.s.peek(); {
			case err == nil && c == '[' && !inList:
				return d.layerList()
			case err == nil && c == '{' && !inList:
				return d.layerObject()
			}
			return d.s.skip()
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
		if counts := countsKey(key) || strings.EqualFold(key, d.opt.CountColumn) && key != ""; counts || roleOf(key) == roleShare {
			switch c, err := d.s.peek(); {
			case err == nil && c == '[' && (counts || !inList):
				return d.countList(key, &rec)
			case err == nil && c == '{' && !inList:
				return d.layerObject()
			}
		}
		if inList {
			return rec.field(d.s, key) // notes the key
		}
		return d.other(key)
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

// evidence turns what was found into evidence: exactly one kind of statistics
// must be there.
func (d *documents) evidence() (*stats.Evidence, error) {
	var found []string
	for name, there := range map[string]bool{
		"logical_count or a table": d.logical != nil, "count": d.seed != nil, "layers by number": d.plain != nil, "modules of experts": d.modules != nil,
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
	case len(found) == 0 && d.flat != "":
		return nil, fmt.Errorf("%q is a list of one layer's counts, and no key says which layer", d.flat)
	case len(found) == 0 && d.nested != "":
		return nil, &ColumnError{Names: []string{d.nested}, Why: "holds numbers, and is not known to hold counts"}
	case len(found) == 0:
		return nil, refuseContent("keys", d.keys)
	case d.logical != nil:
		kind := stats.KindExact
		if d.format == "sglang-recorder" {
			kind = stats.KindScaled // every rank of a tensor-parallel group adds the same tokens
			d.logical.summed = d.layout == "rank_layer_expert"
		}
		if d.share {
			kind = stats.KindRelative
		}
		return d.logical.evidence(d.format, kind)
	case d.seed != nil:
		return d.seedEvidence()
	case d.profiles != nil:
		return profileEvidence("expert-profile", d.profiles, false, d.opt)
	case d.plain != nil:
		return plainEvidence(d.plain, d.opt)
	case d.modules != nil:
		profiles := make(map[int]*profile)
		for n, row := range d.modules {
			profiles[n] = &profile{counts: row}
		}
		return profileEvidence("layer-table", profiles, false, d.opt)
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
		if len(mass) != l.Experts() {
			return nil, fmt.Errorf("layer %d: mass has %d experts, count %d", l.Index, len(mass), l.Experts())
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
