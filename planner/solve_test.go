package planner

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/stats"
)

// openModel writes a built model and opens it.
func openModel(t testing.TB, b *gguftest.Builder) *ggufio.Model {
	t.Helper()
	path := filepath.Join(t.TempDir(), "model.gguf")
	if err := b.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	m, err := ggufio.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// recorded holds published shapes and what llama-quantize makes of them.
const recorded = "../testdata/llama-quantize"

// keepPolicy is the default policy with the base "keep".
func keepPolicy() Policy {
	policy := DefaultPolicy()
	policy.Base = BaseKeep
	return policy
}

// counted returns exact evidence with the counts of layers 0, 1, ...
func counted(layers ...[]uint64) *stats.Evidence {
	ev := &stats.Evidence{Kind: stats.KindExact}
	for i, c := range layers {
		if c != nil {
			ev.Layers = append(ev.Layers, stats.Layer{Index: i, Kind: "routed", Counts: c})
		}
	}
	return ev
}

func solve(t *testing.T, p *Problem) *Plan {
	t.Helper()
	plan, err := Solve(p)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// planOf returns the plan of the named tensor.
func (p *Plan) planOf(t *testing.T, name string) *TensorPlan {
	t.Helper()
	for i := range p.Tensors {
		if p.Tensors[i].Tensor.Name == name {
			return &p.Tensors[i]
		}
	}
	t.Fatalf("no tensor %s", name)
	return nil
}

func TestFrequencyPlan(t *testing.T) {
	m := openModel(t, gguftest.MoE{Layers: 2}.Builder())
	plan := solve(t, &Problem{Model: m, Evidence: counted([]uint64{100, 75, 25, 5}, []uint64{10, 10, 10, 10}), Policy: keepPolicy()})
	up := plan.planOf(t, "blk.0.ffn_up_exps.weight")
	if got := fmt.Sprint(up.ExpertTypes); got != "[Q4_K Q3_K Q2_K Q2_K]" {
		t.Errorf("split types %s", got)
	}
	// 100 activations in the hot tier, 75 in the warm, 30 in the cold.
	if up.Type.Name != "Q4_K" || up.Reason != "most activations are in hot experts" {
		t.Errorf("fused: %s, %q", up.Type, up.Reason)
	}
	// Four experts of 256 rows of one block of 256 weights.
	if want := uint64(256 * (144 + 110 + 84 + 84)); up.SplitSizeBytes != want || up.SizeBytes != 4*256*144 {
		t.Errorf("%d and %d bytes, want %d split", up.SizeBytes, up.SplitSizeBytes, want)
	}
	if q := plan.planOf(t, "blk.0.attn_q.weight"); q.Type.Name != "F32" || q.Reason != "base keep" {
		t.Errorf("attention: %s, %q", q.Type, q.Reason)
	}
}

func TestFixturesPlan(t *testing.T) {
	for _, tt := range []struct {
		model           string
		layers, experts int
	}{
		{"qwen3-30b-a3b", 48, 128},
		{"mixtral-8x7b", 32, 8},
		{"deepseek-v3", 58, 256},
		{"olmoe-1b-7b", 16, 64},
	} {
		t.Run(tt.model, func(t *testing.T) {
			dir := t.TempDir()
			path, err := gguftest.ExtendHeader(dir, filepath.Join("..", "testdata", "llama-quantize", tt.model+"-bf16.gguf"))
			if err != nil {
				t.Fatal(err)
			}
			defer os.Remove(path)
			m, err := ggufio.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			ev := spreadEvidence(m)
			policy := keepPolicy()
			policy.Base = "Q4_K_M"
			plan := solve(t, &Problem{Model: m, Evidence: ev, Policy: policy})
			if len(plan.Layers) != tt.layers || len(plan.Layers[0].Experts) != tt.experts {
				t.Errorf("%d MoE layers of %d experts, want %d of %d", len(plan.Layers), len(plan.Layers[0].Experts), tt.layers, tt.experts)
			}
		})
	}
}

// spreadEvidence counts every expert of a model, some ten times as often as
// others.
func spreadEvidence(m *ggufio.Model) *stats.Evidence {
	ev := &stats.Evidence{Kind: stats.KindExact}
	for _, l := range m.MoELayers() {
		counts := make([]uint64, m.ExpertCount(l))
		for e := range counts {
			counts[e] = uint64(1000 + (e*7919+l*104729)%9000)
		}
		ev.Layers = append(ev.Layers, stats.Layer{Index: l, Kind: stats.LayerRouted, Counts: counts})
	}
	return ev
}

// TestIncompletePolicy names every choice that a policy leaves open.
func TestIncompletePolicy(t *testing.T) {
	m := tinyMoE(t, gguftest.MoE{})
	budget := DefaultPolicy()
	budget.Name = PolicyBudget
	noFuse := DefaultPolicy()
	noFuse.Frequency.Fuse = ""
	for _, tt := range []struct {
		name   string
		policy Policy
		want   string
	}{
		{"zero", Policy{}, "the policy lacks Name, Base, Frequency.TiersBy, Frequency.Scope, Frequency.Fuse, Frequency.HotType, Frequency.WarmType, Frequency.ColdType: "},
		{"one choice", noFuse, "the policy lacks Frequency.Fuse: "},
		{"budget", budget, "the policy lacks Budget.Target, Budget.Objective, Budget.Scope: "},
	} {
		if _, err := Solve(&Problem{Model: m, Policy: tt.policy}); err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %s", tt.name, err, tt.want)
		}
	}
}
