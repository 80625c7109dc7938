package stats

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func near(a, b, tolerance float64) bool { return math.Abs(a-b) <= tolerance }

func TestWilson(t *testing.T) {
	for _, tt := range []struct {
		hits, trials, low, high float64
	}{
		// Worked by hand: z^2 = 3.841459; p = 0.1, T = 100:
		// centre (0.1 + 0.01920729)/1.03841459, half 1.959964*sqrt(0.0009 + 0.0000960365)/1.03841459.
		{10, 100, 0.055229, 0.174366},
		{0, 100, 0, 0.036994}, // z^2/(T + z^2)
		{100, 100, 0.963006, 1},
		{0, 0, 0, 1},
	} {
		iv := Wilson(tt.hits, tt.trials)
		if !near(iv.Low, tt.low, 1e-6) || !near(iv.High, tt.high, 1e-6) {
			t.Errorf("%g of %g: %.6f to %.6f, want %.6f to %.6f", tt.hits, tt.trials, iv.Low, iv.High, tt.low, tt.high)
		}
	}
	// At 51200 tokens, a count of 10 is good to a factor of about two.
	iv := Wilson(10, 51200)
	if p := 10.0 / 51200; !near(iv.Low/p, 0.54, 0.01) || !near(iv.High/p, 1.84, 0.01) {
		t.Errorf("10 of 51200: %.2f to %.2f of the share", iv.Low/p, iv.High/p)
	}
}

// In simulation the interval covers the truth at its stated rate, with
// independent tokens and with tokens that come in runs of one topic.
func TestShareIntervalCoversTheTruth(t *testing.T) {
	for _, tt := range []struct {
		name string
		run  int // tokens in a row that go the same way
	}{{"independent", 1}, {"in runs of 8", 8}} {
		t.Run(tt.name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, 2))
			p := []float64{0.5, 0.3, 0.15, 0.05}
			const repeats, blocks, tokens = 400, 60, 512
			covered, all := 0, 0
			for range repeats {
				l := Layer{Counts: make([]uint64, len(p)), Tokens: tokensOf(blocks * tokens)}
				var moments BlockMoments
				for range blocks {
					block := make([]float64, len(p))
					for i := 0; i < tokens; i += tt.run {
						x, e := rng.Float64(), 0
						for x -= p[0]; x >= 0 && e < len(p)-1; x -= p[e] {
							e++
						}
						block[e] += float64(tt.run)
					}
					for e, n := range block {
						l.Counts[e] += uint64(n)
					}
					moments.Add(block)
				}
				l.Blocks = moments.Summary(1, len(p))
				for e := range p {
					iv, ok := l.ShareInterval(e)
					if !ok {
						t.Fatal("no interval")
					}
					all++
					if iv.Low <= p[e] && p[e] <= iv.High {
						covered++
					}
				}
			}
			// 95 % of 1600, which are independent across repeats alone: 2.2
			// standard deviations of 400 draws are 2.4 %.
			if rate := float64(covered) / float64(all); rate < 0.925 || rate > 0.975 {
				t.Errorf("the interval covers the truth in %.1f %% of cases", 100*rate)
			}
		})
	}
}

func TestFlags(t *testing.T) {
	for _, tt := range []struct {
		count uint64
		deff  float64
		want  Flag
	}{
		{0, 10, FlagUnseen}, {1, 10, FlagScarce}, {99, 10, FlagScarce}, {100, 10, FlagLow}, {999, 10, FlagLow},
		{1000, 10, FlagOK}, {3999, 10, FlagOK}, {4000, 10, FlagGood}, {10, 1, FlagLow}, {10, 1.01, FlagScarce},
	} {
		if got := FlagOf(tt.count, tt.deff); got != tt.want {
			t.Errorf("%d at %g: %s, want %s", tt.count, tt.deff, got, tt.want)
		}
	}
}

func TestTokensNeeded(t *testing.T) {
	l := Layer{Counts: []uint64{1000, 50, 0}, Tokens: tokensOf(1000)}
	for _, tt := range []struct {
		expert int
		count  float64
		want   uint64
	}{
		{0, ScarceBelow, 0},
		{1, ScarceBelow, 1000}, // 5 effective of 10: as many again
		{1, LowBelow, 19000},   // of 100: 20 times as many
		{2, ScarceBelow, 2334}, // at most 3: 10/3 as many
		{0, GoodFrom, 3000},    // 100 of 400
	} {
		if got, ok := l.TokensNeeded(tt.expert, tt.count); !ok || got != tt.want {
			t.Errorf("expert %d to %g: %d, want %d", tt.expert, tt.count, got, tt.want)
		}
	}
	l.Tokens = nil
	if _, ok := l.TokensNeeded(0, ScarceBelow); ok {
		t.Error("tokens needed are known where tokens are not")
	}
}

func TestStability(t *testing.T) {
	layer := func(a, b []uint64) *Layer {
		return &Layer{Blocks: &Blocks{N: 4, Deff: 1, HalfCounts: [2][]uint64{a, b}}}
	}
	for _, tt := range []struct {
		name string
		l    *Layer
		want Verdict
	}{
		{"same", layer([]uint64{100, 50, 25, 10}, []uint64{99, 52, 24, 11}), VerdictStable},
		{"another order", layer([]uint64{100, 98, 25, 10}, []uint64{98, 100, 10, 25}), VerdictUnstable},
		{"same order, other shares", layer([]uint64{100, 50, 25, 10}, []uint64{100, 20, 5, 1}), VerdictUnstable},
		{"an empty half", layer([]uint64{100, 50, 25, 10}, []uint64{0, 0, 0, 0}), VerdictUnknown},
		{"no blocks", &Layer{}, VerdictUnknown},
	} {
		if _, got := tt.l.Stability(); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestShift(t *testing.T) {
	same, _ := shiftBetween([]float64{0.5, 0.3, 0.2}, []float64{0.5, 0.3, 0.2})
	if same.JensenShannon != 0 || *same.Spearman != 1 {
		t.Errorf("of equal: %+v", same)
	}
	apart, _ := shiftBetween([]float64{1, 0}, []float64{0, 1})
	if apart.JensenShannon != 1 || *apart.Spearman != -1 {
		t.Errorf("of disjoint: %g, %g", apart.JensenShannon, *apart.Spearman)
	}
	// m = (0.75, 0.25); D = (KL(p,m) + KL(q,m))/2 = (log2(4/3) + (log2(2/3)+log2(2))/2)/2.
	some, _ := shiftBetween([]float64{1, 0}, []float64{0.5, 0.5})
	want := math.Sqrt((math.Log2(4.0/3) + (math.Log2(2.0/3)+1)/2) / 2)
	if !near(some.JensenShannon, want, 1e-6) {
		t.Errorf("distance %g, want %g", some.JensenShannon, want)
	}
	flat, _ := shiftBetween([]float64{0.5, 0.5}, []float64{0.9, 0.1})
	if flat.Spearman != nil {
		t.Errorf("the rank correlation with a tie of all is %g", *flat.Spearman)
	}
	if got := ranks([]float64{3, 1, 3, 2}); !slices.Equal(got, []float64{3.5, 1, 3.5, 2}) {
		t.Errorf("ranks %v", got)
	}
}

func TestSummarize(t *testing.T) {
	l := Layer{Counts: []uint64{25, 25, 25, 25}}
	s, ok := l.Summarize(KindExact)
	if !ok || s.Entropy != 2 || s.EffectiveExperts != 4 || s.Gini != 0 || s.Hottest != 0 || s.Coldest != 0 {
		t.Errorf("even use: %+v", s)
	}
	l.Counts = []uint64{0, 0, 8, 0}
	if s, _ = l.Summarize(KindExact); s.EffectiveExperts != 1 || s.Gini != 0.75 || s.Hottest != 2 || s.Median != 0 || s.Maximum != 8 {
		t.Errorf("one expert: %+v", s)
	}
	l.Counts = []uint64{4, 1, 3, 2}
	// sum (2i - 5) x_i = -3*1 - 1*2 + 1*3 + 3*4 = 10, over 4*10.
	if s, _ = l.Summarize(KindExact); s.Gini != 0.25 || s.LowerQuartile != 1 || s.Median != 2 || s.UpperQuartile != 3 || s.Coldest != 1 {
		t.Errorf("1 to 4: %+v", s)
	}
	if _, ok = (&Layer{Counts: []uint64{0, 0}}).Summarize(KindExact); ok {
		t.Error("a layer without traffic has a summary")
	}
	if _, ok = (&Layer{Weights: []float64{2, 1, 0}}).Summarize(KindRank); ok {
		t.Error("ranks have an entropy")
	}
}

// The rule: above the 99.5th percentile and above a tenth of the largest, in
// the first three quarters of the layers.
func TestSuperExperts(t *testing.T) {
	layers := make([]Layer, 20)
	for i := range layers {
		layers[i].MaxOut = make([]float64, 50)
		for e := range layers[i].MaxOut {
			layers[i].MaxOut[e] = float64(e%7) / 10
		}
	}
	layers[2].MaxOut[13] = 100
	layers[14].MaxOut[49] = 30 // the 15th of 20 layers is the last that counts
	layers[15].MaxOut[3] = 90
	layers[1].MaxOut[7] = 9.99 // below a tenth of the largest
	MarkSuperExperts(layers)
	for i, l := range layers {
		var want []int
		switch i {
		case 2:
			want = []int{13}
		case 14:
			want = []int{49}
		}
		if !slices.Equal(l.SuperExperts, want) {
			t.Errorf("layer %d: %v, want %v", i, l.SuperExperts, want)
		}
	}
	// 5 of 1000 are the upper 0.5 %: with more as large, the percentile rules.
	for e := range 10 {
		layers[0].MaxOut[e] = 50
	}
	MarkSuperExperts(layers)
	if layers[0].SuperExperts != nil || !slices.Equal(layers[2].SuperExperts, []int{13}) || layers[14].SuperExperts != nil {
		t.Errorf("the percentile does not rule: %v, %v, %v", layers[0].SuperExperts, layers[2].SuperExperts, layers[14].SuperExperts)
	}
}

func tokensOf(n int) *uint64 {
	tokens := uint64(n)
	return &tokens
}
