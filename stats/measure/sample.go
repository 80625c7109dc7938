package measure

import (
	"math"

	"github.com/ggufplan/ggufplan/stats"
)

// The relative error of an expert in a type is a ratio of sums over its K rows,
// r = sum e_i / sum n_i, of the weighted errors and norms. Reading a row for its
// norm n_i costs a hundredth of encoding it in an IQ type, a thirtieth to an
// eightieth in a K type with column weights. So norms are read first, of all rows,
// or for a coarse measurement, and where they are more than a million, of k of them,
// drawn evenly; the rows to encode are drawn from these by weight.
//
// A row's size s_i is the mean of its share of the norms and of its share of the
// peaks, sum m v^4 / sum m v^2 over its weights v: large weights are what errors
// of few bits are made of, and with them half as many rows do where tails are
// heavy. No size is less than an eighth of the mean, for what sizes miss
// (Hesterberg, Technometrics 37, 1995), and all are rounded up to powers of two,
// so that a few sums per class of size do for any sample. Each row has a uniform
// number u_i of its own; the sample is the rows of the highest s_i/u_i, as many
// as it needs, and t the next one's (priority sampling: Duffield, Lund and
// Thorup, J. ACM 54(6), 2007; sequential Poisson sampling: Ohlsson, J. Official
// Statistics 14, 1998). Given t, a row is in it with the chance min(1, s_i/t), as
// if drawn alone, and stands for w_i = max(1, t/s_i) rows. Rows with w_i = 1 are
// known for sure; of the others, though their norms are known to add up to N_c,
// the ratio is estimated:
//
//	r   = (sum over sure e_i + N_c r_c) / N,  r_c = sum over others w_i e_i / sum w_i n_i
//	V_2 = m/(m-1) (N_c / sum w_i n_i)^2 sum over others w_i (w_i - 1) (e_i - r_c n_i)^2
//	V_1 = (1 - k/K) k/(k-1) sum w'_i (e_i - r n_i)^2
//
// with w'_i = w_i for the sure and w_i N_c / sum w_i n_i for the others, m the others in the sample, N the norm of the k rows, V_2 the variance of
// drawing from them (Duffield et al., of the residuals: Cochran, Sampling
// Techniques, 3rd edition, 6.3) and V_1 that of drawing them, 0 if they are all
// (two-phase sampling: Särndal, Swensson and Wretman, Model Assisted Survey
// Sampling, 9.3). The interval is
//
//	half width = widen * t(m-1) * sqrt(V_1 + V_2) / N
//
// with Student's t. Errors are r times the norm of all rows; where not all are
// read, their norm is k rows' scaled up, as many as tell it to within the target.
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
// left wider than the precision P. d is a fifth of P where a model has layers
// enough for the errors of tensors to even out in what a plan adds up, and down
// to half of that where it has few:
//
//	h = min(P, d / sqrt p),  d = P/5 * max(1/2, min(1, sqrt(layers / 32)))
//
// A coarse measurement is left at d = P/5.
const (
	sampleConfidence = 0.95

	// Relative half widths of an expert's error.
	DefaultPrecision  = 0.05
	QuickPrecision    = 0.20
	FinestPrecision   = 0.001
	CoarsestPrecision = 0.5

	tensorPrecision       = 1.0 / 5 // of a tensor's damage, as part of an expert's
	tensorPrecisionFinest = 1.0 / 10
	manyLayers            = 32

	// sampleMinSize is the least size of a row, as part of the mean.
	sampleMinSize = 1.0 / 8

	// sampleWiden is what half widths are multiplied by. To stop at the first
	// interval that is narrow enough favours samples which happen to vary
	// little; without this up to 2 % more of the intervals would miss, and
	// more where the first look has few rows, above all where rows have outliers.
	sampleWiden      = 1.06
	sampleWidenEarly = 1.25

	// sampleNormRows is how many rows are read for their norms at least where
	// not all are, for a target as fine as the default precision: norms vary
	// more between rows than ratios do.
	sampleNormRows    = 128
	sampleMinNormRows = 32

	// maxNormRows bounds them, for the sake of memory: vocabularies, the longest
	// lists of rows in models today, have some 260 thousand.
	maxNormRows = 1 << 20
)

// targetOf returns the relative half width that an expert with a share of its
// tensor's traffic is measured to, in a model of so many layers.
func targetOf(precision, share float64, layers int) float64 {
	tensor := tensorPrecision
	if precision < pooledPrecision {
		tensor = max(tensorPrecisionFinest, min(tensor, tensor*math.Sqrt(float64(layers)/manyLayers)))
	}
	return min(precision, precision*tensor/math.Sqrt(share))
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

// normRows is how many rows are read for their norms to begin with: all, unless
// the measurement is coarse or they are too many to keep.
func (m *measurement) normRows(target float64, total uint64) uint64 {
	most := min(total, maxNormRows)
	if m.options.Precision < pooledPrecision {
		return most
	}
	ratio := DefaultPrecision / target
	return min(most, max(sampleMinNormRows, uint64(min(sampleNormRows*ratio*ratio, maxNormRows))))
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

// growth returns how many rows to add to a sample: each look at the interval
// comes after half of what there is more.
func growth(drawn uint64, target float64) uint64 {
	if drawn == 0 {
		return firstRows(target)
	}
	return max(1, drawn/2)
}

// A classSum gathers the sampled rows of one size class in one type: with e_i
// the weighted error and n_i the weighted norm of a row.
type classSum struct {
	weighted, norm   stats.Sum // of e_i and n_i
	plain, plainNorm stats.Sum // the same with weights of one
	ee, en, nn       stats.Sum // of e_i^2, e_i n_i and n_i^2
	rows             uint64
}

func (s *classSum) add(r RowLoss) {
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

// squares is the sum of (e_i - r n_i)^2, which rounding may take below 0.
func (s *classSum) squares(r float64) float64 {
	return max(0, s.ee.Value()-float64(2*r*s.en.Value())+float64(r*r*s.nn.Value()))
}

// A typeSum gathers the sampled rows of one expert in one type. What it says of
// all rows is that of the last look.
type typeSum struct {
	classes []classSum // by the class of their size
	rows    uint64
	done    bool

	relative, half float64 // the error and the half width of its interval
	plain          float64 // the error with weights of one
}

func (s *typeSum) add(class uint8, r RowLoss) {
	for int(class) >= len(s.classes) {
		s.classes = append(s.classes, classSum{})
	}
	s.classes[class].add(r)
	s.rows++
}

// An expandedSum adds up rows times what they stand for.
type expandedSum struct {
	weighted, norm, plain, plainNorm float64
	rows                             uint64
}

func (x *expandedSum) add(c *classSum, stands float64) {
	x.weighted += float64(stands * c.weighted.Value())
	x.norm += float64(stands * c.norm.Value())
	x.plain += float64(stands * c.plain.Value())
	x.plainNorm += float64(stands * c.plainNorm.Value())
	x.rows += c.rows
}

// look estimates the error from the rows so far, all that are drawn from the
// known ones, and reports whether they are enough.
func (s *typeSum) look(k *knownRows, target float64) bool {
	var sure, chance expandedSum
	norm, left := 0.0, 0.0 // of the known rows, and of those not known for sure
	for class := range k.norms {
		stands, of := k.stands(class)
		norm += of
		to := &sure
		if stands > 1 {
			to = &chance
			left += of
		}
		if class < len(s.classes) {
			to.add(&s.classes[class], stands)
		}
	}
	ratio := stats.Relative(chance.weighted, chance.norm)
	s.relative = stats.Relative(sure.weighted+float64(left*ratio), norm)
	s.plain = stats.Relative(sure.plain+chance.plain, sure.plainNorm+chance.plainNorm)
	switch {
	case s.rows == k.total:
		s.half = 0
	case norm == 0 || left > 0 && (chance.rows < 2 || chance.norm == 0):
		s.half = math.Inf(1) // rows that do not count say nothing of others
	default:
		degrees := s.rows - 1
		if chance.rows > 0 {
			degrees = chance.rows - 1
		}
		widen := sampleWiden
		if degrees < 15 {
			widen = sampleWidenEarly
		}
		variance := s.variance(k, ratio, stats.Relative(left, chance.norm), chance.rows)
		s.half = widen * quantileT(int(min(degrees, math.MaxInt32))) * math.Sqrt(variance) / norm
	}
	return s.half <= target*s.relative
}

// variance is that of the estimated error, V_1 + V_2: ratio is that of the rows
// that were drawn by chance, scale what their norms are to be multiplied by.
func (s *typeSum) variance(k *knownRows, ratio, scale float64, rows uint64) float64 {
	first, second := 0.0, 0.0
	for class := range s.classes {
		c := &s.classes[class]
		stands, _ := k.stands(class)
		if stands > 1 {
			second += float64(stands * (stands - 1) * c.squares(ratio))
			stands *= scale
		}
		first += float64(stands * c.squares(s.relative))
	}
	variance := 0.0
	if rows > 1 {
		variance = float64(scale*scale) * second * float64(rows) / float64(rows-1)
	}
	if known := float64(len(k.rows)); known > 1 {
		variance += float64((1 - known/float64(k.total)) * known / (known - 1) * first)
	}
	return variance
}

// exact is the error where all rows are in the sample.
func (s *typeSum) exact() TypeLoss {
	var weighted, norm, plain stats.Sum
	for i := range s.classes {
		weighted.Add(s.classes[i].weighted.Value())
		norm.Add(s.classes[i].norm.Value())
		plain.Add(s.classes[i].plain.Value())
	}
	relative := stats.Relative(weighted.Value(), norm.Value())
	return TypeLoss{Relative: relative, Low: relative, High: relative, WeightedError: weighted.Value(), PlainError: plain.Value()}
}
