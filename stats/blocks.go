package stats

// blockTokens is how many consecutive tokens of a trace make one block: the
// chunk length that llama-imatrix uses by default, so that blocks of either
// source measure the same correlation.
const blockTokens = 512

// maxSegments bounds how finely the history of a layer is kept for the
// stability test. Segments are merged in pairs when the limit is reached, so
// the halves are exact up to that many blocks, and within an eighth of the
// history beyond.
const maxSegments = 16

// blockMoments gathers how the counts of one layer's experts vary over blocks
// of tokens, in memory that does not grow with the number of blocks.
//
// Sums of whole numbers are exact in float64 below 2^53; blocks are added in
// file order, so the result is the same on every machine.
type blockMoments struct {
	blocks    int
	slots     float64   // sum over blocks of M_b, the activations of block b
	slotsSq   float64   // sum of M_b^2
	sum       []float64 // per expert: sum of n_eb
	sumSq     []float64 // per expert: sum of n_eb^2
	sumCross  []float64 // per expert: sum of n_eb * M_b
	segments  [][]float64
	segBlocks []int // blocks in each segment
	perSeg    int
}

// add takes the counts of one more block; experts beyond the length of counts
// had none. A block without activations is no block.
func (m *blockMoments) add(counts []float64) {
	var slots float64
	for _, n := range counts {
		slots += n
	}
	if slots == 0 {
		return
	}
	if grow := len(counts) - len(m.sum); grow > 0 {
		m.sum = append(m.sum, make([]float64, grow)...)
		m.sumSq = append(m.sumSq, make([]float64, grow)...)
		m.sumCross = append(m.sumCross, make([]float64, grow)...)
	}
	m.blocks++
	m.slots += slots
	m.slotsSq += float64(slots * slots)
	for e, n := range counts {
		if n != 0 {
			m.sum[e] += n
			m.sumSq[e] += float64(n * n)
			m.sumCross[e] += float64(n * slots)
		}
	}
	m.keep(counts)
}

// keep adds a block to the history that the stability test halves.
func (m *blockMoments) keep(counts []float64) {
	if m.perSeg == 0 {
		m.perSeg = 1
	}
	last := len(m.segments) - 1
	if last < 0 || m.segBlocks[last] == m.perSeg {
		if len(m.segments) == maxSegments {
			for i := range maxSegments / 2 {
				m.segments[i] = addInto(m.segments[2*i], m.segments[2*i+1])
				m.segBlocks[i] = m.segBlocks[2*i] + m.segBlocks[2*i+1]
			}
			m.segments = m.segments[:maxSegments/2]
			m.segBlocks = m.segBlocks[:maxSegments/2]
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

// summary returns the design effect of the blocks, nil with fewer than two.
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
func (m *blockMoments) summary(topK, experts int) *Blocks {
	if m == nil || m.blocks < 2 {
		return nil
	}
	out := &Blocks{N: m.blocks, Deff: m.deff(topK, experts), moments: m}
	if out.Deff == 0 {
		return nil
	}
	out.HalfCounts = m.halves(experts)
	return out
}

// deff is the median design effect, 0 where there is none.
func (m *blockMoments) deff(topK, experts int) float64 {
	k := float64(max(topK, 1))
	blocks := float64(m.blocks)
	var deffs []float64
	for e, n := range m.sum {
		if n == 0 || e >= experts {
			continue
		}
		s := n / m.slots
		expected := float64(m.slots/blocks) * float64(s*(1-float64(k*s)))
		if expected <= 0 {
			continue // used by every token: no spread to compare with
		}
		spread := m.sumSq[e] - float64(2*float64(s*m.sumCross[e])) + float64(float64(s*s)*m.slotsSq)
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
	if b.moments != nil && b.moments.segments != nil {
		return b.moments.summary(topK, experts)
	}
	out := *b
	if b.moments != nil {
		out.Deff = b.moments.deff(topK, experts)
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
func (m *blockMoments) halves(experts int) [2][]uint64 {
	var out [2][]uint64
	out[0], out[1] = make([]uint64, experts), make([]uint64, experts)
	split, before := 1, m.segBlocks[0]
	for split < len(m.segments)-1 {
		next := before + m.segBlocks[split]
		if 2*next-m.blocks >= m.blocks-2*before {
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
