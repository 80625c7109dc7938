package frequency

import (
	"math/big"
	"slices"
)

// ByCount classifies counts by the thresholds of the largest.
func (t *Tiers) ByCount(counts []uint64) []Tier {
	th := t.Thresholds(slices.Max(counts))
	tiers := make([]Tier, len(counts))
	for i, n := range counts {
		tiers[i] = th.Tier(n)
	}
	return tiers
}

// ByWeight classifies traffic without counts: weight over the largest weight
// is compared with the percentiles directly.
func (t *Tiers) ByWeight(weights []float64) []Tier {
	largest := slices.Max(weights)
	hot, cold := t.HotPercentile.Float64(), t.ColdPercentile.Float64()
	tiers := make([]Tier, len(weights))
	for i, w := range weights {
		switch r := w / largest; {
		case r >= hot:
			tiers[i] = Hot
		case r >= cold && w > 0:
			tiers[i] = Warm
		}
	}
	return tiers
}

// ByRank classifies by percentile rank: the share of the other experts
// whose traffic is strictly smaller, 1 for a lone expert.
func ByRank[T uint64 | float64](t *Tiers, traffic []T) []Tier {
	sorted := slices.Clone(traffic)
	slices.Sort(sorted)
	others := int64(len(traffic) - 1)
	hot, cold := t.HotPercentile.Rat(), t.ColdPercentile.Rat()
	tiers := make([]Tier, len(traffic))
	for i, n := range traffic {
		rank := big.NewRat(1, 1)
		if others > 0 {
			smaller, _ := slices.BinarySearch(sorted, n)
			rank.SetFrac64(int64(smaller), others)
		}
		switch {
		case rank.Cmp(hot) >= 0:
			tiers[i] = Hot
		case rank.Cmp(cold) >= 0:
			tiers[i] = Warm
		}
	}
	return tiers
}
