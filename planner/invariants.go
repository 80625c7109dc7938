package planner

import (
	"fmt"
	"slices"

	"github.com/ggufplan/ggufplan/planner/frequency"
	"github.com/ggufplan/ggufplan/planner/llamaquantize"
)

// Check tests what holds for every plan, whatever the policy: sizes follow
// from types, only pins enlarge, split plans add up, totals are the sums of
// what is listed. Solve runs it on every plan it returns.
func (p *Plan) Check() error {
	m := p.Problem.Model
	if len(p.Tensors) != len(m.Tensors) {
		return fmt.Errorf("%d tensors planned of %d", len(p.Tensors), len(m.Tensors))
	}
	for i := range p.Tensors {
		if err := p.checkTensor(&p.Tensors[i], i); err != nil {
			return fmt.Errorf("%s: %w", m.Tensors[i].Name, err)
		}
	}
	again := Plan{Problem: p.Problem, Tensors: p.Tensors, Layers: p.Layers}
	if err := again.total(); err != nil {
		return err
	}
	a, b := again.Totals, p.Totals
	if a.Parameters != b.Parameters || a.SourceBytes != b.SourceBytes || a.PlannedBytes != b.PlannedBytes ||
		a.SplitBytes != b.SplitBytes || a.Experts != b.Experts || len(a.Tiers) != len(b.Tiers) {
		return fmt.Errorf("totals differ from the sums over tensors")
	}
	for i := range a.Tiers {
		if a.Tiers[i].Tier != b.Tiers[i].Tier || a.Tiers[i].Experts != b.Tiers[i].Experts || a.Tiers[i].SplitBytes != b.Tiers[i].SplitBytes {
			return fmt.Errorf("totals of %s experts differ from the sums over layers", a.Tiers[i].Tier)
		}
	}
	if !slices.IsSortedFunc(p.Layers, func(a, b LayerPlan) int { return a.Layer - b.Layer }) {
		return fmt.Errorf("layers are not in ascending order")
	}
	return nil
}

func (p *Plan) checkTensor(x *TensorPlan, i int) error {
	t := &p.Problem.Model.Tensors[i]
	if x.Tensor != t {
		return fmt.Errorf("not in the model's place %d", i)
	}
	if x.Reason == "" {
		return fmt.Errorf("no reason for %s", x.Type)
	}
	source := frequency.GGML(t.Type)
	size, err := sizeOf(x.Type, t)
	if err != nil {
		return err
	}
	if size != x.SizeBytes {
		return fmt.Errorf("%d bytes where %s takes %d", x.SizeBytes, x.Type, size)
	}
	pinned := slices.ContainsFunc(p.Problem.Policy.Pins, func(pin Pin) bool { return pin.Pattern.MatchString(t.Name) })
	if !pinned && max(x.SizeBytes, x.SplitSizeBytes) > t.SizeBytes {
		return fmt.Errorf("%d bytes, more than the source's %d, without a pin", max(x.SizeBytes, x.SplitSizeBytes), t.SizeBytes)
	}
	if !llamaquantize.Quantizable(t) && x.Type != source {
		return fmt.Errorf("%s for a tensor that llama-quantize does not quantize", x.Type)
	}
	if x.ExpertTypes == nil {
		if x.SplitSizeBytes != x.SizeBytes {
			return fmt.Errorf("%d bytes in the split plan, %d in the fused plan", x.SplitSizeBytes, x.SizeBytes)
		}
		return nil
	}
	if len(x.ExpertTypes) != t.Experts() {
		return fmt.Errorf("types of %d experts, it holds %d", len(x.ExpertTypes), t.Experts())
	}
	var split uint64
	for e, typ := range x.ExpertTypes {
		if e == 0 || typ != x.ExpertTypes[e-1] {
			if size, err = sizeOf(typ, t); err != nil {
				return err
			}
		}
		split += size / uint64(len(x.ExpertTypes))
	}
	if split != x.SplitSizeBytes {
		return fmt.Errorf("%d bytes in the split plan, its experts take %d", x.SplitSizeBytes, split)
	}
	return nil
}
