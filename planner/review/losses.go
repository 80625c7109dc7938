package review

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/ggufplan/ggufplan/planner/manifest"
)

// A Loss says what a target that knows one type per tensor makes of a tensor
// whose experts have several in the split plan.
type Loss struct {
	Tensor  string
	Type    string   // what all experts get
	Experts int      // how many would have got another
	Split   []string // what the split plan gives, such as "3 Q4_K", the most first
}

// String says the loss for a person.
func (l Loss) String() string {
	return fmt.Sprintf("%s: all experts get %s; the split plan gives %s", l.Tensor, l.Type, strings.Join(l.Split, ", "))
}

// Losses lists what a fused target loses of the split plan, in the manifest's
// order.
func Losses(m *manifest.Manifest) []Loss {
	var list []Loss
	for i := range m.Tensors {
		t := &m.Tensors[i]
		counts := map[string]int{}
		for _, name := range t.ExpertTypes {
			counts[name]++
		}
		others := len(t.ExpertTypes) - counts[t.PlannedType]
		if others == 0 {
			continue
		}
		list = append(list, Loss{t.Name, t.PlannedType, others, countedNames(counts)})
	}
	return list
}

// countedNames writes how many there are of each name, the most first.
func countedNames(counts map[string]int) []string {
	names := make([]string, 0, len(counts))
	for name := range counts {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(counts[b], counts[a]), strings.Compare(a, b)) })
	for i, name := range names {
		names[i] = fmt.Sprintf("%d %s", counts[name], name)
	}
	return names
}
