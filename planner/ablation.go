package planner

// uniform gives every group the largest single type that fits all, and then
// the groups in order the next larger one while they fit.
func (w *weighing) uniform(groups []group, budget, bound uint64) *solution {
	at := make([]int, len(groups))
	level := len(w.types) - 1
	for ; level >= 0; level-- {
		var size uint64
		for i := range groups {
			at[i] = w.optionFor(&groups[i], w.types[level])
			size += groups[i].options[at[i]].sizeBytes
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
		room := budget - tally(groups, at).sizeBytes
		for i := range groups {
			up := w.optionFor(&groups[i], w.types[next])
			was, is := groups[i].options[at[i]].sizeBytes, groups[i].options[up].sizeBytes
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
	sol.bound = min(bound, sol.cost)
	return sol
}

// optionFor returns the option of a group that a type comes to: where the
// group cannot have it, the largest that is no larger, or the smallest.
func (w *weighing) optionFor(g *group, t Type) int {
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

func smallest(options []option) int {
	best := 0
	for i, o := range options {
		if o.sizeBytes < options[best].sizeBytes {
			best = i
		}
	}
	return best
}

// tally sums up a choice.
func tally(groups []group, at []int) *solution {
	sol := &solution{choice: at}
	for i, o := range at {
		sol.sizeBytes += groups[i].options[o].sizeBytes
		sol.cost += groups[i].options[o].cost
	}
	return sol
}

// randomUpgrades starts from every group's smallest option. All single steps to
// the next larger useful option are shuffled; taken in that order, each raises
// its group by one if that fits.
func randomUpgrades(groups []group, budget, seed, bound uint64) *solution {
	packed := make([]packedGroup, len(groups))
	at := make([]int, len(groups))
	var steps []int // groups, once for every step
	for i := range groups {
		packed[i] = packGroup(groups[i].options)
		at[i] = int(packed[i].options[0].index)
		for range len(packed[i].options) - 1 {
			steps = append(steps, i)
		}
	}
	rng := splitMix64(seed)
	for i := len(steps) - 1; i > 0; i-- {
		j := rng.below(uint64(i + 1))
		steps[i], steps[j] = steps[j], steps[i]
	}
	room := budget - tally(groups, at).sizeBytes
	level := make([]int, len(groups))
	for _, i := range steps {
		was, is := packed[i].options[level[i]], packed[i].options[level[i]+1]
		if need := uint64(is.size - was.size); need <= room {
			room -= need
			level[i]++
			at[i] = int(is.index)
		}
	}
	sol := tally(groups, at)
	sol.bound = min(bound, sol.cost)
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
