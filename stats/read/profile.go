package read

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/ggufplan/ggufplan/stats"
)

// A profile is one layer of llama-expert-profile's output or of a REAP
// observer's: counts and what else was summed over the tokens of each expert.
type profile struct {
	tokens    *uint64
	counts    []float64 // activation_counts, expert_frequency
	gateMean  []float64 // avg_gate_weight: mean router weight, before top-k normalisation
	gateSum   []float64 // weighted_expert_frequency_sum
	normMean  []float64 // ean_mean: mean |f|
	normSum   []float64 // ean_sum
	gatedMean []float64 // reap: mean g*|f|
	gatedSum  []float64 // weighted_ean_sum
	maxOut    []float64 // max_activations
}

// list returns where the values of a key belong, nil for other keys.
// importance_score is left out: versions differ in what they divided it by.
func (p *profile) list(key string) *[]float64 {
	switch key {
	case "activation_counts", "expert_frequency":
		return &p.counts
	case "avg_gate_weight":
		return &p.gateMean
	case "weighted_expert_frequency_sum":
		return &p.gateSum
	case "ean_mean":
		return &p.normMean
	case "ean_sum":
		return &p.normSum
	case "reap":
		return &p.gatedMean
	case "weighted_ean_sum":
		return &p.gatedSum
	case "max_activations":
		return &p.maxOut
	}
	return nil
}

// profileEvidence makes evidence of layers under absolute numbers.
func profileEvidence(format string, layers map[int]*profile, share bool, opt Options) (*stats.Evidence, error) {
	ev := &stats.Evidence{Kind: stats.KindExact, LayerAxis: stats.AxisBlocks, Inputs: []stats.Input{{Format: format}}}
	whole, used := true, false
	for _, n := range slices.Sorted(maps.Keys(layers)) {
		p := layers[n]
		if err := p.check(n, opt); err != nil {
			return nil, err
		}
		for _, v := range p.counts {
			used = used || v > 0
			whole = whole && math.Abs(v-math.Round(v)) <= stats.WholeTolerance
		}
	}
	if !used {
		return nil, errNoActivations
	}
	if !whole || share {
		ev.Kind = stats.KindRelative
	}
	for _, n := range slices.Sorted(maps.Keys(layers)) {
		if !slices.ContainsFunc(layers[n].counts, func(v float64) bool { return v > 0 }) {
			continue // a dense layer, or one that was not observed
		}
		l, err := layers[n].layer(n, ev.Kind, opt)
		if err != nil {
			return nil, err
		}
		ev.Layers = append(ev.Layers, l)
	}
	ev.TopK = opt.TopK
	for i, l := range ev.Layers {
		if ev.TopK == 0 && i == 0 {
			ev.TopK = l.TopK
		}
		if l.TopK != ev.TopK {
			ev.TopK = opt.TopK
			break
		}
	}
	// The length of llama-expert-profile's lists is a flag of it, not the model's.
	if ev.OpenExperts = format == "expert-profile" && opt.Experts == 0; !ev.OpenExperts {
		ev.ExpertCount = ev.Layers[0].Experts()
	}
	if slices.ContainsFunc(ev.Layers, func(l stats.Layer) bool { return l.Experts() != ev.Layers[0].Experts() }) {
		ev.ExpertCount = 0 // it differs
	}
	ev.Inputs[0].Kind = ev.Kind
	return ev, nil
}

// check refuses values that cannot be, and trims experts beyond the stated
// number that never occur.
func (p *profile) check(n int, opt Options) error {
	experts := len(p.counts)
	if experts == 0 {
		return fmt.Errorf("layer %d has no experts", n)
	}
	for _, key := range []string{"activation_counts", "avg_gate_weight", "weighted_expert_frequency_sum", "ean_mean", "ean_sum", "reap", "weighted_ean_sum", "max_activations"} {
		list := p.list(key)
		if *list == nil {
			continue
		}
		if len(*list) != experts {
			return fmt.Errorf("layer %d: %s has %d experts, the counts %d", n, key, len(*list), experts)
		}
		if err := checkSignal(*list); err != nil {
			return fmt.Errorf("layer %d: %s: %w", n, key, err)
		}
	}
	var slots float64
	for e, v := range p.counts {
		if opt.Experts > 0 && e >= opt.Experts && v > 0 {
			return fmt.Errorf("layer %d: expert %d was used, where %d experts were stated", n, e, opt.Experts)
		}
		slots += v
		if slots > maxCount {
			return fmt.Errorf("layer %d: counts add up to more than %d", n, uint64(maxCount))
		}
		if p.tokens != nil && v > float64(*p.tokens) {
			return fmt.Errorf("layer %d: expert %d has %v activations in %d tokens", n, e, v, *p.tokens)
		}
	}
	if opt.Experts > 0 && experts > opt.Experts {
		for _, list := range []*[]float64{&p.counts, &p.gateMean, &p.gateSum, &p.normMean, &p.normSum, &p.gatedMean, &p.gatedSum, &p.maxOut} {
			if *list != nil {
				*list = (*list)[:opt.Experts]
			}
		}
	}
	return nil
}

// checkSignal refuses what no sum of counts, weights or norms can be.
func checkSignal(values []float64) error {
	for e, v := range values {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Errorf("expert %d: %v is not a number", e, v)
		}
		if v < 0 {
			return fmt.Errorf("expert %d: %v is negative", e, v)
		}
		if v > math.MaxFloat32 {
			return fmt.Errorf("expert %d: %v is out of range", e, v)
		}
	}
	return nil
}

func (p *profile) layer(n int, kind stats.Kind, opt Options) (stats.Layer, error) {
	l := stats.Layer{Index: n, Kind: stats.LayerRouted, TopK: opt.TopK, MaxOut: p.maxOut}
	if kind == stats.KindRelative {
		l.Weights = p.counts
		return l, nil
	}
	l.Counts = make([]uint64, len(p.counts))
	var slots uint64
	for e, v := range p.counts {
		l.Counts[e] = uint64(math.Round(v))
		slots += l.Counts[e]
	}
	if p.tokens != nil {
		tokens := *p.tokens
		l.Tokens = &tokens
		if tokens > 0 && slots > 0 && slots%tokens == 0 {
			if k := int(slots / tokens); l.TopK == 0 && k <= len(l.Counts) {
				l.TopK = k
			} else if l.TopK != k {
				return l, fmt.Errorf("layer %d: %d experts per token, where %d were stated", n, k, l.TopK)
			}
		}
	} else {
		l.Tokens = tokensOf(slots, opt.TopK)
	}
	l.GateWeightSum = sumOf(p.gateSum, p.gateMean, l.Counts)
	if p.gateMean != nil && p.gateSum == nil {
		l.GateWeightNorm = "raw"
	}
	l.OutNormSum = sumOf(p.normSum, p.normMean, l.Counts)
	l.GatedOutNormSum = sumOf(p.gatedSum, p.gatedMean, l.Counts)
	return l, nil
}

// sumOf returns the sum if it is there, else the mean times the count.
func sumOf(sum, mean []float64, counts []uint64) []float64 {
	if sum != nil || mean == nil {
		return sum
	}
	sum = make([]float64, len(mean))
	for e, v := range mean {
		sum[e] = float64(v * float64(counts[e]))
	}
	return sum
}
