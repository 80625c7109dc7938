package stats

import "slices"

// MarkSuperExperts sets SuperExperts of every layer that has MaxOut by the
// rule of REAP: an expert whose largest output is above both the 99.5th
// percentile of all experts' and a tenth of the largest, in the first three
// quarters of the layers. Percentiles interpolate linearly between the two
// neighbours, as numpy's and torch's do.
func MarkSuperExperts(layers []Layer) {
	var all []float64
	var with []*Layer
	for i := range layers {
		l := &layers[i]
		l.SuperExperts = nil
		if l.MaxOut != nil {
			with = append(with, l)
			all = append(all, l.MaxOut...)
		}
	}
	if len(all) == 0 {
		return
	}
	slices.Sort(all)
	// 0.995 = 199/200, so the position is a whole number of 200ths.
	position := (len(all) - 1) * 199
	threshold := all[position/200]
	if rest := position % 200; rest > 0 {
		step := float64((all[position/200+1] - threshold) * (float64(rest) / 200))
		threshold += step
	}
	threshold = max(threshold, all[len(all)-1]/10)
	for _, l := range with[:len(with)*3/4] {
		for e, v := range l.MaxOut {
			if v > threshold {
				l.SuperExperts = append(l.SuperExperts, e)
			}
		}
	}
}
