package planner

import (
	"github.com/ggufplan/ggufplan/planner/frequency"
	"github.com/ggufplan/ggufplan/planner/internal/knapsack"
)

// uniform gives every group the largest single type that fits all, and then
// the groups in order the next larger one while they fit.
func (w *weighing) uniform(groups []group, budget, bound uint64) *knapsack.Solution {
	at := make([]int, len(groups))
	level := len(w.types) - 1
	for ; level >= 0; level-- {
		var size uint64
		for i := range groups {
			at[i] = w.optionFor(&groups[i], w.types[level])
			size += groups[i].options[at[i]].SizeBytes
		}
		if size <= budget {
			break
		}
	}
	if level < 0 { // what tensors can have differs: start from the smallest
		for i := range groups {
			at[i] = smallest(groups[i].options)
		}
	}
	if next := level + 1; next < len(w.types) {
		room := budget - tally(groups, at).SizeBytes
		for i := range groups {
			up := w.optionFor(&groups[i], w.types[next])
			was, is := groups[i].options[at[i]].SizeBytes, groups[i].options[up].SizeBytes
			if is < was {
				continue
			}
			if is-was > room {
				break
			}
			room -= is - was
			at[i] = up
		}
	}
	sol := tally(groups, at)
	sol.Bound = min(bound, sol.Cost)
	return sol
}

// optionFor returns the option of a group that a type comes to: where the
// group cannot have it, the largest that is no larger, or the smallest.
func (w *weighing) optionFor(g *group, t frequency.Type) int {
	c := &w.cells[g.members[0]]
	o, err := c.slot.resolve(t, false)
	best, bestBytes := smallest(g.options), uint64(0)
	for i, picks := range g.picks {
		x := &c.candidates[picks[0]]
		if err == nil && x.Type == o.Type {
			return i
		}
		if x.SizeBytes <= o.SizeBytes && x.SizeBytes > bestBytes {
			best, bestBytes = i, x.SizeBytes
		}
	}
	return best
}

func smallest(options []knapsack.Option) int {
	best := 0
	for i, o := range options {
		if o.SizeBytes < options[best].SizeBytes {
			best = i
		}
	}
	return best
}

// tally sums up a choice.
func tally(groups []group, at []int) *knapsack.Solution {
	sol := &knapsack.Solution{Choice: at}
	for i, o := range at {
		sol.SizeBytes += groups[i].options[o].SizeBytes
		sol.Cost += groups[i].options[o].Cost
	}
	return sol
}

// randomUpgrades starts from every group's smallest option. All single steps to
// the next larger useful option are shuffled; taken in that order, each raises
// its group by one if that fits.
func randomUpgrades(groups []group, budget, seed, bound uint64) *knapsack.Solution {
	packed := make([]knapsack.PackedGroup, len(groups))
	at := make([]int, len(groups))
	var steps []int // groups, once for every step
	for i := range groups {
		packed[i] = knapsack.PackGroup(groups[i].options)
		at[i] = int(packed[i].Options[0].Index)
		for range len(packed[i].Options) - 1 {
			steps = append(steps, i)
		}
	}
	rng := splitMix64(seed)
	for i := len(steps) - 1; i > 0; i-- {
		j := rng.below(uint64(i + 1))
		steps[i], steps[j] = steps[j], steps[i]
	}
	room := budget - tally(groups, at).SizeBytes
	level := make([]int, len(groups))
	for _, i := range steps {
		was, is := packed[i].Options[level[i]], packed[i].Options[level[i]+1]
		if need := uint64(is.Size - was.Size); need <= room {
			room -= need
			level[i]++
			at[i] = int(is.Index)
		}
	}
	sol := tally(groups, at)
	sol.Bound = min(bound, sol.Cost)
	return sol
}

// splitMix64 is the generator of Steele, Lea and Flood (2014), so that a seed
// means the same in every version of this program.
type splitMix64 uint64

func (s *splitMix64) next() uint64 {
	*s += 0x9e3779b97f4a7c15
	z := uint64(*s)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// below returns a number from 0 to n-1, each as likely as the others.
func (s *splitMix64) below(n uint64) uint64 {
	for {
		// Draws from the incomplete last run of n would favour small numbers.
		if v := s.next(); v-v%n <= -n {
			return v % n
		}
	}
}
