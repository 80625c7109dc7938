package verify

import (
	"slices"
	"strconv"
	"strings"
)

// A Group is differences that say the same of several tensors.
type Group struct {
	Difference
	Layers  []int    // of its tensors, ascending
	Names   []string // its tensors within a block
	Tensors int
}

// Groups joins the differences that say the same: of a tensor in
// several blocks, and then of several tensors in the same blocks. A type says
// all about the bytes that differ with it.
func Groups(list []Difference) []Group {
	typed := map[string]bool{}
	for _, d := range list {
		typed[d.Subject] = typed[d.Subject] || d.Kind == KindType
	}
	type says struct{ kind, want, got, name string }
	at := map[says]int{}
	var groups []Group
	for _, d := range list {
		if d.Kind == KindBytes && typed[d.Subject] {
			continue
		}
		layer, name, inBlock := blockTensor(d.Subject)
		key := says{d.Kind, d.Want, d.Got, name}
		i, known := at[key]
		if !inBlock || !known {
			i = len(groups)
			groups = append(groups, Group{Difference: d})
			if inBlock {
				at[key] = i
				groups[i].Names = []string{name}
			}
		}
		groups[i].Tensors++
		if inBlock {
			groups[i].Layers = append(groups[i].Layers, layer)
		}
	}
	var joined []Group
	for _, g := range groups {
		slices.Sort(g.Layers)
		i := slices.IndexFunc(joined, func(o Group) bool {
			return g.Names != nil && o.Kind == g.Kind && o.Want == g.Want && o.Got == g.Got && slices.Equal(o.Layers, g.Layers)
		})
		if i < 0 {
			joined = append(joined, g)
			continue
		}
		joined[i].Names = append(joined[i].Names, g.Names...)
		joined[i].Tensors += g.Tensors
	}
	return joined
}

// blockTensor takes blk.3.ffn_up.weight apart.
func blockTensor(name string) (layer int, within string, ok bool) {
	rest, ok := strings.CutPrefix(name, "blk.")
	number, within, found := strings.Cut(rest, ".")
	layer, err := strconv.Atoi(number)
	return layer, within, ok && found && err == nil && layer >= 0
}
