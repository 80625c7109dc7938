package planner

import (
	"fmt"
	"slices"

	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner/llamaquantize"
	"github.com/ggufplan/ggufplan/planner/manifest"
)

// A Baseline is the whole model as llama-quantize makes it of a file type,
// experts included: what a plan competes with.
type Baseline struct {
	FileType    llamaquantize.FileType
	TensorBytes uint64
	Damage      *float64 // nil where it is not known

	PredictedKLD *manifest.PredictedKLD // nil without a probe

	types []quant.Type // by tensor
}

func newBaseline(mixer *llamaquantize.Mixer, ft llamaquantize.FileType) (Baseline, error) {
	types, size, err := mixer.Mix(ft)
	return Baseline{FileType: ft, TensorBytes: size, types: types}, err
}

// usualBaselines are compared with in every plan.
var usualBaselines = []string{"Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0"}

// nearest returns the file type made of K and IQ types whose file is nearest to
// a plan in bytes, the smaller of equals.
func nearest(mixer *llamaquantize.Mixer, planned uint64) (Baseline, bool) {
	var best Baseline
	found, least := false, uint64(0)
	for _, ft := range llamaquantize.FileTypes() {
		if !llamaquantize.OfKAndIQ(ft) {
			continue
		}
		b, err := newBaseline(mixer, ft)
		if err != nil {
			continue
		}
		off := max(b.TensorBytes, planned) - min(b.TensorBytes, planned)
		if !found || off < least || off == least && b.TensorBytes < best.TensorBytes {
			best, found, least = b, true, off
		}
	}
	return best, found
}

// baselines returns the usual baselines, those asked for and the one nearest to
// the plan, each once; a frontier, which is of many plans, gives no planned
// bytes. A model that llama-quantize's mix refuses has only those asked for,
// which then fail.
func baselines(p *Problem, planned *uint64) ([]Baseline, error) {
	var list []Baseline
	mixer := llamaquantize.NewMixer(p.Model)
	for _, name := range usualBaselines {
		ft, _ := llamaquantize.FileTypeByName(name)
		if b, err := newBaseline(mixer, ft); err == nil {
			list = append(list, b)
		}
	}
	for _, ft := range p.Baselines {
		if slices.ContainsFunc(list, func(b Baseline) bool { return b.FileType == ft }) {
			continue
		}
		b, err := newBaseline(mixer, ft)
		if err != nil {
			return nil, fmt.Errorf("baseline %s: %w", ft.Name, err)
		}
		list = append(list, b)
	}
	if planned == nil {
		return list, nil
	}
	if b, ok := nearest(mixer, *planned); ok && !slices.ContainsFunc(list, func(x Baseline) bool { return x.FileType == b.FileType }) {
		list = append(list, b)
	}
	return list, nil
}
