package planner

import (
	"math"
	"slices"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner/frequency"
	"github.com/ggufplan/ggufplan/stats"
	"github.com/ggufplan/ggufplan/stats/measure"
)

// Two layers, worked out by hand.
func TestTypicalSensitivities(t *testing.T) {
	for _, sparse := range []bool{false, true} {
		m := tinyMoE(t, gguftest.MoE{Layers: 2, Sparse: sparse})
		values, _ := typicalSensitivities(m)
		want := map[string]float64{"output.weight": 0.3, "token_embd.weight": 0.05,
			"blk.0.attn_q.weight": 0.148167, "blk.1.attn_q.weight": 0.101833,
			"blk.0.ffn_gate_exps.weight": 0.189653, "blk.1.ffn_up_exps.weight": 0.130347,
			"blk.0.ffn_down_exps.weight": 0.213360, "blk.1.ffn_down_exps.weight": 0.146640}
		if sparse { // experts that are tensors of their own, as if they were fused
			for layer, names := range map[string]map[string]float64{"blk.0.": {"gate": 0.189653, "down": 0.213360}, "blk.1.": {"up": 0.130347, "down": 0.146640}} {
				for name, v := range names {
					delete(want, layer+"ffn_"+name+"_exps.weight")
					want[layer+"ffn_"+name+".0.weight"] = v
					want[layer+"ffn_"+name+".1.weight"] = v
				}
			}
		}
		for i := range m.Tensors {
			if v, ok := want[m.Tensors[i].Name]; ok {
				if delete(want, m.Tensors[i].Name); math.Abs(values[i]-v) > 5e-7 {
					t.Errorf("%s: %v, want %v", m.Tensors[i].Name, values[i], v)
				}
			}
		}
		if len(want) > 0 && !sparse {
			t.Errorf("not in the model: %v", want)
		}
	}
}

func table(names []string, values []float64) *NamedSensitivity {
	return &NamedSensitivity{SensitivityTable, stats.FileID{Name: "kld.csv", SHA256: "00"}, &measure.Sensitivity{Names: names, Values: values}}
}

// netOf returns what a table comes to for a model of five layers.
func netOf(t *testing.T, s *NamedSensitivity) (*weighing, func(name string) sensitivity) {
	t.Helper()
	p := budgetProblem(tinyMoE(t, gguftest.MoE{Layers: 5}), 1, 1<<30)
	p.Policy.Budget.Sensitivity = s
	f, err := newFrame(p)
	if err != nil {
		t.Fatal(err)
	}
	w, err := newWeighing(f)
	if err != nil {
		t.Fatal(err)
	}
	return w, func(name string) sensitivity {
		for i := range f.slots {
			if f.slots[i].tensor.Name == name {
				return w.sensitivity[i]
			}
		}
		t.Fatalf("no tensor %s", name)
		return sensitivity{}
	}
}

// Attention k and v share a run in every layer, the second smallest run is the
// floor, and a role that is 0 everywhere was not measured.
func TestTableIsNormalised(t *testing.T) {
	var names []string
	var values []float64
	add := func(name string, v float64) { names, values = append(names, name), append(values, v) }
	for l, v := range []float64{2, 4, 6, 8, 10} {
		blk := "blk." + string(rune('0'+l)) + "."
		add(blk+"attn_k.weight", 1+v)
		add(blk+"attn_v.weight", 1+v)
		add(blk+"attn_output.weight", 0)
		add(blk+"ffn_up_exps.weight", 1+v/2)
	}
	add("output.weight", 0.5) // below the floor
	add("blk.0.attn_q.weight", 1)
	w, of := netOf(t, table(names, values))
	if w.table.floor == nil || *w.table.floor != 1 || *w.table.rule != floorSecond {
		t.Fatalf("floor %v by %v, want 1 by the second smallest run", w.table.floor, w.table.rule)
	}
	unit := of("blk.1.attn_k.weight").value / 2 // 4 in two tensors
	for name, want := range map[string]sensitivity{
		"blk.4.attn_v.weight":        {5, fromTable},
		"blk.4.ffn_up_exps.weight":   {5, fromTable},
		"output.weight":              {0.05 * 3.5, fromTable}, // the median net run is 3 and 4 in the middle of 12
		"blk.0.attn_q.weight":        {0.05 * 3.5, fromTable},
		"blk.3.attn_q.weight":        {0.05 * 3.5, fromLayers},
		"blk.2.attn_output.weight":   {0, fromScaled},
		"blk.2.ffn_down_exps.weight": {0, fromScaled},
		"token_embd.weight":          {0, fromScaled},
	} {
		got := of(name)
		if got.from != want.from || want.value > 0 && !near(got.value/unit, want.value) || !(got.value > 0) {
			t.Errorf("%s: %v %s, want %v %s", name, got.value/unit, got.from, want.value, want.from)
		}
	}
	if slices.Contains(w.interpolated, "output.weight") || !slices.Contains(w.interpolated, "blk.2.attn_output.weight") {
		t.Errorf("interpolated: %v", w.interpolated)
	}
}

// The error at the drop type is divided out: with typical errors a constant.
func TestDropType(t *testing.T) {
	names, values := []string{"blk.0.ffn_up_exps.weight", "output.weight"}, []float64{0.01, 0.04}
	s := table(names, values)
	s.DropType = "Q2_K"
	zero := 0.0
	s.Control = &zero
	w, of := netOf(t, s)
	f := w.frame
	for i := range f.slots {
		v := slices.Index(names, f.slots[i].tensor.Name)
		if v < 0 {
			continue
		}
		m := w.measured[names[v]]
		r, k := 0.0, slices.Index(m.Types, fallbackName(t, &f.slots[i]))
		weights, err := w.expertWeights(&f.slots[i])
		if err != nil {
			t.Fatal(err)
		}
		for e, q := range weights {
			r += q * m.Experts[e].Types[k].Relative
		}
		if got := of(names[v]).value; !near(got, values[v]/r) {
			t.Errorf("%s: %v, want %v / %v", names[v], got, values[v], r)
		}
	}
	if *w.table.rule != floorControl || *w.table.dropType != "Q2_K" {
		t.Errorf("rule %v, drop type %v", w.table.rule, w.table.dropType)
	}
	s.DropType = "F99"
	p := budgetProblem(tinyMoE(t, gguftest.MoE{Layers: 5}), 1, 1<<30)
	p.Policy.Budget.Sensitivity = s
	if _, err := Solve(p); err == nil {
		t.Error("a drop type that is no type passes")
	}
}

// A table of perplexities is no table of divergences.
func TestFlatTable(t *testing.T) {
	for flat, values := range map[bool][]float64{true: {5.31, 5.33, 5.32}, false: {0.1, 0.2, 0.3}} {
		w, _ := netOf(t, table([]string{"blk.0.ffn_up_exps.weight", "output.weight", "blk.1.attn_q.weight"}, values))
		found := slices.ContainsFunc(w.damageFindings(), func(f Finding) bool { return f.Code == CodeFlatSensitivity })
		if found != flat {
			t.Errorf("%v: finding %v", values, found)
		}
	}
}

func fallbackName(t *testing.T, s *slot) string {
	t.Helper()
	o, err := s.resolve(frequency.GGML(quant.Q2_K), false)
	if err != nil {
		t.Fatal(err)
	}
	return o.Type.Name
}

// What a prediction layer shows is the floor, and its tensors are judged by the
// last layer that runs.
func TestFloorOfPredictionLayers(t *testing.T) {
	m := tinyMoE(t, gguftest.MoE{Layers: 2, MTP: 1})
	p := budgetProblem(m, 1, 1<<30)
	p.Policy.Budget.Sensitivity = table(
		[]string{"blk.0.ffn_up_exps.weight", "blk.1.ffn_up_exps.weight", "blk.2.ffn_up_exps.weight", "blk.2.ffn_down_exps.weight"},
		[]float64{3, 5, 1, 1})
	f, err := newFrame(p)
	if err != nil {
		t.Fatal(err)
	}
	w, err := newWeighing(f)
	if err != nil {
		t.Fatal(err)
	}
	if w.table.rule == nil || *w.table.rule != floorPrediction || *w.table.floor != 1 {
		t.Fatalf("floor %v by %v", w.table.floor, w.table.rule)
	}
	got := map[string]float64{}
	for i := range f.slots {
		got[f.slots[i].tensor.Name] = w.sensitivity[i].value
	}
	first, last := got["blk.0.ffn_up_exps.weight"], got["blk.1.ffn_up_exps.weight"]
	if !near(last, 2*first) || got["blk.2.ffn_up_exps.weight"] != last {
		t.Errorf("%v, %v and %v in the prediction layer", first, last, got["blk.2.ffn_up_exps.weight"])
	}
}
