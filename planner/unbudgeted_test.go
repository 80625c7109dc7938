package planner

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner/frequency"
	"github.com/ggufplan/ggufplan/planner/manifest"
)

// A frequency plan loses what a budget's with the same types would: by hand from
// measured errors, and as file types' damage from typical ones.
func TestDamageOfFrequency(t *testing.T) {
	p := frequencyProblem(tinyMoE(t, gguftest.MoE{Layers: 3, Experts: 4}))
	given := p.Policy.Budget.Errors
	p.Policy.Budget.Sensitivity = &NamedSensitivity{Kind: SensitivityNone}
	plan := solve(t, p)
	fused, split := damageByHand(p, plan)
	tot := &plan.Totals
	if tot.Damage == nil || !near(*tot.Damage, fused) || !near(*tot.SplitDamage, split) || fused == split {
		t.Fatalf("damages %v and %v, by hand %v and %v", tot.Damage, tot.SplitDamage, fused, split)
	}
	rec := plan.Manifest()
	if x := rec.Policy.Prediction; x == nil || x.Errors.Kind != "measured" || *x.Errors.SHA256 != given.SHA256 || x.Sensitivity.Kind != "none" {
		t.Errorf("predicted from %+v", x)
	}
	if strings.Contains(codesOf(plan), CodeTypicalErrors) {
		t.Errorf("findings %s", codesOf(plan))
	}

	// Typical errors and sensitivities are what a plan without either goes by; a
	// budget that decides nothing has the same.
	p.Policy.Budget = Budget{}
	plan = solve(t, p)
	pins := *p
	pins.Policy.Name = PolicyBudget
	pins.Policy.Budget = Budget{Target: TargetSize, SizeBytes: 1 << 30, Objective: ObjectiveOutputShare, Scope: ScopeAll,
		Sensitivity: &NamedSensitivity{Kind: SensitivityTypical}}
	for i := range plan.Tensors {
		if x := &plan.Tensors[i]; x.Type.GGML != x.Tensor.Type {
			pins.Policy.Pins = append(pins.Policy.Pins, Pin{regexp.MustCompile("^" + regexp.QuoteMeta(x.Tensor.Name) + "$"), x.Type})
		}
	}
	pinned := solve(t, &pins)
	if got := *plan.Totals.Damage; !near(got, pinned.Budget.Damage) || !strings.Contains(codesOf(plan), CodeTypicalErrors) {
		t.Errorf("damage %v, of a budget that decides nothing %v; findings %s", got, pinned.Budget.Damage, codesOf(plan))
	}
	for i := range plan.Totals.Baselines {
		a, b := &plan.Totals.Baselines[i], &pinned.Totals.Baselines[i]
		if a.FileType != b.FileType || a.Damage == nil || !near(*a.Damage, *b.Damage) {
			t.Errorf("%s: damage %v, %s beside the budget's plan %v", a.FileType.Name, a.Damage, b.FileType.Name, b.Damage)
		}
	}
}

// A budget's damage is said once more in the totals, and is the same.
func TestDamageOfBudgetTwice(t *testing.T) {
	m := solve(t, budgetProblem(tinyMoE(t, gguftest.MoE{Layers: 1, Experts: 4}), 5, 1<<30)).Manifest()
	if m.Totals.Damage == nil || *m.Totals.Damage != m.Policy.Budget.Damage || m.Policy.Prediction != nil {
		t.Errorf("damage %v of %+v", m.Totals.Damage, m.Policy.Budget)
	}
	for want, change := range map[string]func(*manifest.Manifest){
		"totals.damage: not policy.budget.damage, which is ":             func(m *manifest.Manifest) { m.Totals.Damage = new(2**m.Totals.Damage + 1) },
		"totals.split_damage: not policy.budget.split_damage, which is ": func(m *manifest.Manifest) { m.Totals.SplitDamage = nil },
		"policy.prediction: a budget says itself": func(m *manifest.Manifest) {
			m.Policy.Prediction = &manifest.Prediction{Errors: m.Policy.Budget.Errors, Sensitivity: *m.Policy.Budget.Sensitivity}
		},
	} {
		bad := *m
		change(&bad)
		if err := bad.Check(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// frequencyProblem has measured errors for its damage.
func frequencyProblem(m *ggufio.Model) *Problem {
	p := budgetProblem(m, 5, 1<<30)
	given := p.Policy.Budget.Errors
	p.Policy = DefaultPolicy()
	p.Policy.Budget.Errors = given
	return p
}

// A probe with mixtures says what KL divergence a frequency plan can be expected
// to show, as it does of a budget's.
func TestPredictedKLDOfFrequency(t *testing.T) {
	p := frequencyProblem(tinyMoE(t, gguftest.MoE{Layers: 5}))
	s := probedOf(t, p)
	p.Policy.Budget.Sensitivity = s
	fit := s.Probe.Fit
	plan := solve(t, p)
	got := plan.Totals.PredictedKLD
	// Damage and prediction are the same sum; the one in a plan's unit.
	if got == nil || !near(got.KLD, *fit.Y0+*fit.K**plan.Totals.Damage) || got.Low >= got.KLD || got.High <= got.KLD {
		t.Errorf("%+v of damage %v", got, *plan.Totals.Damage)
	}
	if x := plan.Totals.SplitPredictedKLD; x == nil || !near(x.KLD, *fit.Y0+*fit.K**plan.Totals.SplitDamage) {
		t.Errorf("split: %+v", x)
	}
	if rec := plan.Manifest().Policy.Prediction; rec.Sensitivity.Kind != "probe" || *rec.Sensitivity.Name != "probe.json" {
		t.Errorf("predicted from %+v", rec)
	}
}

// Where a routed expert's error is not known nothing is predicted, of the file
// types neither, and a finding says so.
func TestDamageThatIsNotKnown(t *testing.T) {
	p := frequencyProblem(tinyMoE(t, gguftest.MoE{Layers: 2, Experts: 4}))
	p.Types = &frequency.Types{}
	odd, err := p.Types.Declare("PiQ3", 8, 3)
	if err != nil {
		t.Fatal(err)
	}
	p.Policy.Frequency.ColdType = odd
	p.Policy.Frequency.Fuse = FuseHottest
	plan := solve(t, p)
	tot := &plan.Totals
	want := "no damage of the split plan is predicted: the error of experts of "
	i := slices.IndexFunc(plan.Findings, func(f Finding) bool { return f.Code == CodePartialDamage })
	if tot.Damage == nil || tot.SplitDamage != nil || tot.SplitRatio != nil || tot.Baselines[0].Damage == nil || i < 0 || !strings.HasPrefix(plan.Findings[i].Message, want) {
		t.Errorf("only of the split plan: %+v, findings %+v", tot, plan.Findings)
	}
	p.Policy.Frequency.HotType, p.Policy.Frequency.WarmType = odd, odd
	plan = solve(t, p)
	tot = &plan.Totals
	if tot.Damage != nil || tot.SplitDamage != nil || tot.SplitRatio != nil || tot.Baselines[0].Damage != nil || plan.Manifest().Policy.Prediction != nil {
		t.Errorf("%+v", tot)
	}
	want = "no damage is predicted: the error of "
	if i = slices.IndexFunc(plan.Findings, func(f Finding) bool { return f.Code == CodePartialDamage }); i < 0 || !strings.HasPrefix(plan.Findings[i].Message, want) {
		t.Errorf("findings %+v", plan.Findings)
	}
}

// F32 holds what any source does: a tensor pinned to it loses nothing, and no
// prediction leaves it out.
func TestNothingIsLostInF32(t *testing.T) {
	p := frequencyProblem(tinyMoE(t, gguftest.MoE{Layers: 5, Type: quant.F16}))
	p.Policy.Budget.Sensitivity = probedOf(t, p)
	p.Policy.Pins = []Pin{{regexp.MustCompile(`attn_v|0\.ffn_down_exps`), frequency.GGML(quant.F32)}}
	for _, kind := range []string{"measured", "typical"} {
		plan := solve(t, p)
		tot := &plan.Totals
		if tot.Damage == nil || tot.PredictedKLD == nil || strings.Contains(codesOf(plan), CodePartialDamage) {
			t.Fatalf("%s errors: damage %v, %+v; findings %s", kind, tot.Damage, tot.PredictedKLD, codesOf(plan))
		}
		all := *p
		all.Policy.Pins = []Pin{{regexp.MustCompile(`weight$`), frequency.GGML(quant.F32)}}
		if d := solve(t, &all).Totals.Damage; d == nil || *d != 0 {
			t.Errorf("%s errors: all in F32 lose %v", kind, d)
		}
		p.Policy.Budget.Errors = nil
	}
}
