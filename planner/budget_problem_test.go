package planner

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner/frequency"
	"github.com/ggufplan/ggufplan/planner/llamaquantize"
	"github.com/ggufplan/ggufplan/stats"
	"github.com/ggufplan/ggufplan/stats/measure"
)

// kTypes are candidates that need no imatrix.
var kTypes = []frequency.Type{frequency.GGML(quant.Q2_K), frequency.GGML(quant.Q3_K), frequency.GGML(quant.Q4_K), frequency.GGML(quant.Q5_K), frequency.GGML(quant.Q6_K), frequency.GGML(quant.Q8_0)}

// allColumns has an imatrix entry for every tensor.
type allColumns struct{}

func (allColumns) MeanSquares(string, int, []float64) (bool, error) { return false, nil }
func (allColumns) Complete(string, uint64, uint64) bool             { return true }

// measuredErrors makes up errors of every quantizable tensor of a model in
// every type that has a typical one, around that, with the given evidence's
// counts.
func measuredErrors(m *ggufio.Model, ev *stats.Evidence, seed uint64) *NamedErrors {
	rng := rand.New(rand.NewPCG(seed, 77))
	e := &measure.Result{Weights: "imatrix"}
	var types []quant.Type
	for _, f := range quant.Formats() {
		if _, ok := typicalError(f.Type); ok {
			types = append(types, f.Type)
			e.Types = append(e.Types, f.Name)
		}
	}
	counts := map[int][]uint64{}
	if ev != nil {
		for _, l := range ev.Layers {
			counts[l.Index] = l.Counts
		}
	}
	for i := range m.Tensors {
		t := &m.Tensors[i]
		if !llamaquantize.Quantizable(t) {
			continue
		}
		x := measure.TensorLoss{Name: t.Name, Role: string(t.Role), Shape: t.Shape, Source: t.Type.String(), Types: e.Types}
		level := math.Exp(rng.NormFloat64() / 2)
		for j := range max(1, t.Experts()) {
			expert := measure.ExpertLoss{Expert: j, WeightedNorm: 1 + rng.Float64(), PlainNorm: 1 + rng.Float64()}
			if t.Expert >= 0 {
				expert.Expert = t.Expert
			}
			n := uint64(0)
			if c := counts[t.Layer]; c != nil && t.Role.IsExpert() {
				n = c[expert.Expert]
				expert.Count = &n
			}
			if t.Role == ggufio.RoleExpertDown && expert.Count != nil {
				energy := (float64(n) + 0.5) * expert.WeightedNorm
				expert.OutputEnergy = &energy
			}
			own := level * math.Exp(rng.NormFloat64()/3)
			for _, typ := range types {
				r, _ := typicalError(typ)
				r *= own * (0.9 + 0.2*rng.Float64())
				expert.Types = append(expert.Types, measure.TypeLoss{Relative: r, Low: r, High: r,
					WeightedError: r * expert.WeightedNorm, PlainError: r * expert.PlainNorm})
			}
			x.Experts = append(x.Experts, expert)
		}
		e.Tensors = append(e.Tensors, x)
	}
	return &NamedErrors{FileID: stats.FileID{Name: "errors.json", SHA256: strings.Repeat("e", 64)}, Result: e}
}

// skewed makes up counts for every MoE layer of a model: none below 1000, so
// that no expert is scarce.
func skewed(m *ggufio.Model, seed uint64) *stats.Evidence {
	rng := rand.New(rand.NewPCG(seed, 78))
	ev := &stats.Evidence{Kind: stats.KindExact, Columns: allColumns{}}
	for _, l := range m.MoELayers() {
		counts := make([]uint64, m.ExpertCount(l))
		for e := range counts {
			counts[e] = 1000 + uint64(2000*math.Exp(rng.NormFloat64()))
		}
		ev.Layers = append(ev.Layers, stats.Layer{Index: l, Kind: "routed", Counts: counts})
	}
	return ev
}

// budgetProblem is the policy for all tensors of a model, with made-up counts
// and errors, at a size.
func budgetProblem(m *ggufio.Model, seed, sizeBytes uint64) *Problem {
	ev := skewed(m, seed)
	tiers, _ := frequency.Preset(frequency.PresetDefault)
	return &Problem{Model: m, Evidence: ev, Policy: Policy{
		Name: PolicyBudget, Base: BaseKeep, Frequency: Frequency{Tiers: tiers},
		Budget: Budget{Target: TargetSize, SizeBytes: sizeBytes, Objective: ObjectiveOutputShare, Seed: 1, Scope: ScopeAll,
			Errors: measuredErrors(m, ev, seed)}}}
}

// cheapest returns the size of the smallest plan there is.
func cheapest(t testing.TB, p *Problem) uint64 {
	t.Helper()
	q := *p
	q.Policy.Budget.Target, q.Policy.Budget.SizeBytes = TargetSize, 1
	_, err := Solve(&q)
	u, ok := err.(*UnreachableError)
	if !ok {
		t.Fatalf("a budget of 1 byte: error %v", err)
	}
	return u.CheapestBytes
}

func tinyMoE(t testing.TB, o gguftest.MoE) *ggufio.Model {
	if o.Type == 0 {
		o.Type = quant.F16
	}
	o.Sparse = true
	return openModel(t, o.Builder())
}
