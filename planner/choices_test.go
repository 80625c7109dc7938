package planner

import (
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/planner/frequency"
	"github.com/ggufplan/ggufplan/planner/manifest"
	"github.com/ggufplan/ggufplan/stats/measure"
)

// choicesProblem is a solved budget problem whose errors name the model.
func choicesProblem(t *testing.T, o gguftest.MoE, objective Objective, sensitivity *NamedSensitivity) (*Plan, *manifest.Manifest, *measure.Result) {
	m := tinyMoE(t, o)
	p := budgetProblem(m, 4, 0)
	p.Policy.Budget.Objective, p.Policy.Budget.Sensitivity = objective, sensitivity
	p.Policy.Budget.Target, p.Policy.Budget.BitsPerWeight = TargetBPW, frequency.MakeFraction(3.6)
	e := p.Policy.Budget.Errors.Result
	e.Model.Files = m.FileIDs()
	for i := range e.Tensors {
		x, _ := m.TensorByName(e.Tensors[i].Name)
		if x.Layer >= 0 {
			e.Tensors[i].Layer = &x.Layer
		}
	}
	plan := solve(t, p)
	return plan, plan.Manifest(), e
}

// What show says every planned type costs adds up to the plan's damages.
func TestChoicesAddUp(t *testing.T) {
	for _, o := range []Objective{ObjectiveOutputShare, ObjectiveTraffic, ObjectiveRelative, ObjectiveMSE, ObjectiveInverseTraffic} {
		for i := range 4 {
			separate, sensitivity := i%2 == 1, []*NamedSensitivity{nil, {Kind: SensitivityTypical}}[i/2]
			plan, m, e := choicesProblem(t, gguftest.MoE{Layers: 2, Experts: 4, Separate: separate}, o, sensitivity)
			choices, err := Choices(m, e, m.Tensors, -1)
			if err != nil {
				t.Fatal(err)
			}
			var fused, split float64
			planned := func(c *Choice) float64 {
				for _, a := range c.Alternatives {
					if a.Type == c.Planned {
						return a.Damage
					}
				}
				t.Fatalf("%s: %s is not among the alternatives", c.Tensor, c.Planned)
				return 0
			}
			for i := range choices {
				fused += planned(&choices[i])
			}
			if !near(fused, plan.Budget.Damage) {
				t.Errorf("%s: planned types cost %v, the plan %v", o, fused, plan.Budget.Damage)
			}
			for expert := range 4 {
				var tensors []manifest.Tensor
				for _, x := range m.Tensors {
					if x.ExpertTypes != nil && (x.Expert == nil || *x.Expert == expert) || x.ExpertTypes == nil && expert == 0 {
						tensors = append(tensors, x)
					}
				}
				choices, err := Choices(m, e, tensors, expert)
				if err != nil {
					t.Fatal(err)
				}
				for i := range choices {
					split += planned(&choices[i])
				}
			}
			if !near(split, plan.Budget.SplitDamage) {
				t.Errorf("%s: planned types of experts cost %v, the split plan %v", o, split, plan.Budget.SplitDamage)
			}
		}
	}
}

func TestChoicesSteps(t *testing.T) {
	c := &Choice{Planned: "B", Alternatives: []Alternative{
		{"A", 10, 0, 9}, {"Worse", 12, 0, 9.5}, {"B", 20, 0, 5}, {"Same", 20, 0, 6}, {"Beaten", 25, 0, 5.5}, {"C", 30, 0, 2}, {"D", 40, 0, 1}}}
	c.findSteps(&manifest.Tensor{}, true)
	if *c.Down != (Step{Type: "A", Bytes: -10, Damage: 4}) || *c.Up != (Step{Type: "C", Bytes: 10, Damage: -3}) {
		t.Errorf("down %+v, up %+v", *c.Down, *c.Up)
	}
	c = &Choice{Planned: "D", Alternatives: c.Alternatives}
	if c.findSteps(&manifest.Tensor{}, true); c.Up != nil || *c.Down != (Step{Type: "C", Bytes: -10, Damage: 1}) {
		t.Errorf("of the largest: down %+v, up %+v", c.Down, c.Up)
	}
	// The source's own type has no error.
	c = &Choice{Planned: "F16", Alternatives: c.Alternatives}
	if c.findSteps(&manifest.Tensor{SourceType: "F16", SourceBytes: 60}, true); c.Up != nil || *c.Down != (Step{Type: "D", Bytes: -20, Damage: 1}) {
		t.Errorf("of the source: down %+v, up %+v", c.Down, c.Up)
	}
	c = &Choice{Planned: "Unmeasured", Alternatives: c.Alternatives}
	if c.findSteps(&manifest.Tensor{SourceType: "F16", SourceBytes: 60}, true); c.Up != nil || c.Down != nil {
		t.Errorf("of a type without an error: down %+v, up %+v", c.Down, c.Up)
	}
}

func TestChoicesRefuse(t *testing.T) {
	_, m, e := choicesProblem(t, gguftest.MoE{}, ObjectiveOutputShare, nil)
	own := *e
	own.Model.Files = []ggufio.FileID{{Name: "x.gguf", SizeBytes: 1}}
	if _, err := Choices(m, &own, m.Tensors, -1); err == nil || !strings.Contains(err.Error(), "another model") {
		t.Errorf("another model: error %v", err)
	}
	m.Tensors[0].Shape = []uint64{3, 3}
	if _, err := Choices(m, e, m.Tensors, -1); err == nil || !strings.Contains(err.Error(), "shape") {
		t.Errorf("another shape: error %v", err)
	}
}
