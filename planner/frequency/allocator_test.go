package frequency

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio/quant"
)

func tiers(hot, cold string) Tiers {
	t, _ := Preset(PresetDefault)
	var err error
	if t.HotPercentile, err = ParseFraction(hot); err != nil {
		panic(err)
	}
	if t.ColdPercentile, err = ParseFraction(cold); err != nil {
		panic(err)
	}
	return t
}

func TestAllocator(t *testing.T) {
	sevenTens := []uint64{100, 10, 10, 10, 10, 10, 10, 10}
	for _, tt := range []struct {
		name      string
		hot, cold string
		counts    []uint64
		want      Thresholds
		tiers     string
	}{
		{"four experts", "0.8", "0.2", []uint64{100, 75, 25, 5}, Thresholds{80, 20}, "[hot warm warm cold]"},
		{"one busy expert", "0.9", "0.3", sevenTens, Thresholds{90, 30}, "[hot cold cold cold cold cold cold cold]"},
		{"nothing counted", "0.9", "0.3", []uint64{0, 0, 0}, Thresholds{0, 0}, "[cold cold cold]"},
		{"twice as many", "0.9", "0.3", []uint64{200, 180, 179, 60, 59}, Thresholds{180, 60}, "[hot hot warm warm cold]"},
		// 0.29 and 0.58 have no exact binary form: 0.29 × 100 is 28.999999999999996.
		{"decimals", "0.58", "0.29", []uint64{100, 58, 57, 29, 28}, Thresholds{58, 29}, "[hot hot warm warm cold]"},
		// ceil(3 × 0.9) = ceil(2.7), floor(3 × 0.3) = floor(0.9) raised to 1.
		{"rounding", "0.9", "0.3", []uint64{3, 2, 1, 0}, Thresholds{3, 1}, "[hot warm warm cold]"},
		{"cold at 0", "1", "0", []uint64{5, 4, 1, 0}, Thresholds{5, 1}, "[hot warm warm cold]"},
		{"all of a huge count", "1", "0.5", []uint64{1<<64 - 1, 1<<64 - 2, 1 << 63, 1<<63 - 1, 1<<63 - 2},
			Thresholds{1<<64 - 1, 1<<63 - 1}, "[hot warm warm warm cold]"},
		{"alone", "0.9", "0.3", []uint64{1}, Thresholds{1, 1}, "[hot]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, err := NewAllocator(len(tt.counts), tiers(tt.hot, tt.cold))
			if err != nil {
				t.Fatal(err)
			}
			for e, n := range tt.counts {
				a.RecordN(e, n)
			}
			if a.Thresholds() != (Thresholds{}) || a.TierCounts() != [3]int{Cold: len(tt.counts)} {
				t.Error("tiers before the first Recompute")
			}
			a.Recompute()
			if got := a.Thresholds(); got != tt.want {
				t.Errorf("thresholds %+v, want %+v", got, tt.want)
			}
			var got []Tier
			var counts [3]int
			for e := range tt.counts {
				got = append(got, a.Tier(e))
				counts[a.Tier(e)]++
			}
			if fmt.Sprint(got) != tt.tiers {
				t.Errorf("tiers %v, want %s", got, tt.tiers)
			}
			if a.TierCounts() != counts {
				t.Errorf("tier counts %v, want %v", a.TierCounts(), counts)
			}
			for tier := Cold; tier <= Hot; tier++ {
				var want []int
				for e := range got {
					if got[e] == tier {
						want = append(want, e)
					}
				}
				if list := a.Experts(tier); !slices.Equal(list, want) || list == nil {
					t.Errorf("%s experts %v, want %v", tier, list, want)
				}
			}
		})
	}
}

func TestAllocatorOutOfRange(t *testing.T) {
	a, err := NewAllocator(2, tiers("0.9", "0.3"))
	if err != nil {
		t.Fatal(err)
	}
	a.RecordAll([]int{-1, 2, 1 << 40, 1, 1})
	a.RecordN(7, 5)
	a.Recompute()
	if a.Total() != 2 || a.Count(1) != 2 {
		t.Errorf("total %d, count %d: ids out of range are not ignored", a.Total(), a.Count(1))
	}
	for _, e := range []int{-1, 2} {
		if a.Tier(e) != Cold || a.Count(e) != 0 || a.Relative(e) != 0 || a.Type(e) != GGML(quant.Q2_K) {
			t.Errorf("expert %d: %s, %d, %v, %s", e, a.Tier(e), a.Count(e), a.Relative(e), a.Type(e))
		}
	}
	if a.Type(1) != GGML(quant.Q4_K) || a.Relative(1) != 1 || a.Relative(0) != 0 {
		t.Errorf("expert 1: %s, %v", a.Type(1), a.Relative(1))
	}
	a.Reset()
	if a.Total() != 0 || a.Thresholds() != (Thresholds{}) || a.Tier(1) != Cold {
		t.Error("Reset forgets not everything")
	}
}

func TestAllocatorSaturates(t *testing.T) {
	a, err := NewAllocator(2, tiers("0.9", "0.3"))
	if err != nil {
		t.Fatal(err)
	}
	a.RecordN(0, 1<<64-2)
	a.RecordN(0, 7)
	a.Record(0)
	a.Record(1)
	if a.Count(0) != 1<<64-1 || a.Total() != 1<<64-1 {
		t.Errorf("count %d, total %d", a.Count(0), a.Total())
	}
}

func TestNewAllocatorRefuses(t *testing.T) {
	for _, tt := range []struct {
		experts   int
		hot, cold string
	}{{0, "0.9", "0.3"}, {-1, "0.9", "0.3"}, {1 << 30, "0.9", "0.3"}, {8, "0", "0"}, {8, "1.01", "0.3"}, {8, "1", "1"}, {8, "0.3", "0.3"}, {8, "0.2", "0.3"}} {
		if _, err := NewAllocator(tt.experts, tiers(tt.hot, tt.cold)); err == nil {
			t.Errorf("%d experts, hot %s, cold %s: no error", tt.experts, tt.hot, tt.cold)
		}
	}
}

// TestAllocatorConcurrent is for the race detector, and for lost updates.
func TestAllocatorConcurrent(t *testing.T) {
	a, err := NewAllocator(4, tiers("0.9", "0.3"))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 1000 {
				a.Record(i % 3)
				if i%100 == 0 {
					a.Recompute()
					_ = a.TierCounts()
				}
				if r := a.Relative(i % 3); r < 0 || r > 1 {
					t.Errorf("relative frequency %v", r)
				}
			}
		})
	}
	wg.Wait()
	if a.Total() != 8000 || a.Count(0) != 8*334 {
		t.Errorf("total %d, count %d", a.Total(), a.Count(0))
	}
}

func TestPresets(t *testing.T) {
	want := map[string]string{
		"default":            "0.9 0.3 Q4_K Q3_K Q2_K",
		"memory-constrained": "0.95 0.4 Q4_K Q2_K Q2_K",
		"quality-focused":    "0.8 0.2 Q5_K Q4_K Q3_K",
	}
	for _, name := range PresetNames() {
		p, ok := Preset(name)
		got := fmt.Sprint(p.HotPercentile, p.ColdPercentile, " ", p.HotType, " ", p.WarmType, " ", p.ColdType)
		if !ok || got != want[name] {
			t.Errorf("%s: %s, want %s", name, got, want[name])
		}
		if err := p.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, ok := Preset("Default"); ok || len(PresetNames()) != len(want) {
		t.Error("presets that are not listed")
	}
}

func TestParseFraction(t *testing.T) {
	for text, want := range map[string]float64{"0.9": 0.9, ".95": 0.95, "1": 1, "1.": 1, "5e-1": 0.5, "0": 0, ".5E+0": 0.5, "12345678901234567890e-20": 0.1234567890123456789, "." + strings.Repeat("1", 60): 1.0 / 9} {
		f, err := ParseFraction(text)
		if err != nil || f.Float64() != want || f.String() != text {
			t.Errorf("%q: %v, %v", text, f.Float64(), err)
		}
	}
	for _, text := range []string{"", "-0.5", "+1", "nan", "inf", "0x1p-1", "1/2", "0,9", " 1", "1e9999", ".", "90%", "1e", "1e+", ".e1", "1e1e1", "0.5x", "1..2", "123456789012345678901", "." + strings.Repeat("1", 61)} {
		if _, err := ParseFraction(text); err == nil {
			t.Errorf("%q is taken for a decimal fraction", text)
		}
	}
	if f := MakeFraction(0.29); f.Rat().RatString() != "29/100" {
		t.Errorf("0.29 is %s", f.Rat().RatString())
	}
}

// TestAllocatorPrecisions: what is in force can be asked for, and a tier follows
// the live count while thresholds stay.
func TestAllocatorPrecisions(t *testing.T) {
	if _, err := NewAllocator(0, tiers("0.9", "0.3")); err == nil {
		t.Error("an allocator without experts")
	}
	a, err := NewAllocator(3, tiers("0.9", "0.3"))
	if err != nil {
		t.Fatal(err)
	}
	if a.Tiers() != tiers("0.9", "0.3") {
		t.Errorf("tiers %+v", a.Tiers())
	}
	for e, n := range []uint64{100, 50, 1} {
		a.RecordN(e, n)
	}
	a.Recompute()
	want := []Precision{{0, Hot, GGML(quant.Q4_K)}, {1, Warm, GGML(quant.Q3_K)}, {2, Cold, GGML(quant.Q2_K)}}
	if got := a.Precisions(); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	a.RecordN(2, 200) // past the hot threshold of 90, which stays
	if got := a.Precisions()[2]; got != (Precision{2, Hot, GGML(quant.Q4_K)}) || a.Thresholds().Hot != 90 || a.Tier(2) != Hot {
		t.Errorf("%v, thresholds %+v", got, a.Thresholds())
	}
}
