package planner

import (
	"fmt"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner/frequency"
	"github.com/ggufplan/ggufplan/stats"
	"github.com/ggufplan/ggufplan/stats/measure"
)

// A ProbeTensor is a tensor whose sensitivity a probe finds out: one that
// typical sensitivities count.
type ProbeTensor struct {
	Tensor  *ggufio.Tensor
	Class   string  // "output", "embedding", "experts", "shared" or "mix"
	Typical float64 // s(t)

	// Of each type asked for: what it comes to after llama.cpp's shape fallback,
	// and the relative error in it, over the experts by what they count for.
	Types  []quant.Type
	Errors []float64
}

// probeClasses names the classes that a probe tells apart: the experts'
// projections are one.
var probeClasses = [classes]string{classOutput: "output", classEmbedding: "embedding", classGateUp: "experts", classDown: "experts", classShared: "shared", classMix: "mix"}

// ProbeTensors lists the tensors of a model that a probe varies, in the file's
// order, with their errors in some types, measured with the evidence, which may
// be nil, or typical where errors are.
func ProbeTensors(m *ggufio.Model, ev *stats.Evidence, errors *measure.Result, types []quant.Type) ([]ProbeTensor, error) {
	p := &Problem{Model: m, Evidence: ev, Policy: DefaultPolicy()}
	p.Policy.Base = BaseKeep
	f, err := newFrame(p)
	if err != nil {
		return nil, err
	}
	w := &weighing{frame: f, budget: &Budget{Objective: ObjectiveOutputShare}}
	if errors != nil {
		w.budget.Errors = &NamedErrors{Result: errors}
	}
	w.indexErrors()
	w.shares = &layerShares{w: w}
	typical, of := typicalSensitivities(m)
	var list []ProbeTensor
	for i := range f.slots {
		if !of[i].counted {
			continue
		}
		s := &f.slots[i]
		x := ProbeTensor{Tensor: s.tensor, Class: probeClasses[of[i].class], Typical: typical[i]}
		for _, t := range types {
			o, err := s.resolve(frequency.GGML(t), false)
			if err != nil {
				return nil, err
			}
			r, err := w.errorAt(i, frequency.GGML(t))
			if err != nil {
				return nil, err
			}
			x.Types, x.Errors = append(x.Types, o.Type.GGML), append(x.Errors, r)
		}
		list = append(list, x)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s: has no tensor that llama-quantize quantizes", m.Files[0].Name)
	}
	return list, nil
}
