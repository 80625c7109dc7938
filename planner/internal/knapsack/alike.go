package knapsack

import (
	"cmp"
	"encoding/binary"
	"slices"
)

// swapAlike breaks ties: among groups with the same options the earlier ones
// get the larger choices.
func (s *search) swapAlike(sol *Solution) {
	// Groups at their base are in order, and out of it only beside one that is not.
	deviant := map[uint64]bool{}
	for _, i := range s.deviants {
		g := s.k.group(int(i))
		deviant[g.key()] = true
	}
	if len(deviant) == 0 {
		return
	}
	alike := map[string][]int{}
	var key []byte
	for i := range s.k.room.groups {
		g := s.k.group(i)
		if len(g.Options) < 2 || !deviant[g.key()] {
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

// key is the same for groups with the same options, and seldom for others.
func (g *PackedGroup) key() uint64 {
	o := g.Options[0]
	return uint64(o.Size)*0x9e3779b97f4a7c15 ^ uint64(o.cost)
}
