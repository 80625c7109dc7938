package planner

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner/frequency"
	"github.com/ggufplan/ggufplan/stats"
)

// tiersOf writes a layer's tiers by their first letters.
func tiersOf(l *LayerPlan) string {
	var b strings.Builder
	for _, x := range l.Experts {
		if x.Tier == nil {
			b.WriteByte('-')
			continue
		}
		b.WriteByte(x.Tier.String()[0])
	}
	return b.String()
}

func weighted(kind stats.Kind, layers ...[]float64) *stats.Evidence {
	ev := &stats.Evidence{Kind: kind}
	for i, w := range layers {
		ev.Layers = append(ev.Layers, stats.Layer{Index: i, Kind: "routed", Weights: w})
	}
	return ev
}

func TestTiers(t *testing.T) {
	m := openModel(t, gguftest.MoE{Layers: 2, Experts: 4}.Builder())
	for _, tt := range []struct {
		name      string
		ev        *stats.Evidence
		by        TiersBy
		scope     Scope
		hot, cold string
		want      string // tiers of layer 0 and 1
		hotAt     uint64 // threshold of layer 0, 0 for none
	}{
		{"by the layer's largest", counted([]uint64{100, 75, 25, 5}, []uint64{10, 9, 3, 2}), TiersByMax, ScopeLayer, "0.9", "0.3", "hwcc hhwc", 90},
		{"by the model's largest", counted([]uint64{100, 75, 25, 5}, []uint64{10, 90, 30, 29}), TiersByMax, ScopeModel, "0.9", "0.3", "hwcc chwc", 90},
		// Ranks of four different counts are 1, 2/3, 1/3 and 0.
		{"by rank", counted([]uint64{100, 75, 25, 5}, []uint64{1, 2, 3, 4}), TiersByRank, ScopeLayer, "0.9", "0.3", "hwwc cwwh", 0},
		{"by rank, on the edge", counted([]uint64{4, 3, 2, 1}, []uint64{4, 3, 2, 1}), TiersByRank, ScopeLayer, "1", "0.333333333333333333", "hwwc hwwc", 0},
		{"by rank, past the edge", counted([]uint64{4, 3, 2, 1}, []uint64{4, 3, 2, 1}), TiersByRank, ScopeLayer, "1", "0.333333333333333334", "hwcc hwcc", 0},
		{"by rank, equal counts", counted([]uint64{7, 7, 7, 7}, []uint64{9, 9, 1, 1}), TiersByRank, ScopeLayer, "0.6", "0.3", "cccc hhcc", 0},
		{"by rank, unused is cold at any rank", counted([]uint64{0, 0, 0, 1}, []uint64{1, 1, 1, 1}), TiersByRank, ScopeLayer, "1", "0", "ccch wwww", 0},
		// Eight counts pooled: 8 has rank 1, 7 has 6/7, 1 has 0.
		{"by rank over the model", counted([]uint64{1, 2, 3, 4}, []uint64{5, 6, 7, 8}), TiersByRank, ScopeModel, "0.85", "0.3", "cccw wwhh", 0},
		{"weights", weighted(stats.KindRelative, []float64{1, 0.9, 0.3, 0.29}, []float64{0.7, 0.63, 0.21, 0}), TiersByMax, ScopeLayer, "0.9", "0.3", "hhwc hhwc", 0},
		{"weights with cold at 0", weighted(stats.KindRelative, []float64{1, 0.5, 0.001, 0}, []float64{1, 1, 1, 1}), TiersByMax, ScopeLayer, "1", "0", "hwwc hhhh", 0},
		{"ranks", weighted(stats.KindRank, []float64{3, 2, 1, 0}, []float64{0, 1, 2, 3}), TiersByRank, ScopeLayer, "0.9", "0.3", "hwwc cwwh", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			policy := keepPolicy()
			policy.Frequency.TiersBy, policy.Frequency.Scope = tt.by, tt.scope
			policy.Frequency.Tiers = tiersAt(tt.hot, tt.cold)
			plan := solve(t, &Problem{Model: m, Evidence: tt.ev, Policy: policy})
			if got := tiersOf(&plan.Layers[0]) + " " + tiersOf(&plan.Layers[1]); got != tt.want {
				t.Errorf("tiers %s, want %s", got, tt.want)
			}
			th := plan.Layers[0].Thresholds
			if (th != nil) != (tt.hotAt > 0) || th != nil && th.Hot != tt.hotAt {
				t.Errorf("thresholds %+v, want hot from %d", th, tt.hotAt)
			}
			for e, x := range plan.Layers[0].Experts {
				if counts := tt.ev.Layers[0].Counts; (x.Count != nil) != (counts != nil) {
					t.Errorf("expert %d: count %v", e, x.Count)
				}
				if ranked := tt.ev.Kind == stats.KindRank; (x.Relative == nil) != ranked || (x.Share == nil) != ranked {
					t.Errorf("expert %d: relative %v, share %v", e, x.Relative, x.Share)
				}
			}
		})
	}
}

func TestFuse(t *testing.T) {
	m := openModel(t, gguftest.MoE{Layers: 1, Experts: 4}.Builder())
	for _, tt := range []struct {
		name   string
		fuse   Fuse
		counts []uint64
		want   string
	}{
		{"most activations are warm", FuseActivations, []uint64{100, 80, 80, 5}, "Q3_K"},
		{"a tie goes to the hotter", FuseActivations, []uint64{100, 50, 50, 0}, "Q4_K"},
		{"cold ones, not enough", FuseActivations, []uint64{100, 29, 29, 29}, "Q4_K"},
		{"the hottest", FuseHottest, []uint64{100, 1, 1, 1}, "Q4_K"},
		// Split: Q4_K + 3 × Q2_K = 144 + 3·84 = 396 per row of four experts;
		// Q3_K takes 440, Q2_K 336.
		{"bytes", FuseBytes, []uint64{100, 1, 1, 1}, "Q2_K"},
		// 144 + 144 + 110 + 84 = 482 ≥ 440.
		{"bytes for the middle type", FuseBytes, []uint64{100, 95, 50, 1}, "Q3_K"},
		{"bytes for the largest type", FuseBytes, []uint64{100, 100, 100, 100}, "Q4_K"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			policy := keepPolicy()
			policy.Frequency.Fuse = tt.fuse
			plan := solve(t, &Problem{Model: m, Evidence: counted(tt.counts), Policy: policy})
			x := plan.planOf(t, "blk.0.ffn_down_exps.weight")
			if x.Type.Name != tt.want {
				t.Errorf("fused to %s (%s), want %s", x.Type, x.Reason, tt.want)
			}
			if tt.fuse == FuseBytes && x.SizeBytes > x.SplitSizeBytes {
				t.Errorf("%d bytes, more than the split plan's %d", x.SizeBytes, x.SplitSizeBytes)
			}
		})
	}
}

// TestFuseBytesTies wants the hotter of two types of one size.
func TestFuseBytesTies(t *testing.T) {
	m := openModel(t, gguftest.MoE{Layers: 1, Experts: 2}.Builder())
	policy := keepPolicy()
	policy.Frequency.Fuse = FuseBytes
	policy.Frequency.HotType, policy.Frequency.WarmType = frequency.GGML(quant.IQ3_S), frequency.GGML(quant.Q3_K)
	plan := solve(t, &Problem{Model: m, Evidence: counted([]uint64{100, 50}), Policy: policy})
	if x := plan.planOf(t, "blk.0.ffn_up_exps.weight"); x.Type.Name != "IQ3_S" {
		t.Errorf("fused to %s", x.Type)
	}
}

func TestSuperExpert(t *testing.T) {
	m := openModel(t, gguftest.MoE{Layers: 1, Experts: 4}.Builder())
	ev := counted([]uint64{100, 75, 25, 5})
	ev.Layers[0].SuperExperts = []int{3}
	plan := solve(t, &Problem{Model: m, Evidence: ev, Policy: keepPolicy()})
	if got := tiersOf(&plan.Layers[0]); got != "hwch" {
		t.Errorf("tiers %s", got)
	}
	if x := plan.planOf(t, "blk.0.ffn_up_exps.weight"); fmt.Sprint(x.ExpertTypes) != "[Q4_K Q3_K Q2_K Q4_K]" {
		t.Errorf("types %v", x.ExpertTypes)
	}
	if codes := codesOf(plan); !strings.Contains(codes, "super-expert blk.0") {
		t.Errorf("findings %s", codes)
	}
	if _, err := encodePlan(plan); err != nil {
		t.Error(err)
	}
}

func TestMissingStatistics(t *testing.T) {
	m := openModel(t, gguftest.MoE{Layers: 2, MTP: 1, Experts: 4}.Builder())
	ev := counted([]uint64{0, 0, 0, 0}, []uint64{1000, 1000, 1000, 5})
	plan := solve(t, &Problem{Model: m, Evidence: ev, Policy: keepPolicy()})
	for _, k := range []int{0, 2} {
		l := &plan.Layers[k]
		if l.HasStatistics || l.Activations != nil || l.Thresholds != nil || tiersOf(l) != "----" {
			t.Errorf("layer %d: %+v", k, l)
		}
		for _, x := range l.Experts {
			if x.Count != nil || x.Share != nil || x.Relative != nil || x.Flag != "" || x.Type.Name != "Q4_K" {
				t.Errorf("layer %d: %+v", k, x)
			}
		}
		if x := plan.planOf(t, fmt.Sprintf("blk.%d.ffn_up_exps.weight", k)); x.Type.Name != "Q4_K" || fmt.Sprint(x.ExpertTypes) != "[Q4_K Q4_K Q4_K Q4_K]" {
			t.Errorf("layer %d: %s, %v", k, x.Type, x.ExpertTypes)
		}
	}
	if got, want := codesOf(plan), "layer-without-statistics blk.0, layer-without-statistics blk.2, mtp-block blk.2, scarce-experts blk.1, typical-errors model.gguf"; got != want {
		t.Errorf("findings %s, want %s", got, want)
	}
	rec := plan.Manifest()
	if s := rec.Statistics; s.LayersWithCounts != 1 || fmt.Sprint(s.LayersWithoutCounts) != "[0 2]" || s.ScarceExperts != 1 {
		t.Errorf("statistics %+v", s)
	}
}

func TestFlags(t *testing.T) {
	for _, tt := range []struct {
		count uint64
		deff  float64
		kind  stats.Kind
		want  string
	}{
		{0, 10, stats.KindExact, "unseen"}, {99, 10, stats.KindExact, "scarce"}, {100, 10, stats.KindExact, "low"},
		{999, 10, stats.KindExact, "low"}, {1000, 10, stats.KindExact, "ok"}, {3999, 10, stats.KindExact, "ok"}, {4000, 10, stats.KindExact, "good"},
		{9, 1, stats.KindExact, "scarce"}, {10, 1, stats.KindExact, "low"},
		{99, 10, stats.KindScaled, "scarce"}, {4000, 10, stats.KindScaled, ""},
	} {
		if got := grade(tt.count, tt.deff, tt.kind); got != tt.want {
			t.Errorf("%d over %v, %s: %q, want %q", tt.count, tt.deff, tt.kind, got, tt.want)
		}
	}
}

func TestFrequencyRefuses(t *testing.T) {
	moe := openModel(t, gguftest.MoE{Layers: 1, Experts: 4}.Builder())
	dense := openModel(t, gguftest.MoE{Layers: 1, Dense: 1}.Builder())
	byRank := keepPolicy()
	byRank.Frequency.TiersBy = TiersByRank
	for _, tt := range []struct {
		name string
		p    Problem
		want error
	}{
		{"no experts", Problem{Model: dense, Evidence: counted(), Policy: keepPolicy()}, ErrNoExperts},
		{"no evidence", Problem{Model: moe, Policy: keepPolicy()}, ErrNoCounts},
		{"no counts", Problem{Model: moe, Evidence: &stats.Evidence{Kind: stats.KindNone}, Policy: byRank}, ErrNoCounts},
		{"ranks by max", Problem{Model: moe, Evidence: weighted(stats.KindRank, []float64{3, 2, 1, 0}), Policy: keepPolicy()}, ErrRankOnly},
	} {
		if _, err := Solve(&tt.p); !errors.Is(err, tt.want) {
			t.Errorf("%s: error %v, want %v", tt.name, err, tt.want)
		}
	}
	for _, tt := range []struct{ name, want string }{
		{"counts of 3 experts, the model has 4", ""},
	} {
		_, err := Solve(&Problem{Model: moe, Evidence: counted([]uint64{1, 2, 3}), Policy: keepPolicy()})
		if err == nil || !strings.Contains(err.Error(), tt.name) {
			t.Errorf("error %v, want %s", err, tt.name)
		}
	}
	_, err := Solve(&Problem{Model: moe, Evidence: counted([]uint64{1<<64 - 1, 1, 0, 0}), Policy: keepPolicy()})
	if err == nil || !strings.Contains(err.Error(), "add up to more than 2^64-1") {
		t.Errorf("error %v", err)
	}
}

// A manifest records percentiles as float64s: those that it could not tell
// from invalid ones are refused, not recorded as 0 or 1.
func TestPercentilesThatRoundAway(t *testing.T) {
	for _, tt := range [][2]string{{"1e-400", "0"}, {"1", "0.99999999999999999999"}, {"0.50000000000000000001", "0.5"}} {
		policy := keepPolicy()
		policy.Frequency.Tiers = tiersAt(tt[0], tt[1])
		if err := policy.Frequency.Validate(); err == nil || !strings.Contains(err.Error(), "no float64") {
			t.Errorf("hot %s, cold %s: error %v", tt[0], tt[1], err)
		}
	}
}

func tiersAt(hot, cold string) frequency.Tiers {
	t, _ := frequency.Preset(frequency.PresetDefault)
	t.HotPercentile, t.ColdPercentile = fraction(hot), fraction(cold)
	return t
}

func fraction(s string) frequency.Fraction {
	f, err := frequency.ParseFraction(s)
	if err != nil {
		panic(err)
	}
	return f
}
