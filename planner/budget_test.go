package planner

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner/frequency"
	"github.com/ggufplan/ggufplan/planner/llamaquantize"
	"github.com/ggufplan/ggufplan/stats"
	"github.com/ggufplan/ggufplan/stats/measure"
)

// checkBudget holds a plan against what its budget promises.
func checkBudget(t *testing.T, plan *Plan) {
	t.Helper()
	b := &plan.Problem.Policy.Budget
	tot := &plan.Totals
	used, limit := tot.FileBytes, b.SizeBytes
	split := tot.SplitFileBytes
	parameters := tot.Parameters
	switch b.Target {
	case TargetBPW:
		used, split = tot.PlannedBytes, tot.SplitBytes
	case TargetExpertBPW:
		used, split, parameters = tot.Experts.PlannedBytes, tot.Experts.SplitBytes, tot.Experts.Parameters
	}
	if b.Target != TargetSize {
		limit = uint64(b.BitsPerWeight.Float64() * float64(parameters) / 8)
	}
	if used > limit || split > limit {
		t.Errorf("%d bytes, split %d, over the budget of %d", used, split, limit)
	}
	rec := plan.Budget
	if rec.Bound > rec.Damage || rec.SplitBound > rec.SplitDamage || rec.Gap < 0 || rec.SplitGap < 0 {
		t.Errorf("bounds above damages: %+v", rec)
	}
}

// damageByHand computes a plan's damages from the definitions, in another way
// than the policy does.
func damageByHand(p *Problem, plan *Plan) (fused, split float64) {
	b := &p.Policy.Budget
	errs := map[string]*measure.TensorLoss{}
	for i := range b.Errors.Tensors {
		errs[b.Errors.Tensors[i].Name] = &b.Errors.Tensors[i]
	}
	relative := func(name string, e int, typ frequency.Type) float64 {
		x := errs[name]
		i := slices.Index(x.Types, typ.Name)
		if i < 0 {
			return 0 // the source's own type
		}
		return x.Experts[e].Types[i].Relative
	}
	for i := range plan.Tensors {
		tp := &plan.Tensors[i]
		t := tp.Tensor
		if !llamaquantize.Quantizable(t) || tp.ExpertTypes == nil && tp.Type.GGML == t.Type {
			continue // of a fused tensor that keeps its type, the split plan's experts may not
		}
		if tp.ExpertTypes == nil {
			fused += relative(t.Name, 0, tp.Type)
			split += relative(t.Name, 0, tp.Type)
			continue
		}
		down := errs[fmt.Sprintf("blk.%d.ffn_down_exps.weight", t.Layer)]
		var total float64
		for e := range down.Experts {
			total += *down.Experts[e].OutputEnergy
		}
		for e, typ := range tp.ExpertTypes {
			q := *down.Experts[e].OutputEnergy / total
			fused += q * relative(t.Name, e, tp.Type)
			split += q * relative(t.Name, e, typ)
		}
	}
	return fused, split
}

func near(a, b float64) bool { return math.Abs(a-b) <= 1e-12*math.Max(math.Abs(a), math.Abs(b)) }

// TestBudgetAgainstBruteForce tries every fused plan of small models.
func TestBudgetAgainstBruteForce(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 9))
	types := []frequency.Type{frequency.GGML(quant.Q2_K), frequency.GGML(quant.Q4_K), frequency.GGML(quant.Q6_K)}
	for n := range 12 {
		m := tinyMoE(t, gguftest.MoE{Layers: 1, Experts: 3, FF: 256 * (1 + n%2), Vocab: 40})
		p := budgetProblem(m, uint64(n), 0)
		p.Policy.Budget.Types = types
		p.Policy.Pins = []Pin{{regexp.MustCompile("token_embd|attn_k"), frequency.GGML(quant.Q8_0)}}
		least := cheapest(t, p)
		for range 4 {
			p.Policy.Budget.SizeBytes = least + rng.Uint64N(300<<10)
			plan := solve(t, p)
			checkBudget(t, plan)
			fused, split := damageByHand(p, plan)
			if !near(fused, plan.Budget.Damage) || !near(split, plan.Budget.SplitDamage) {
				t.Errorf("problem %d: damages %v and %v, by hand %v and %v", n, plan.Budget.Damage, plan.Budget.SplitDamage, fused, split)
			}
			if plan.Budget.Gap != 0 || plan.Budget.SplitDamage > plan.Budget.Damage {
				t.Errorf("problem %d: gap %v, split damage %v of %v", n, plan.Budget.Gap, plan.Budget.SplitDamage, plan.Budget.Damage)
			}
			if best := bestFused(p, plan, types); !near(best, plan.Budget.Damage) {
				t.Errorf("problem %d, %d bytes: damage %v, the best is %v", n, p.Policy.Budget.SizeBytes, plan.Budget.Damage, best)
			}
		}
	}
}

// What a pin costs is in the plan's damage, and file types are measured alike
// with and without it. What has no known error is named.
func TestDamageOfWhatIsNotDecided(t *testing.T) {
	m := tinyMoE(t, gguftest.MoE{Layers: 2, Experts: 3, FF: 256, Vocab: 40})
	damages := func(change func(p *Problem)) (*Plan, []float64, *Frontier) {
		p := budgetProblem(m, 3, 1<<20)
		change(p)
		plan := solve(t, p)
		var baselines []float64
		for _, b := range plan.Manifest().Totals.Baselines {
			if b.Damage != nil {
				baselines = append(baselines, *b.Damage)
			}
		}
		front, err := SolveFrontier(p, []uint64{1 << 20}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return plan, baselines, front
	}
	free, freeBaselines, _ := damages(func(*Problem) {})
	for _, pattern := range []string{"ffn_down_exps", "attn_v", "ffn_up_exps|attn_q"} {
		pinned, baselines, front := damages(func(p *Problem) {
			p.Policy.Pins = []Pin{{regexp.MustCompile(pattern), frequency.GGML(quant.Q2_K)}}
		})
		if pinned.Budget.Damage <= free.Budget.Damage || pinned.Budget.SplitDamage <= free.Budget.SplitDamage {
			t.Errorf("%s pinned to Q2_K: damage %v and %v, without %v and %v", pattern, pinned.Budget.Damage, pinned.Budget.SplitDamage, free.Budget.Damage, free.Budget.SplitDamage)
		}
		for i, d := range baselines {
			if len(baselines) != len(freeBaselines) || !near(d, freeBaselines[i]) {
				t.Errorf("%s pinned: baselines %v, without %v", pattern, baselines, freeBaselines)
				break
			}
		}
		if p := front.Points[0].Fused; p == nil || !near(p.Damage, pinned.Budget.Damage) {
			t.Errorf("%s pinned: the frontier has %+v, the plan %v", pattern, p, pinned.Budget.Damage)
		}
	}
	var types frequency.Types
	declared, err := types.Declare("PiQ3", 8, 3)
	if err != nil {
		t.Fatal(err)
	}
	unknown, _, _ := damages(func(p *Problem) {
		p.Types = &types
		p.Policy.Pins = []Pin{{regexp.MustCompile("blk.0.attn_v"), declared}}
	})
	if codes := codesOf(unknown); !strings.Contains(codes, "partial-damage") {
		t.Errorf("findings %s", codes)
	}
}

// bestFused changes the fused types of a plan to every combination that keeps
// the budget and returns the least damage.
func bestFused(p *Problem, plan *Plan, types []frequency.Type) float64 {
	trial := *plan
	trial.Tensors = slices.Clone(plan.Tensors)
	var free []int
	for i := range trial.Tensors {
		if x := &trial.Tensors[i]; llamaquantize.Quantizable(x.Tensor) && !strings.HasPrefix(x.Reason, "pinned") {
			free = append(free, i)
		}
	}
	best := math.Inf(1)
	var try func(k int)
	try = func(k int) {
		if k == len(free) {
			if size, err := trial.FileBytes(); err == nil && size <= p.Policy.Budget.SizeBytes {
				fused, _ := damageByHand(p, &trial)
				best = min(best, fused)
			}
			return
		}
		x := &trial.Tensors[free[k]]
		for _, typ := range append([]frequency.Type{frequency.GGML(x.Tensor.Type)}, types...) {
			x.Type = typ
			x.SizeBytes, _ = typ.Layout.EncodedBytes(x.Tensor.Rows(), x.Tensor.Shape[0])
			try(k + 1)
		}
	}
	try(0)
	return best
}

func TestBudgetTargets(t *testing.T) {
	m := tinyMoE(t, gguftest.MoE{Layers: 3, Experts: 8, Shared: 1})
	for _, b := range []Budget{
		{Target: TargetSize, SizeBytes: 4_000_001},
		{Target: TargetBPW, BitsPerWeight: frequency.MakeFraction(3.7)},
		{Target: TargetExpertBPW, BitsPerWeight: frequency.MakeFraction(3.438)},
	} {
		p := budgetProblem(m, 1, 0)
		pb := &p.Policy.Budget
		pb.Target, pb.SizeBytes, pb.BitsPerWeight = b.Target, b.SizeBytes, b.BitsPerWeight
		for _, scope := range []TensorScope{ScopeAll, ScopeExperts} {
			pb.Scope = scope
			if b.Target == TargetBPW && scope == ScopeExperts {
				p.Policy.Base = "Q4_K_M"
			}
			plan := solve(t, p)
			checkBudget(t, plan)
			switch attn := plan.planOf(t, "blk.0.attn_q.weight"); {
			case scope == ScopeAll && b.Target == TargetExpertBPW && attn.Type.GGML != quant.F16:
				t.Errorf("%s: attention gets %s where only experts are bounded", b.Target, attn.Type)
			case scope == ScopeExperts && !strings.HasPrefix(attn.Reason, "base"):
				t.Errorf("%s: attention is decided by %q", b.Target, attn.Reason)
			}
		}
	}
	// 3.438 bits of 1000 weights are 429.75 bytes; binary rounding must not
	// make it 430 or 429 of an exact 3.44.
	p := budgetProblem(m, 1, 0)
	p.Policy.Budget.Target, p.Policy.Budget.BitsPerWeight = TargetExpertBPW, frequency.MakeFraction(4.5)
	p.Policy.Budget.Types = []frequency.Type{frequency.GGML(quant.Q4_K), frequency.GGML(quant.Q5_K)}
	plan := solve(t, p)
	if x := plan.Totals.Experts; x.PlannedBytes*8*2 != x.Parameters*9 {
		t.Errorf("%d bytes for %d weights, want 4.5 bits exactly", x.PlannedBytes, x.Parameters)
	}
	p.Policy.Budget.BitsPerWeight, _ = frequency.ParseFraction("4.49999999999999999999")
	var u *UnreachableError
	if _, err := Solve(p); !errors.As(err, &u) || u.CheapestBytes != plan.Totals.Experts.PlannedBytes || u.BudgetBytes != u.CheapestBytes-1 {
		t.Errorf("just below 4.5 bits: error %v", err)
	}
}

func TestBudgetUnreachable(t *testing.T) {
	m := tinyMoE(t, gguftest.MoE{})
	p := budgetProblem(m, 1, 0)
	least := cheapest(t, p)
	p.Policy.Budget.SizeBytes = least
	plan := solve(t, p)
	checkBudget(t, plan)
	if plan.Totals.FileBytes != least {
		t.Errorf("the cheapest plan has %d bytes, %d were promised", plan.Totals.FileBytes, least)
	}
	p.Policy.Budget.SizeBytes--
	_, err := Solve(p)
	if want := fmt.Sprintf("cheapest plan needs %d bytes, budget is %d bytes", least, least-1); err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
	// Even without anything to decide.
	p.Policy.Pins = []Pin{{regexp.MustCompile("."), frequency.GGML(quant.Q8_0)}}
	if _, err := Solve(p); !errors.As(err, new(*UnreachableError)) {
		t.Errorf("all pinned: error %v", err)
	}
}

func TestBudgetSweep(t *testing.T) {
	m := gguftest.OpenHeader(t, filepath.Join(recorded, "olmoe-1b-7b"+"-bf16.gguf"))
	p := budgetProblem(m, 3, 0)
	least := cheapest(t, p)
	var last, lastSplit float64 = math.Inf(1), math.Inf(1)
	for i := range uint64(21) {
		p.Policy.Budget.SizeBytes = least + i*250_000_000
		plan := solve(t, p)
		checkBudget(t, plan)
		b := plan.Budget
		if b.Damage > last || b.Gap != 0 {
			t.Errorf("%d bytes: damage %v (gap %v) after %v", p.Policy.Budget.SizeBytes, b.Damage, b.Gap, last)
		}
		// At the cheapest plan's size nothing is left for the names of tiers.
		if b.SplitDamage-b.SplitGap*b.SplitDamage > lastSplit || b.SplitGap > 3e-4 && i > 0 {
			t.Errorf("%d bytes: split damage %v (gap %v) after %v", p.Policy.Budget.SizeBytes, b.SplitDamage, b.SplitGap, lastSplit)
		}
		if b.SplitDamage > b.Damage {
			t.Errorf("%d bytes: split damage %v above the fused %v", p.Policy.Budget.SizeBytes, b.SplitDamage, b.Damage)
		}
		last, lastSplit = b.Damage, b.SplitDamage
	}
}

func TestBudgetCapsThinStatistics(t *testing.T) {
	m := tinyMoE(t, gguftest.MoE{Layers: 2, Experts: 8})
	p := budgetProblem(m, 5, 0)
	p.Policy.Budget.Types = kTypes
	for i := range p.Evidence.Layers {
		p.Evidence.Layers[i].Counts[2], p.Evidence.Layers[i].Counts[5] = 0, 99 // 99 / 10 < 10
	}
	p.Policy.Budget.Errors = measuredErrors(m, p.Evidence, 5)
	p.Policy.Budget.Target, p.Policy.Budget.BitsPerWeight = TargetExpertBPW, frequency.MakeFraction(4.2)
	capped := solve(t, p)
	for i := range capped.Tensors {
		x := &capped.Tensors[i]
		for e, typ := range x.ExpertTypes {
			below := max(0, slices.Index(kTypes, x.Type)-1)
			if (e == 2 || e == 5) && slices.Index(kTypes, typ) < below {
				t.Errorf("%s: expert %d gets %s, the tensor %s", x.Tensor.Name, e, typ, x.Type)
			}
		}
	}
	checkBudget(t, capped)
	// The cap binds: with enough tokens (deff 1) they get less.
	for i := range p.Evidence.Layers {
		p.Evidence.Layers[i].Counts[2] = 1
		p.Evidence.Layers[i].Blocks = &stats.Blocks{N: 10, Deff: 0.01}
	}
	if free := solve(t, p); free.Budget.SplitDamage >= capped.Budget.SplitDamage {
		t.Errorf("split damage %v without the cap, %v with it", free.Budget.SplitDamage, capped.Budget.SplitDamage)
	}
}

func TestBudgetGuardsSuperExperts(t *testing.T) {
	for _, separate := range []bool{false, true} {
		m := tinyMoE(t, gguftest.MoE{Layers: 2, Experts: 8, Separate: separate})
		for n := range uint64(6) {
			p := budgetProblem(m, n, 0)
			p.Policy.Budget.Types = kTypes
			for i := range p.Evidence.Layers {
				p.Evidence.Layers[i].Counts[3] = 1000 // else of little weight
				p.Evidence.Layers[i].SuperExperts = []int{3, 6}
			}
			p.Policy.Budget.Errors = measuredErrors(m, p.Evidence, n)
			p.Policy.Budget.Target, p.Policy.Budget.BitsPerWeight = TargetExpertBPW, frequency.MakeFraction(2.7+0.3*float64(n))
			plan := solve(t, p)
			checkBudget(t, plan)
			largest, super := map[string]float64{}, map[string]float64{}
			for i := range plan.Tensors {
				x := &plan.Tensors[i]
				for j, typ := range x.ExpertTypes {
					e := max(j, x.Tensor.Expert)
					key := fmt.Sprint(x.Tensor.Layer, x.Tensor.Role)
					largest[key] = max(largest[key], typ.BitsPerWeight())
					if e == 3 || e == 6 {
						if v, ok := super[key]; !ok || typ.BitsPerWeight() < v {
							super[key] = typ.BitsPerWeight()
						}
					}
				}
			}
			for key, bits := range super {
				if bits < largest[key] {
					t.Errorf("separate %v, problem %d: %s: a super expert has %v bits, another expert %v", separate, n, key, bits, largest[key])
				}
			}
		}
	}
}

func TestBudgetTiesGateAndUp(t *testing.T) {
	m := tinyMoE(t, gguftest.MoE{Layers: 3, Experts: 4})
	p := budgetProblem(m, 2, 0)
	p.Policy.Budget.Target, p.Policy.Budget.BitsPerWeight = TargetBPW, frequency.MakeFraction(3.5)
	differ := func(plan *Plan) (n int) {
		for l := range 3 {
			gate, up := plan.planOf(t, fmt.Sprintf("blk.%d.ffn_gate_exps.weight", l)), plan.planOf(t, fmt.Sprintf("blk.%d.ffn_up_exps.weight", l))
			if gate.Type != up.Type {
				n++
			}
			for e := range gate.ExpertTypes {
				if gate.ExpertTypes[e] != up.ExpertTypes[e] {
					n++
				}
			}
		}
		return n
	}
	free := solve(t, p)
	p.Policy.Budget.TieGateUp = true
	tied := solve(t, p)
	checkBudget(t, tied)
	if differ(free) == 0 || differ(tied) != 0 || tied.Budget.Damage < free.Budget.Damage {
		t.Errorf("%d differ when free, %d when tied; damages %v and %v", differ(free), differ(tied), free.Budget.Damage, tied.Budget.Damage)
	}
	p.Policy.Pins = []Pin{{regexp.MustCompile(`blk\.1\.ffn_up`), frequency.GGML(quant.Q6_K)}}
	if gate := solve(t, p).planOf(t, "blk.1.ffn_gate_exps.weight"); gate.Type.GGML != quant.Q6_K || !strings.Contains(gate.Reason, "tied") {
		t.Errorf("gate %s (%s), its up is pinned to Q6_K", gate.Type, gate.Reason)
	}
}

func TestBudgetCandidates(t *testing.T) {
	m := openModel(t, gguftest.MoE{Experts: 4, Embd: 256, FF: 288, Sparse: true, Type: quant.F16}.Builder())
	p := budgetProblem(m, 4, 1<<30)
	f, err := newFrame(p)
	if err != nil {
		t.Fatal(err)
	}
	names := func(tensor string) string {
		w, err := newWeighing(f)
		if err != nil {
			t.Fatal(err)
		}
		for c := range w.cells {
			if w.cells[c].slot.tensor.Name == tensor {
				var out []string
				for _, x := range w.cells[c].candidates {
					out = append(out, x.Type.Name)
				}
				return strings.Join(out, " ")
			}
		}
		return "none"
	}
	const gate, down = "blk.0.ffn_gate_exps.weight", "blk.0.ffn_down_exps.weight"
	p.Policy.Budget.Types = []frequency.Type{frequency.GGML(quant.Q6_K), frequency.GGML(quant.Q3_K), frequency.GGML(quant.IQ3_XXS), frequency.GGML(quant.Q2_K), frequency.GGML(quant.IQ4_XS)}
	if got := names(gate); got != "Q2_K IQ3_XXS Q3_K IQ4_XS Q6_K F16" {
		t.Errorf("gate: %s", got)
	}
	// Rows of 288 divide into 32 but not 256; two K types fall back to Q4_0.
	if got := names(down); got != "Q4_0 IQ4_NL Q8_0 F16" {
		t.Errorf("down: %s", got)
	}
	p.Evidence.Columns = nil
	if got := names(gate); got != "Q2_K Q3_K IQ4_XS Q6_K F16" {
		t.Errorf("gate without imatrix: %s", got)
	}
	// The source's own type stands for all that would enlarge.
	for i := range m.Tensors {
		if m.Tensors[i].Name == gate {
			m.Tensors[i].Type, m.Tensors[i].SizeBytes = quant.Q3_K, m.Tensors[i].Parameters/256*110
		}
	}
	if f, err = newFrame(p); err != nil {
		t.Fatal(err)
	}
	if got := names(gate); got != "Q2_K Q3_K" {
		t.Errorf("gate of a Q3_K source: %s", got)
	}
	p.Policy.Budget.Types = []frequency.Type{frequency.GGML(quant.IQ2_S)}
	if _, err := Solve(p); err == nil || !strings.Contains(err.Error(), "imatrix entry") {
		t.Errorf("nothing but IQ2_S: error %v", err)
	}
}

func TestBudgetLayersWithoutStatistics(t *testing.T) {
	m := tinyMoE(t, gguftest.MoE{Layers: 2, MTP: 1})
	p := budgetProblem(m, 6, 0)
	p.Evidence.Layers = p.Evidence.Layers[:2]
	p.Policy.Budget.Errors = measuredErrors(m, p.Evidence, 6)
	p.Policy.Budget.SizeBytes = cheapest(t, p) + 50_000
	plan := solve(t, p)
	checkBudget(t, plan)
	x := plan.planOf(t, "blk.2.ffn_up_exps.weight")
	if x.Type.GGML != quant.Q4_K || !strings.Contains(x.Reason, "no statistics") {
		t.Errorf("%s: %s", x.Type, x.Reason)
	}
	for _, e := range plan.Layers[2].Experts {
		if e.Type == nil || e.Type.GGML != quant.Q4_K || e.Count != nil {
			t.Errorf("expert of the layer without statistics: %+v", e)
		}
	}
}

func TestBudgetObjectives(t *testing.T) {
	m := tinyMoE(t, gguftest.MoE{Layers: 3, Experts: 8})
	p := budgetProblem(m, 8, 0)
	p.Policy.Budget.Target, p.Policy.Budget.BitsPerWeight = TargetExpertBPW, frequency.MakeFraction(3.2)
	p.Policy.Budget.Types = kTypes
	best := solve(t, p).Budget
	plans := map[Objective]string{}
	for _, o := range Objectives() {
		p.Policy.Budget.Objective = o
		plan := solve(t, p)
		checkBudget(t, plan)
		if again := solve(t, p); fmt.Sprint(again.Manifest()) == "" || again.Budget.SplitDamage != plan.Budget.SplitDamage {
			t.Errorf("%s: two plans", o)
		}
		var types []string
		for i := range plan.Tensors {
			for _, typ := range plan.Tensors[i].ExpertTypes {
				types = append(types, typ.Name)
			}
		}
		plans[o] = strings.Join(types, " ")
		if o.weighing() == ObjectiveOutputShare && (plan.Budget.Damage < best.Damage || plan.Budget.SplitDamage < best.SplitDamage) {
			t.Errorf("%s: damages %v and %v are below the optimum's", o, plan.Budget.Damage, plan.Budget.SplitDamage)
		}
		if o == ObjectiveUniform && plan.Budget.Gap <= 0 {
			t.Errorf("uniform: gap %v", plan.Budget.Gap)
		}
		for other, s := range plans {
			if other != o && s == plans[o] {
				t.Errorf("%s and %s give the same plan", o, other)
			}
		}
	}
	p.Policy.Budget.Objective = ObjectiveRandom
	p.Policy.Budget.Seed = 2
	types := ""
	for i, x := range solve(t, p).Tensors {
		for _, typ := range x.ExpertTypes {
			types += typ.Name + " "
		}
		_ = i
	}
	if strings.TrimSpace(types) == plans[ObjectiveRandom] {
		t.Error("seeds 1 and 2 give the same random plan")
	}
}

// A uniform plan gives one type to all, then raises tensors in order.
func TestBudgetUniform(t *testing.T) {
	m := tinyMoE(t, gguftest.MoE{Layers: 4, Experts: 4})
	p := budgetProblem(m, 8, 0)
	p.Policy.Budget.Objective, p.Policy.Budget.Types = ObjectiveUniform, kTypes
	p.Policy.Budget.Errors = nil // it needs none
	// Q3_K is 3.4375 bits and Q4_K 4.5: 3.8 leaves room for 4 of 12 tensors.
	p.Policy.Budget.Target, p.Policy.Budget.BitsPerWeight = TargetExpertBPW, frequency.MakeFraction(3.8)
	plan := solve(t, p)
	checkBudget(t, plan)
	var got []string
	for l := range 4 {
		for _, name := range []string{"gate", "up", "down"} {
			got = append(got, plan.planOf(t, fmt.Sprintf("blk.%d.ffn_%s_exps.weight", l, name)).Type.Name)
		}
	}
	want := append(slices.Repeat([]string{"Q4_K"}, 4), slices.Repeat([]string{"Q3_K"}, 8)...)
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestBudgetNeeds(t *testing.T) {
	m := tinyMoE(t, gguftest.MoE{})
	dense := openModel(t, gguftest.MoE{Layers: 2, Dense: 2, Sparse: true, Type: quant.F16}.Builder())
	for _, tt := range []struct {
		name   string
		change func(*Problem)
		want   error
	}{
		{"all", func(p *Problem) {}, nil},
		{"typical errors and sensitivities", func(p *Problem) {
			p.Policy.Budget.Errors = nil
			p.Policy.Budget.Sensitivity = &NamedSensitivity{SensitivityTable, stats.FileID{Name: "s.csv", SHA256: "00"}, &measure.Sensitivity{Names: []string{"blk.0.ffn_up_exps.weight"}, Values: []float64{1}}}
		}, nil},
		{"typical errors of a dense model", func(p *Problem) { p.Policy.Budget.Errors, p.Model, p.Evidence = nil, dense, nil }, nil},
		{"absolute errors, typical", func(p *Problem) { p.Policy.Budget.Errors, p.Policy.Budget.Objective = nil, ObjectiveMSE }, ErrNeedsMeasured},
		{"no statistics", func(p *Problem) { p.Evidence = nil }, ErrNeedsTraffic},
		{"no statistics, experts alike", func(p *Problem) { p.Evidence, p.Policy.Budget.Objective = nil, ObjectiveRelative }, nil},
		{"no counts", func(p *Problem) { p.Evidence.Kind = stats.KindNone }, ErrNeedsTraffic},
		{"rank", func(p *Problem) { p.Evidence.Kind = stats.KindRank }, ErrNeedsTraffic},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := budgetProblem(m, 1, 1<<30)
			tt.change(p)
			if _, err := Solve(p); !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
		})
	}
	p := budgetProblem(m, 1, 1<<30)
	p.Policy.Budget.Errors.Tensors = p.Policy.Budget.Errors.Tensors[:2]
	var missing *MissingErrorError
	if _, err := Solve(p); !errors.As(err, &missing) {
		t.Errorf("errors of two tensors: error %v", err)
	}
	p = budgetProblem(m, 1, 1<<30)
	p.Policy.Budget.Types = []frequency.Type{frequency.GGML(quant.Q4_K), frequency.GGML(quant.I8)}
	if _, err := Solve(p); err == nil || !strings.Contains(err.Error(), "cannot write type I8") {
		t.Errorf("I8: error %v", err)
	}
}
