package planner

import (
	"fmt"
	"slices"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/planner/frequency"
	"github.com/ggufplan/ggufplan/planner/manifest"
	"github.com/ggufplan/ggufplan/stats"
)

// TestTiersByTraffic: one outlier makes all others cold by the largest count,
// and a finding says so; by traffic it does not.
func TestTiersByTraffic(t *testing.T) {
	m := openModel(t, gguftest.MoE{Layers: 1, Experts: 8}.Builder())
	counts := []uint64{400, 100, 100, 100, 100, 100, 90, 10}
	tiers := func(by TiersBy, ev *stats.Evidence) (string, *Plan) {
		policy := DefaultPolicy()
		policy.Base, policy.Frequency.TiersBy = BaseKeep, by
		plan := solve(t, &Problem{Model: m, Evidence: ev, Policy: policy})
		var got []string
		for _, x := range plan.Layers[0].Experts {
			got = append(got, x.Tier.String())
		}
		data, err := manifest.Encode(plan.Manifest())
		if err != nil {
			t.Fatal(err)
		}
		if back, err := manifest.Decode(data); err != nil || (back.Policy.HotShare != nil) != (by == TiersByTraffic) || (back.Policy.HotPercentile == nil) != (by == TiersByTraffic) {
			t.Errorf("by %s: %v, policy %+v", by, err, back.Policy)
		}
		return fmt.Sprint(got), plan
	}
	mostlyCold := func(p *Plan) bool {
		return slices.ContainsFunc(p.Findings, func(f Finding) bool { return f.Code == CodeMostlyCold })
	}
	got, plan := tiers(TiersByMax, counted(counts))
	if want := "[hot cold cold cold cold cold cold cold]"; got != want || !mostlyCold(plan) {
		t.Errorf("by max: %s, findings %v", got, plan.Findings)
	}
	got, plan = tiers(TiersByTraffic, counted(counts))
	if want := "[hot hot warm warm warm warm cold cold]"; got != want || mostlyCold(plan) || plan.Layers[0].Thresholds != nil {
		t.Errorf("by traffic: %s, findings %v", got, plan.Findings)
	}
	relative := &stats.Evidence{Kind: stats.KindRelative, Layers: []stats.Layer{{Weights: []float64{.4, .1, .1, .1, .1, .1, .09, .01}}}}
	if got, _ = tiers(TiersByTraffic, relative); got != "[hot hot warm warm warm warm cold cold]" && got != "[hot hot warm warm warm warm warm cold]" {
		t.Errorf("relative traffic: %s", got)
	}
	policy := DefaultPolicy()
	policy.Frequency.TiersBy, policy.Frequency.Shares = TiersByTraffic, frequency.Shares{}
	if _, err := Solve(&Problem{Model: m, Evidence: counted(counts), Policy: policy}); err == nil {
		t.Error("shares of 0 pass")
	}
}
