package planner

import (
	"slices"

	"github.com/ggufplan/ggufplan/planner/internal/knapsack"
)

// A group is what gets one choice: one cell or expert of it, or with gate and
// up tied two.
type group struct {
	members []int   // cells
	expert  int     // of the cells; -1 for all of them
	picks   [][]int // by option, then member: candidate
	options []knapsack.Option
}

func optionsOf(groups []group) [][]knapsack.Option {
	out := make([][]knapsack.Option, len(groups))
	for i := range groups {
		out[i] = groups[i].options
	}
	return out
}

// A part is the cells that share one budget, what a candidate of one counts for
// against it, and which may be chosen; nil for all.
type part struct {
	has     func(c int) bool
	counted func(c *cell, candidate int) uint64
	allowed func(c *cell, candidate int) bool
}

// whole is all cells, and the target's budget.
func (w *weighing) whole() part {
	return part{
		has:     func(int) bool { return true },
		counted: func(c *cell, i int) uint64 { return w.budget.counted(c.slot, c.candidates[i].SizeBytes) },
	}
}

// fusedGroups makes the fused problem of a part: every cell takes one
// candidate. windows narrow those of tensors of one expert.
func (w *weighing) fusedGroups(p part, windows map[int][]window) []group {
	var groups []group
	for _, members := range w.tied() {
		if !p.has(members[0]) {
			continue
		}
		g := group{members: members, expert: -1}
		for _, picks := range w.common(members) {
			var o knapsack.Option
			fits := true
			for m, c := range members {
				cell := &w.cells[c]
				size := cell.candidates[picks[m]].SizeBytes
				if p.allowed != nil {
					fits = fits && p.allowed(cell, picks[m])
				}
				if list := windows[c]; list != nil {
					fits = fits && list[0].holds(size)
				}
				o.SizeBytes += p.counted(cell, picks[m])
				for e := range cell.cost {
					o.Cost += cell.cost[e][picks[m]]
				}
			}
			g.add(fits, picks, o)
		}
		groups = append(groups, g)
	}
	return groups
}

func (g *group) add(fits bool, picks []int, o knapsack.Option) {
	if fits {
		g.picks = append(g.picks, picks)
		g.options = append(g.options, o)
	}
}

// A window narrows an expert's candidates by the bytes one expert takes.
type window struct{ least, most uint64 }

func (x window) holds(size uint64) bool { return x.least <= size && size <= x.most }

// cap applies the rule for experts with thin statistics: no type smaller than
// one step below the tensor's type in the fused plan.
func (w *weighing) cap(c *cell, chosen int, layers []LayerPlan) []window {
	below := w.stepBelow(c, chosen)
	list := make([]window, len(c.cost))
	for e := range list {
		list[e].most = knapsack.MaxTotal
		switch layers[c.slot.layer].Experts[e].Flag {
		case FlagUnseen, FlagScarce:
			list[e].least = below
		}
	}
	return list
}

// stepBelow returns the bytes per expert of the next smaller candidate of a
// tensor that no other candidate beats in size and damage.
func (w *weighing) stepBelow(c *cell, chosen int) uint64 {
	options := make([]knapsack.Option, len(c.candidates))
	for i := range options {
		options[i].SizeBytes = c.candidates[i].SizeBytes
		for e := range c.cost {
			options[i].Cost += c.cost[e][i]
		}
	}
	below := c.candidates[chosen].SizeBytes
	for _, o := range knapsack.PackGroup(options).Options {
		if uint64(o.Size) >= c.candidates[chosen].SizeBytes {
			break
		}
		below = uint64(o.Size)
	}
	return below / uint64(len(c.cost))
}

// splitGroups makes the split problem: every expert of the cells that have
// windows takes one candidate within its own, of those whose bits are set in
// kinds, one for each tie of cells that have windows; nil for all.
func (w *weighing) splitGroups(windows map[int][]window, kinds []uint64) []group {
	var groups []group
	set := -1
	for _, members := range w.tied() {
		if windows[members[0]] == nil {
			continue
		}
		common := w.common(members)
		if set++; kinds != nil {
			common = slices.DeleteFunc(common, func(picks []int) bool { return kinds[set]>>picks[0]&1 == 0 })
		}
		for e := range w.cells[members[0]].cost {
			g := group{members: members, expert: e, picks: make([][]int, 0, len(common)), options: make([]knapsack.Option, 0, len(common))}
			for _, picks := range common {
				var o knapsack.Option
				fits := true
				for m, c := range members {
					cell := &w.cells[c]
					size := cell.expertBytes(picks[m])
					fits = fits && windows[c][e].holds(size)
					o.SizeBytes += size
					o.Cost += cell.cost[e][picks[m]]
				}
				g.add(fits, picks, o)
			}
			groups = append(groups, g)
		}
	}
	return groups
}

// apply writes a solution into an assignment.
func (w *weighing) apply(a *assignment, groups []group, sol *knapsack.Solution) {
	for i, g := range groups {
		for m, c := range g.members {
			pick := g.picks[sol.Choice[i]][m]
			if g.expert >= 0 {
				a.choice[c][g.expert] = pick
				continue
			}
			a.choice[c] = slices.Repeat([]int{pick}, len(w.cells[c].cost))
		}
	}
}
