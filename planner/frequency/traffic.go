package frequency

import (
	"cmp"
	"fmt"
	"math/big"
	"slices"
)

// Shares are fractions of the traffic, for [ByTraffic].
type Shares struct {
	Hot  Fraction // 0 < Hot <= 1: the busiest experts together carry at least this
	Cold Fraction // 0 <= Cold < 1: the idlest together carry at most this
}

// DefaultShares are half of the traffic for hot experts and a tenth for cold.
func DefaultShares() Shares { return Shares{MakeFraction(0.5), MakeFraction(0.1)} }

// Validate checks the shares. They may overlap: hot wins.
func (s *Shares) Validate() error {
	hot, cold, one := s.Hot.Rat(), s.Cold.Rat(), big.NewRat(1, 1)
	switch {
	case hot.Sign() <= 0 || hot.Cmp(one) > 0:
		return fmt.Errorf("hot share %s: want more than 0 and at most 1", s.Hot)
	case cold.Sign() < 0 || cold.Cmp(one) >= 0:
		return fmt.Errorf("cold share %s: want at least 0 and less than 1", s.Cold)
	}
	return nil
}

// ByTraffic classifies by share of the traffic. By falling traffic, ties by
// index, hot are the fewest experts that together carry the hot share or more,
// cold the most that together carry the cold share or less; hot wins an
// overlap, and who has no traffic is cold. Unlike fractions of the largest, one
// outlier does not move every other expert.
func ByTraffic[T uint64 | float64](s *Shares, traffic []T) []Tier {
	order := make([]int, len(traffic))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Or(cmp.Compare(traffic[b], traffic[a]), cmp.Compare(a, b)) })
	exact := make([]*big.Rat, len(traffic)) // every uint64 and finite float64 is one
	total := new(big.Rat)
	for i, n := range traffic {
		exact[i] = rational(n)
		total.Add(total, exact[i])
	}
	tiers := make([]Tier, len(traffic))
	for i, n := range traffic {
		if n > 0 {
			tiers[i] = Warm
		}
	}
	coldest, sum := new(big.Rat).Mul(total, s.Cold.Rat()), new(big.Rat)
	for _, i := range slices.Backward(order) {
		if sum.Add(sum, exact[i]); sum.Cmp(coldest) > 0 {
			break
		}
		tiers[i] = Cold
	}
	hottest := new(big.Rat).Mul(total, s.Hot.Rat())
	sum.SetInt64(0)
	for _, i := range order {
		if traffic[i] == 0 || sum.Cmp(hottest) >= 0 {
			break
		}
		sum.Add(sum, exact[i])
		tiers[i] = Hot
	}
	return tiers
}

func rational[T uint64 | float64](n T) *big.Rat {
	switch n := any(n).(type) {
	case uint64:
		return new(big.Rat).SetInt(new(big.Int).SetUint64(n))
	case float64:
		return new(big.Rat).SetFloat64(n)
	}
	return nil
}
