package measure

import (
	"context"
	"math"
	"slices"

	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/stats"
)

// The errors of an expert in different types are nearly proportional: between
// the experts of a tensor their ratio spreads by about 1 % in gate and up
// projections and by 2 to 10 % in down projections, whose inputs have outliers,
// while the errors themselves spread by up to 20 %. A coarse measurement uses
// that (double sampling; Cochran, Sampling Techniques, 3rd edition, chapter 12):
// ten experts are measured in every type, the others in one, the anchor,
// and elsewhere
//
//	r_t = r_anchor * R_t,  R_t the mean ratio over the ten
//
// with the relative half width
//
//	sqrt(h_anchor^2 + (t(n-1) * s_t * sqrt(1 + 1/n))^2)
//
// where s_t is the relative standard deviation of the n ratios. It is measured,
// and holds their sampling error too. A type whose ratios spread too widely for
// the precision is measured on every expert like the anchor.
//
// At a finer precision than pooledPrecision this would spare nothing: the ten
// would need as many rows as all experts together do.
const (
	pooledPrecision = 0.10
	pooledExperts   = 10

	// How the width is shared out: squares that add up to 1.
	pooledAnchor = 0.8
	pooledSpread = 0.6
	// The ten are measured to half of the width, for its noise counts as
	// spread.
	pooledTarget = 0.5
)

// pools reports whether a tensor's experts are measured together.
func (m *measurement) pools(experts, types int) bool {
	return !m.options.Full && m.options.Precision >= pooledPrecision && experts >= 3*pooledExperts && types > 2
}

// pooledMembers says which items of a group are measured in every type: ten
// drawn by the seed, and those that are measured more finely than the rest.
func (m *measurement) pooledMembers(items []measureItem) []bool {
	chosen := make([]bool, len(items))
	for i := range items {
		chosen[i] = items[i].target < m.options.Precision
	}
	const noExpert = -1 // sets this draw apart from those of rows
	for _, i := range newRowSampler(m.options.Seed, items[0].tensor.Name, noExpert, uint64(len(items))).draw(nil, pooledExperts) {
		chosen[i] = true
	}
	return chosen
}

// memberTarget is what an expert that is measured in every type is measured to.
func (m *measurement) memberTarget(it *measureItem) float64 {
	return min(it.target, m.options.Precision*pooledTarget)
}

// anchorOf returns the place of the type that every expert is measured in:
// Q4_K, which costs little to encode, else the middle one by size.
func anchorOf(types []quant.Type, source quant.Type) int {
	if i := slices.Index(types, quant.Q4_K); i >= 0 && source != quant.Q4_K {
		return i
	}
	middle := len(types) / 2
	if types[middle] == source {
		middle--
	}
	return middle
}

// measureGroup measures items that one worker measures together: one, or all
// experts of a tensor.
func (w *measureWorker) measureGroup(ctx context.Context, items []measureItem) ([]ExpertLoss, error) {
	out := make([]ExpertLoss, len(items))
	if len(items) == 1 {
		var err error
		out[0], err = w.measure(ctx, &items[0], items[0].target, nil)
		return out, err
	}
	types := items[0].types
	anchor := anchorOf(types, items[0].tensor.Type)
	member := w.m.pooledMembers(items)
	var members []ExpertLoss
	for i := range items {
		if !member[i] {
			continue
		}
		var err error
		if out[i], err = w.measure(ctx, &items[i], w.m.memberTarget(&items[i]), nil); err != nil {
			return nil, err
		}
		members = append(members, out[i])
	}
	// Experts without statistics are measured alone.
	weighted := slices.ContainsFunc(members, func(x ExpertLoss) bool { return x.Weighted })
	members = slices.DeleteFunc(members, func(x ExpertLoss) bool { return x.Weighted != weighted })
	ratios := make([]pooledRatio, len(types))
	pooled := make([]bool, len(types))
	for k := range types {
		if k != anchor && types[k] != items[0].tensor.Type {
			ratios[k] = ratioOf(members, k, anchor)
			pooled[k] = ratios[k].half <= pooledSpread*w.m.options.Precision
		}
	}
	for i := range items {
		if member[i] {
			continue
		}
		x, err := w.measure(ctx, &items[i], items[i].target*pooledAnchor, pooled)
		if err != nil {
			return nil, err
		}
		if x.Weighted != weighted {
			// Errors of another kind, whose ratios these are not.
			if out[i], err = w.measure(ctx, &items[i], items[i].target, nil); err != nil {
				return nil, err
			}
			continue
		}
		for k := range types {
			if pooled[k] {
				x.Types[k] = ratios[k].of(x.Types[anchor])
			}
		}
		out[i] = x
	}
	return out, nil
}

// A pooledRatio is what one type's errors are of the anchor's.
type pooledRatio struct {
	weighted, plain float64
	half            float64 // relative half width for an expert that is not among the measured
}

// ratioOf takes the ratios from experts that are measured in both types. Where
// they are too few, or one has no error in the anchor, the half width is
// infinite.
func ratioOf(members []ExpertLoss, typ, anchor int) pooledRatio {
	var sum, squares, plain, plainAnchor stats.Sum
	n := float64(len(members))
	if len(members) < pooledExperts/2 {
		return pooledRatio{half: math.Inf(1)}
	}
	for i := range members {
		t, a := &members[i].Types[typ], &members[i].Types[anchor]
		if !(a.Relative > 0) {
			return pooledRatio{half: math.Inf(1)}
		}
		sum.Add(t.Relative / a.Relative)
		plain.Add(t.PlainError)
		plainAnchor.Add(a.PlainError)
	}
	mean := sum.Value() / n
	for i := range members {
		d := members[i].Types[typ].Relative/members[i].Types[anchor].Relative - mean
		squares.Add(float64(d * d))
	}
	spread := math.Sqrt(squares.Value() / (n - 1))
	if !(mean > 0) {
		return pooledRatio{half: math.Inf(1)}
	}
	return pooledRatio{
		weighted: mean,
		plain:    stats.Relative(plain.Value(), plainAnchor.Value()),
		half:     quantileT(len(members)-1) * spread / mean * math.Sqrt(1+1/n),
	}
}

// of returns the error in the ratio's type of an expert whose error in the
// anchor is a.
func (r pooledRatio) of(a TypeLoss) TypeLoss {
	half := r.half
	if a.Relative > 0 {
		own := (a.High - a.Relative) / a.Relative
		half = math.Sqrt(float64(half*half) + float64(own*own))
	}
	relative := float64(a.Relative * r.weighted)
	width := float64(relative * half)
	return TypeLoss{
		Relative:      relative,
		Low:           max(0, relative-width),
		High:          relative + width,
		WeightedError: a.WeightedError * r.weighted,
		PlainError:    a.PlainError * r.plain,
	}
}
