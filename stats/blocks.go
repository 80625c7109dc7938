package stats

// BlockTokens is how many consecutive tokens of a trace make one block: the
// chunk length that llama-imatrix uses by default, so that blocks of either
// source measure the same correlation.
const BlockTokens = 512

// MaxSegments bounds how finely the history of a layer is kept for the
// stability test. Segments are merged in pairs when the limit is reached, so
// the halves are exact up to that many blocks, and within an eighth of the
// history beyond.
const MaxSegments = 16

// BlockMoments gathers how the counts of one layer's experts vary over blocks
// of tokens, in memory that does not grow with the number of blocks.
//
// Sums of whole numbers are exact in float64 below 2^53; blocks are added in
// file order, so the result is the same on every machine.
type BlockMoments struct {
	Blocks    int
	Slots     float64   // sum over blocks of M_b, the activations of block b
	SlotsSq   float64   // sum of M_b^2
	Sum       []float64 // per expert: sum of n_eb
	SumSq     []float64 // per expert: sum of n_eb^2
	SumCross  []float64 // per expert: sum of n_eb * M_b
	segments  [][]float64
	segBlocks []int // blocks in each segment
	perSeg    int
}

// Add takes the counts of one more block; experts beyond the length of counts
// had none. A block without activations is no block.
func (m *BlockMoments) Add(counts []float64) {
	var slots float64
	for _, n := range counts {
		slots += n
	}
	if slots == 0 {
		return
	}
	if grow := len(counts) - len(m.Sum); grow > 0 {
		m.Sum = append(m.Sum, make([]float64, grow)...)
		m.SumSq = append(m.SumSq, make([]float64, grow)...)
		m.SumCross = append(m.SumCross, make([]float64, grow)...)
	}
	m.Blocks++
	m.Slots += slots
	m.SlotsSq += float64(slots * slots)
	for e, n := range counts {
		if n != 0 {
			m.Sum[e] += n
			m.SumSq[e] += float64(n * n)
			m.SumCross[e] += float64(n * slots)
		}
	}
	m.keep(counts)
}

// keep adds a block to the history that the stability test halves.
func (m *BlockMoments) keep(counts []float64) {
	if m.perSeg == 0 {
		m.perSeg = 1
	}
	last := len(m.segments) - 1
	if last < 0 || m.segBlocks[last] == m.perSeg {
		if len(m.segments) == MaxSegments {
			for i := range MaxSegments / 2 {
				m.segments[i] = addInto(m.segments[2*i], m.segments[2*i+1])
				m.segBlocks[i] = m.segBlocks[2*i] + m.segBlocks[2*i+1]
			}
			m.segments = m.segments[:MaxSegments/2]
			m.segBlocks = m.segBlocks[:MaxSegments/2]
			m.perSeg *= 2
		}
		m.segments = append(m.segments, nil)
		m.segBlocks = append(m.segBlocks, 0)
		last = len(m.segments) - 1
	}
	m.segments[last] = addInto(m.segments[last], counts)
	m.segBlocks[last]++
}

// addInto returns dst + src by element, in dst where it is long enough.
func addInto(dst, src []float64) []float64 {
	if grow := len(src) - len(dst); grow > 0 {
		dst = append(dst, make([]float64, grow)...)
	}
	for i, v := range src {
		dst[i] += v
	}
	return dst
}

// Summary returns the design effect of the blocks, nil with fewer than two.
//
// For expert e with share s of the activations and p = k*s of the tokens,
//
//	DEFF_e = sum_b (n_eb - M_b*s)^2 / (B-1) / (m*p*(1-p)),
//
// m being the mean tokens of a block, M_b the activations of block b. With
// blocks of equal length this is the sample variance over the binomial one;
// with unequal ones the spread that comes from length alone is left out. Deff
// is the median over the experts that were seen. An unknown k (0) counts as 1.
// Blocks that do not differ at all are copies, not samples, and give nil.
func (m *BlockMoments) Summary(topK, experts int) *Blocks {
	if m == nil || m.Blocks < 2 {
		return nil
	}
	out := &Blocks{N: m.Blocks, Deff: m.deff(topK, experts), Moments: m}
	if out.Deff == 0 {
		return nil
	}
	out.HalfCounts = m.halves(experts)
	return out
}

// deff is the median design effect, 0 where there is none.
func (m *BlockMoments) deff(topK, experts int) float64 {
	k := float64(max(topK, 1))
	blocks := float64(m.Blocks)
	var deffs []float64
	for e, n := range m.Sum {
		if n == 0 || e >= experts {
			continue
		}
		s := n / m.Slots
		expected := float64(m.Slots/blocks) * float64(s*(1-float64(k*s)))
		if expected <= 0 {
			continue // used by every token: no spread to compare with
		}
		spread := m.SumSq[e] - float64(2*float64(s*m.SumCross[e])) + float64(float64(s*s)*m.SlotsSq)
		deffs = append(deffs, max(spread, 0)/float64((blocks-1)*expected))
	}
	return Median(deffs)
}

// fit returns the blocks of a layer of which the experts per token and the
// number of experts have become known.
func (b *Blocks) fit(topK, experts int) *Blocks {
	if b == nil {
		return nil
	}
	if b.Moments != nil && b.Moments.segments != nil {
		return b.Moments.Summary(topK, experts)
	}
	out := *b
	if b.Moments != nil {
		out.Deff = b.Moments.deff(topK, experts)
		if out.Deff == 0 {
			return nil
		}
	}
	for i, half := range b.HalfCounts {
		if half != nil {
			out.HalfCounts[i] = make([]uint64, experts)
			copy(out.HalfCounts[i], half)
		}
	}
	return &out
}

// halves splits the kept history at the segment boundary nearest its middle.
func (m *BlockMoments) halves(experts int) [2][]uint64 {
	var out [2][]uint64
	out[0], out[1] = make([]uint64, experts), make([]uint64, experts)
	split, before := 1, m.segBlocks[0]
	for split < len(m.segments)-1 {
		next := before + m.segBlocks[split]
		if 2*next-m.Blocks >= m.Blocks-2*before {
			break
		}
		split, before = split+1, next
	}
	for i, segment := range m.segments {
		half := out[0]
		if i >= split {
			half = out[1]
		}
		for e, n := range segment[:min(len(segment), experts)] {
			half[e] += uint64(n)
		}
	}
	return out
}
