package planner

import (
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner/frequency"
	"github.com/ggufplan/ggufplan/planner/internal/knapsack"
	"github.com/ggufplan/ggufplan/stats"
	"github.com/ggufplan/ggufplan/stats/measure"
)

func weighingOf(t *testing.T, p *Problem) *weighing {
	t.Helper()
	f, err := newFrame(p)
	if err != nil {
		t.Fatal(err)
	}
	w, err := newWeighing(f)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// Between two measured layers that are no neighbours, the nearer counts more.
func TestSensitivityBetweenLayers(t *testing.T) {
	p := budgetProblem(tinyMoE(t, gguftest.MoE{Layers: 6}), 1, 1<<30)
	p.Policy.Budget.Sensitivity = &NamedSensitivity{SensitivityTable, stats.FileID{Name: "kld.csv", SHA256: "00"}, &measure.Sensitivity{
		Names: []string{"blk.1.ffn_up_exps.weight", "blk.4.ffn_up_exps.weight"}, Values: []float64{1, 4}}}
	w := weighingOf(t, p)
	at := map[string]float64{}
	for i := range w.frame.slots {
		at[w.frame.slots[i].tensor.Name] = w.sensitivity[i].value
	}
	first := at["blk.1.ffn_up_exps.weight"]
	for name, want := range map[string]float64{"blk.0.ffn_up_exps.weight": 1, "blk.2.ffn_up_exps.weight": 2, "blk.3.ffn_up_exps.weight": 3, "blk.4.ffn_up_exps.weight": 4, "blk.5.ffn_up_exps.weight": 4} {
		if !near(at[name]/first, want) {
			t.Errorf("%s: %v times layer 1's, want %v", name, at[name]/first, want)
		}
	}
}

// A measured output energy is of the count it was measured with.
func TestOutputEnergyOfAnotherCount(t *testing.T) {
	energy, count := 10.0, uint64(100)
	m := &measure.ExpertLoss{OutputEnergy: &energy, Count: &count, WeightedNorm: 7}
	for _, tt := range []struct {
		counts []uint64
		want   float64
	}{
		{[]uint64{100}, 10},
		{[]uint64{300}, 10 / 100.5 * 300.5},
		{[]uint64{0}, 10 / 100.5 * 0.5},
		{nil, 10 / 100.5 * 42},
	} {
		l := &moeLayer{counts: tt.counts}
		smoothed := 42.0
		if tt.counts != nil {
			smoothed = float64(tt.counts[0]) + measure.Smoothing
		}
		if got := expertEnergy(m, l, 0, smoothed); !near(got, tt.want) {
			t.Errorf("counts %v: %v, want %v", tt.counts, got, tt.want)
		}
	}
	if got := expertEnergy(&measure.ExpertLoss{WeightedNorm: 7}, &moeLayer{}, 0, 3); got != 21 {
		t.Errorf("without an energy: %v, want 21", got)
	}
	// A plan from statistics of three times the tokens weighs alike.
	m2 := tinyMoE(t, gguftest.MoE{Layers: 1, Experts: 3})
	p := budgetProblem(m2, 5, 1<<30)
	before, err := (&layerShares{w: weighingOf(t, p)}).of(0)
	if err != nil {
		t.Fatal(err)
	}
	l := &p.Evidence.Layers[0]
	l.Counts = append([]uint64{}, l.Counts...)
	l.Counts[0] *= 3
	after, err := (&layerShares{w: weighingOf(t, p)}).of(0)
	if err != nil {
		t.Fatal(err)
	}
	if ratio := after[0] / after[1] / (before[0] / before[1]); ratio < 2.99 || ratio > 3.01 {
		t.Errorf("an expert of three times the traffic counts %v times as much", ratio)
	}
}

// Experts with thin statistics may have the type one step below their tensor's
// in the fused plan, and no smaller one.
func TestThinStatisticsAreCapped(t *testing.T) {
	p := budgetProblem(tinyMoE(t, gguftest.MoE{Layers: 1, Experts: 4}), 2, 1<<30)
	p.Policy.Budget.Types = []frequency.Type{frequency.GGML(quant.Q2_K), frequency.GGML(quant.Q4_K), frequency.GGML(quant.Q6_K)}
	p.Evidence.Layers[0].Counts = []uint64{5000, 0, 50, 4000}
	w := weighingOf(t, p)
	layers := w.frame.undecided().layers
	for c := range w.cells {
		cell := &w.cells[c]
		if !cell.splits() {
			continue
		}
		for chosen := range cell.candidates {
			step := cell.candidates[max(0, chosen-1)].SizeBytes / 4
			list := make([]window, len(cell.cost))
			w.cap(list, cell, chosen, layers)
			for e, x := range list {
				want := uint64(0)
				if e == 1 || e == 2 {
					want = step
				}
				if x.least != want || x.most != knapsack.MaxTotal {
					t.Errorf("%s as %s: expert %d from %d bytes, want %d", cell.slot.tensor.Name, cell.candidates[chosen].Type, e, x.least, want)
				}
			}
		}
	}
	if len(w.cells) == 0 || layers[0].Experts[1].Flag != FlagUnseen || layers[0].Experts[2].Flag != FlagScarce {
		t.Errorf("%d cells, flags %v", len(w.cells), layers[0].Experts)
	}
	// The step is used: an unseen expert's damage is the least there is.
	least, reached := cheapest(t, p), false
	for extra := uint64(0); extra < 400<<10; extra += 40 << 10 {
		p.Policy.Budget.SizeBytes = least + extra
		plan := solve(t, p)
		for _, x := range plan.Tensors {
			if len(x.ExpertTypes) == 4 && x.ExpertTypes[1] != x.Type {
				reached = true
			}
		}
	}
	if !reached {
		t.Error("no unseen expert is below its tensor's type at any size")
	}
}

// The same finding twice is said once, wherever it comes from.
func TestFindingsAreSaidOnce(t *testing.T) {
	m := openModel(t, gguftest.MoE{Layers: 1}.Builder())
	ev := counted([]uint64{1000, 1000, 1000, 1000})
	a := stats.Finding{Code: "rounded-counts", Subject: "blk.0", Message: "m"}
	b := stats.Finding{Code: "rounded-counts", Subject: "blk.0", Message: "another"}
	ev.Findings = []stats.Finding{a, b, a, a, b}
	plan := solve(t, &Problem{Model: m, Evidence: ev, Policy: keepPolicy()})
	if got := codesOf(plan); strings.Count(got, "rounded-counts") != 2 {
		t.Errorf("findings %s", got)
	}
}
