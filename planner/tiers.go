package planner

import (
	"slices"

	"github.com/ggufplan/ggufplan/planner/frequency"
)

// limitTiers leaves an open tensor's split plan with at most Policy.MaxTiers
// types. The type that carries the least traffic goes, the smaller of two alike:
// its experts get the next larger type that stays, or where there is none the
// next smaller. The largest type of a layer with super experts stays, since it
// is theirs.
func (f *frame) limitTiers(k int, s *slot, v *verdict) error {
	most := f.problem.Policy.MaxTiers
	if most == 0 || s.tensor.Expert >= 0 {
		return nil
	}
	if few(v.Split, most) {
		return nil
	}
	l := &f.layers[k]
	type used struct {
		outcome
		chosen  frequency.Type
		counts  uint64
		weights float64
	}
	var list []used // by descending size
	of := make([]frequency.Type, len(v.Split))
	for e, t := range v.Split {
		o, err := s.resolve(t, false)
		if err != nil {
			return err
		}
		of[e] = o.Type
		i := slices.IndexFunc(list, func(u used) bool { return u.Type == o.Type })
		if i < 0 {
			for i = 0; i < len(list) && list[i].SizeBytes >= o.SizeBytes; i++ {
			}
			list = slices.Insert(list, i, used{outcome: o, chosen: t})
		}
		if l.counts != nil {
			list[i].counts += l.counts[e]
		} else if l.weights != nil {
			list[i].weights += l.weights[e]
		}
	}
	own := false // v.Split is the layer's
	protected := l.evidence != nil && len(l.evidence.SuperExperts) > 0
	for len(list) > most {
		least := len(list) - 1
		for i := least - 1; i >= 0; i-- {
			if i == 0 && protected {
				continue
			}
			if a, b := &list[i], &list[least]; a.counts < b.counts || a.weights < b.weights {
				least = i
			}
		}
		to := max(least-1, 0)
		if least == 0 {
			to = 1
		}
		if !own {
			v.Split, own = slices.Clone(v.Split), true
		}
		for e := range of {
			if of[e] == list[least].Type {
				of[e], v.Split[e] = list[to].Type, list[to].chosen
			}
		}
		list[to].counts += list[least].counts
		list[to].weights += list[least].weights
		list = slices.Delete(list, least, least+1)
	}
	return nil
}

// few reports whether there are at most n different types in a list.
func few(types []frequency.Type, n int) bool {
	var seen []frequency.Type
	for _, t := range types {
		if !slices.Contains(seen, t) {
			if seen = append(seen, t); len(seen) > n {
				return false
			}
		}
	}
	return true
}
