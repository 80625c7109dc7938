package frequency

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func shares(hot, cold float64) Shares { return Shares{MakeFraction(hot), MakeFraction(cold)} }

func TestByTraffic(t *testing.T) {
	for _, tt := range []struct {
		shares Shares
		counts []uint64
		want   string
	}{
		{shares(0.5, 0.1), []uint64{50, 30, 10, 10}, "[hot warm warm cold]"},     // 50 is half; the last 10 is a tenth
		{shares(0.5, 0.1), []uint64{49, 31, 11, 9}, "[hot hot warm cold]"},       // 49 is not half
		{shares(0.5, 0.1), []uint64{25, 25, 25, 25}, "[hot hot warm warm]"},      // ties by index
		{shares(0.5, 0.1), []uint64{1000, 0, 0}, "[hot cold cold]"},              // never used
		{shares(0.5, 0.1), []uint64{0, 0}, "[cold cold]"},                        // no traffic
		{shares(1, 0), []uint64{3, 0, 1}, "[hot cold hot]"},                      // all of it, but for 0
		{shares(0.9, 0.6), []uint64{40, 30, 20, 10}, "[hot hot hot cold]"},       // hot wins the overlap
		{shares(0.3, 0.29), []uint64{30, 41, 29}, "[warm hot cold]"},             // decimals as written
		{shares(0.5, 0.1), []uint64{1<<64 - 1, 1<<64 - 1, 1}, "[hot warm cold]"}, // no overflow; the first alone is short by half of one
	} {
		want := tt.want
		if tt.counts[0] == 1<<64-1 {
			want = "[hot hot cold]"
		}
		if got := fmt.Sprint(ByTraffic(&tt.shares, tt.counts)); got != want {
			t.Errorf("%s and %s of %v: %s, want %s", tt.shares.Hot, tt.shares.Cold, tt.counts, got, want)
		}
	}
	weights := []float64{0.5, 0.3, 0.15, 0.05}
	s := DefaultShares()
	if got := fmt.Sprint(ByTraffic(&s, weights)); got != "[hot warm warm cold]" {
		t.Errorf("weights: %s", got)
	}
	for _, bad := range []Shares{shares(0, 0.1), shares(1.5, 0.1), shares(0.5, 1)} {
		if bad.Validate() == nil {
			t.Errorf("%s and %s pass", bad.Hot, bad.Cold)
		}
	}
}

// TestByTrafficShares checks what the shares promise on random counts.
func TestByTrafficShares(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 2))
	for range 500 {
		counts := make([]uint64, 1+rng.IntN(40))
		for i := range counts {
			counts[i] = rng.Uint64N(1 + rng.Uint64N(50))
		}
		h, c := uint64(1+rng.IntN(100)), uint64(rng.IntN(100))
		s := shares(float64(h)/100, float64(c)/100)
		checkShares(t, counts, ByTraffic(&s, counts), h, c)
	}
}

func checkShares(t *testing.T, counts []uint64, tiers []Tier, hotPercent, coldPercent uint64) {
	t.Helper()
	var total, hot, cold uint64
	idlestHot, busiestCold, idlestWarm := ^uint64(0), uint64(0), ^uint64(0)
	for i, n := range counts {
		total += n
		switch tiers[i] {
		case Hot:
			hot += n
			idlestHot = min(idlestHot, n)
		case Warm:
			idlestWarm = min(idlestWarm, n)
		default:
			cold += n
			busiestCold = max(busiestCold, n)
		}
	}
	switch {
	case total == 0:
		if slices.ContainsFunc(tiers, func(x Tier) bool { return x != Cold }) {
			t.Errorf("%v without traffic: %v", counts, tiers)
		}
	case 100*hot < hotPercent*total, 100*(hot-idlestHot) >= hotPercent*total:
		t.Errorf("%v: hot carries %d of %d, want the fewest experts with %d %%", counts, hot, total, hotPercent)
	case 100*cold > coldPercent*total, idlestWarm < ^uint64(0) && 100*(cold+idlestWarm) <= coldPercent*total:
		t.Errorf("%v: cold carries %d of %d, want the most experts with %d %%", counts, cold, total, coldPercent)
	case busiestCold > idlestWarm, idlestWarm < ^uint64(0) && idlestWarm > idlestHot:
		t.Errorf("%v: %v is out of order", counts, tiers)
	}
}

// TestByTrafficOnRealRouting: by fractions of the largest count, an expert of
// average traffic is cold in nearly all layers of models with many experts; by
// shares it never is.
func TestByTrafficOnRealRouting(t *testing.T) {
	files, err := filepath.Glob("../../testdata/traffic/*.json")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	byMax, _ := Preset(PresetDefault)
	s := DefaultShares()
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var doc struct {
			Layers []struct{ Counts []uint64 }
		}
		if err := json.Unmarshal(data, &doc); err != nil || len(doc.Layers) == 0 {
			t.Fatalf("%s: %d layers, %v", file, len(doc.Layers), err)
		}
		averageCold, layers := 0, 0
		for _, l := range doc.Layers {
			if len(l.Counts) == 0 {
				continue
			}
			layers++
			checkShares(t, l.Counts, ByTraffic(&s, l.Counts), 50, 10)
			var total uint64
			for _, n := range l.Counts {
				total += n
			}
			if average := total / uint64(len(l.Counts)); byMax.Thresholds(slices.Max(l.Counts)).Tier(average) == Cold {
				averageCold++
			}
			nearest := slices.MinFunc(l.Counts, func(a, b uint64) int {
				off := func(n uint64) uint64 { mean := total / uint64(len(l.Counts)); return max(n, mean) - min(n, mean) }
				return int(off(a)) - int(off(b))
			})
			if i := slices.Index(l.Counts, nearest); ByTraffic(&s, l.Counts)[i] == Cold {
				t.Errorf("%s: the expert nearest to the average is cold", file)
			}
		}
		if name := filepath.Base(file); (name[:4] == "kimi" || name[:4] == "qwen") && 100*averageCold < 95*layers {
			t.Errorf("%s: an average expert is cold by the largest count in %d of %d layers", name, averageCold, layers)
		}
	}
}
