package measure

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"math/bits"
	"math/rand/v2"

	"github.com/ggufplan/ggufplan/stats"
)

// The relative error of an expert in a type is a ratio of sums over its rows,
// r = sum e_i / sum n_i. From k of its K rows, drawn without replacement, it is
// estimated by the ratio of the samples' sums, whose variance is that of the
// residuals e_i - r n_i (Cochran, Sampling Techniques, 3rd edition, section
// 6.3, with the finite population correction):
//
//	half width = w * t(k-1) * sqrt((1 - k/K) / (k (k-1)) * sum (e_i - r n_i)^2) / mean n
//
// A regression of a row's error on its error in a cheap type instead of on its
// norm gains little: in trained and made-up weights alike the residuals are 0.6
// to 1.8 times as wide, since types round differently. Between experts it gains
// much: see pool.go.
//
// How wide is chosen by what is decided. A tensor's damage is a sum over its
// experts with shares p of the traffic, p = 1 for a tensor without experts;
// its variance is sum p^2 h^2, where h is an expert's relative half width.
// Rows cost as 1/h^2, so the cheapest widths that reach a width d of the sum
// have h^2 = d^2 / p (Neyman's allocation, Cochran 5.5). No expert's level is
// left wider than the precision P:
//
//	h = min(P, P/5 / sqrt p)
const (
	sampleConfidence = 0.95

	// Relative half widths of an expert's error.
	DefaultPrecision  = 0.05
	QuickPrecision    = 0.20
	FinestPrecision   = 0.001
	CoarsestPrecision = 0.5

	tensorPrecision = 1.0 / 5 // of a tensor's damage, as part of an expert's

	// sampleWiden is what half widths are multiplied by. To stop at the first
	// interval that is narrow enough favours samples which happen to vary
	// little; without this up to 2 % more of the intervals would miss, and
	// more where the first look has few rows, above all where rows have outliers.
	sampleWiden      = 1.06
	sampleWidenEarly = 1.25

	// sampleNormRows is how many rows the norms are taken over at least at the
	// default precision: they vary more between rows than the ratio does, and
	// cost no encoding.
	sampleNormRows    = 128
	sampleMinNormRows = 32
)

// targetOf returns the relative half width that an expert with a share of its
// tensor's traffic is measured to.
func targetOf(precision, share float64) float64 {
	return min(precision, precision*tensorPrecision/math.Sqrt(share))
}

// firstRows is how many rows every type is measured on at least.
func firstRows(target float64) uint64 {
	switch {
	case target < 0.04:
		return 16
	case target < 0.15:
		return 8
	}
	return 6
}

// normRows is how many rows norms are taken over.
func normRows(target float64, total uint64) uint64 {
	ratio := DefaultPrecision / target
	return min(total, max(sampleMinNormRows, uint64(min(sampleNormRows*ratio*ratio, 1<<40))))
}

// expectedRows guesses how many rows a type needs, for the sake of progress and
// of parts: rows of trained weights vary by some 8 %.
func expectedRows(target float64, total uint64) uint64 {
	root := 2.1 * 0.08 / target
	return min(total, max(firstRows(target), uint64(root*root)))
}

// studentT holds the 97.5 % quantiles of Student's t distribution for the
// degrees of freedom beside them, which are rounded down to the table's.
var studentT = []struct {
	degrees  int
	quantile float64
}{
	{1, 12.706}, {2, 4.303}, {3, 3.182}, {4, 2.776}, {5, 2.571}, {6, 2.447}, {7, 2.365}, {8, 2.306}, {9, 2.262}, {10, 2.228},
	{12, 2.179}, {15, 2.131}, {20, 2.086}, {25, 2.060}, {30, 2.042}, {40, 2.021}, {60, 2.000}, {120, 1.980}, {1000, 1.962},
}

func quantileT(degrees int) float64 {
	q := studentT[0].quantile
	for _, row := range studentT {
		if degrees >= row.degrees {
			q = row.quantile
		}
	}
	return q
}

// A rowSampler draws the rows of an expert without replacement, in an order
// that follows from the seed, the tensor's name and the expert alone. The
// generator is PCG-DXSM seeded by SHA-256; the shuffle is Fisher and Yates's,
// of which only the places that rows moved to are kept.
type rowSampler struct {
	pcg          *rand.PCG
	drawn, total uint64
	moved        map[uint64]uint64 // place -> row, where they differ
}

func newRowSampler(seed uint64, tensor string, slice int, rows uint64) *rowSampler {
	key := binary.LittleEndian.AppendUint64(nil, seed)
	key = binary.LittleEndian.AppendUint64(key, uint64(slice))
	sum := sha256.Sum256(append(key, tensor...))
	pcg := rand.NewPCG(binary.LittleEndian.Uint64(sum[:8]), binary.LittleEndian.Uint64(sum[8:16]))
	return &rowSampler{pcg: pcg, total: rows, moved: map[uint64]uint64{}}
}

// draw appends the next n rows to dst, or as many as are left.
func (s *rowSampler) draw(dst []uint64, n uint64) []uint64 {
	for ; n > 0 && s.drawn < s.total; n-- {
		// The high word of the product is uniform but for 1 in 2^64/total.
		offset, _ := bits.Mul64(s.pcg.Uint64(), s.total-s.drawn)
		place := s.drawn + offset
		dst = append(dst, s.at(place))
		s.moved[place] = s.at(s.drawn)
		delete(s.moved, s.drawn)
		s.drawn++
	}
	return dst
}

// growth returns how many rows to add to a sample: each look at the interval
// comes after half of what there is more.
func growth(drawn uint64, target float64) uint64 {
	if drawn == 0 {
		return firstRows(target)
	}
	return max(1, drawn/2)
}

// at returns the row that lies at a place of the shuffle so far.
func (s *rowSampler) at(place uint64) uint64 {
	if row, ok := s.moved[place]; ok {
		return row
	}
	return place
}

// A typeSum gathers the rows of one expert in one type: with e_i the weighted
// error and n_i the weighted norm of a row.
type typeSum struct {
	weighted, norm   stats.Sum // of e_i and n_i
	plain, plainNorm stats.Sum // the same with weights of one
	ee, en, nn       stats.Sum // of e_i^2, e_i n_i and n_i^2
	rows             uint64
	done             bool
}

func (s *typeSum) add(r RowLoss) {
	e, n := r.WeightedError, r.WeightedNorm
	s.weighted.Add(e)
	s.norm.Add(n)
	s.plain.Add(r.PlainError)
	s.plainNorm.Add(r.PlainNorm)
	s.ee.Add(float64(e * e))
	s.en.Add(float64(e * n))
	s.nn.Add(float64(n * n))
	s.rows++
}

// settled reports whether the sample is large enough.
func (s *typeSum) settled(total uint64, target float64) bool {
	relative, half := s.estimate(total)
	return half <= target*relative
}

// estimate returns the ratio of the sums and the half width of its interval,
// given how many rows the expert has.
func (s *typeSum) estimate(total uint64) (relative, half float64) {
	norm := s.norm.Value()
	relative = stats.Relative(s.weighted.Value(), norm)
	if s.rows >= total {
		return relative, 0
	}
	if s.rows < 2 || norm == 0 {
		return relative, math.Inf(1) // rows that do not count say nothing of others
	}
	// The sum of (e_i - r n_i)^2, which rounding may take below 0.
	squares := s.ee.Value() - float64(2*relative*s.en.Value()) + float64(relative*relative*s.nn.Value())
	k := float64(s.rows)
	unseen := 1 - k/float64(total)
	widen := sampleWiden
	if s.rows < 16 {
		widen = sampleWidenEarly
	}
	half = widen * quantileT(int(min(s.rows-1, math.MaxInt32))) * math.Sqrt(unseen*max(0, squares)*k/(k-1)) / norm
	return relative, half
}
