package planner

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner/frequency"
)

// TestSameSizeStays: a type of the same size as the source's saves nothing, and
// changing to it costs quality.
func TestSameSizeStays(t *testing.T) {
	for _, tt := range []struct {
		source, hot quant.Type
	}{{quant.IQ3_S, quant.Q3_K}, {quant.Q3_K, quant.IQ3_S}, {quant.Q5_0, quant.Q5_K}, {quant.Q4_0, quant.Q4_K}} {
		m := openModel(t, gguftest.MoE{Layers: 1, Type: tt.source}.Builder())
		policy := keepPolicy()
		policy.Frequency.HotType = frequency.GGML(tt.hot)
		policy.Frequency.Fuse = FuseHottest
		plan := solve(t, &Problem{Model: m, Evidence: counted([]uint64{9, 9, 9, 9}), Policy: policy})
		if up := plan.planOf(t, "blk.0.ffn_up_exps.weight"); up.Type.GGML != tt.source || up.ExpertTypes[0].GGML != tt.source {
			t.Errorf("%s becomes %s and %s of the same size", tt.source, up.Type, up.ExpertTypes[0])
		}
		policy.Pins = []Pin{{regexp.MustCompile("ffn_up_exps"), frequency.GGML(tt.hot)}}
		plan = solve(t, &Problem{Model: m, Evidence: counted([]uint64{9, 9, 9, 9}), Policy: policy})
		if up := plan.planOf(t, "blk.0.ffn_up_exps.weight"); up.Type.GGML != tt.hot {
			t.Errorf("a pin of %s gives %s", tt.hot, up.Type)
		}
	}
}

// TestForeignTypes: llama.cpp cannot open what holds another engine's types.
func TestForeignTypes(t *testing.T) {
	m := openModel(t, gguftest.MoE{Layers: 1}.Builder())
	m.Tensors[len(m.Tensors)-1].Type = quant.IQ4_KS
	_, err := Solve(&Problem{Model: m, Evidence: counted([]uint64{9, 5, 2, 1}), Policy: keepPolicy()})
	var foreign *ForeignTypeError
	if !errors.As(err, &foreign) || foreign.Tensor != m.Tensors[len(m.Tensors)-1].Name || !strings.Contains(err.Error(), "IQ4_KS") {
		t.Errorf("%v", err)
	}
}

// TestPinsAgainstTies: a gate and an up that are tied have one type, whatever
// is pinned.
func TestPinsAgainstTies(t *testing.T) {
	m := tinyMoE(t, gguftest.MoE{Layers: 2, Experts: 4})
	pin := func(name string, typ quant.Type) Pin { return Pin{regexp.MustCompile(name), frequency.GGML(typ)} }
	for _, tt := range []struct {
		pins []Pin
		ok   bool
	}{
		{[]Pin{pin("blk.1.ffn_gate_exps", quant.Q4_K), pin("blk.1.ffn_up_exps", quant.Q3_K)}, false},
		{[]Pin{pin("blk.1.ffn_gate_exps", quant.Q4_K), pin("blk.1.ffn_up_exps", quant.Q4_K)}, true},
		{[]Pin{pin("blk.1.ffn_gate_exps", quant.Q4_K)}, true},
		{[]Pin{pin("blk.1.ffn_down_exps", quant.Q4_K), pin("blk.0.ffn_up_exps", quant.Q3_K)}, true},
	} {
		p := budgetProblem(m, 1, 1<<30)
		p.Policy.Budget.TieGateUp = true
		p.Policy.Pins = tt.pins
		plan, err := Solve(p)
		var tie *TieError
		if tt.ok != (err == nil) || !tt.ok && (!errors.As(err, &tie) || tie.Tensors != [2]string{"blk.1.ffn_gate_exps.weight", "blk.1.ffn_up_exps.weight"}) {
			t.Errorf("%v: %v", tt.pins, err)
			continue
		}
		if tt.ok {
			for _, layer := range []string{"blk.0", "blk.1"} {
				if g, u := plan.planOf(t, layer+".ffn_gate_exps.weight"), plan.planOf(t, layer+".ffn_up_exps.weight"); g.Type != u.Type {
					t.Errorf("%v: %s has %s and %s", tt.pins, layer, g.Type, u.Type)
				}
			}
		}
	}
}

// TestSourceIsACandidate: where the budget holds the source, nothing changes.
func TestSourceIsACandidate(t *testing.T) {
	m := tinyMoE(t, gguftest.MoE{Layers: 2, Experts: 4})
	p := budgetProblem(m, 1, 1<<40)
	plan := solve(t, p)
	for i := range plan.Tensors {
		if x := &plan.Tensors[i]; x.Type.GGML != x.Tensor.Type {
			t.Errorf("%s: %s, the source has %s", x.Tensor.Name, x.Type, x.Tensor.Type)
		}
	}
	if plan.Budget.Damage != 0 || plan.Budget.SplitDamage != 0 || plan.Budget.Gap != 0 {
		t.Errorf("%+v", plan.Budget)
	}
}
