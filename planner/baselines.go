package planner

import (
	"fmt"
	"slices"

	"github.com/ggufplan/ggufplan/ggufio"
)

// A Baseline is the whole model as llama-quantize makes it of a file type,
// experts included: what a plan competes with.
type Baseline struct {
	FileType    FileType
	TensorBytes uint64
}

// usualBaselines are compared with in every plan.
var usualBaselines = []string{"Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0"}

// baselines returns the usual baselines and those asked for, each once. A
// model that llama-quantize's mix refuses has only the latter, which then fail.
func baselines(p *Problem) ([]Baseline, error) {
	var list []Baseline
	for _, name := range usualBaselines {
		ft, _ := FileTypeByName(name)
		if size, err := MixBytes(p.Model, ft); err == nil {
			list = append(list, Baseline{ft, size})
		}
	}
	for _, ft := range p.Baselines {
		if slices.ContainsFunc(list, func(b Baseline) bool { return b.FileType == ft }) {
			continue
		}
		size, err := MixBytes(p.Model, ft)
		if err != nil {
			return nil, fmt.Errorf("baseline %s: %w", ft.Name, err)
		}
		list = append(list, Baseline{ft, size})
	}
	return list, nil
}

// MixBytes returns the bytes of the model's tensors as llama-quantize makes
// them of a file type, with no rule and no importance matrix.
func MixBytes(m *ggufio.Model, ft FileType) (uint64, error) {
	types, err := Mix(m, ft)
	if err != nil {
		return 0, err
	}
	var a adder
	total := uint64(0)
	for i, t := range types {
		size, err := GGML(t).sizeOf(&m.Tensors[i])
		if err != nil {
			return 0, fmt.Errorf("tensor %s: %w", m.Tensors[i].Name, err)
		}
		a.add(&total, size)
	}
	if a.over {
		return 0, errTooLarge
	}
	return total, nil
}
