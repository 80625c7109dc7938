package planner

import (
	"errors"
	"fmt"
	"slices"

	"github.com/ggufplan/ggufplan/planner/frequency"
	"github.com/ggufplan/ggufplan/stats"
)

// Reasons why statistics or a model cannot serve the frequency policy.
var (
	ErrNoExperts = errors.New("the model has no routed experts, which the frequency policy needs")
	ErrNoCounts  = errors.New("the statistics say nothing about how often experts are used, which the frequency policy needs")
	ErrRankOnly  = errors.New("the statistics only rank experts, which has no largest count to compare with")
)

// Validate checks the parameters of the frequency policy.
func (fr *Frequency) Validate() error {
	switch fr.TiersBy {
	case TiersByMax, TiersByRank, TiersByTraffic:
	default:
		return fmt.Errorf("tiers by %q: want %q, %q or %q", fr.TiersBy, TiersByMax, TiersByRank, TiersByTraffic)
	}
	switch fr.Scope {
	case ScopeLayer, ScopeModel:
	default:
		return fmt.Errorf("scope %q: want %q or %q", fr.Scope, ScopeLayer, ScopeModel)
	}
	switch fr.Fuse {
	case FuseActivations, FuseHottest, FuseBytes:
	default:
		return fmt.Errorf("fuse %q: want %q, %q or %q", fr.Fuse, FuseActivations, FuseHottest, FuseBytes)
	}
	for _, tier := range []frequency.Tier{frequency.Hot, frequency.Warm, frequency.Cold} {
		if err := Plannable(fr.Type(tier)); err != nil {
			return fmt.Errorf("%s type: %w", tier, err)
		}
	}
	if fr.TiersBy == TiersByTraffic {
		return fr.Shares.Validate()
	}
	if err := fr.Tiers.Validate(); err != nil {
		return err
	}
	return fr.recordable()
}

// recordable checks that the percentiles are still valid as the float64s that
// a manifest records: a reader could not make sense of a plan whose cold
// percentile reads 1.
func (fr *Frequency) recordable() error {
	hot, cold := fr.HotPercentile.Float64(), fr.ColdPercentile.Float64()
	if hot > cold && cold < 1 {
		return nil
	}
	return fmt.Errorf("hot percentile %s and cold percentile %s: no float64, which a manifest records, tells them from %v and %v",
		fr.HotPercentile, fr.ColdPercentile, hot, cold)
}

// chooseFrequency sorts experts into tiers by their traffic and gives every
// tensor the type that follows.
func (f *frame) chooseFrequency() (*decision, error) {
	fr := &f.problem.Policy.Frequency
	ev := f.problem.Evidence
	switch {
	case len(f.layers) == 0:
		return nil, ErrNoExperts
	case ev == nil || ev.Kind == stats.KindNone:
		return nil, ErrNoCounts
	case ev.Kind == stats.KindRank && fr.TiersBy != TiersByRank:
		return nil, ErrRankOnly
	}
	if err := fr.Validate(); err != nil {
		return nil, err
	}
	d := f.undecided()
	groups := f.scopes()
	spread(len(groups), func(i int) error {
		f.classify(groups[i], d)
		return nil
	})
	return d, spread(len(f.layers), func(k int) error {
		f.protect(k, d)
		return f.fuse(k, d)
	})
}

// scopes groups the layers that have statistics, by their place in f.layers,
// into what is compared with each other.
func (f *frame) scopes() [][]int {
	var all [][]int
	for k := range f.layers {
		if f.layers[k].evidence == nil {
			continue
		}
		if f.problem.Policy.Frequency.Scope == ScopeModel && len(all) == 1 {
			all[0] = append(all[0], k)
			continue
		}
		all = append(all, []int{k})
	}
	return all
}

// classify sets tier, relative frequency and thresholds of a scope's experts.
func (f *frame) classify(group []int, d *decision) {
	fr := &f.problem.Policy.Frequency
	first := &f.layers[group[0]]
	counts, weights := slices.Clip(first.counts), slices.Clip(first.weights) // the layer's own, if it is the only one
	for _, k := range group[1:] {
		counts = append(counts, f.layers[k].counts...)
		weights = append(weights, f.layers[k].weights...)
	}
	var tierOf func(i int) frequency.Tier // of the i-th expert of the scope
	var relative []float64                // of the scope's experts, nil where there is no largest to compare with
	var thresholds *frequency.Thresholds
	switch {
	case counts != nil:
		largest := slices.Max(counts)
		th := fr.Thresholds(largest)
		relative = make([]float64, len(counts))
		for i, n := range counts {
			relative[i] = float64(n) / float64(largest)
		}
		tierOf = func(i int) frequency.Tier { return th.Tier(counts[i]) }
		thresholds = &th
		switch fr.TiersBy {
		case TiersByTraffic:
			thresholds = nil
			shares := frequency.ByTraffic(&fr.Shares, counts)
			tierOf = func(i int) frequency.Tier { return shares[i] }
		case TiersByRank:
			thresholds = nil
			ranks := frequency.ByRank(&fr.Tiers, counts)
			tierOf = func(i int) frequency.Tier {
				if counts[i] == 0 {
					return frequency.Cold
				}
				return ranks[i]
			}
		}
	default:
		largest := slices.Max(weights)
		if f.problem.Evidence.Kind != stats.KindRank {
			relative = make([]float64, len(weights))
			for i, x := range weights {
				relative[i] = x / largest
			}
		}
		var tiers []frequency.Tier
		tierOf = func(i int) frequency.Tier { return tiers[i] }
		switch fr.TiersBy {
		case TiersByMax:
			tiers = fr.ByWeight(weights)
		case TiersByTraffic:
			tiers = frequency.ByTraffic(&fr.Shares, weights)
		case TiersByRank:
			ranks := frequency.ByRank(&fr.Tiers, weights)
			tierOf = func(i int) frequency.Tier {
				if weights[i] == 0 && f.problem.Evidence.Kind == stats.KindRelative {
					return frequency.Cold
				}
				return ranks[i]
			}
		}
	}
	tiers := [...]frequency.Tier{frequency.Cold, frequency.Warm, frequency.Hot} // experts point to one of them
	i := 0
	for _, k := range group {
		d.layers[k].Thresholds = thresholds
		for e := range d.layers[k].Experts {
			x := &d.layers[k].Experts[e]
			x.Tier, x.Relative = &tiers[tierOf(i)], nil
			if relative != nil {
				x.Relative = &relative[i]
			}
			i++
		}
	}
}

// protect makes super experts hot: they matter out of proportion to how often
// they are used. Then every expert of the layer has its type.
func (f *frame) protect(k int, d *decision) {
	l, plan := &f.layers[k], &d.layers[k]
	if l.evidence != nil {
		for _, e := range l.evidence.SuperExperts {
			if e >= 0 && e < l.experts {
				hot := frequency.Hot
				plan.Experts[e].Tier = &hot
			}
		}
	}
	fr := &f.problem.Policy.Frequency
	types := [...]frequency.Type{fr.Type(frequency.Cold), fr.Type(frequency.Warm), fr.Type(frequency.Hot)}
	for e := range plan.Experts {
		x := &plan.Experts[e]
		tier := frequency.Hot
		if x.Tier != nil {
			tier = *x.Tier
		}
		x.Type = &types[tier]
	}
}

// fuse decides about the tensors of one layer.
func (f *frame) fuse(k int, d *decision) error {
	fr, l, plan := &f.problem.Policy.Frequency, &f.layers[k], &d.layers[k]
	var traffic tierTraffic
	for e := range plan.Experts {
		if tier := plan.Experts[e].Tier; tier != nil {
			traffic.add(*tier, l, e)
		}
	}
	var shared []frequency.Type // of all tensors that hold every expert
	for _, i := range l.slots {
		s := &f.slots[i]
		if s.state != slotOpen {
			continue
		}
		v := &d.verdicts[i]
		switch {
		case l.evidence == nil:
			*v = verdict{Fused: fr.HotType, Reason: "no statistics for its layer: hot type"}
		case s.tensor.Expert >= 0:
			tier := *plan.Experts[s.tensor.Expert].Tier
			*v = verdict{Fused: fr.Type(tier), Reason: fmt.Sprintf("the expert is %s", tier)}
		case fr.Fuse == FuseActivations:
			tier := traffic.busiest()
			what := "activations are"
			if l.counts == nil {
				what = "traffic is"
			}
			*v = verdict{Fused: fr.Type(tier), Reason: fmt.Sprintf("most %s in %s experts", what, tier)}
		case fr.Fuse == FuseHottest:
			tier := traffic.hottest()
			*v = verdict{Fused: fr.Type(tier), Reason: fmt.Sprintf("its hottest expert is %s", tier)}
		}
		if v.Split = shared; s.tensor.Expert >= 0 || shared == nil {
			v.Split = make([]frequency.Type, s.matrices())
			for j := range v.Split {
				v.Split[j] = *plan.Experts[expertOf(s.tensor, j)].Type
			}
			if s.tensor.Expert < 0 {
				shared = v.Split
			}
		}
		if err := f.limitTiers(k, s, v); err != nil {
			return err
		}
		if v.Reason == "" {
			if err := fuseBytes(fr, s, v); err != nil {
				return err
			}
		}
	}
	return nil
}

// fuseBytes chooses the largest tier type that costs no more than the
// tensor's split plan, the hotter of two of one size; the smallest if none
// does.
func fuseBytes(fr *Frequency, s *slot, v *verdict) error {
	var splitBytes uint64
	for _, t := range v.Split {
		o, err := s.resolve(t, false)
		if err != nil {
			return err
		}
		splitBytes += o.SizeBytes / uint64(s.matrices())
	}
	var best, smallest frequency.Type
	var bestBytes, smallestBytes uint64
	for _, tier := range []frequency.Tier{frequency.Hot, frequency.Warm, frequency.Cold} {
		t := fr.Type(tier)
		o, err := s.resolve(t, false)
		if err != nil {
			return err
		}
		if o.SizeBytes <= splitBytes && o.SizeBytes > bestBytes {
			best, bestBytes = t, o.SizeBytes
		}
		if smallestBytes == 0 || o.SizeBytes < smallestBytes {
			smallest, smallestBytes = t, o.SizeBytes
		}
	}
	v.Fused, v.Reason = best, "the largest tier type within the bytes of its split plan"
	if bestBytes == 0 {
		v.Fused, v.Reason = smallest, "the smallest tier type: none is within the bytes of its split plan"
	}
	return nil
}

// tierTraffic sums a layer's traffic by tier.
type tierTraffic struct {
	experts [3]int
	counts  [3]uint64
	weights [3]float64
}

func (t *tierTraffic) add(tier frequency.Tier, l *moeLayer, expert int) {
	t.experts[tier]++
	if l.counts != nil {
		t.counts[tier] += l.counts[expert] // their sum over the layer fits
	} else {
		t.weights[tier] += l.weights[expert]
	}
}

// busiest returns the tier with the most traffic, the hotter of two with as
// much.
func (t *tierTraffic) busiest() frequency.Tier {
	best := frequency.Hot
	for _, tier := range []frequency.Tier{frequency.Warm, frequency.Cold} {
		if t.counts[tier] > t.counts[best] || t.weights[tier] > t.weights[best] {
			best = tier
		}
	}
	return best
}

// hottest returns the hottest tier that has an expert.
func (t *tierTraffic) hottest() frequency.Tier {
	for _, tier := range []frequency.Tier{frequency.Hot, frequency.Warm} {
		if t.experts[tier] > 0 {
			return tier
		}
	}
	return frequency.Cold
}
