package planner

import (
	"github.com/ggufplan/ggufplan/planner/frequency"
	"github.com/ggufplan/ggufplan/planner/manifest"
	"github.com/ggufplan/ggufplan/stats/measure"
)

// predictedBand is the factor either side of a predicted KL divergence. On the
// text of the probe 1.35 is enough: 25 measured plans of a small model are within
// 1.28 to 1.34 of one k. But a plan is run on other text: the same files show
// 0.67 (Python) to 1.28 times (C) as much as on the Go source of the probe,
// which 1.35 and 1.3 as independent factors make 1.5. The spread between chunks
// of one text cannot say so: prose is not among the chunks of code.
const predictedBand = 1.5

// predict returns the KL divergence that a model with the types of typeOf, by
// tensor and expert, can be expected to show:
//
//	y0 + k · sum of alpha · share · error
//
// with k and y0 of a probe's mixtures and whole file. It is nil without those,
// where mixtures say that the sensitivities do not hold, and where an error is
// not known. Prediction layers, which do not change the output, are left out.
func (w *weighing) predict(typeOf func(slot, expert int) frequency.Type) *manifest.PredictedKLD {
	fit := w.probedFit()
	if fit == nil {
		return nil
	}
	a := &w.frame.problem.Model.Architecture
	sum := 0.0
	for i := range w.frame.slots {
		s := &w.frame.slots[i]
		if a.NextNBlocks > 0 && s.tensor.Layer >= a.BlockCount-a.NextNBlocks {
			continue
		}
		weights, err := w.expertWeights(s)
		if err != nil {
			return nil
		}
		for e := range weights {
			t := typeOf(i, e)
			if t == s.source {
				continue
			}
			r, ok := w.relativeError(s, e, len(weights), t)
			if !ok {
				return nil
			}
			sum += float64(float64(w.sensitivity[i].value*weights[e]) * r)
		}
	}
	y := *fit.Y0 + float64(*fit.K*sum)
	return &manifest.PredictedKLD{KLD: y, Low: y / predictedBand, High: y * predictedBand}
}

// probedFit returns the fit of a probe that allows predictions.
func (w *weighing) probedFit() *measure.ProbeFit {
	s := w.budget.Sensitivity
	if s == nil || s.Sensitivity == nil || s.Probe == nil || w.budget.Objective.weighing() != ObjectiveOutputShare {
		return nil
	}
	f := s.Probe.Fit
	if f == nil || f.K == nil || f.Y0 == nil || *f.Spread > measure.MaxProbeSpread {
		return nil
	}
	return f
}

// predictChoice is predict for an assignment of the cells; d has what the
// policy does not decide.
func (w *weighing) predictChoice(d *decision, a *assignment) (*manifest.PredictedKLD, error) {
	others := make([]frequency.Type, len(w.frame.slots))
	for i := range w.frame.slots {
		if w.cellOf[i] >= 0 {
			continue
		}
		t, err := w.frame.slots[i].plan(&d.verdicts[i])
		if err != nil {
			return nil, err
		}
		others[i] = t.Type
	}
	return w.predict(func(i, e int) frequency.Type {
		c := w.cellOf[i]
		if c < 0 {
			return others[i]
		}
		choice := a.choice[c]
		return w.cells[c].candidates[choice[min(e, len(choice)-1)]].Type
	}), nil
}
