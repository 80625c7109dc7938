package planner

import (
	"fmt"
	"slices"

	"github.com/ggufplan/ggufplan/planner/llamaquantize"
)

// A Baseline is the whole model as llama-quantize makes it of a file type,
// experts included: what a plan competes with.
type Baseline struct {
	FileType    llamaquantize.FileType
	TensorBytes uint64
}

// usualBaselines are compared with in every plan.
var usualBaselines = []string{"Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0"}

// baselines returns the usual baselines and those asked for, each once. A
// model that llama-quantize's mix refuses has only the latter, which then fail.
func baselines(p *Problem) ([]Baseline, error) {
	var list []Baseline
	for _, name := range usualBaselines {
		ft, _ := llamaquantize.FileTypeByName(name)
		if size, err := llamaquantize.MixBytes(p.Model, ft); err == nil {
			list = append(list, Baseline{ft, size})
		}
	}
	for _, ft := range p.Baselines {
		if slices.ContainsFunc(list, func(b Baseline) bool { return b.FileType == ft }) {
			continue
		}
		size, err := llamaquantize.MixBytes(p.Model, ft)
		if err != nil {
			return nil, fmt.Errorf("baseline %s: %w", ft.Name, err)
		}
		list = append(list, Baseline{ft, size})
	}
	return list, nil
}
