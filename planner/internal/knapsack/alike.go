package knapsack

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"slices"
)

// swapAlike breaks ties: among groups with the same options the earlier ones
// get the larger choices.
func (s *search) swapAlike(sol *Solution) {
	suspects := s.suspects(sol)
	if len(suspects) == 0 {
		return
	}
	alike := map[string][]int{}
	var key []byte
	for i := range s.k.groups {
		g := s.k.group(i)
		if len(g.Options) < 2 || !suspects[g.hash()] {
			continue
		}
		key = key[:0]
		for _, o := range g.Options {
			key = binary.LittleEndian.AppendUint64(key, uint64(o.Size))
			key = binary.LittleEndian.AppendUint64(key, uint64(o.cost))
		}
		alike[string(key)] = append(alike[string(key)], i)
	}
	for _, members := range alike {
		if len(members) < 2 {
			continue
		}
		positions := make([]int, len(members))
		for m, i := range members {
			positions[m] = slices.IndexFunc(s.k.group(i).Options, func(o packedOption) bool { return int(o.Index) == sol.Choice[i] })
		}
		slices.SortFunc(positions, func(a, b int) int { return cmp.Compare(b, a) })
		for m, i := range members {
			sol.Choice[i] = int(s.k.group(i).Options[positions[m]].Index)
		}
	}
}

// suspects returns the hashes of groups whose choice is not the base's: among
// others with the same options it may be out of order, as the base's are not.
func (s *search) suspects(sol *Solution) map[uint64]bool {
	out := map[uint64]bool{}
	for i := range s.k.groups {
		if g := s.k.group(i); int(g.Options[g.hull[s.base[i]]].Index) != sol.Choice[i] {
			out[g.hash()] = true
		}
	}
	return out
}

// hash is the same for groups with the same options.
func (g *PackedGroup) hash() uint64 {
	h := uint64(len(g.Options))
	for i := range g.Options {
		h = (h ^ uint64(g.Options[i].Size)) * 0x9e3779b97f4a7c15
		h = (bits.RotateLeft64(h, 29) ^ uint64(g.Options[i].cost)) * 0xbf58476d1ce4e5b9
	}
	return h ^ h>>32
}
