package planner

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strings"

	"github.com/ggufplan/ggufplan/planner/frequency"
)

// Solve decides what every tensor of the problem's model becomes. The same
// problem always gives the same plan.
func Solve(p *Problem) (*Plan, error) {
	f, err := newFrame(p)
	if err != nil {
		return nil, err
	}
	var d *decision
	switch p.Policy.Name {
	case PolicyFrequency:
		d, err = f.chooseFrequency()
	case PolicyBudget:
		d, err = f.chooseBudget()
	default:
		err = fmt.Errorf("policy %q: want %q or %q", p.Policy.Name, PolicyFrequency, PolicyBudget)
	}
	if err != nil {
		return nil, err
	}
	return f.assemble(d)
}

// assemble turns a policy's decision into a plan: sizes, fallbacks, reasons,
// totals and findings are the same for every policy.
func (f *frame) assemble(d *decision) (*Plan, error) {
	plan := &Plan{Problem: f.problem, Base: f.baseName, Tensors: make([]TensorPlan, len(f.slots)), Layers: d.layers, Budget: d.budget}
	err := spread(len(f.slots), func(i int) (err error) {
		plan.Tensors[i], err = f.slots[i].plan(&d.verdicts[i])
		return err
	})
	if err != nil {
		return nil, err
	}
	forecasts := make(chan forecast, 1)
	go func() { forecasts <- f.forecast(plan, d) }() // takes as long as the sums, and needs none of them
	err = plan.sum()
	expected := <-forecasts
	if err := cmp.Or(err, expected.err); err != nil {
		return nil, err
	}
	plan.predict(&expected)
	d.findings = append(d.findings, expected.findings...)
	if err := plan.estimateRun(d); err != nil {
		return nil, err
	}
	plan.Findings = f.findings(plan, d)
	return plan, nil
}

// sum computes the totals and checks the plan.
func (p *Plan) sum() error {
	if err := p.total(); err != nil {
		return err
	}
	if err := p.sizeFiles(); err != nil {
		return err
	}
	if err := p.Check(); err != nil {
		return fmt.Errorf("internal error: %w", err)
	}
	return nil
}

// plan settles one tensor.
func (s *slot) plan(v *verdict) (TensorPlan, error) {
	chosen, reason, pinned := s.settled, s.reason, s.state == slotPinned
	var split []frequency.Type
	if s.state == slotOpen && v.Reason != "" {
		chosen, reason, split = v.Fused, v.Reason, v.Split
	}
	o, err := s.resolve(chosen, pinned)
	if err != nil {
		return TensorPlan{}, err
	}
	t := TensorPlan{Tensor: s.tensor, Type: o.Type, SizeBytes: o.SizeBytes, SplitSizeBytes: o.SizeBytes}
	t.Reason = reason + s.aside(chosen, o)
	t.Sensitivity, t.SensitivityFrom = v.sensitivity.value, v.sensitivity.from
	t.StepUp, t.StepDown = v.up, v.down
	if s.layer < 0 {
		return t, nil
	}
	if split == nil || s.tensor.Expert >= 0 {
		t.ExpertTypes = slices.Repeat([]frequency.Type{o.Type}, s.matrices())
		return t, nil
	}
	t.SplitSizeBytes = 0
	t.ExpertTypes = split // its own list only where another type comes of one
	for e, c := range split {
		if e == 0 || c != split[e-1] {
			if o, err = s.resolve(c, false); err != nil {
				return TensorPlan{}, err
			}
		}
		if t.SplitSizeBytes += o.SizeBytes / uint64(len(split)); o.Type == c {
			continue
		}
		if &t.ExpertTypes[0] == &split[0] {
			t.ExpertTypes = slices.Clone(split)
		}
		t.ExpertTypes[e] = o.Type
	}
	return t, nil
}

// aside says why a tensor does not get the type that was chosen for it.
func (s *slot) aside(chosen frequency.Type, o outcome) string {
	var b strings.Builder
	if o.Fallback {
		fmt.Fprintf(&b, "; rows of %d do not divide into blocks of %s", s.tensor.Shape[0], chosen.Name)
		if !o.Kept {
			fmt.Fprintf(&b, ", so its fallback %s", o.Type.Name)
		}
	}
	if o.Kept {
		fmt.Fprintf(&b, "; that would save no bytes over the source's %s, which stays", s.source.Name)
	}
	return b.String()
}

var errTooLarge = errors.New("the plan's sizes add up to more than 2^63-1 bytes")

// adder sums sizes and remembers an overflow. Sums stay below 2^63 so that
// differences of two have a sign.
type adder struct{ over bool }

func (a *adder) add(dst *uint64, n uint64) {
	sum, carry := bits.Add64(*dst, n, 0)
	if carry != 0 || sum > math.MaxInt64 {
		a.over = true
	}
	*dst = sum
}

// total sums up the plan's tensors and layers.
func (p *Plan) total() error {
	var a adder
	t := &p.Totals
	for i := range p.Tensors {
		x := &p.Tensors[i]
		a.add(&t.Parameters, x.Tensor.Parameters)
		a.add(&t.SourceBytes, x.Tensor.SizeBytes)
		a.add(&t.PlannedBytes, x.SizeBytes)
		a.add(&t.SplitBytes, x.SplitSizeBytes)
		if x.ExpertTypes != nil {
			a.add(&t.Experts.Parameters, x.Tensor.Parameters)
			a.add(&t.Experts.SourceBytes, x.Tensor.SizeBytes)
			a.add(&t.Experts.PlannedBytes, x.SizeBytes)
			a.add(&t.Experts.SplitBytes, x.SplitSizeBytes)
		}
	}
	if p.Problem.Policy.Name == PolicyFrequency {
		p.totalTiers(&a)
	}
	if a.over {
		return errTooLarge
	}
	return nil
}

// sizeFiles says how large the files of both plans are, and of the file types
// beside them.
func (p *Plan) sizeFiles() (err error) {
	t := &p.Totals
	if t.FileBytes, err = p.FileBytes(); err != nil {
		return err
	}
	if t.SplitFileBytes, err = p.SplitFileBytes(); err != nil {
		return err
	}
	t.Baselines, err = baselines(p.Problem, &t.PlannedBytes)
	return err
}

// totalTiers sums up the tiers. Where there are counts, a tier's share is of
// all of them; where there are only weights, whose unit may differ by layer, it
// is the mean over the layers.
func (p *Plan) totalTiers(a *adder) {
	tiers := []TierTotal{{Tier: frequency.Hot}, {Tier: frequency.Warm}, {Tier: frequency.Cold}}
	place := func(t frequency.Tier) *TierTotal { return &tiers[frequency.Hot-t] }
	var counts [3]uint64
	var shares [3]float64
	layers, known := 0, true
	at := map[int]int{}
	for k := range p.Layers {
		l := &p.Layers[k]
		at[l.Layer] = k
		counted := false
		for e := range l.Experts {
			x := &l.Experts[e]
			if x.Tier == nil {
				continue
			}
			counted = true
			place(*x.Tier).Experts++
			switch {
			case x.Count != nil:
				counts[*x.Tier] += *x.Count // the sum over the model fits: newFrame checked it
			case x.Share != nil:
				shares[*x.Tier] += *x.Share
			default:
				known = false
			}
		}
		if counted {
			layers++
		}
	}
	total := counts[frequency.Hot] + counts[frequency.Warm] + counts[frequency.Cold]
	for i := range tiers {
		t := tiers[i].Tier
		switch {
		case !known || layers == 0:
		case total > 0:
			tiers[i].ActivationShare = ratio(float64(counts[t]), float64(total))
		default:
			tiers[i].ActivationShare = ratio(shares[t], float64(layers))
		}
	}
	for i := range p.Tensors {
		x := &p.Tensors[i]
		if x.ExpertTypes == nil {
			continue
		}
		l := &p.Layers[at[x.Tensor.Layer]]
		var bytes uint64
		for j, t := range x.ExpertTypes {
			if j == 0 || t != x.ExpertTypes[j-1] {
				bytes = x.expertBytes(t)
			}
			if tier := l.Experts[expertOf(x.Tensor, j)].Tier; tier != nil {
				a.add(&place(*tier).SplitBytes, bytes)
			}
		}
	}
	p.Totals.Tiers = tiers
}

// expertBytes returns the bytes of one expert of the tensor in a type that its
// split plan names.
func (x *TensorPlan) expertBytes(t frequency.Type) uint64 {
	n := uint64(len(x.ExpertTypes))
	switch t.Name {
	case x.Type.Name:
		return x.SizeBytes / n
	case x.Tensor.Type.String():
		return x.Tensor.SizeBytes / n
	}
	size, err := t.Layout.EncodedBytes(x.Tensor.Rows()/n, x.Tensor.Shape[0])
	if err != nil {
		panic(fmt.Sprintf("planner: %s: %v", x.Tensor.Name, err)) // resolve checked it
	}
	return size
}
