package measure

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"

	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/stats"
)

// A rowSampler draws the rows of an expert without replacement, in an order
// that follows from the seed, the tensor's name and the expert alone. The
// generator is PCG-DXSM seeded by SHA-256; the shuffle is Fisher and Yates's,
// of which only the places that rows moved to are kept.
type rowSampler struct {
	pcg, chance  *rand.PCG // of draw, and of those who draw by weight
	drawn, total uint64
	moved        map[uint64]uint64 // place -> row, where they differ
}

func newRowSampler(seed uint64, tensor string, slice int, rows uint64) *rowSampler {
	key := binary.LittleEndian.AppendUint64(nil, seed)
	key = binary.LittleEndian.AppendUint64(key, uint64(slice))
	sum := sha256.Sum256(append(key, tensor...))
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(sum[8*i:]) }
	return &rowSampler{pcg: rand.NewPCG(word(0), word(1)), chance: rand.NewPCG(word(2), word(3)), total: rows, moved: map[uint64]uint64{}}
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

// at returns the row that lies at a place of the shuffle so far.
func (s *rowSampler) at(place uint64) uint64 {
	if row, ok := s.moved[place]; ok {
		return row
	}
	return place
}

// knownRows are the rows of an expert whose norms are known, in the order in
// which a sample takes them: by falling priority, the ratio of their size to a
// uniform number of their own.
type knownRows struct {
	total   uint64 // rows of the expert
	chance  *rand.PCG
	rows    []knownRow
	drawn   int         // so many of them are in the sample, those to begin with
	placed  int         // so many have a priority, the others a norm
	lowest  float64     // priority in the sample
	norms   []stats.Sum // of the rows of each class
	perNorm float64     // what a row's norm and peak are divided by for its size
	perPeak float64

	order   []uint64 // the rows of a batch
	classes []uint8  // and theirs
}

type knownRow struct {
	priority float64 // at first the norm
	peak     float64 // the mean of its squares, each by its share of the norm
	row      uint32
	class    uint8 // its size is two to the power of that
}

// reset empties k and makes room for so many rows to begin with.
func (k *knownRows) reset(s *rowSampler, first uint64) {
	rows := slices.Grow(k.rows[:0], int(min(first, s.total)))
	*k = knownRows{total: s.total, chance: s.chance, rows: rows, norms: k.norms[:0], lowest: math.Inf(1), order: k.order, classes: k.classes}
}

// add adds a row with its sums.
func (k *knownRows) add(row uint64, sums quant.RowSums) {
	k.rows = append(k.rows, knownRow{priority: sums.Weighted, peak: stats.Relative(sums.Fourth, sums.Weighted), row: uint32(row)})
}

// maxClass bounds a row's size at 2^maxClass.
const maxClass = 63

// classSize returns the size of the rows of a class.
func classSize(class int) float64 { return float64(uint64(1) << class) }

// classOf rounds a size up to a power of two.
func classOf(size float64) uint8 {
	if !(size > 1) {
		return 0
	}
	fraction, exponent := math.Frexp(size)
	if fraction == 0.5 {
		exponent--
	}
	return uint8(min(exponent, maxClass))
}

// place puts rows that were added since the last call in order.
func (k *knownRows) place() {
	fresh := k.rows[k.placed:]
	if len(fresh) == 0 {
		return
	}
	if k.placed == 0 {
		var norm, peak stats.Sum
		for i := range fresh {
			norm.Add(fresh[i].priority)
			peak.Add(fresh[i].peak)
		}
		unit := 2 * sampleMinSize / float64(len(fresh))
		k.perNorm, k.perPeak = unit*norm.Value(), unit*peak.Value()
	}
	for i := range fresh {
		r := &fresh[i]
		norm := r.priority
		r.class = classOf(stats.Relative(norm, k.perNorm) + stats.Relative(r.peak, k.perPeak))
		for int(r.class) >= len(k.norms) {
			k.norms = append(k.norms, stats.Sum{})
		}
		k.norms[r.class].Add(norm)
		uniform := (float64(k.chance.Uint64()>>12) + 0.5) / (1 << 52)
		r.priority = classSize(int(r.class)) / uniform
	}
	k.placed = len(k.rows)
	slices.SortFunc(k.rows[k.drawn:], func(a, b knownRow) int {
		if a.priority != b.priority {
			return cmp.Compare(b.priority, a.priority)
		}
		return cmp.Compare(a.row, b.row)
	})
}

// draw takes at least the next n rows into the sample, or as many as are left,
// and among them all that come before one that is in it. Their numbers and classes are
// in order and classes, in the order of the file.
func (k *knownRows) draw(n uint64) {
	k.place()
	first := k.drawn
	for ; k.drawn < len(k.rows); k.drawn++ {
		p := k.rows[k.drawn].priority
		if p < k.lowest {
			if n == 0 {
				break
			}
			k.lowest = p
		}
		n -= min(n, 1)
	}
	drawn := k.rows[first:k.drawn]
	slices.SortFunc(drawn, func(a, b knownRow) int { return cmp.Compare(a.row, b.row) })
	k.order, k.classes = k.order[:0], k.classes[:0]
	for _, r := range drawn {
		k.order, k.classes = append(k.order, uint64(r.row)), append(k.classes, r.class)
	}
}

// stands returns how many rows each sampled row of a class stands for, and the
// norm of all known ones of that class.
func (k *knownRows) stands(class int) (rows, norm float64) {
	if k.drawn == len(k.rows) {
		return 1, k.norms[class].Value()
	}
	return max(1, k.rows[k.drawn].priority/classSize(class)), k.norms[class].Value()
}

// batchRows is how many rows are listed at once where all are read.
const batchRows = 4096

// allRows hands on the numbers of rows in batches.
func (k *knownRows) allRows(total uint64, do func(rows []uint64) error) error {
	for first := uint64(0); first < total; first += batchRows {
		k.order = k.order[:0]
		for row := first; row < min(total, first+batchRows); row++ {
			k.order = append(k.order, row)
		}
		if err := do(k.order); err != nil {
			return err
		}
	}
	return nil
}

// sample draws an expert's rows to a relative half width. It has learn add the
// first rows, in ascending order, to the known ones and to norms, and encode
// measure rows by their classes and say whether they are enough.
func (k *knownRows) sample(s *rowSampler, norms *rowNorms, first uint64, target float64,
	learn func(rows []uint64) error, encode func(rows []uint64, classes []uint8) (bool, error)) error {
	k.reset(s, first)
	more := func(n uint64) error {
		n = min(n, s.total-s.drawn)
		k.rows = slices.Grow(k.rows, int(n))
		k.order = s.draw(slices.Grow(k.order[:0], int(n)), n)
		slices.Sort(k.order) // for the disk
		return learn(k.order)
	}
	var err error
	if first >= k.total {
		err = k.allRows(k.total, learn)
	} else {
		err = more(first)
	}
	for err == nil && !norms.settled(k.total, target) {
		err = more(norms.rows)
	}
	for err == nil && (k.drawn < len(k.rows) || norms.rows < k.total) {
		k.draw(growth(uint64(k.drawn), target))
		var enough bool
		if enough, err = encode(k.order, k.classes); enough || err != nil {
			return err
		}
		if 2*k.drawn > len(k.rows) && norms.rows < k.total {
			err = more(norms.rows)
		}
	}
	return err
}
