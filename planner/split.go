package planner

import (
	"slices"

	"github.com/ggufplan/ggufplan/planner/internal/knapsack"
)

// A group is what gets one choice: one cell or expert of it, or with gate and
// up tied two.
type group struct {
	*choices
	expert  int // of the cells; -1 for all of them
	options []knapsack.Option
}

// choices are those of one or more groups.
type choices struct {
	members []int   // cells
	picks   [][]int // by option, then member: candidate
}

func optionsOf(groups []group) [][]knapsack.Option {
	out := make([][]knapsack.Option, len(groups))
	for i := range groups {
		out[i] = groups[i].options
	}
	return out
}

// A room is the memory that a problem is made and solved in: what a split plan
// takes is most of all memory, and a frontier solves one after the other.
type room struct {
	groups   []group
	options  []knapsack.Option
	windows  []window
	has      []uint64
	knapsack knapsack.Room
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
func (w *weighing) fusedGroups(p part, windows cellWindows) []group {
	var groups []group
	for _, t := range w.ties {
		if !p.has(t.members[0]) {
			continue
		}
		g := group{choices: &choices{members: t.members}, expert: -1}
		for _, picks := range t.picks {
			var o knapsack.Option
			fits := true
			for m, c := range t.members {
				cell := &w.cells[c]
				size := cell.candidates[picks[m]].SizeBytes
				if p.allowed != nil {
					fits = fits && p.allowed(cell, picks[m])
				}
				if windows != nil && windows[c] != nil {
					fits = fits && windows[c][0].holds(size)
				}
				o.SizeBytes += p.counted(cell, picks[m])
				o.Cost += cell.total[picks[m]]
			}
			if fits {
				g.picks = append(g.picks, picks)
				g.options = append(g.options, o)
			}
		}
		groups = append(groups, g)
	}
	return groups
}

// A window narrows an expert's candidates by the bytes one expert takes.
type window struct{ least, most uint64 }

func (x window) holds(size uint64) bool { return x.least <= size && size <= x.most }

// cellWindows are those of each cell's experts; nil where all may be chosen, or,
// for the split plan, where it does not decide.
type cellWindows [][]window

// take cuts a list of n elements, of any value, off a longer one.
func take[T any](from *[]T, n int) []T {
	list := (*from)[:n:n]
	*from = (*from)[n:]
	return list
}

// cap makes the windows of a tensor's experts. It applies the rule for experts
// with thin statistics: no type smaller than one step below the tensor's type in
// the fused plan.
func (w *weighing) cap(list []window, c *cell, chosen int, layers []LayerPlan) {
	below := w.stepBelow(c, chosen)
	for e := range list {
		list[e] = window{most: knapsack.MaxTotal}
		switch layers[c.slot.layer].Experts[e].Flag {
		case FlagUnseen, FlagScarce:
			list[e].least = below
		}
	}
}

// stepBelow returns the bytes per expert of the next smaller candidate of a
// tensor that no other candidate beats in size and damage.
func (w *weighing) stepBelow(c *cell, chosen int) uint64 {
	options := make([]knapsack.Option, len(c.candidates))
	for i := range options {
		options[i] = knapsack.Option{SizeBytes: c.candidates[i].SizeBytes, Cost: c.total[i]}
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
// kinds, one for each tie of cells that have windows; nil for all. It lies in
// the room.
func (w *weighing) splitGroups(windows cellWindows, kinds []uint64) []group {
	var ties []tie
	experts, count := 0, 0
	for _, t := range w.ties {
		own := windows[t.members[0]]
		if own == nil {
			continue
		}
		if all := t.picks; kinds != nil {
			t.picks = nil
			for _, picks := range all {
				if kinds[len(ties)]>>picks[0]&1 != 0 {
					t.picks = append(t.picks, picks)
				}
			}
		}
		ties = append(ties, t)
		experts += len(own)
		count += len(own) * len(t.picks)
	}
	r := w.room
	r.groups, r.options = knapsack.Resized(r.groups, experts)[:0], knapsack.Resized(r.options, count)[:0]
	for _, t := range ties {
		shared := map[uint64]*choices{} // by which of the picks fit
		sizes := grid[uint64](len(t.picks), len(t.members))
		for i, picks := range t.picks {
			for m, c := range t.members {
				sizes[i][m] = w.cells[c].expertBytes(picks[m])
			}
		}
		for e := range windows[t.members[0]] {
			first, which := len(r.options), uint64(0)
			for i, picks := range t.picks {
				var o knapsack.Option
				fits := true
				for m, c := range t.members {
					fits = fits && windows[c][e].holds(sizes[i][m])
					o.SizeBytes += sizes[i][m]
					o.Cost += w.cells[c].cost[e][picks[m]]
				}
				if fits {
					r.options, which = append(r.options, o), which|1<<i
				}
			}
			if shared[which] == nil {
				shared[which] = t.choices(which)
			}
			r.groups = append(r.groups, group{shared[which], e, r.options[first:len(r.options):len(r.options)]})
		}
	}
	return r.groups
}

// choices returns those of the picks whose bits are set.
func (t *tie) choices(which uint64) *choices {
	c := &choices{members: t.members}
	for i, picks := range t.picks {
		if which>>i&1 != 0 {
			c.picks = append(c.picks, picks)
		}
	}
	return c
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
