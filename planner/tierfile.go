package planner

import (
	"slices"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner/llamaquantize"
	"github.com/ggufplan/ggufplan/stats"
)

// A tierFile adds up the size of the file that apply writes of a split plan: a
// tensor whose experts have several types becomes a tensor for each, and a
// table. Padding is by the source's alignment.
type tierFile struct {
	align  uint64
	header uint64
	data   uint64
	split  bool
	over   adder
}

func newTierFile(m *ggufio.Model, ev *stats.Evidence) *tierFile {
	return &tierFile{align: m.Files[0].AlignmentBytes, header: llamaquantize.UnpaddedHeaderBytes(m, ev)}
}

// whole adds a tensor that stays one.
func (f *tierFile) whole(sizeBytes uint64) { f.over.add(&f.data, ggufio.Padded(sizeBytes, f.align)) }

// A tier is experts of one type.
type tier struct{ experts, expertBytes uint64 }

// tiers adds a tensor whose experts are in tiers.
func (f *tierFile) tiers(t *ggufio.Tensor, tiers []tier) {
	if len(tiers) == 1 {
		f.whole(tiers[0].experts * tiers[0].expertBytes)
		return
	}
	f.split = true
	f.header -= llamaquantize.TensorInfoBytes(t.Name, quant.Dimensions(t.Shape))
	for k, x := range tiers {
		dimensions := 3
		if x.experts == 1 {
			dimensions = 2
		}
		f.header += llamaquantize.TensorInfoBytes(ggufio.TierName(t.Name, k), dimensions)
		f.whole(x.experts * x.expertBytes)
	}
	f.header += llamaquantize.TensorInfoBytes(ggufio.TierTableName(t.Name), 2)
	f.whole(tableBytes(t, len(tiers)))
}

func tableBytes(t *ggufio.Tensor, tiers int) uint64 { return 4 * uint64(t.Experts()) * uint64(tiers) }

// tierKeysBytes is what the keys that only a tier file has take.
func tierKeysBytes() uint64 {
	version := 8 + len(ggufio.TierVersionKey) + 4 + 4
	requires := 8 + len(ggufio.TierRequiresKey) + 4 + 8 + len(ggufio.TierRequires)
	return uint64(version + requires)
}

func (f *tierFile) sizeBytes() (uint64, error) {
	header := f.header
	if f.split {
		header += tierKeysBytes()
	}
	size := f.data
	if f.over.add(&size, ggufio.Padded(header, f.align)); f.over.over {
		return 0, errTooLarge
	}
	return size, nil
}

// tierOverheadBytes is what a tensor takes at most, beside its experts, in each
// number of tiers up to most: the names and the table, and padding. Index 0 is
// not used.
func tierOverheadBytes(t *ggufio.Tensor, most int, align uint64, expertBytes []uint64) []uint64 {
	slack := uint64(0)
	if slices.ContainsFunc(expertBytes, func(n uint64) bool { return n%align != 0 }) {
		slack = align - 1
	}
	out := []uint64{0, slack}
	header := llamaquantize.TensorInfoBytes(ggufio.TierTableName(t.Name), 2) - llamaquantize.TensorInfoBytes(t.Name, quant.Dimensions(t.Shape))
	for n := 1; n <= most; n++ {
		header += llamaquantize.TensorInfoBytes(ggufio.TierName(t.Name, n-1), 3)
		if n > 1 {
			out = append(out, header+ggufio.Padded(tableBytes(t, n), align)+uint64(n)*slack)
		}
	}
	return out
}

// SplitFileBytes returns the size of the file that apply writes of the split
// plan, tables of tiers included; where every tensor's experts have one type,
// of the fused file that it stands for.
func (p *Plan) SplitFileBytes() (uint64, error) {
	f := newTierFile(p.Problem.Model, p.Problem.Evidence)
	for i := range p.Tensors {
		x := &p.Tensors[i]
		if x.ExpertTypes == nil || x.Tensor.Expert >= 0 {
			f.whole(x.SizeBytes)
			continue
		}
		f.tiers(x.Tensor, tiersBy(x.ExpertTypes, x.expertBytes))
	}
	return f.sizeBytes()
}

// tiersBy groups experts by what they get.
func tiersBy[T comparable](types []T, bytesOf func(T) uint64) []tier {
	var tiers []tier
	var seen []T
	for _, t := range types {
		k := slices.Index(seen, t)
		if k < 0 {
			k = len(seen)
			seen, tiers = append(seen, t), append(tiers, tier{expertBytes: bytesOf(t)})
		}
		tiers[k].experts++
	}
	return tiers
}
