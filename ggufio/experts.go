package ggufio

import (
	"fmt"
	"slices"
)

// TensorByName returns the tensor of a name, and whether there is one.
func (m *Model) TensorByName(name string) (*Tensor, bool) {
	if m.byName != nil {
		i, ok := m.byName[name]
		if !ok {
			return nil, false
		}
		return &m.Tensors[i], true
	}
	for i := range m.Tensors {
		if m.Tensors[i].Name == name {
			return &m.Tensors[i], true
		}
	}
	return nil, false
}

// MoELayers returns the layers that have routed experts, in rising order. They
// are those whose tensors say so, whatever the metadata says.
func (m *Model) MoELayers() []int {
	layers := []int{}
	for i := range m.Tensors {
		if t := &m.Tensors[i]; t.Role.IsExpert() {
			layers = append(layers, t.Layer)
		}
	}
	slices.Sort(layers)
	return slices.Compact(layers)
}

// ExpertTensors returns the tensors of a layer that hold routed experts, in
// file order.
func (m *Model) ExpertTensors(layer int) []*Tensor {
	var tensors []*Tensor
	for i := range m.Tensors {
		if t := &m.Tensors[i]; t.Layer == layer && t.Role.IsExpert() {
			tensors = append(tensors, t)
		}
	}
	return tensors
}

// ExpertCount returns the number of routed experts of a layer, by its tensors;
// 0 for a layer that has none.
func (m *Model) ExpertCount(layer int) int {
	n := 0
	for i := range m.Tensors {
		if t := &m.Tensors[i]; t.Layer == layer && t.Role.IsExpert() {
			n = max(n, t.Experts(), t.Expert+1)
		}
	}
	for i := range m.TierSets {
		if s := &m.TierSets[i]; s.Layer == layer {
			n = max(n, s.Experts)
		}
	}
	return n
}

// MostExperts returns the largest number of routed experts of a layer, by the
// tensors.
func (m *Model) MostExperts() int {
	n := 0
	for i := range m.Tensors {
		if t := &m.Tensors[i]; t.Role.IsExpert() {
			n = max(n, t.Experts(), t.Expert+1)
		}
	}
	for i := range m.TierSets {
		n = max(n, m.TierSets[i].Experts)
	}
	return n
}

// IsMTP reports whether a layer is a multi-token-prediction block, which plain
// inference does not run.
func (m *Model) IsMTP(layer int) bool {
	a := &m.Architecture
	return layer < a.BlockCount && layer >= a.BlockCount-a.NextNBlocks
}

// Parameters returns the number of weights of all tensors.
func (m *Model) Parameters() uint64 {
	sum := uint64(0)
	for i := range m.Tensors {
		sum += m.Tensors[i].Parameters
	}
	return sum
}

// TensorBytes returns the size of all tensors, without padding.
func (m *Model) TensorBytes() uint64 {
	sum := uint64(0)
	for i := range m.Tensors {
		sum += m.Tensors[i].SizeBytes
	}
	return sum
}

// FileBytes returns the size of all files.
func (m *Model) FileBytes() uint64 {
	sum := uint64(0)
	for i := range m.Files {
		sum += m.Files[i].SizeBytes
	}
	return sum
}

// checkExperts checks that the expert tensors of each layer describe one set
// of experts.
func (m *Model) checkExperts() error {
	type place struct {
		layer int
		role  Role
	}
	groups := map[place][]*Tensor{}
	for i := range m.Tensors {
		t := &m.Tensors[i]
		if !t.Role.IsExpert() || t.TierOf != "" {
			continue
		}
		p := place{t.Layer, t.Role}
		groups[p] = append(groups[p], t)
	}
	first := map[int]*Tensor{} // of a layer
	for i := range m.Tensors {
		t := &m.Tensors[i]
		if !t.Role.IsExpert() || t.TierOf != "" {
			continue
		}
		group := groups[place{t.Layer, t.Role}]
		if group[0] != t {
			continue // checked with its group
		}
		count, err := groupCount(group)
		if err != nil {
			return m.tensorFault(t, err)
		}
		if t.Role != RoleExpertGateUp && t.Role != RoleExpertDown && len(groups[place{t.Layer, RoleExpertGateUp}]) > 0 {
			return m.tensorFault(t, fmt.Errorf("block %d has gate and up together in one tensor as well", t.Layer))
		}
		other := first[t.Layer]
		if other == nil {
			first[t.Layer] = t
			continue
		}
		if n, _ := groupCount(groups[place{t.Layer, other.Role}]); n != count {
			return m.tensorFault(t, fmt.Errorf("block %d has %d experts here and %d in %s", t.Layer, count, n, other.Name))
		}
	}
	for i := range m.TierSets {
		s := &m.TierSets[i]
		if other := first[s.Layer]; other != nil {
			if n, _ := groupCount(groups[place{s.Layer, other.Role}]); n != s.Experts {
				return m.tensorFault(&m.Tensors[s.Table], fmt.Errorf("block %d has %d experts here and %d in %s", s.Layer, s.Experts, n, other.Name))
			}
		}
	}
	return nil
}

// groupCount returns the number of experts that one projection's tensors hold
// together.
func groupCount(group []*Tensor) (int, error) {
	t := group[0]
	for _, u := range group {
		if (u.Expert < 0) != (t.Expert < 0) {
			return 0, fmt.Errorf("block %d has its experts together and in tensors of their own (%s)", t.Layer, u.Name)
		}
	}
	if t.Expert < 0 {
		switch {
		case len(t.Shape) < 2 || len(t.Shape) > 3:
			return 0, fmt.Errorf("shape %v is not [row, rows, experts]", t.Shape)
		case len(t.Shape) == 3 && t.Shape[2] > maxExperts:
			return 0, &LimitError{Got: t.Shape[2], Max: maxExperts, Source: "experts of a layer"}
		}
		return t.Experts(), nil
	}
	present := make(map[int]bool, len(group))
	for _, u := range group {
		present[u.Expert] = true
		if !slices.Equal(u.Shape, t.Shape) {
			return 0, fmt.Errorf("shape %v differs from the %v of %s", t.Shape, u.Shape, u.Name)
		}
	}
	if len(t.Shape) != 2 {
		return 0, fmt.Errorf("shape %v is not [row, rows]", t.Shape)
	}
	for e := range group {
		if !present[e] {
			return 0, fmt.Errorf("block %d has %d tensors of its kind, but none of expert %d", t.Layer, len(group), e)
		}
	}
	return len(group), nil
}

func (m *Model) tensorFault(t *Tensor, err error) error {
	return &FormatError{File: m.Files[t.File].Path, OffsetBytes: int64(t.infoOffset), Field: "tensor " + t.Name, Err: err}
}
