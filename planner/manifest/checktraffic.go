package manifest

import (
	"fmt"
	"slices"
)

// model compares the facts about the model with what is listed.
func (c *checker) model(m *Manifest) {
	experts := 0
	for i := range m.Layers {
		experts = max(experts, len(m.Layers[i].Experts))
	}
	c.equal("model.expert_count", m.Model.ExpertCount, uint64(experts), "a layer has at most")
	for i := range m.Tensors {
		if l := m.Tensors[i].Layer; l != nil && (*l < 0 || uint64(*l) >= m.Model.BlockCount) {
			c.failf(c.key("tensors", i, ".layer"), "%d, but the model has %d blocks", *l, m.Model.BlockCount)
		}
	}
}

// traffic compares what follows from counts with them.
func (c *checker) traffic(m *Manifest) {
	tiers, total := make([]uint64, len(Tiers)), uint64(0) // of counts
	largestOfAll := uint64(0)
	for i := range m.Layers {
		largestOfAll = max(largestOfAll, largestCount(&m.Layers[i]))
	}
	pooled := m.Policy.Scope != nil && *m.Policy.Scope == "model"
	for i := range m.Layers {
		l := &m.Layers[i]
		largest := largestCount(l)
		if pooled {
			largest = largestOfAll
		}
		for e := range l.Experts {
			x := &l.Experts[e]
			if x.Count == nil {
				continue
			}
			if want := float64(*x.Count) / float64(largest); x.Relative == nil || *x.Relative != want {
				c.failf(fmt.Sprintf("layers[%d].experts[%d].relative", i, e), "not count / the largest count, which is %v", want)
			}
			total += *x.Count // statistics has checked that it fits
			if x.Tier != nil {
				tiers[slices.Index(Tiers, *x.Tier)] += *x.Count // layers has checked the word
			}
		}
	}
	for i, tier := range m.Totals.Tiers {
		want := float64(tiers[i]) / float64(total) // totals has checked their order
		if total > 0 && (tier.ActivationShare == nil || *tier.ActivationShare != want) {
			c.failf(c.key("totals.tiers", i, ".activation_share"), "not the tier's counts / all counts, which is %v", want)
		}
	}
}

func largestCount(l *Layer) uint64 {
	largest := uint64(0)
	for e := range l.Experts {
		largest = max(largest, *orZero(l.Experts[e].Count))
	}
	return largest
}
