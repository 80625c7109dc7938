package planner

import (
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner/frequency"
	"github.com/ggufplan/ggufplan/planner/manifest"
	"github.com/ggufplan/ggufplan/stats"
	"github.com/ggufplan/ggufplan/stats/measure"
)

// Weights without counts rank experts as counts do.
func TestBudgetRelativeWeights(t *testing.T) {
	m := tinyMoE(t, gguftest.MoE{Layers: 1, Experts: 4})
	p := budgetProblem(m, 1, 0)
	p.Policy.Budget.Objective = ObjectiveTraffic
	p.Policy.Budget.Target, p.Policy.Budget.BitsPerWeight = TargetExpertBPW, frequency.MakeFraction(3)
	p.Evidence.Kind = stats.KindRelative
	p.Evidence.Layers[0].Counts, p.Evidence.Layers[0].Weights = nil, []float64{0, 0.001, 0.01, 1}
	f, err := newFrame(p)
	if err != nil {
		t.Fatal(err)
	}
	w, err := newWeighing(f)
	if err != nil {
		t.Fatal(err)
	}
	got, err := (&layerShares{w: w}).of(0)
	if err != nil {
		t.Fatal(err)
	}
	// Scaled to 100 an expert, plus 0.5, of 402 in all.
	want := []float64{0.5 / 402, (0.4/1.011 + 0.5) / 402, (4/1.011 + 0.5) / 402, (400/1.011 + 0.5) / 402}
	for e := range want {
		if !near(got[e], want[e]) {
			t.Errorf("expert %d: share %v, want %v", e, got[e], want[e])
		}
	}
	checkBudget(t, solve(t, p))
}

func TestSensitivities(t *testing.T) {
	m := tinyMoE(t, gguftest.MoE{Layers: 5})
	p := budgetProblem(m, 1, 1<<30)
	p.Policy.Budget.Sensitivity = &NamedSensitivity{SensitivityTable, stats.FileID{Name: "kld.csv", SHA256: "00"}, &measure.Sensitivity{
		Names:  []string{"blk.1.ffn_up_exps.weight", "blk.3.ffn_up_exps.weight", "blk.2.attn_q.weight", "blk.0.attn_k.weight", "elsewhere.weight", "blk.4.ffn_up_exps.weight"},
		Values: []float64{1, 3, 4, 0, 2, math.NaN()}}} // mean of 5: 2
	f, err := newFrame(p)
	if err != nil {
		t.Fatal(err)
	}
	w, err := newWeighing(f)
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(w.cells, func(c cell) bool { return c.slot.tensor.Name == "blk.2.ffn_up_exps.weight" })
	for name, want := range map[string]float64{
		"blk.0.ffn_up_exps.weight": 0.5, // nearest
		"blk.1.ffn_up_exps.weight": 0.5, // measured
		"blk.2.ffn_up_exps.weight": 1,   // halfway
		"blk.3.ffn_up_exps.weight": 1.5,
		"blk.4.ffn_up_exps.weight": 1.5, // nearest
		"blk.4.attn_q.weight":      2,
	} {
		c := slices.IndexFunc(w.cells, func(c cell) bool { return c.slot.tensor.Name == name })
		if c < 0 || !near(w.sensitivity[w.cells[c].index].value/w.sensitivity[w.cells[at].index].value, want) {
			t.Errorf("%s: %v, want %v", name, w.sensitivity[w.cells[c].index], want)
		}
	}
	if slices.Contains(w.interpolated, "blk.1.ffn_up_exps.weight") || !slices.Contains(w.interpolated, "blk.4.ffn_up_exps.weight") || len(w.interpolated) != len(w.cells)-3 {
		t.Errorf("interpolated: %v", w.interpolated)
	}
	p.Policy.Budget.Sensitivity.Names = []string{"a.b", "c.d", "e.f", "g.h", "i.j", "k.l"}
	if _, err := Solve(p); err == nil || !strings.Contains(err.Error(), "its first is a.b") {
		t.Errorf("another model's table: error %v", err)
	}
}

func benchmarkBudget(b *testing.B, model string, size uint64) {
	m := gguftest.OpenHeader(b, filepath.Join(recorded, model+"-bf16.gguf"))
	p := budgetProblem(m, 1, size)
	for b.Loop() {
		if _, err := Solve(p); err != nil {
			b.Fatal(err)
		}
	}
}

// The whole policy on published shapes with made-up errors in all types.
func BenchmarkBudgetQwen3_30B_A3B(b *testing.B) { benchmarkBudget(b, "qwen3-30b-a3b", 12<<30) }
func BenchmarkBudgetDeepSeekV3(b *testing.B)    { benchmarkBudget(b, "deepseek-v3", 230<<30) }

func TestBudgetOfPublishedShapes(t *testing.T) {
	for model, size := range map[string]uint64{"qwen3-30b-a3b": 12 << 30, "deepseek-v3": 230 << 30} {
		plan := solve(t, budgetProblem(gguftest.OpenHeader(t, filepath.Join(recorded, model+"-bf16.gguf")), 1, size))
		checkBudget(t, plan)
		if plan.Budget.Gap != 0 || plan.Budget.SplitGap > 3e-4 {
			t.Errorf("%s: gaps %v and %v", model, plan.Budget.Gap, plan.Budget.SplitGap)
		}
		if plan.Totals.FileBytes < size-size/1000 {
			t.Errorf("%s: %d bytes of %d used", model, plan.Totals.FileBytes, size)
		}
	}
}

// A frontier's points are the plans of their sizes, and its baselines what the
// file types come to.
func TestFrontier(t *testing.T) {
	m := tinyMoE(t, gguftest.MoE{Layers: 2, Experts: 4})
	p := budgetProblem(m, 3, 0)
	least := cheapest(t, p)
	sizes := []uint64{least - 1, least, least + 400_000}
	front, err := SolveFrontier(p, sizes, nil)
	if err != nil {
		t.Fatal(err)
	}
	if front.Points[0].Fused != nil || front.Points[0].BudgetBytes != least-1 {
		t.Errorf("below the cheapest plan: %+v", front.Points[0])
	}
	for i, size := range sizes[1:] {
		p.Policy.Budget.SizeBytes = size
		plan := solve(t, p)
		x := front.Points[i+1]
		split := plan.Totals.SplitFileBytes
		if x.Fused.Damage != plan.Budget.Damage || x.Split.Damage != plan.Budget.SplitDamage || x.Fused.FileBytes != plan.Totals.FileBytes || x.Split.FileBytes != split {
			t.Errorf("%d bytes: %+v %+v, the plan has %d bytes, split %d, %+v", size, x.Fused, x.Split, plan.Totals.FileBytes, split, plan.Budget)
		}
	}
	// A plan that is one file type throughout, by pins and by hand.
	for _, b := range front.Baselines {
		if b.Name != "Q8_0" {
			continue
		}
		p.Policy.Budget.Types = []frequency.Type{frequency.GGML(quant.Q8_0)}
		p.Policy.Budget.SizeBytes = b.FileBytes // less than F16 takes anywhere
		plan := solve(t, p)
		if b.Damage == nil || !near(*b.Damage, plan.Budget.Damage) || b.FileBytes != plan.Totals.FileBytes {
			t.Errorf("Q8_0: %+v, all at Q8_0: %v in %d bytes", b, plan.Budget.Damage, plan.Totals.FileBytes)
		}
	}
	if len(front.Baselines) < 6 {
		t.Errorf("%d baselines", len(front.Baselines))
	}
}

// With typical errors the down projections' weights count as alike: the output
// share is the share of the energy of their input.
func TestBudgetInputEnergy(t *testing.T) {
	m := tinyMoE(t, gguftest.MoE{Layers: 1, Experts: 4})
	p := budgetProblem(m, 1, 1<<30)
	p.Policy.Budget.Errors = nil
	p.Policy.Budget.Sensitivity = &NamedSensitivity{SensitivityTable, stats.FileID{Name: "s.csv", SHA256: "00"}, &measure.Sensitivity{Names: []string{"output.weight"}, Values: []float64{1}}}
	p.Evidence.Layers[0].Counts = []uint64{0, 100, 200, 700}
	shares := func() []float64 {
		t.Helper()
		f, err := newFrame(p)
		if err != nil {
			t.Fatal(err)
		}
		w, err := newWeighing(f)
		if err != nil {
			t.Fatal(err)
		}
		got, err := (&layerShares{w: w}).of(0)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	// Counts and 0.5 each, of 1002.
	for e, want := range []float64{0.5 / 1002, 100.5 / 1002, 200.5 / 1002, 700.5 / 1002} {
		if got := shares()[e]; !near(got, want) {
			t.Errorf("expert %d: share %v of the traffic, want %v", e, got, want)
		}
	}
	// Per token 3, 1 and 2; the unseen one has the mean, 1900 / 1000.
	p.Evidence.Layers[0].DownEnergy = []float64{0, 300, 200, 1400}
	total := 0.5*1.9 + 100.5*3 + 200.5*1 + 700.5*2
	for e, want := range []float64{0.5 * 1.9, 100.5 * 3, 200.5, 700.5 * 2} {
		if got := shares()[e]; !near(got, want/total) {
			t.Errorf("expert %d: share %v of the energy, want %v", e, got, want/total)
		}
	}
}

func TestBudgetValidate(t *testing.T) {
	good := Budget{Target: TargetBPW, BitsPerWeight: frequency.MakeFraction(3), Objective: ObjectiveTraffic, Scope: ScopeAll}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	declared, err := new(frequency.Types).Declare("PiQ3", 8, 3)
	if err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Budget){
		"want more than 0":                           func(b *Budget) { b.BitsPerWeight = frequency.Fraction{} },
		`target "weight": want "size"`:               func(b *Budget) { b.Target = "weight" },
		`objective "best": want one of output-share`: func(b *Budget) { b.Objective = "best" },
		`tensor scope "some": want "all"`:            func(b *Budget) { b.Scope = "some" },
		"type PiQ3 is declared":                      func(b *Budget) { b.Types = []frequency.Type{declared} },
		"duplicate type Q4_K":                        func(b *Budget) { b.Types = []frequency.Type{kTypes[2], kTypes[2]} },
	} {
		b := good
		change(&b)
		if err := b.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

// Every objective's manifest, with all inputs, follows the schema and reads
// back.
func TestBudgetManifests(t *testing.T) {
	schema := compileSchema(t)
	m := tinyMoE(t, gguftest.MoE{Layers: 2, Experts: 4, MTP: 1})
	for _, o := range Objectives() {
		p := budgetProblem(m, 1, 3_000_000)
		p.Policy.Budget.Objective, p.Policy.Budget.TieGateUp = o, true
		p.Policy.Budget.Sensitivity = &NamedSensitivity{SensitivityTable, stats.FileID{Name: "s.csv", SHA256: strings.Repeat("5", 64)},
			&measure.Sensitivity{Names: []string{"blk.0.ffn_up_exps.weight", "output.weight"}, Values: []float64{1, 0}}}
		p.Evidence.Layers[2].Counts = make([]uint64, 4) // sums to 0: no statistics
		data, err := encodePlan(solve(t, p))
		if err != nil {
			t.Fatal(err)
		}
		if err := validate(schema, data); err != nil {
			t.Errorf("%s: %#v", o, err)
		}
		decoded, err := manifest.Decode(data)
		if err != nil {
			t.Fatalf("%s: %v", o, err)
		}
		if b := decoded.Policy.Budget; b.Objective != string(o) || b.Sensitivity == nil || len(b.Sensitivity.Interpolated) == 0 || *b.Errors.Name != "errors.json" || len(b.Types) == 0 {
			t.Errorf("%s: recorded as %+v", o, b)
		}
	}
}

// Output energies whose sum overflows would make every share 0.
func TestNormaliseRefusesOverflow(t *testing.T) {
	counts, energy := []float64{1.5, 2.5}, []float64{math.MaxFloat64, math.MaxFloat64}
	if shares, err := normalise(ObjectiveOutputShare, counts, energy); err == nil || !strings.Contains(err.Error(), "output energies add up to more") {
		t.Errorf("shares %v, error %v", shares, err)
	}
	if shares, err := normalise(ObjectiveTraffic, counts, energy); err != nil || shares[0] != 0.375 {
		t.Errorf("by traffic: %v, error %v", shares, err)
	}
}

// Types that need an importance matrix are left out where the statistics are
// none, and a finding says so.
func TestTypesLeftOut(t *testing.T) {
	p := budgetProblem(tinyMoE(t, gguftest.MoE{Layers: 2, Experts: 4}), 4, 0)
	p.Policy.Budget.Errors, p.Policy.Budget.Types, p.Evidence.Columns = nil, nil, nil
	p.Policy.Budget.Target, p.Policy.Budget.BitsPerWeight = TargetBPW, frequency.MakeFraction(4)
	if got := codesOf(solve(t, p)); !strings.Contains(got, CodeTypesLeftOut) {
		t.Errorf("findings %s", got)
	}
	p.Policy.Budget.Types = []frequency.Type{frequency.GGML(quant.Q2_K), frequency.GGML(quant.Q4_K)}
	if got := codesOf(solve(t, p)); strings.Contains(got, CodeTypesLeftOut) {
		t.Errorf("with types that need none: findings %s", got)
	}
}
