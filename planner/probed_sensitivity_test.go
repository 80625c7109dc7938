package planner

import (
	"errors"
	"slices"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/stats"
	"github.com/ggufplan/ggufplan/stats/measure"
)

// probedOf is a probe of a model in which the groups are the classes, each
// showing 0.01.
func probedOf(t *testing.T, p *Problem) *NamedSensitivity {
	t.Helper()
	types := []quant.Type{quant.Q2_K, quant.Q6_K}
	tensors, err := ProbeTensors(p.Model, p.Evidence, p.Policy.Budget.Errors.Result, types)
	if err != nil {
		t.Fatal(err)
	}
	probe := &measure.Probe{Copies: measure.CopiesSimulated, ProbeType: "Q2_K", WholeType: "Q6_K", Types: []string{"Q2_K", "Q6_K"}, Bands: "1"}
	probe.Model = measure.Model{Name: p.Model.Name, Architecture: p.Model.Architecture.Name}
	probe.Model.Files = p.Model.FileIDs()
	s := &NamedSensitivity{SensitivityProbe, stats.FileID{Name: "probe.json", SHA256: "00"}, &measure.Sensitivity{DropType: "Q2_K", Probe: probe}}
	for i := range tensors {
		x := &tensors[i]
		probe.Tensors = append(probe.Tensors, measure.ProbeTensor{Name: x.Tensor.Name, Group: x.Class, Typical: x.Typical, Errors: x.Errors, Mixtures: []string{"Q2_K"}})
		s.Names, s.Values = append(s.Names, x.Tensor.Name), append(s.Values, 0.01)
		if !slices.ContainsFunc(probe.Runs, func(r measure.ProbeRun) bool { return r.Name == x.Class }) {
			probe.Runs = append(probe.Runs, measure.ProbeRun{Name: x.Class, Kind: measure.RunGroup, KLD: 0.01, ScoredTokens: 1})
		}
	}
	probe.Runs = append(probe.Runs, measure.ProbeRun{Name: measure.MixtureName(0), Kind: measure.RunMixture, KLD: 0.02, ScoredTokens: 1},
		measure.ProbeRun{Name: measure.RunWhole, Kind: measure.RunWhole, KLD: 0.002, ScoredTokens: 1})
	probe.SetFit()
	return s
}

// What a probe found comes apart by typical sensitivities and adds up again: a
// plan with a group at the probe type has the damage that the group's run
// showed.
func TestProbedSensitivities(t *testing.T) {
	p := budgetProblem(tinyMoE(t, gguftest.MoE{Layers: 5, Shared: 1}), 1, 1<<30)
	s := probedOf(t, p)
	p.Policy.Budget.Sensitivity = s
	f, err := newFrame(p)
	if err != nil {
		t.Fatal(err)
	}
	w, err := newWeighing(f)
	if err != nil {
		t.Fatal(err)
	}
	sums := map[string]float64{}
	for i := range s.Probe.Tensors {
		x := &s.Probe.Tensors[i]
		k := slices.IndexFunc(f.slots, func(s slot) bool { return s.tensor.Name == x.Name })
		if got := w.sensitivity[k]; got.from != fromTable {
			t.Errorf("%s: %+v", x.Name, got)
		}
		sums[x.Group] += w.sensitivity[k].value * x.Errors[0]
	}
	for group, sum := range sums {
		if !near(sum, 0.01) {
			t.Errorf("%s: adds up to %v", group, sum)
		}
	}
	if len(sums) != 5 || *w.table.rule != floorControl || *w.table.dropType != "Q2_K" {
		t.Errorf("groups %v, rule %v", sums, *w.table.rule)
	}
	// With typical errors the run's damage at the probe type is the same.
	p.Policy.Budget.Errors = nil
	if f, err = newFrame(p); err != nil {
		t.Fatal(err)
	}
	if w, err = newWeighing(f); err != nil {
		t.Fatal(err)
	}
	r, _ := typicalError(quant.Q2_K)
	k := slices.IndexFunc(f.slots, func(s slot) bool { return s.tensor.Name == "output.weight" })
	if got := w.sensitivity[k].value * r; !near(got, 0.01) {
		t.Errorf("output with typical errors: %v", got)
	}
	s.Probe.Model.Name, s.Probe.Model.Files = "other", nil
	var fault *OtherProbeError
	if _, err := newWeighing(f); !errors.As(err, &fault) {
		t.Errorf("of another model: %v", err)
	}
}

// A prediction is y0 + k times the sum over all tensors, decided by the policy
// or not; without mixtures that hold there is none.
func TestPredictedKLD(t *testing.T) {
	p := budgetProblem(tinyMoE(t, gguftest.MoE{Layers: 5, MTP: 1}), 1, 1<<30)
	s := probedOf(t, p)
	p.Policy.Budget.Sensitivity = s
	p.Policy.Budget.Scope = ScopeExperts
	p.Policy.Base = "Q4_K_M"
	p.Policy.Budget.SizeBytes = 4 << 20
	plan := solve(t, p)
	alphas := s.Probe.Alphas(func(i int) float64 { return s.Probe.Tensors[i].Errors[0] })
	f, err := newFrame(p)
	if err != nil {
		t.Fatal(err)
	}
	w, err := newWeighing(f)
	if err != nil {
		t.Fatal(err)
	}
	sum, others := 0.0, 0.0
	for i := range plan.Tensors {
		x := &plan.Tensors[i]
		alpha, ok := alphas[x.Tensor.Name]
		if !ok || x.Type == f.slots[i].source {
			continue // kept, or of the prediction layer, which changes nothing
		}
		r, err := w.errorAt(i, x.Type)
		if err != nil {
			t.Fatal(err)
		}
		sum += alpha * r
		if !x.Tensor.Role.IsExpert() {
			others += alpha * r
		}
	}
	fit := s.Probe.Fit
	got := plan.Totals.PredictedKLD
	if got == nil || !near(got.KLD, *fit.Y0+*fit.K*sum) || !near(got.Low, got.KLD/1.5) || !near(got.High, got.KLD*1.5) || others == 0 {
		t.Fatalf("%+v, want %v + %v × %v (%v of it beside the experts)", got, *fit.Y0, *fit.K, sum, others)
	}
	if x := plan.Totals.SplitPredictedKLD; x == nil || x.KLD <= *fit.Y0 {
		t.Errorf("split: %+v", x)
	}
	for i := range plan.Totals.Baselines {
		if b := &plan.Totals.Baselines[i]; b.PredictedKLD == nil || b.PredictedKLD.KLD < *fit.Y0 {
			t.Errorf("%s: %+v", b.FileType.Name, b.PredictedKLD)
		}
	}
	front, err := SolveFrontier(p, []uint64{4 << 20}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if x := front.Points[0].Fused.PredictedKLD; x == nil || !near(x.KLD, got.KLD) {
		t.Errorf("the frontier's point: %+v, the plan's %+v", x, got)
	}
	loose := 1.6
	for name, change := range map[string]func(f *measure.ProbeFit){
		"no mixtures":           func(f *measure.ProbeFit) { f.K, f.Spread, f.Y0 = nil, nil, nil },
		"no whole file":         func(f *measure.ProbeFit) { f.Y0 = nil },
		"mixtures that are off": func(f *measure.ProbeFit) { f.Spread = &loose },
	} {
		own := *fit
		change(&own)
		s.Probe.Fit = &own
		plan := solve(t, p)
		if plan.Totals.PredictedKLD != nil || plan.Totals.Baselines[0].PredictedKLD != nil {
			t.Errorf("%s: a prediction", name)
		}
		if found := slices.ContainsFunc(plan.Findings, func(f Finding) bool { return f.Code == CodeProbeSpread }); found != (own.Spread == &loose) {
			t.Errorf("%s: the finding is there: %v", name, found)
		}
	}
}
