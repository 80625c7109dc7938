package stats

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"math/bits"
	"math/rand/v2"
)

// The relative error of an expert in a type is a ratio of sums over its rows,
// r = sum e_i / sum n_i. From k of its K rows, drawn without replacement, it is
// estimated by the ratio of the samples' sums, whose variance is that of the
// residuals e_i - r n_i (Cochran, Sampling Techniques, 3rd edition, section
// 6.3, with the finite population correction):
//
//	half width = t(k-1) * sqrt((1 - k/K) / (k (k-1)) * sum (e_i - r n_i)^2) / mean n
const (
	sampleConfidence = 0.95
	sampleTarget     = 0.02 // half width over the estimate at which a type is done

	// sampleFirst is how many rows every type is measured on at least. A stop
	// at the first small interval favours samples that happen to vary little;
	// with fewer rows than these that shows in the coverage.
	sampleFirst = 32

	// sampleNormRows is how many rows the norms are taken over at least: they
	// vary more between rows than the ratio does, and cost no encoding.
	sampleNormRows = 128
)

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

// sampleOrder returns the rows of an expert in the order in which they are
// sampled: a permutation that follows from the seed, the tensor's name and the
// expert alone. The generator is PCG-DXSM seeded by SHA-256.
func sampleOrder(seed uint64, tensor string, expert int, rows uint64) []uint32 {
	key := binary.LittleEndian.AppendUint64(nil, seed)
	key = binary.LittleEndian.AppendUint64(key, uint64(expert))
	sum := sha256.Sum256(append(key, tensor...))
	pcg := rand.NewPCG(binary.LittleEndian.Uint64(sum[:8]), binary.LittleEndian.Uint64(sum[8:16]))
	order := make([]uint32, rows)
	for i := range order {
		order[i] = uint32(i)
	}
	for i := len(order) - 1; i > 0; i-- {
		// The high word of the product is uniform up to 2^-32 of a chance.
		j, _ := bits.Mul64(pcg.Uint64(), uint64(i+1))
		order[i], order[j] = order[j], order[i]
	}
	return order
}

// typeSum gathers the rows of one item in one type.
type typeSum struct {
	weighted, norm   Sum       // of e_i and n_i over the type's rows
	plain, plainNorm Sum       // the same with weights of one
	errors, norms    []float64 // e_i and n_i, while sampling
	rows             uint64
	done             bool
}

// estimate returns the ratio of the sums and the half width of its interval,
// given how many rows the expert has.
func (s *typeSum) estimate(total uint64) (relative, half float64) {
	norm := s.norm.Value()
	if norm == 0 {
		return 0, 0 // no weight counts, so nothing is lost
	}
	relative = s.weighted.Value() / norm
	k := len(s.errors)
	if uint64(k) >= total {
		return relative, 0
	}
	if k < 2 {
		return relative, math.Inf(1)
	}
	var squares Sum
	for i, e := range s.errors {
		d := e - float64(relative*s.norms[i])
		squares.Add(float64(d * d))
	}
	n := float64(k)
	unseen := 1 - n/float64(total)
	half = quantileT(k-1) * math.Sqrt(unseen*squares.Value()*n/(n-1)) / norm
	return relative, half
}
