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
