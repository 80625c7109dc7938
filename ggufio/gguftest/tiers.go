package gguftest

import (
	"encoding/binary"
	"slices"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/quant"
)

// Tier replaces a fused tensor by tiers of its type that hold the given experts,
// and their table.
func (b *Builder) Tier(name string, tiers ...[]int) *Builder {
	at := slices.IndexFunc(b.Tensors, func(t Tensor) bool { return t.Name == name })
	t := b.Tensors[at]
	experts := t.Shape[2]
	size := uint64(len(t.Data)) / experts
	var list []Tensor
	var table []byte
	for k, members := range tiers {
		x := Tensor{Name: ggufio.TierName(name, k), Type: t.Type, Shape: []uint64{t.Shape[0], t.Shape[1], uint64(len(members))}}
		column := slices.Repeat([]int32{-1}, int(experts))
		for i, e := range members {
			column[e] = int32(i)
			x.Data = append(x.Data, t.Data[uint64(e)*size:][:size]...)
		}
		for _, v := range column {
			table = binary.LittleEndian.AppendUint32(table, uint32(v))
		}
		list = append(list, x)
	}
	list = append(list, Tensor{Name: ggufio.TierTableName(name), Type: quant.I32, Shape: []uint64{experts, uint64(len(tiers))}, Data: table})
	b.Tensors = slices.Replace(b.Tensors, at, at+1, list...)
	return b.Set(ggufio.TierVersionKey, uint32(ggufio.TierVersion)).Set(ggufio.TierRequiresKey, ggufio.TierRequires)
}
