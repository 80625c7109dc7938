package read

import (
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ggufplan/ggufplan/stats"
)

// blockName finds a layer's number in the name of a module or a tensor, such as
// "model.layers.3.mlp.gate" or "blk.3.ffn_gate_inp.weight".
var blockName = regexp.MustCompile(`^(?:[A-Za-z_][A-Za-z0-9_]*\.)*(?:layers|layer|blk|blocks|h)[._]?([0-9]{1,9})(?:\.[A-Za-z0-9_.]*)?$`)

// expertName finds an expert's number in the name of a module.
var expertName = regexp.MustCompile(`\.experts\.([0-9]{1,5})(?:\.|$)`)

// layerKey reads a layer's number from a key such as "3", "layer_3" or the name
// of a module.
func layerKey(key string) (uint64, bool) {
	if m := blockName.FindStringSubmatch(key); m != nil {
		key = m[1]
	}
	n, err := strconv.ParseUint(key, 10, 32)
	return n, err == nil
}

// expertKey reads an expert's number from a key such as "3" or "expert_3".
func expertKey(key string) (int, bool) {
	for _, prefix := range []string{"experts.", "expert_", "expert.", "expert", "e"} {
		if number, ok := strings.CutPrefix(key, prefix); ok {
			key = number
			break
		}
	}
	n, err := strconv.ParseUint(key, 10, 31)
	return int(n), err == nil
}

// countList reads what a key of counts holds: a table, whose like under the
// same key are further steps, as in a file of one object per batch; or in an
// object of one layer its list.
func (d *documents) countList(key string, rec *traceRecord) error {
	share := roleOf(key) == roleShare && !countsKey(key) && !strings.EqualFold(key, d.opt.CountColumn)
	m := &matrix{opt: d.opt}
	flat, counts := false, []float64(nil)
	err := d.s.array(func(i int) error {
		c, err := d.s.peek()
		if err != nil {
			return err
		}
		if c == '[' && !flat {
			return d.rowOrStep(m)
		}
		if c == '[' || m.row > 0 || m.steps > 0 {
			return fmt.Errorf("%q after a list of %q begins otherwise", c, key)
		}
		if flat = true; i >= maxExperts {
			return fmt.Errorf("more than %d experts", maxExperts)
		}
		v, err := d.s.number()
		counts = append(counts, v)
		return err
	})
	switch {
	case err != nil:
		return err
	case flat && share: // of something else: of one layer it would be of counts
		return nil
	case flat || m.row == 0 && m.steps == 0:
		if rec.has&hasCounts != 0 {
			return fmt.Errorf("%q: a second list of counts", key)
		}
		for e, v := range counts {
			if v < 0 || v > maxCount || v != math.Trunc(v) {
				return fmt.Errorf("%q, expert %d: %v is not a whole number from 0 to %d", key, e, v, uint64(maxCount))
			}
			rec.counts = append(rec.counts, uint64(v))
		}
		rec.has |= hasCounts
		d.flat = key
		return nil
	case share && d.listed != "" && !d.share:
		return nil // counts win
	case !share && d.share:
		d.logical = nil
	}
	if d.logical != nil && d.listed == key && m.steps == 0 {
		for _, row := range m.step[:m.row] {
			if err := d.logical.addRow(row); err != nil {
				return err
			}
		}
		return d.logical.endStep()
	}
	if d.logical != nil && d.listed != "" && d.listed != key {
		return fmt.Errorf("%q beside %q: a second table of counts", key, d.listed)
	}
	d.listed, d.share = key, share
	return d.setLogical(m, "table")
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

// layerObject reads an object with a key for each layer.
func (d *documents) layerObject() error {
	return d.s.object(func(key string) error {
		if layer, ok := layerKey(key); ok {
			return d.layer(key, layer)
		}
		return d.s.skip()
	})
}

// other passes over the value of a key that is not known, and remembers one
// that holds lists or objects of numbers.
func (d *documents) other(key string) error {
	c, err := d.s.peek()
	if err != nil || c != '[' && c != '{' || d.nested != "" || roleOf(key) == roleNone {
		return d.s.skip()
	}
	note := func() error {
		c, err := d.s.peek()
		if err == nil && (c == '[' || c >= '0' && c <= '9') {
			d.nested = key
		}
		return d.s.skip()
	}
	if c == '[' {
		return d.s.array(func(int) error { return note() })
	}
	return d.s.object(func(inner string) error {
		if _, ok := layerKey(inner); !ok {
			return d.s.skip()
		}
		return note()
	})
}

// layer reads the value of a key that is a layer number.
func (d *documents) layer(key string, n uint64) error {
	if n >= maxLayers {
		return fmt.Errorf("layer %d is over the limit of %d layers", n, maxLayers)
	}
	layer := int(n)
	if m := expertName.FindStringSubmatch(key); m != nil {
		if d.modules == nil {
			d.modules = make(map[int][]float64)
		}
		e, _ := strconv.Atoi(m[1])
		row := d.modules[layer]
		if e < len(row) && row[e] != 0 {
			return fmt.Errorf("duplicate expert %d of layer %d", e, n)
		}
		err := d.expertField(e, &row)
		d.modules[layer] = row
		return err
	}
	if d.plain[layer] != nil || d.profiles[layer] != nil {
		return fmt.Errorf("duplicate layer %d", n)
	}
	c, err := d.s.peek()
	if err != nil {
		return err
	}
	if c != '[' && c != '{' {
		return d.s.skip()
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
	var byExpert []float64 // of keys that are experts
	err = d.s.object(func(key string) error {
		dst := p.list(key)
		if e, ok := expertKey(key); ok && dst == nil {
			return d.expertField(e, &byExpert)
		}
		if c, err := d.s.peek(); err == nil && c == '[' && dst == nil && p.counts == nil && countsKey(key) {
			dst = &p.counts
		}
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
		p.counts = byExpert
	}
	if p.counts == nil {
		return nil
	}
	if byExpert != nil && isPermutation(byExpert) && len(byExpert) > 1 {
		return fmt.Errorf("layer %d: its numbers are those of its experts in another order: a placement or a ranking, not counts", n)
	}
	if d.profiles == nil {
		d.profiles = make(map[int]*profile)
	}
	d.profiles[layer] = p
	return nil
}

// expertField reads the count of one expert of a layer.
func (d *documents) expertField(e int, dst *[]float64) error {
	if c, err := d.s.peek(); err != nil || c != '-' && (c < '0' || c > '9') {
		return d.s.skip()
	}
	if e >= maxExperts {
		return fmt.Errorf("expert %d is over the limit of %d experts", e, maxExperts)
	}
	for len(*dst) <= e {
		*dst = append(*dst, 0)
	}
	v, err := d.s.number()
	(*dst)[e] = v
	return err
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

// counts appends a list of whole numbers, or those of an object with a key for
// each expert.
func (s *jsonScanner) counts(dst []uint64) ([]uint64, error) {
	c, err := s.peek()
	if err != nil {
		return dst, err
	}
	if c != '{' {
		err := s.array(func(i int) error {
			if i >= maxExperts {
				return fmt.Errorf("more than %d experts", maxExperts)
			}
			n, err := s.whole()
			dst = append(dst, n)
			return err
		})
		return dst, err
	}
	seen := make(map[int]bool)
	err = s.object(func(key string) error {
		e, ok := expertKey(key)
		switch {
		case !ok:
			return fmt.Errorf("%q, want the number of an expert", key)
		case e >= maxExperts:
			return fmt.Errorf("expert %d is over the limit of %d experts", e, maxExperts)
		case seen[e]:
			return fmt.Errorf("duplicate expert %d", e)
		}
		seen[e] = true
		dst = append(dst, make([]uint64, max(0, e+1-len(dst)))...)
		n, err := s.whole()
		dst[e] = n
		return err
	})
	return dst, err
}
