package frequency

import (
	"fmt"
	"math/big"
	"sync"
	"sync/atomic"

	"github.com/ggufplan/ggufplan/ggufio/quant"
)

// A Tier says how busy an expert is. Hotter tiers are larger.
type Tier int

// The tiers.
const (
	Cold Tier = iota
	Warm
	Hot
)

// String returns "hot", "warm" or "cold".
func (t Tier) String() string {
	switch t {
	case Hot:
		return "hot"
	case Warm:
		return "warm"
	case Cold:
		return "cold"
	}
	return fmt.Sprintf("Tier(%d)", int(t))
}

// Tiers says where the tiers begin and what each gets. Hot and Cold are
// fractions of the largest count.
type Tiers struct {
	HotPercentile  Fraction // 0 < HotPercentile <= 1
	ColdPercentile Fraction // 0 <= ColdPercentile < 1, below HotPercentile
	HotType        Type
	WarmType       Type
	ColdType       Type
}

// Type returns the type of a tier.
func (t *Tiers) Type(tier Tier) Type {
	switch tier {
	case Hot:
		return t.HotType
	case Warm:
		return t.WarmType
	}
	return t.ColdType
}

// Validate checks the percentiles.
func (t *Tiers) Validate() error {
	hot, cold, one := t.HotPercentile.Rat(), t.ColdPercentile.Rat(), big.NewRat(1, 1)
	switch {
	case hot.Sign() <= 0 || hot.Cmp(one) > 0:
		return fmt.Errorf("hot percentile %s: want more than 0 and at most 1", t.HotPercentile)
	case cold.Sign() < 0 || cold.Cmp(one) >= 0:
		return fmt.Errorf("cold percentile %s: want at least 0 and less than 1", t.ColdPercentile)
	case cold.Cmp(hot) >= 0:
		return fmt.Errorf("cold percentile %s is not below hot percentile %s", t.ColdPercentile, t.HotPercentile)
	}
	return nil
}

// PresetDefault is the preset that applies when none is named.
const PresetDefault = "default"

// PresetNames lists the presets.
func PresetNames() []string {
	return []string{PresetDefault, "memory-constrained", "quality-focused"}
}

// Preset returns the tiers of a preset, and whether there is one of the name.
func Preset(name string) (Tiers, bool) {
	tiers := func(hot, cold float64, h, w, c quant.Type) (Tiers, bool) {
		return Tiers{MakeFraction(hot), MakeFraction(cold), GGML(h), GGML(w), GGML(c)}, true
	}
	switch name {
	case PresetDefault:
		return tiers(0.9, 0.3, quant.Q4_K, quant.Q3_K, quant.Q2_K)
	case "memory-constrained":
		return tiers(0.95, 0.4, quant.Q4_K, quant.Q2_K, quant.Q2_K)
	case "quality-focused":
		return tiers(0.8, 0.2, quant.Q5_K, quant.Q4_K, quant.Q3_K)
	}
	return Tiers{}, false
}

// Thresholds are the counts at which tiers begin.
type Thresholds struct {
	Hot  uint64 // ceil(max × hot percentile)
	Cold uint64 // floor(max × cold percentile), at least 1
}

// Thresholds returns the thresholds for a largest count: both 0 when nothing
// was counted. They are exact for the decimal fractions as written, whatever
// their binary rounding.
func (t *Tiers) Thresholds(max uint64) Thresholds {
	if max == 0 {
		return Thresholds{}
	}
	m := new(big.Rat).SetInt(new(big.Int).SetUint64(max))
	hot := new(big.Rat).Mul(m, t.HotPercentile.Rat())
	cold := new(big.Rat).Mul(m, t.ColdPercentile.Rat())
	floor := new(big.Int).Quo(cold.Num(), cold.Denom())
	ceil, rest := new(big.Int).QuoRem(hot.Num(), hot.Denom(), new(big.Int))
	if rest.Sign() > 0 {
		ceil.Add(ceil, big.NewInt(1))
	}
	th := Thresholds{Hot: ceil.Uint64(), Cold: floor.Uint64()}
	if th.Cold == 0 {
		th.Cold = 1
	}
	return th
}

// Tier classifies a count. With both thresholds 0, when nothing was counted,
// every count is cold.
func (th Thresholds) Tier(count uint64) Tier {
	switch {
	case count == 0 || th.Hot == 0:
		return Cold
	case count >= th.Hot:
		return Hot
	case count >= th.Cold:
		return Warm
	}
	return Cold
}

// maxExperts bounds an allocator's memory; no model comes near.
const maxExperts = 1 << 20

// An Allocator counts the activations of one set of experts and sorts them
// into tiers, for a system that serves a model and keeps its busiest experts
// at a better type.
//
// Thresholds move when [Allocator.Recompute] is called: until then, and after
// [Allocator.Reset], they are 0 and every expert is cold. Between calls an
// expert's tier follows its live count past the thresholds as they are.
// All methods may be called from several goroutines at once; recording takes
// no lock.
type Allocator struct {
	tiers      Tiers
	counts     []atomic.Uint64
	thresholds atomic.Pointer[Thresholds]
	compute    sync.Mutex // orders Recompute and Reset
}

// NewAllocator returns an allocator for experts 0 to experts-1, with nothing
// counted. It refuses tiers that are not valid, and fewer than 1 expert or more
// than 2^20.
func NewAllocator(experts int, tiers Tiers) (*Allocator, error) {
	if experts < 1 || experts > maxExperts {
		return nil, fmt.Errorf("%d experts: want 1 to %d", experts, maxExperts)
	}
	if err := tiers.Validate(); err != nil {
		return nil, err
	}
	a := &Allocator{tiers: tiers, counts: make([]atomic.Uint64, experts)}
	a.thresholds.Store(&Thresholds{})
	return a, nil
}

// Tiers returns the percentiles and types in force.
func (a *Allocator) Tiers() Tiers { return a.tiers }

// Precision is an expert's tier, and the type that follows.
type Precision struct {
	Expert int
	Tier   Tier
	Type   Type
}

// Precisions returns every expert's tier and type, by ascending expert, all by
// the same thresholds.
func (a *Allocator) Precisions() []Precision {
	th := a.Thresholds()
	list := make([]Precision, len(a.counts))
	for e := range list {
		tier := th.Tier(a.counts[e].Load())
		list[e] = Precision{e, tier, a.tiers.Type(tier)}
	}
	return list
}

// Len returns the number of experts.
func (a *Allocator) Len() int { return len(a.counts) }

// Record counts one activation of an expert. An id out of range is ignored.
func (a *Allocator) Record(expert int) { a.RecordN(expert, 1) }

// RecordN counts n activations of an expert. A counter stays at 2^64-1 once
// there. An id out of range is ignored.
func (a *Allocator) RecordN(expert int, n uint64) {
	if expert < 0 || expert >= len(a.counts) {
		return
	}
	c := &a.counts[expert]
	for {
		old := c.Load()
		sum := old + n
		if sum < old {
			sum = 1<<64 - 1
		}
		if c.CompareAndSwap(old, sum) {
			return
		}
	}
}

// RecordAll counts one activation of each of the experts, as a router's
// choice for a token lists them. An id that occurs twice counts twice; ids out
// of range are ignored.
func (a *Allocator) RecordAll(experts []int) {
	for _, e := range experts {
		a.Record(e)
	}
}

// Recompute sets the thresholds from the counts as they are.
func (a *Allocator) Recompute() {
	a.compute.Lock()
	defer a.compute.Unlock()
	th := a.tiers.Thresholds(a.max())
	a.thresholds.Store(&th)
}

// Reset forgets every count and the thresholds.
func (a *Allocator) Reset() {
	a.compute.Lock()
	defer a.compute.Unlock()
	for i := range a.counts {
		a.counts[i].Store(0)
	}
	a.thresholds.Store(&Thresholds{})
}

func (a *Allocator) max() uint64 {
	var m uint64
	for i := range a.counts {
		m = max(m, a.counts[i].Load())
	}
	return m
}

// Thresholds returns the thresholds of the last [Allocator.Recompute].
func (a *Allocator) Thresholds() Thresholds { return *a.thresholds.Load() }

// Count returns how often an expert was activated, 0 for an id out of range.
func (a *Allocator) Count(expert int) uint64 {
	if expert < 0 || expert >= len(a.counts) {
		return 0
	}
	return a.counts[expert].Load()
}

// Relative returns an expert's count as a fraction of the largest count: 0
// when nothing was counted, and for an id out of range.
func (a *Allocator) Relative(expert int) float64 {
	// The largest is read after the count, so that the result stays within 1
	// while others record.
	count := a.Count(expert)
	if count == 0 {
		return 0
	}
	return min(1, float64(count)/float64(max(count, a.max())))
}

// Tier returns an expert's tier, [Cold] for an id out of range.
func (a *Allocator) Tier(expert int) Tier { return a.Thresholds().Tier(a.Count(expert)) }

// Type returns the type of an expert's tier, the cold type for an id out of
// range.
func (a *Allocator) Type(expert int) Type { return a.tiers.Type(a.Tier(expert)) }

// Experts lists the experts of a tier in ascending order.
func (a *Allocator) Experts(tier Tier) []int {
	th := a.Thresholds()
	list := []int{}
	for e := range a.counts {
		if th.Tier(a.counts[e].Load()) == tier {
			list = append(list, e)
		}
	}
	return list
}

// TierCounts returns how many experts each tier has, indexed by [Tier].
func (a *Allocator) TierCounts() [3]int {
	th := a.Thresholds()
	var n [3]int
	for e := range a.counts {
		n[th.Tier(a.counts[e].Load())]++
	}
	return n
}

// Total returns the sum of all counts, 2^64-1 where it would exceed that.
func (a *Allocator) Total() uint64 {
	var total uint64
	for i := range a.counts {
		sum := total + a.counts[i].Load()
		if sum < total {
			return 1<<64 - 1
		}
		total = sum
	}
	return total
}
