package ggufio

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ggufplan/ggufplan/ggufio/quant"
)

// A tier file holds a projection's experts in several tensors, its tiers, each
// of one type, and a table that says where each expert is. Its first file says
// so by two keys.
const (
	TierVersionKey  = "moe_tiers.version"
	TierVersion     = 1
	TierRequiresKey = "moe_tiers.requires"
	TierRequires    = "a llama.cpp that knows expert tiers"
)

// TierName is the name of a tier of a tensor whose name ends in ".weight".
func TierName(tensor string, tier int) string {
	return fmt.Sprintf("%s.tier%d.weight", strings.TrimSuffix(tensor, ".weight"), tier)
}

// TierTableName is the name of a tensor's table: I32 [experts, tiers], the index
// of an expert inside a tier, or -1 where it is in another.
func TierTableName(tensor string) string { return strings.TrimSuffix(tensor, ".weight") + ".tiers" }

// A TierSet is the tensors that hold the experts of one projection.
type TierSet struct {
	Name    string // of the tensor that they stand for, such as "blk.0.ffn_up_exps.weight"
	Layer   int
	Role    Role
	Shape   []uint64 // that it would have: [row, rows, experts]
	Experts int
	Table   int   // index into Model.Tensors
	Tiers   []int // the same, of each tier
}

// A Place says where an expert is: which tier, and which of its experts.
type Place struct{ Tier, Index int }

// ErrTierFile reports a model whose experts are in tiers, where a plan or a
// measurement would start from its source.
var ErrTierFile = errors.New("the experts are in tiers: this is a split plan's file, which nothing is planned or measured from")

// IsTierFile reports whether experts are in tiers.
func (m *Model) IsTierFile() bool { return len(m.TierSets) > 0 }

// tierOf splits the name of a tier into that of the tensor that it is of and its
// number.
func tierOf(name string) (base string, tier int, ok bool) {
	rest, ok := strings.CutSuffix(name, ".weight")
	if !ok {
		return "", 0, false
	}
	at := strings.LastIndex(rest, ".tier")
	if at < 0 {
		return "", 0, false
	}
	base = rest[:at] + ".weight"
	if tier, ok = parseIndex(rest[at+len(".tier"):], maxExperts); !ok {
		return "", 0, false
	}
	_, role, expert := ParseTensorName(base)
	return base, tier, role.IsExpert() && expert < 0
}

// findTiers finds the sets of tiers among the tensors, gives tiers their role
// and refuses what is no set. The tables themselves are not read.
func (m *Model) findTiers() error {
	tiers := map[string]map[int]int{} // by tensor and number
	for i := range m.Tensors {
		if base, k, ok := tierOf(m.Tensors[i].Name); ok {
			if tiers[base] == nil {
				tiers[base] = map[int]int{}
			}
			tiers[base][k] = i
		}
	}
	tables := map[string]bool{}
	first := map[int]*TierSet{} // of a layer
	for i := range m.Tensors {
		t := &m.Tensors[i]
		base, ok := strings.CutSuffix(t.Name, ".tiers")
		if !ok {
			continue
		}
		layer, role, expert := ParseTensorName(base + ".weight")
		if !role.IsExpert() || expert >= 0 {
			continue
		}
		s := TierSet{Name: base + ".weight", Layer: layer, Role: role, Table: i}
		tables[s.Name] = true
		if err := m.fillTiers(&s, tiers[s.Name]); err != nil {
			return err
		}
		if first[layer] == nil {
			first[layer] = &s
		}
		if o := first[layer]; o.Experts != s.Experts {
			return m.tensorFault(t, fmt.Errorf("block %d has %d experts here and %d in %s", layer, s.Experts, o.Experts, m.Tensors[o.Table].Name))
		}
		m.TierSets = append(m.TierSets, s)
	}
	for i := range m.Tensors {
		t := &m.Tensors[i]
		if base, k, ok := tierOf(t.Name); ok && !tables[base] {
			return m.tensorFault(t, fmt.Errorf("tier %d, but there is no table %s", k, TierTableName(base)))
		}
	}
	return nil
}

// fillTiers fills in a set from its table and the tiers by number.
func (m *Model) fillTiers(s *TierSet, tiers map[int]int) error {
	table := &m.Tensors[s.Table]
	shape := table.Shape[:quant.Dimensions(table.Shape)]
	if table.Type != quant.I32 || len(shape) != 2 || shape[0] > maxExperts || shape[1] > shape[0] {
		return m.tensorFault(table, fmt.Errorf("%v of shape %v: want a table of I32 [experts, tiers], two tiers or more and no more than experts", table.Type, table.Shape))
	}
	if i, ok := m.byName[s.Name]; ok {
		return m.tensorFault(&m.Tensors[i], fmt.Errorf("is there beside %s, whose tiers hold its experts", table.Name))
	}
	s.Experts = int(shape[0])
	var sum uint64
	for k := range int(shape[1]) {
		i, ok := tiers[k]
		if !ok {
			return m.tensorFault(table, fmt.Errorf("its tier %s is missing", TierName(s.Name, k)))
		}
		t := &m.Tensors[i]
		if len(t.Shape) == 2 {
			t.Shape = append(slices.Clone(t.Shape), 1) // one expert
		}
		t.Shape = expertShape(t.Shape, false)
		if len(t.Shape) != 3 {
			return m.tensorFault(t, fmt.Errorf("shape %v is not [row, rows, experts]", t.Shape))
		}
		if first := &m.Tensors[tiers[0]]; !slices.Equal(t.Shape[:2], first.Shape[:2]) {
			return m.tensorFault(t, fmt.Errorf("shape %v, where %s has %v", t.Shape, first.Name, first.Shape))
		}
		if t.Shape[2] > uint64(s.Experts) {
			return m.tensorFault(t, fmt.Errorf("holds %d experts of %d", t.Shape[2], s.Experts))
		}
		sum += t.Shape[2]
		t.Layer, t.Role, t.TierOf = s.Layer, s.Role, s.Name
		s.Tiers = append(s.Tiers, i)
	}
	if len(tiers) > len(s.Tiers) {
		extra := slices.Max(slices.Collect(maps.Keys(tiers)))
		return m.tensorFault(&m.Tensors[tiers[extra]], fmt.Errorf("tier %d, but %s has %d tiers", extra, table.Name, len(s.Tiers)))
	}
	first := &m.Tensors[s.Tiers[0]]
	if sum != uint64(s.Experts) {
		return m.tensorFault(table, fmt.Errorf("has %d experts, its tiers hold %d", s.Experts, sum))
	}
	s.Shape = []uint64{first.Shape[0], first.Shape[1], uint64(s.Experts)}
	return nil
}

// ReadTiers reads a set's table: where each expert is. It refuses a table that
// does not give each expert one place and each place one expert.
func (d *Data) ReadTiers(s *TierSet) ([]Place, error) {
	table := &d.model.Tensors[s.Table]
	column := make([]byte, 4*s.Experts)
	fault := func(entry int, format string, args ...any) error {
		return &FormatError{File: d.model.Files[table.File].Path, OffsetBytes: int64(table.OffsetBytes) + 4*int64(entry),
			Field: "tensor " + table.Name, Err: fmt.Errorf(format, args...)}
	}
	places := make([]Place, s.Experts)
	for e := range places {
		places[e].Tier = -1
	}
	for k, i := range s.Tiers {
		if err := d.ReadRange(table, uint64(k*len(column)), column); err != nil {
			return nil, err
		}
		holder := make([]int, d.model.Tensors[i].Experts()) // by index: expert + 1
		for e := range s.Experts {
			entry := k*s.Experts + e
			at := int32(binary.LittleEndian.Uint32(column[4*e:]))
			switch {
			case at == -1:
				continue
			case at < 0 || int(at) >= len(holder):
				return nil, fault(entry, "expert %d is number %d of tier %d, which holds %d", e, at, k, len(holder))
			case holder[at] != 0:
				return nil, fault(entry, "experts %d and %d are both number %d of tier %d", holder[at]-1, e, at, k)
			case places[e].Tier >= 0:
				return nil, fault(entry, "expert %d is in tiers %d and %d", e, places[e].Tier, k)
			}
			holder[at] = e + 1
			places[e] = Place{k, int(at)}
		}
		if at := slices.Index(holder, 0); at >= 0 {
			return nil, fault(k*s.Experts, "nobody is number %d of tier %d", at, k)
		}
	}
	// The tiers hold as many as there are, each once, so everybody has a place.
	return places, nil
}
