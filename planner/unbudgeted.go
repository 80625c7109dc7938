package planner

import (
	"errors"
	"slices"

	"github.com/ggufplan/ggufplan/planner/frequency"
	"github.com/ggufplan/ggufplan/planner/llamaquantize"
	"github.com/ggufplan/ggufplan/planner/manifest"
	"github.com/ggufplan/ggufplan/stats/measure"
)

// A forecast is what a plan is predicted to lose, and the findings about that.
// Damages are nil where they are not known.
type forecast struct {
	weighing      *weighing // nil where no traffic is known
	damage, split *float64
	splitRatio    <-chan *float64      // of one value
	predictedFrom *manifest.Prediction // of a plan without a budget
	kld, splitKLD *manifest.PredictedKLD
	findings      []Finding
	err           error
}

// forecast predicts what a plan loses, from its tensors alone.
func (f *frame) forecast(plan *Plan, d *decision) (x forecast) {
	splitRatio := make(chan *float64, 1)
	x.splitRatio = splitRatio
	if b := plan.Budget; b != nil {
		x.weighing, x.damage, x.split = d.weighing, new(b.Damage), new(b.SplitDamage)
		if len(f.layers) > 0 && b.SplitDamage != 0 {
			splitRatio <- ratio(b.Damage, b.SplitDamage)
		}
		close(splitRatio)
	} else {
		if x.weighing, x.err = f.weighPlan(); x.weighing == nil {
			close(splitRatio)
			return x
		}
		own := *x.weighing
		own.cellOf, own.room = slices.Clone(own.cellOf), &room{}
		go func() { splitRatio <- own.splitRatio(plan) }()
		x.weighing.forecast(plan, &x)
	}
	if x.damage != nil {
		x.kld = x.weighing.predict(func(i, _ int) frequency.Type { return plan.Tensors[i].Type })
		x.splitKLD = x.weighing.predict(func(i, e int) frequency.Type {
			if t := &plan.Tensors[i]; t.ExpertTypes != nil {
				return t.ExpertTypes[e]
			}
			return plan.Tensors[i].Type
		})
	}
	return x
}

// predict says in the totals what the plan and the file types beside it lose.
func (p *Plan) predict(x *forecast) {
	t := &p.Totals
	t.Damage, t.SplitDamage = x.damage, x.split
	t.PredictedKLD, t.SplitPredictedKLD, p.Prediction = x.kld, x.splitKLD, x.predictedFrom
	if x.damage != nil {
		x.weighing.predictBaselines(t.Baselines)
	}
	t.SplitRatio = <-x.splitRatio
}

// weighPlan returns the weighing by which the damage of a plan without a budget
// is predicted, of the policy's errors and sensitivities, typical where it has
// none. It is nil where the statistics do not say how busy experts are.
func (f *frame) weighPlan() (*weighing, error) {
	own := *f.problem
	given := &f.problem.Policy.Budget
	own.Policy.Budget = Budget{Target: TargetExpertBPW, BitsPerWeight: frequency.MakeFraction(1), Objective: ObjectiveOutputShare,
		Scope: ScopeExperts, Errors: given.Errors, Sensitivity: given.Sensitivity}
	if given.Sensitivity == nil {
		own.Policy.Budget.Sensitivity = &NamedSensitivity{Kind: SensitivityTypical}
	}
	alike := *f
	alike.problem = &own
	w, err := startWeighing(&alike)
	if errors.Is(err, ErrNeedsTraffic) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return w, nil
}

// forecast adds up what a plan without a budget loses: over all tensors whose
// error is known, and nothing where a routed expert's is not.
func (w *weighing) forecast(plan *Plan, x *forecast) {
	var fused, split float64
	known := true
	var room []float64
	var openSplit []string // tensors whose damage in the split plan is not known
	for i := range w.frame.slots {
		s := &w.frame.slots[i]
		if s.state == slotKept || !llamaquantize.Quantizable(s.tensor) {
			continue
		}
		c := cell{slot: s, index: i}
		lost, splitLost, err := w.losses(&room, &c, &plan.Tensors[i])
		if err != nil {
			w.leftOut = append(w.leftOut, s.tensor.Name)
			known = known && s.layer < 0
			continue
		}
		w.others = append(w.others, c)
		w.noteInterpolated(i)
		fused += lost
		if splitLost == nil {
			openSplit = append(openSplit, s.tensor.Name)
			continue
		}
		split += *splitLost
	}
	if !known {
		x.findings = []Finding{w.partialDamage("no damage is predicted: the error of %d tensors is not known: %s", w.leftOut)}
		return
	}
	x.damage = &fused
	x.predictedFrom = &manifest.Prediction{Errors: w.recordErrors(), Sensitivity: *w.recordSensitivity()}
	x.findings = w.damageFindings()
	if openSplit == nil {
		x.split = &split
		return
	}
	x.findings = append(x.findings, w.partialDamage("no damage of the split plan is predicted: the error of experts of %d tensors is not known: %s", openSplit))
}

// losses returns what a tensor's types in both plans cost, nil for the split
// plan's if only that is not known.
func (w *weighing) losses(room *[]float64, c *cell, x *TensorPlan) (fused float64, split *float64, err error) {
	if c.weights, err = w.sensitiveWeights(c); err != nil {
		return 0, nil, err
	}
	total := 0.0
	split = &total
	splitTypes := x.ExpertTypes
	if splitTypes == nil {
		splitTypes = slices.Repeat([]frequency.Type{x.Type}, len(c.weights))
	}
	types, kinds := []frequency.Type{x.Type}, make([]uint8, len(splitTypes)) // each split type's place among types
	for e, t := range splitTypes {
		if e > 0 && t == splitTypes[e-1] {
			kinds[e] = kinds[e-1]
			continue
		}
		k := slices.Index(types, t)
		if k < 0 {
			k = len(types)
			types = append(types, t)
		}
		kinds[e] = uint8(k) // GGML has fewer types
	}
	for k, t := range types {
		if t == c.slot.source {
			continue
		}
		damages, err := w.damages(*room, c, t)
		switch {
		case err != nil && t == x.Type:
			return 0, nil, err
		case err != nil:
			split = nil
			continue
		}
		*room = damages
		for e, d := range damages {
			if k == 0 {
				fused += d
			}
			if kinds[e] == uint8(k) {
				total += d
			}
		}
	}
	return fused, split, nil
}

// splitRatio returns how many times the split plan's predicted damage a fused
// plan of its tiers' types has that takes no more bytes, over routed experts:
// the plan's own bytes are no target. It is nil where that is not known. The
// weighing is used up.
func (w *weighing) splitRatio(plan *Plan) *float64 {
	budget := *w.budget
	w.budget = &budget
	fr := &plan.Problem.Policy.Frequency
	for _, t := range []frequency.Type{fr.HotType, fr.WarmType, fr.ColdType} {
		if t.Declared {
			return nil
		}
		if !slices.Contains(budget.Types, t) {
			budget.Types = append(budget.Types, t)
		}
	}
	if w.resolveTypes() != nil || w.findCells() != nil {
		return nil // a type that takes an imatrix
	}
	// Of a cell's experts, only what they cost together matters. That is counted
	// in units that depend on all cells.
	var room [][]float64
	var bytes uint64
	split, most := 0.0, 0.0
	for c := range w.cells {
		cell := &w.cells[c]
		var err error
		if cell.weights, err = w.sensitiveWeights(cell); err != nil {
			return nil
		}
		if room, err = w.columns(room, cell); err != nil {
			return nil // a type whose error is not known
		}
		x := &plan.Tensors[cell.index]
		bytes += x.SplitSizeBytes
		i := -1
		for e, t := range x.ExpertTypes {
			if e == 0 || t != x.ExpertTypes[e-1] {
				i = slices.IndexFunc(cell.candidates, func(o candidate) bool { return o.Type == t })
			}
			if i < 0 {
				return nil
			}
			split += room[i][e]
			largest := 0.0
			for _, damages := range room {
				if d := damages[e]; d > largest {
					largest = d
				}
			}
			most += largest
		}
	}
	costOf, err := w.scaleTo(most)
	if err != nil {
		return nil
	}
	for c := range w.cells {
		cell := &w.cells[c]
		if room, err = w.columns(room, cell); err != nil {
			return nil
		}
		cell.cost = grid[uint64](1, len(room))
		for i, damages := range room {
			if cell.candidates[i].free {
				continue
			}
			for _, d := range damages {
				cell.cost[0][i] += costOf(d)
			}
		}
		cell.addUp()
	}
	fused, err := w.solveFused(0, bytes)
	if err != nil || split == 0 {
		return nil
	}
	return ratio(w.damageOf(fused.cost), split)
}

// columns returns what every candidate costs each expert of a cell, in room
// where that is large enough.
func (w *weighing) columns(room [][]float64, c *cell) (_ [][]float64, err error) {
	room = measure.Sized(room, uint64(len(c.candidates)))
	for i := range c.candidates {
		if c.candidates[i].free {
			room[i] = measure.Sized(room[i], uint64(len(c.weights)))
			clear(room[i])
			continue
		}
		if room[i], err = w.damages(room[i], c, c.candidates[i].Type); err != nil {
			return nil, err
		}
	}
	return room, nil
}
