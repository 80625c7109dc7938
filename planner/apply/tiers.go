package apply

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner/llamaquantize"
	"github.com/ggufplan/ggufplan/planner/manifest"
)

// ErrNothingSplit reports a split plan that any llama.cpp runs as it is.
var ErrNothingSplit = errors.New("the split plan gives the experts of every tensor one type: there is nothing to split")

// tensorsOf returns what a source tensor becomes. In the split plan the experts
// of a tensor that get several types become a tensor per type, its tiers, from
// the most bits to the fewest and experts ascending, and a table.
func tensorsOf(plan *manifest.Tensor, t *ggufio.Tensor, split bool) ([]Tensor, error) {
	name := plan.PlannedType
	if split && t.Expert < 0 && len(plan.ExpertTypes) > 0 {
		if len(plan.ExpertTypes) != t.Experts() {
			return nil, fmt.Errorf("the plan has types for %d experts, the tensor has %d", len(plan.ExpertTypes), t.Experts())
		}
		if slices.ContainsFunc(plan.ExpertTypes, func(x string) bool { return x != plan.ExpertTypes[0] }) {
			groups, err := byType(plan.ExpertTypes)
			if err != nil {
				return nil, err
			}
			return Tiers(t, groups)
		}
		name = plan.ExpertTypes[0]
	}
	f, ok := quant.ByName(name)
	if !ok {
		return nil, fmt.Errorf("%s is not a type of GGML's: it cannot be written", name)
	}
	return []Tensor{{Name: t.Name, Type: f.Type, Shape: t.Shape, Source: t}}, nil
}

// A Tier is a set of experts of one tensor, in ascending order, and their type.
type Tier struct {
	Type    quant.Type
	Experts []int
}

// byType groups experts by type, the type of the most bits first.
func byType(types []string) ([]Tier, error) {
	var tiers []Tier
	for e, name := range types {
		f, ok := quant.ByName(name)
		if !ok {
			return nil, fmt.Errorf("%s is not a type of GGML's: it cannot be written", name)
		}
		k := slices.IndexFunc(tiers, func(x Tier) bool { return x.Type == f.Type })
		if k < 0 {
			k = len(tiers)
			tiers = append(tiers, Tier{Type: f.Type})
		}
		tiers[k].Experts = append(tiers[k].Experts, e)
	}
	slices.SortFunc(tiers, func(a, b Tier) int {
		x, _ := quant.Lookup(a.Type)
		y, _ := quant.Lookup(b.Type)
		return cmp.Or(cmp.Compare(y.Layout.BytesPerBlock*x.Layout.WeightsPerBlock, x.Layout.BytesPerBlock*y.Layout.WeightsPerBlock), cmp.Compare(a.Type, b.Type))
	})
	return tiers, nil
}

// Tiers returns the tensors that hold a tensor's experts in tiers: each
// BASE.tierK.weight, and BASE.tiers, I32 [experts, tiers]: the index of an
// expert inside a tier, or -1 where it is in another.
func Tiers(t *ggufio.Tensor, tiers []Tier) ([]Tensor, error) {
	if !strings.HasSuffix(t.Name, ".weight") || len(t.Shape) != 3 || t.Experts() < 2 {
		return nil, fmt.Errorf("%v does not hold several experts that can be split", t.Shape)
	}
	experts := t.Experts()
	if len(tiers) < 2 || len(tiers) > experts {
		return nil, fmt.Errorf("%d tiers of %d experts: want 2 or more, none of them empty", len(tiers), experts)
	}
	table := slices.Repeat([]int32{-1}, experts*len(tiers))
	homes := make([]bool, experts)
	count := 0
	var out []Tensor
	for k, tier := range tiers {
		if len(tier.Experts) == 0 || !slices.IsSorted(tier.Experts) {
			return nil, fmt.Errorf("tier %d: want one expert or more, in ascending order", k)
		}
		for i, e := range tier.Experts {
			if e < 0 || e >= experts || homes[e] {
				return nil, fmt.Errorf("tier %d: expert %d is in another tier too, or not there", k, e)
			}
			homes[e] = true
			table[k*experts+e] = int32(i)
			count++
		}
		out = append(out, Tensor{
			Name: ggufio.TierName(t.Name, k), Type: tier.Type,
			Shape: []uint64{t.Shape[0], t.Shape[1], uint64(len(tier.Experts))}, Source: t, Experts: tier.Experts,
		})
	}
	if count != experts {
		return nil, fmt.Errorf("%d of %d experts are in no tier", experts-count, experts)
	}
	data := make([]byte, 0, 4*len(table))
	for _, v := range table {
		data = binary.LittleEndian.AppendUint32(data, uint32(v))
	}
	return append(out, Tensor{Name: ggufio.TierTableName(t.Name), Type: quant.I32, Shape: []uint64{uint64(experts), uint64(len(tiers))}, Data: data}), nil
}

// appendTierKeys appends what says that a file has tiers, and what it needs.
func appendTierKeys(b []byte) []byte {
	b = llamaquantize.AppendString(b, ggufio.TierVersionKey)
	b = binary.LittleEndian.AppendUint32(b, uint32(ggufio.ValueUint32))
	b = binary.LittleEndian.AppendUint32(b, ggufio.TierVersion)
	b = llamaquantize.AppendString(b, ggufio.TierRequiresKey)
	b = binary.LittleEndian.AppendUint32(b, uint32(ggufio.ValueString))
	return llamaquantize.AppendString(b, ggufio.TierRequires)
}
