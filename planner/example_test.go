package planner_test

import (
	"context"
	"fmt"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/planner"
	"github.com/ggufplan/ggufplan/planner/frequency"
	"github.com/ggufplan/ggufplan/stats"
	"github.com/ggufplan/ggufplan/stats/read"
)

// From a model and an imatrix to a plan, as the command does it.
func ExampleSolve() {
	model, err := ggufio.Open("../testdata/bytemoe-2x8/model-f16.gguf")
	if err != nil {
		fmt.Println(err)
		return
	}
	evidence, err := read.File(context.Background(), "../testdata/bytemoe-2x8/mix.imatrix.gguf", read.Options{})
	if err == nil {
		evidence, err = evidence.Fit(model, stats.FitOptions{})
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	tiers, _ := frequency.Preset(frequency.PresetDefault)
	plan, err := planner.Solve(&planner.Problem{
		Model: model, Evidence: evidence,
		Policy: planner.Policy{
			Name: planner.PolicyFrequency, Base: "Q4_K_M",
			Frequency: planner.Frequency{Preset: frequency.PresetDefault, TiersBy: planner.TiersByMax,
				Scope: planner.ScopeLayer, Fuse: planner.FuseActivations, Tiers: tiers},
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, t := range plan.Tensors {
		if t.Tensor.Role.IsExpert() {
			fmt.Println(t.Tensor.Name, t.Type, t.SizeBytes, t.Reason)
		}
	}
	fmt.Println(plan.Totals.SourceBytes, "bytes become", plan.Totals.PlannedBytes)
	// Output:
	// blk.0.ffn_gate_exps.weight Q3_K 225280 most activations are in warm experts
	// blk.0.ffn_up_exps.weight Q3_K 225280 most activations are in warm experts
	// blk.0.ffn_down_exps.weight Q3_K 225280 most activations are in warm experts
	// blk.1.ffn_gate_exps.weight Q3_K 225280 most activations are in warm experts
	// blk.1.ffn_up_exps.weight Q3_K 225280 most activations are in warm experts
	// blk.1.ffn_down_exps.weight Q3_K 225280 most activations are in warm experts
	// 7363584 bytes become 1768290
}

// A server counts which experts its router chooses, and now and then asks
// which of them deserve a better type.
func ExampleAllocator() {
	tiers, _ := frequency.Preset("quality-focused")
	a, err := frequency.NewAllocator(4, tiers)
	if err != nil {
		fmt.Println(err)
		return
	}
	a.RecordAll([]int{0, 2}) // one token, two experts
	a.RecordN(0, 99)
	a.RecordN(1, 75)
	a.RecordN(2, 24)
	a.RecordN(3, 5)
	a.Recompute()
	fmt.Println(a.Thresholds())
	for e := range a.Len() {
		fmt.Println(e, a.Count(e), a.Tier(e), a.Type(e))
	}
	// Output:
	// {80 20}
	// 0 100 hot Q5_K
	// 1 75 warm Q4_K
	// 2 25 warm Q4_K
	// 3 5 cold Q3_K
}
