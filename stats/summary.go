package stats

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/stat"
)

// A Summary describes how unevenly a layer uses its experts, at six
// significant digits. It is for people: nothing is decided by it.
type Summary struct {
	Entropy          float64 `json:"entropy"`           // of the shares, in bits
	EffectiveExperts float64 `json:"effective_experts"` // 2^Entropy: as many experts used evenly have it
	Gini             float64 `json:"gini"`              // 0 for even use; 1 - 1/experts when one does all

	// Quantiles of the counts (or weights): the smallest value that at least
	// this part of the experts does not exceed.
	Minimum       float64 `json:"minimum"`
	LowerQuartile float64 `json:"lower_quartile"`
	Median        float64 `json:"median"`
	UpperQuartile float64 `json:"upper_quartile"`
	Maximum       float64 `json:"maximum"`

	Hottest int `json:"hottest"` // expert; of equal ones the first, as
	Coldest int `json:"coldest"`
}

// Summarize returns the layer's summary, and false where its traffic is
// unknown, only ranked, or 0.
func (l *Layer) Summarize(kind Kind) (Summary, bool) {
	p := Shares(l.Counts, l.Weights)
	if p == nil || kind == KindRank {
		return Summary{}, false
	}
	entropy := stat.Entropy(p) / math.Ln2
	values := l.Weights
	if l.Counts != nil {
		values = make([]float64, len(l.Counts))
		for e, n := range l.Counts {
			values[e] = float64(n)
		}
	}
	sorted := slices.Clone(values)
	slices.Sort(sorted)
	quantile := func(q float64) float64 { return six(stat.Quantile(q, stat.Empirical, sorted, nil)) }
	// Gini = sum_i (2i - n - 1) x_i / (n sum x), x ascending, i from 1.
	n := float64(len(sorted))
	weighted := make([]float64, len(sorted))
	for i := range weighted {
		weighted[i] = float64(2*(i+1)) - n - 1
	}
	floats.Mul(weighted, sorted)
	return Summary{
		Entropy:          six(max(entropy, 0)),
		EffectiveExperts: six(math.Exp2(max(entropy, 0))),
		Gini:             six(max(0, floats.Sum(weighted)/(n*floats.Sum(sorted)))),
		Minimum:          six(sorted[0]),
		LowerQuartile:    quantile(0.25),
		Median:           quantile(0.5),
		UpperQuartile:    quantile(0.75),
		Maximum:          six(sorted[len(sorted)-1]),
		Hottest:          slices.Index(values, sorted[len(sorted)-1]),
		Coldest:          slices.Index(values, sorted[0]),
	}, true
}
