package planner

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner/frequency"
	"github.com/ggufplan/ggufplan/planner/llamaquantize"
	"github.com/ggufplan/ggufplan/stats"
	"github.com/ggufplan/ggufplan/stats/measure"
)

// Codes of the findings that planning itself makes. Evidence brings those of
// [stats.FindingCodes].
const (
	CodeLayerWithoutStatistics = "layer-without-statistics"
	CodeUnseenExperts          = "unseen-experts"
	CodeScarceExperts          = "scarce-experts"
	CodeShapeFallback          = "shape-fallback"
	CodeRequantize             = "requantize"
	CodeEnlarges               = "enlarges"
	CodeAlignment              = "alignment"
	CodeNeedsImatrix           = "needs-imatrix"
	CodeMTPBlock               = stats.CodeMTPBlock
	CodeSuperExpert            = "super-expert"
	CodeTypicalErrors          = "typical-errors"
	CodePartialDamage          = "partial-damage"
	CodeFlatSensitivity        = "flat-sensitivity"
	CodeMostlyCold             = "mostly-cold"
	CodeProbeSpread            = "probe-spread"
	CodeTypesLeftOut           = "types-left-out"
)

// FindingCodes lists the codes a manifest of this version may hold, in
// alphabetical order.
func FindingCodes() []string {
	codes := append(ownCodes(), stats.FindingCodes()...)
	slices.Sort(codes)
	return slices.Compact(codes)
}

func ownCodes() []string {
	return []string{CodeLayerWithoutStatistics, CodeUnseenExperts, CodeScarceExperts, CodeShapeFallback, CodeRequantize,
		CodeEnlarges, CodeAlignment, CodeNeedsImatrix, CodeSuperExpert, CodeTypicalErrors, CodePartialDamage, CodeFlatSensitivity, CodeMostlyCold, CodeProbeSpread, CodeTypesLeftOut}
}

// findings collects what a reviewer should know about a plan, sorted by code
// and within a code in the model's order.
func (f *frame) findings(plan *Plan, d *decision) []Finding {
	list := slices.Clone(d.findings)
	if ev := f.problem.Evidence; ev != nil {
		for _, e := range ev.Findings {
			if !slices.Contains(ownCodes(), e.Code) { // those are said below, of the plan
				if e.Subject == "" && len(ev.Inputs) > 0 {
					e.Subject = ev.Inputs[0].Name
				}
				list = append(list, Finding(e))
			}
		}
	}
	for k := range f.layers {
		list = append(list, f.layerFindings(k, plan)...)
	}
	for i := range f.slots {
		list = append(list, f.tensorFindings(i, plan, &d.verdicts[i])...)
	}
	list = append(list, f.requantize(plan)...)
	for _, t := range plan.Totals.Tiers {
		if share := t.ActivationShare; t.Tier == frequency.Cold && share != nil && *share > 0.5 {
			list = append(list, Finding{CodeMostlyCold, f.modelFile(),
				fmt.Sprintf("%.1f %% of the traffic goes to cold experts, at %s: tiers by traffic bound that share, and a target size needs no tiers",
					100**share, f.problem.Policy.Frequency.ColdType.Name)})
		}
	}
	list = append(list, f.alignment()...)
	seen := make(map[Finding]bool, len(list))
	list = slices.DeleteFunc(list, func(x Finding) bool {
		twice := seen[x]
		seen[x] = true
		return twice
	})
	slices.SortStableFunc(list, func(a, b Finding) int { return strings.Compare(a.Code, b.Code) })
	return list
}

// subjectOfLayer is what findings about a layer are about.
func subjectOfLayer(layer int) string { return fmt.Sprintf("blk.%d", layer) }

func (f *frame) layerFindings(k int, plan *Plan) []Finding {
	l := &f.layers[k]
	subject := subjectOfLayer(l.index)
	var list []Finding
	if l.evidence == nil {
		if f.problem.Evidence == nil {
			return nil // a plan without any statistics: the policy says so
		}
		if f.problem.Model.IsMTP(l.index) {
			list = append(list, Finding{CodeMTPBlock, subject, "a block for multi-token prediction, which statistics tools do not usually run"})
		}
		return append(list, Finding{CodeLayerWithoutStatistics, subject,
			fmt.Sprintf("no statistics for its %d experts: planned at the hot type %s", l.experts, f.problem.Policy.Frequency.HotType.Name)})
	}
	unseen, scarce := 0, 0
	for e := range plan.Layers[k].Experts {
		switch plan.Layers[k].Experts[e].Flag {
		case FlagUnseen:
			unseen++
		case FlagScarce:
			scarce++
		}
	}
	if unseen > 0 {
		list = append(list, Finding{CodeUnseenExperts, subject,
			fmt.Sprintf("%d of %d experts were never used", unseen, l.experts)})
	}
	if scarce > 0 {
		list = append(list, Finding{CodeScarceExperts, subject,
			fmt.Sprintf("%d of %d experts have fewer than 10 effective activations", scarce, l.experts)})
	}
	for _, e := range l.evidence.SuperExperts {
		if e >= 0 && e < l.experts {
			list = append(list, Finding{CodeSuperExpert, subject,
				fmt.Sprintf("expert %d produces extreme activations: protected, whatever its traffic", e)})
		}
	}
	return list
}

// tensorFindings looks at one tensor of the plan.
func (f *frame) tensorFindings(i int, plan *Plan, v *verdict) []Finding {
	s, t := &f.slots[i], &plan.Tensors[i]
	var list []Finding
	chosen := []frequency.Type{s.settled}
	if s.state == slotOpen && v.Reason != "" {
		chosen[0] = v.Fused
		for e, c := range v.Split {
			if (e == 0 || c != v.Split[e-1]) && !slices.Contains(chosen, c) {
				chosen = append(chosen, c)
			}
		}
	}
	var fallbacks []string
	for _, c := range chosen {
		o, err := s.resolve(c, s.state == slotPinned)
		if err != nil || !o.Fallback || o.Kept {
			continue
		}
		if text := fmt.Sprintf("%s becomes %s", c.Name, o.Type.Name); !slices.Contains(fallbacks, text) {
			fallbacks = append(fallbacks, text)
		}
	}
	if fallbacks != nil {
		list = append(list, Finding{CodeShapeFallback, s.tensor.Name,
			fmt.Sprintf("rows of %d weights do not divide into blocks: %s", s.tensor.Shape[0], strings.Join(fallbacks, ", "))})
	}
	if t.SizeBytes > s.tensor.SizeBytes {
		list = append(list, Finding{CodeEnlarges, s.tensor.Name,
			fmt.Sprintf("pinned to %s: %d bytes, %d more than in the source's %s", t.Type.Name, t.SizeBytes, t.SizeBytes-s.tensor.SizeBytes, s.source.Name)})
	}
	if f.lacksImatrix(s, t.Type) {
		list = append(list, Finding{CodeNeedsImatrix, s.tensor.Name,
			fmt.Sprintf("%s needs an importance matrix, and the statistics have none under the tensor's own name", t.Type.Name)})
	}
	return list
}

// lacksImatrix reports whether llama-quantize would stop at the tensor for
// want of an importance matrix, where the source's type stays as well, or apply
// would.
func (f *frame) lacksImatrix(s *slot, t frequency.Type) bool {
	encoded := t != s.source && quant.EncodeNeedsWeights(t.GGML)
	if t.Declared || !encoded && !quant.NeedsImatrix(s.tensor.Name, t.GGML) || !llamaquantize.Quantizable(s.tensor) {
		return false
	}
	return !f.hasImatrix(s.tensor)
}

// hasImatrix reports whether llama-quantize would find importances for every
// column of every matrix of the tensor, under its own name.
func (f *frame) hasImatrix(t *ggufio.Tensor) bool {
	ev := f.problem.Evidence
	return ev != nil && measure.Covers(ev.Columns, t)
}

// requantize reports tensors that are quantized already and change type.
func (f *frame) requantize(plan *Plan) []Finding {
	n, first := 0, ""
	for i := range plan.Tensors {
		t := &plan.Tensors[i]
		if format, ok := quant.Lookup(t.Tensor.Type); ok && format.Quantized && t.Type != f.slots[i].source {
			if n == 0 {
				first = t.Tensor.Name
			}
			n++
		}
	}
	if n == 0 {
		return nil
	}
	return []Finding{{CodeRequantize, f.modelFile(),
		fmt.Sprintf("%d tensors are quantized in the source and lose more by changing type, %s first: errors are those of this step, what the source lost before is not known; llama-quantize needs --allow-requantize", n, first)}}
}

// alignment reports a source whose tensors llama-quantize would misplace: it
// copies general.alignment and then pads to 32 all the same, behind the header
// too, whose length depends on names that are not known yet.
func (f *frame) alignment() []Finding {
	if len(f.problem.Model.Files) == 0 {
		return nil
	}
	align := f.problem.Model.Files[0].AlignmentBytes
	if align == 0 || align == llamaquantize.OutputAlignment {
		return nil
	}
	return []Finding{{CodeAlignment, f.modelFile(),
		fmt.Sprintf("general.alignment is %d, which llama-quantize copies while it pads to %d: llama.cpp looks for the tensors of its output elsewhere; ggufplan apply writes them right", align, llamaquantize.OutputAlignment)}}
}

func (f *frame) modelFile() string {
	if len(f.problem.Model.Files) == 0 {
		return f.problem.Model.Name
	}
	return f.problem.Model.Files[0].Name
}
