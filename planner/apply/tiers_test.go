package apply_test

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner"
	"github.com/ggufplan/ggufplan/planner/apply"
	"github.com/ggufplan/ggufplan/stats"
)

// everyColumn is an importance matrix that covers every tensor.
type everyColumn struct{}

func (everyColumn) MeanSquares(string, int, []float64) (bool, error) { return false, nil }
func (everyColumn) Complete(string, uint64, uint64) bool             { return true }

// The planner knows the size of a tier file before it is laid out, whatever its
// alignment, the rows' lengths and the number of tiers, and a target bounds it.
func TestSplitFileBytes(t *testing.T) {
	split := 0
	for _, shape := range []struct {
		experts, ff int
		align       uint64
	}{{8, 256, 32}, {24, 512, 32}, {9, 288, 128}, {5, 96, 64}} {
		moe := gguftest.MoE{Layers: 2, Experts: shape.experts, FF: shape.ff, Type: quant.F16, Sparse: true}
		b := moe.Builder()
		b.Alignment = shape.align
		b.Set("general.alignment", uint32(shape.align))
		path := filepath.Join(t.TempDir(), "model.gguf")
		if err := b.WriteFile(path); err != nil {
			t.Fatal(err)
		}
		m, err := ggufio.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		evidence := &stats.Evidence{Kind: stats.KindExact, Columns: everyColumn{}}
		for l := range 2 {
			counts := make([]uint64, shape.experts)
			for e := range counts {
				counts[e] = uint64(1000 * math.Exp(float64(e*(2-l))/3))
			}
			evidence.Layers = append(evidence.Layers, stats.Layer{Index: l, Kind: stats.LayerRouted, Counts: counts})
		}
		policies := []planner.Policy{planner.DefaultPolicy()}
		for _, part := range []uint64{4, 3} {
			for _, k := range []int{0, 1, 2, 3, 5} {
				p := planner.DefaultPolicy()
				p.Name, p.MaxTiers = planner.PolicyBudget, k
				p.Budget = planner.Budget{Target: planner.TargetSize, SizeBytes: m.FileBytes() / part, Objective: planner.ObjectiveOutputShare, Scope: planner.ScopeAll}
				policies = append(policies, p)
			}
		}
		for i, policy := range policies {
			name := fmt.Sprintf("%d experts, policy %d", shape.experts, i)
			plan, err := planner.Solve(&planner.Problem{Model: m, Evidence: evidence, Policy: policy})
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if policy.Name == planner.PolicyBudget && shape.align == 32 && plan.Totals.SplitFileBytes > policy.Budget.SizeBytes {
				t.Errorf("%s: %d bytes, the target is %d", name, plan.Totals.SplitFileBytes, policy.Budget.SizeBytes)
			}
			layout, err := apply.Fused(plan.Manifest(), m, apply.Options{Names: []string{"out.gguf"}, Split: true, Columns: everyColumn{}})
			if errors.Is(err, apply.ErrNothingSplit) {
				layout, err = apply.Fused(plan.Manifest(), m, apply.Options{Names: []string{"out.gguf"}, Columns: everyColumn{}})
			} else {
				split++
			}
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if got := layout.Files[0].SizeBytes; got != plan.Totals.SplitFileBytes {
				t.Errorf("%s: the file takes %d bytes, the plan says %d", name, got, plan.Totals.SplitFileBytes)
			}
		}
	}
	if split < 25 {
		t.Errorf("only %d plans are split", split)
	}
}
