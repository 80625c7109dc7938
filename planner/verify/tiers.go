package verify

import (
	"fmt"
	"slices"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/planner/manifest"
)

// tierTensors returns the tensors of a tier file as those that they stand for,
// each expert with the type of the tier that its table puts it in, and the bytes
// of all, tables apart.
func tierTensors(model *ggufio.Model) (tensors map[string]found, total uint64, err error) {
	data, err := model.OpenData()
	if err != nil {
		return nil, 0, err
	}
	defer data.Close()
	tensors = make(map[string]found, len(model.Tensors))
	inSet := make([]bool, len(model.Tensors))
	for i := range model.TierSets {
		s := &model.TierSets[i]
		places, err := data.ReadTiers(s)
		if err != nil {
			return nil, 0, err
		}
		inSet[s.Table] = true
		x := found{shape: s.Shape, typ: "tiers"}
		var size uint64
		for _, k := range s.Tiers {
			inSet[k] = true
			size += model.Tensors[k].SizeBytes
		}
		for _, p := range places {
			x.experts = append(x.experts, model.Tensors[s.Tiers[p.Tier]].Type.String())
		}
		x.size = exactly(size)
		total += size
		tensors[s.Name] = x
	}
	for i := range model.Tensors {
		if t := &model.Tensors[i]; !inSet[i] {
			tensors[t.Name] = wholeTensor(t)
			total += t.SizeBytes
		}
	}
	return tensors, total, nil
}

// splitTensor is a planned tensor as the split plan has it: what it takes, and
// its one type, or what to say of several.
func splitTensor(want *manifest.Tensor) (typ string, sizeBytes uint64) {
	typ = want.PlannedType
	if len(want.ExpertTypes) > 0 {
		typ = want.ExpertTypes[0]
		if slices.ContainsFunc(want.ExpertTypes, func(t string) bool { return t != typ }) {
			typ = "tiers"
		}
	}
	return typ, want.SplitPlannedBytes
}

// compareExperts compares the type of each expert.
func (r *Report) compareExperts(want *manifest.Tensor, got []string) {
	first, n := -1, 0
	for e := range min(len(want.ExpertTypes), len(got)) {
		if want.ExpertTypes[e] != got[e] {
			if n++; first < 0 {
				first = e
			}
		}
	}
	if n == 0 {
		return
	}
	text := got[first]
	switch {
	case n == 2:
		text += ", and 1 more expert differs"
	case n > 2:
		text += fmt.Sprintf(", and %d more experts differ", n-1)
	}
	r.add(KindType, want.Name, fmt.Sprintf("%s for expert %d", want.ExpertTypes[first], first), text)
}
