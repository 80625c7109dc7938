package planner

import (
	"math"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner/frequency"
)

func typesOf(x *TensorPlan) []frequency.Type {
	var types []frequency.Type
	for _, t := range x.ExpertTypes {
		if !slices.Contains(types, t) {
			types = append(types, t)
		}
	}
	return types
}

// bestSplit tries every split plan of at most k types a tensor, the rest of the
// plan as it is, within the budget, and returns the least damage.
func bestSplit(p *Problem, plan *Plan, types []frequency.Type, k int) float64 {
	trial := *plan
	trial.Tensors = slices.Clone(plan.Tensors)
	best := math.Inf(1)
	var try func(tensor, expert int)
	try = func(tensor, expert int) {
		if tensor == len(trial.Tensors) {
			if size, err := trial.SplitFileBytes(); err == nil && size <= p.Policy.Budget.SizeBytes {
				_, split := damageByHand(p, &trial)
				best = min(best, split)
			}
			return
		}
		x := &trial.Tensors[tensor]
		if x.ExpertTypes == nil || len(x.Reason) > 6 && x.Reason[:6] == "pinned" {
			try(tensor+1, 0)
			return
		}
		if expert == 0 {
			x.ExpertTypes = slices.Clone(x.ExpertTypes)
		}
		if expert == len(x.ExpertTypes) {
			if len(typesOf(x)) <= k {
				try(tensor+1, 0)
			}
			return
		}
		for _, t := range types {
			x.ExpertTypes[expert] = t
			try(tensor, expert+1)
		}
	}
	try(0, 0)
	return best
}

func TestMaxTiersAgainstBruteForce(t *testing.T) {
	types := []frequency.Type{frequency.GGML(quant.Q2_K), frequency.GGML(quant.Q3_K), frequency.GGML(quant.Q6_K)}
	proved := 0
	for n := range 4 {
		m := tinyMoE(t, gguftest.MoE{Layers: 1, Experts: 4, FF: 256, Vocab: 40})
		p := budgetProblem(m, uint64(n), 0)
		p.Policy.Budget.Types, p.Policy.Base = types, "keep"
		// Two tensors are left open: all plans can be tried.
		p.Policy.Pins = []Pin{{regexp.MustCompile("token_embd|attn|output|gate_exps"), frequency.GGML(quant.Q8_0)}}
		least := cheapest(t, p)
		for k := 1; k <= 2; k++ {
			p.Policy.MaxTiers, p.Policy.Budget.SizeBytes = k, least+200_000+uint64(n)*60_000
			plan := solve(t, p)
			checkBudget(t, plan)
			for i := range plan.Tensors {
				if list := typesOf(&plan.Tensors[i]); len(list) > k {
					t.Errorf("%s: types %v, at most %d are wanted", plan.Tensors[i].Tensor.Name, list, k)
				}
			}
			_, split := damageByHand(p, plan)
			fixed := split - plan.Budget.SplitDamage // of what is pinned
			best := bestSplit(p, plan, append(types, frequency.GGML(quant.F16)), k) - fixed
			if plan.Budget.SplitBound > best*(1+1e-9) || plan.Budget.SplitDamage < best*(1-1e-9) {
				t.Errorf("problem %d, %d tiers: damage %v, bound %v, the best is %v", n, k, plan.Budget.SplitDamage, plan.Budget.SplitBound, best)
			}
			if plan.Budget.SplitDamage > best*1.002 {
				t.Errorf("problem %d, %d tiers: damage %v, the best is %v", n, k, plan.Budget.SplitDamage, best)
			}
			if plan.Budget.SplitGap < 1e-6 {
				proved++
			}
		}
	}
	if proved < 6 {
		t.Errorf("only %d of 8 plans are known to be the best", proved)
	}
}

// On the shapes of a published model few types are nearly as good as many, and
// the bound says so.
func TestMaxTiers(t *testing.T) {
	m := gguftest.OpenHeader(t, filepath.Join(recorded, "olmoe-1b-7b-bf16.gguf"))
	last := 0.0
	for _, k := range []int{0, 4, 3, 2, 1} {
		p := budgetProblem(m, 3, 3_000_000_000)
		p.Policy.MaxTiers = k
		plan := solve(t, p)
		checkBudget(t, plan)
		b := plan.Budget
		if b.SplitDamage < last || b.SplitGap > 3e-4 || b.SplitDamage > b.Damage {
			t.Errorf("%d tiers: damage %v after %v, gap %v, fused %v", k, b.SplitDamage, last, b.SplitGap, b.Damage)
		}
		last = b.SplitDamage
		if r := plan.Totals.SplitRatio; r == nil || *r != b.Damage/b.SplitDamage {
			t.Errorf("ratio %v of %v and %v", r, b.Damage, b.SplitDamage)
		}
	}
}

// Tied tensors share their types, and their limit.
func TestMaxTiersTied(t *testing.T) {
	m := tinyMoE(t, gguftest.MoE{Layers: 2, Experts: 8})
	p := budgetProblem(m, 4, 0)
	p.Policy.Budget.TieGateUp, p.Policy.MaxTiers = true, 2
	p.Policy.Budget.SizeBytes = cheapest(t, p) + 500_000
	plan := solve(t, p)
	checkBudget(t, plan)
	for _, l := range []string{"blk.0.", "blk.1."} {
		gate, up := plan.planOf(t, l+"ffn_gate_exps.weight"), plan.planOf(t, l+"ffn_up_exps.weight")
		if !slices.Equal(gate.ExpertTypes, up.ExpertTypes) || len(typesOf(gate)) > 2 {
			t.Errorf("%s: gate %v, up %v", l, gate.ExpertTypes, up.ExpertTypes)
		}
	}
}

func TestMaxTiersOfFrequency(t *testing.T) {
	p := &Problem{Model: tinyMoE(t, gguftest.MoE{Layers: 1, Experts: 4, FF: 256}), Policy: DefaultPolicy()}
	p.Evidence = counted([]uint64{100, 50, 60, 1}) // one hot, two warm, one cold
	for k, want := range map[int]string{3: "Q4_K Q3_K Q3_K Q2_K", 2: "Q4_K Q3_K Q3_K Q3_K", 1: "Q3_K Q3_K Q3_K Q3_K", 0: "Q4_K Q3_K Q3_K Q2_K"} {
		p.Policy.MaxTiers = k
		plan := solve(t, p)
		var got string
		for _, typ := range plan.planOf(t, "blk.0.ffn_up_exps.weight").ExpertTypes {
			got += " " + typ.Name
		}
		if got[1:] != want {
			t.Errorf("%d tiers:%s, want %s", k, got, want)
		}
		if r := plan.Totals.SplitRatio; r == nil || !(*r >= 1) {
			t.Errorf("%d tiers: a fused plan has %v times the damage", k, r)
		}
	}
	// The largest type is the super expert's.
	p.Evidence.Layers[0].SuperExperts = []int{3}
	p.Evidence.Layers[0].Counts = []uint64{2, 50, 60, 1}
	p.Policy.MaxTiers = 1
	if x := solve(t, p).planOf(t, "blk.0.ffn_up_exps.weight"); x.ExpertTypes[3].GGML != quant.Q4_K {
		t.Errorf("types %v: the super expert's is not the largest", x.ExpertTypes)
	}
}
