package planner

import (
	"slices"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner/frequency"
)

func TestTypeSets(t *testing.T) {
	for name, want := range map[string]string{
		"k":      "Q2_K Q3_K Q4_K Q5_K Q6_K Q8_0",
		"k+iq":   "IQ1_M IQ2_XXS IQ2_XS IQ2_S Q2_K IQ3_XXS Q3_K IQ3_S IQ4_XS Q4_K IQ4_NL Q5_K Q6_K Q8_0",
		"legacy": "Q4_0 Q4_1 Q5_0 Q5_1 Q8_0",
	} {
		set, ok := TypeSet(name)
		var got []string
		for _, x := range set {
			got = append(got, x.Name)
		}
		if text := strings.Join(got, " "); !ok || text != want {
			t.Errorf("%s: %s", name, text)
		}
	}
	if set, ok := TypeSet("all"); !ok || !slices.Contains(set, frequency.GGML(quant.Q1_0)) {
		t.Errorf("all: %v", set)
	}
	if _, ok := TypeSet("K"); ok {
		t.Error("K is a set")
	}
	m := tinyMoE(t, gguftest.MoE{Layers: 2, Experts: 4})
	for _, measured := range []bool{true, false} {
		p := budgetProblem(m, 1, 1<<30)
		if !measured {
			p.Policy.Budget.Errors = nil
		}
		p.Policy.Budget.Types = nil
		if got := strings.Join(solve(t, p).Budget.Types, " "); got != "IQ1_M IQ2_XXS IQ2_XS IQ2_S Q2_K IQ3_XXS Q3_K IQ3_S IQ4_XS Q4_K IQ4_NL Q5_K Q6_K Q8_0" {
			t.Errorf("measured %v: candidates %s", measured, got)
		}
		least := frequency.GGML(quant.Q4_K)
		p.Policy.Budget.MinType = &least
		if got := strings.Join(solve(t, p).Budget.Types, " "); got != "Q4_K Q5_K Q6_K Q8_0" {
			t.Errorf("from Q4_K: candidates %s", got) // IQ4_NL has as many bits and comes before it by name
		}
		high := frequency.GGML(quant.F16)
		p.Policy.Budget.MinType = &high
		if _, err := Solve(p); err == nil || !strings.Contains(err.Error(), "F16") {
			t.Errorf("from F16: %v", err)
		}
	}
}
