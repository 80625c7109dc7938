package planner

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner/manifest"
	"github.com/ggufplan/ggufplan/stats"
	"github.com/ggufplan/ggufplan/stats/measure"
)

// A Choice is what a tensor, or one expert of it, would take and cost in each
// type. Damage is the budget policy's, by the sensitivity that the plan records
// of the tensor, 1 where it records none; under another policy it is that of the
// default objective.
type Choice struct {
	Tensor       string        `json:"tensor"`
	Expert       *int          `json:"expert"` // null for the whole tensor
	Share        float64       `json:"share"`  // what the expert's error counts for; 1 for the whole tensor
	Planned      string        `json:"planned_type"`
	Alternatives []Alternative `json:"types"` // by size, then damage

	// Down and Up are the next smaller and the next larger type that no other
	// beats in size and damage; null where there is none, or the planned type's
	// error is not known.
	Down *Step `json:"step_down"`
	Up   *Step `json:"step_up"`
}

// An Alternative is one type. Relative is the relative error, over experts by
// their shares.
type Alternative struct {
	Type      string  `json:"type"`
	SizeBytes uint64  `json:"size_bytes"`
	Relative  float64 `json:"relative"`
	Damage    float64 `json:"damage"`
}

// A Step is a change from the planned type to another: both differences are
// the other's less the planned one's.
type Step = manifest.Step

// Choices returns the alternatives to what a plan gives tensors of it: to the
// split plan's type of one expert, or with expert -1 to the fused plan's.
// Tensors without measured errors are passed over. The errors must be of the
// plan's model and statistics.
func Choices(m *manifest.Manifest, e *measure.Result, tensors []manifest.Tensor, expert int) ([]Choice, error) {
	files := make([]ggufio.FileID, len(m.Model.Files))
	for i, f := range m.Model.Files {
		files[i] = ggufio.FileID(f)
	}
	if err := e.CheckOrigin(files, PlannedFrom(m.Statistics)); err != nil {
		return nil, err
	}
	x := &chooser{objective: ObjectiveOutputShare, plan: m, errors: e, shares: map[int][]float64{}}
	if b := m.Policy.Budget; b != nil {
		x.objective = Objective(b.Objective).weighing()
	}
	list := []Choice{}
	for i := range tensors {
		t := e.Tensor(tensors[i].Name)
		if t == nil || len(t.Experts) == 0 {
			continue
		}
		c, err := x.choice(&tensors[i], t, expert)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t.Name, err)
		}
		list = append(list, *c)
	}
	return list, nil
}

// A chooser knows a plan, its errors and what experts count for.
type chooser struct {
	objective Objective
	plan      *manifest.Manifest
	errors    *measure.Result
	shares    map[int][]float64
}

func (x *chooser) choice(n *manifest.Tensor, t *measure.TensorLoss, expert int) (*Choice, error) {
	if len(n.Shape) == 0 || n.Shape[0] == 0 || !slices.Equal(n.Shape, t.Shape) {
		return nil, fmt.Errorf("measured with shape %v, the plan has %v", t.Shape, n.Shape)
	}
	c := &Choice{Tensor: n.Name, Share: 1, Planned: n.PlannedType}
	weights, err := x.weights(n, t)
	if err != nil {
		return nil, err
	}
	experts, size := t.Experts, n.Parameters/n.Shape[0]
	if expert >= 0 && n.ExpertTypes != nil {
		c.Expert = &expert
		j := expert
		if n.Expert != nil {
			j = 0
		}
		if j >= len(experts) {
			return nil, fmt.Errorf("no expert %d was measured", expert)
		}
		size /= uint64(len(experts))
		experts, weights = experts[j:j+1], weights[j:j+1]
		c.Share = weights[0]
		c.Planned = n.ExpertTypes[min(j, len(n.ExpertTypes)-1)]
	}
	total := sum(weights)
	for i, name := range t.Types {
		f, ok := quant.ByName(name)
		if !ok {
			return nil, fmt.Errorf("type %q", name)
		}
		a := Alternative{Type: name}
		if a.SizeBytes, err = f.Layout.EncodedBytes(size, n.Shape[0]); err != nil {
			return nil, err
		}
		for e := range experts {
			r := experts[e].Types[i]
			a.Relative += float64(weights[e] * r.Relative)
			if x.objective == ObjectiveMSE {
				a.Damage += r.PlainError
			}
		}
		if x.objective != ObjectiveMSE {
			a.Damage = a.Relative
		}
		if n.Sensitivity != nil {
			a.Damage *= *n.Sensitivity
		}
		if total > 0 {
			a.Relative /= total
		}
		c.Alternatives = append(c.Alternatives, a)
	}
	slices.SortStableFunc(c.Alternatives, func(a, b Alternative) int {
		return cmp.Or(cmp.Compare(a.SizeBytes, b.SizeBytes), cmp.Compare(a.Damage, b.Damage))
	})
	c.findSteps(n, len(experts) == len(t.Experts))
	return c, nil
}

// findSteps looks for the neighbours of the planned type among the types that
// nothing beats.
func (c *Choice) findSteps(n *manifest.Tensor, whole bool) {
	planned := Alternative{Type: c.Planned, SizeBytes: n.SourceBytes}
	if !whole {
		planned.SizeBytes /= uint64(max(1, len(n.ExpertTypes)))
	}
	i := slices.IndexFunc(c.Alternatives, func(a Alternative) bool { return a.Type == c.Planned })
	switch {
	case i >= 0:
		planned = c.Alternatives[i]
	case c.Planned != n.SourceType:
		return
	}
	step := func(a Alternative) *Step {
		return &Step{Type: a.Type, Bytes: int64(a.SizeBytes) - int64(planned.SizeBytes), Damage: a.Damage - planned.Damage}
	}
	least := math.Inf(1)
	for _, a := range c.Alternatives {
		if a.Damage >= least {
			continue // a smaller type costs no more
		}
		least = a.Damage
		if a.SizeBytes < planned.SizeBytes && a.Damage > planned.Damage {
			c.Down = step(a)
		}
		if a.SizeBytes > planned.SizeBytes && a.Damage < planned.Damage {
			c.Up = step(a)
			return
		}
	}
}

// weights returns what the errors of a tensor's experts count for.
func (x *chooser) weights(n *manifest.Tensor, t *measure.TensorLoss) ([]float64, error) {
	if n.ExpertTypes == nil || n.Layer == nil || x.objective == ObjectiveMSE {
		return slices.Repeat([]float64{1}, len(t.Experts)), nil
	}
	shares, ok := x.shares[*n.Layer]
	if !ok {
		var err error
		if shares, err = x.layer(*n.Layer); err != nil {
			return nil, err
		}
		x.shares[*n.Layer] = shares
	}
	if e := n.Expert; e != nil {
		if *e < 0 || *e >= len(shares) {
			return nil, fmt.Errorf("expert %d of %d", *e, len(shares))
		}
		return shares[*e : *e+1], nil
	}
	if len(shares) != len(t.Experts) {
		return nil, fmt.Errorf("%d experts were measured, the layer has %d", len(t.Experts), len(shares))
	}
	return shares, nil
}

// layer computes the shares of a layer's experts from the plan's counts. In a
// layer without statistics experts are alike.
func (x *chooser) layer(layer int) ([]float64, error) {
	i := slices.IndexFunc(x.plan.Layers, func(l manifest.Layer) bool { return l.Layer == layer })
	if i < 0 {
		return nil, fmt.Errorf("the plan has no experts in blk.%d", layer)
	}
	rec := &x.plan.Layers[i]
	l := &moeLayer{index: layer, experts: len(rec.Experts), evidence: &stats.Layer{}}
	for _, e := range rec.Experts {
		switch {
		case e.Count != nil:
			l.counts = append(l.counts, *e.Count)
			l.total += *e.Count
		case e.Share != nil:
			l.weights = append(l.weights, *e.Share)
		}
	}
	if !x.objective.needsTraffic() || len(l.counts) != l.experts && len(l.weights) != l.experts {
		return slices.Repeat([]float64{1 / float64(l.experts)}, l.experts), nil
	}
	if len(l.counts) != l.experts {
		l.counts = nil
	}
	smoothed := l.smoothed()
	var energy []float64
	if x.objective == ObjectiveOutputShare {
		energy = make([]float64, l.experts)
		for i := range x.errors.Tensors {
			t := &x.errors.Tensors[i]
			if t.Role != string(ggufio.RoleExpertDown) || t.Layer == nil || *t.Layer != layer {
				continue
			}
			for j := range t.Experts {
				if e := t.Experts[j].Expert; e < l.experts {
					energy[e] = expertEnergy(&t.Experts[j], l, e, smoothed[e])
				}
			}
		}
	}
	return normalise(x.objective, smoothed, energy)
}
