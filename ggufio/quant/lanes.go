package quant

import "math"

// A lanes holds one number for each of eight groups that are searched together.
type lanes [8]float32

const (
	laneBytes = 32
	maxCost   = 3e38
)

// The functions of this file do the arithmetic of a codebook search, in Go;
// lanes_amd64.s does the same with vectors and gives the same bits. All costs
// are finite and not negative, so the order of two equal ones is all that a
// minimum could leave open, and the first is taken.

// distancesGo writes w[j] (x[j] − s × level)² to dst[len(levels) j + l].
func distancesGo(dst, x, w []lanes, s *lanes, levels []float32) {
	for l, level := range levels {
		var scaled lanes
		for i := range scaled {
			scaled[i] = s[i] * level
		}
		for j := range x {
			d := &dst[len(levels)*j+l]
			for i := range d {
				t := x[j][i] - scaled[i]
				d[i] = w[j][i] * float32(t*t)
			}
		}
	}
}

// sumsGo writes dst[a + len(p) b] = p[a] + q[b].
func sumsGo(dst, p, q []lanes) {
	for b := range q {
		row := dst[len(p)*b:][:len(p)]
		for a := range row {
			for i := range row[a] {
				row[a][i] = p[a][i] + q[b][i]
			}
		}
	}
}

// scanGo finds, in each lane, the lowest cost of a codeword, lo + hi, and the
// first half that has it, by its rank in the book. Rounding keeps order, so a
// first half that would cost too much with the cheapest second half of all is
// passed over without a look at those that may follow it, and most are.
func scanGo(best *lanes, rank *[8]int32, lo, hi []lanes, book *codebook) {
	for i := range best {
		least, low := hi[0][i], 0
		for h := range hi {
			least = min(least, hi[h][i])
		}
		for n, first := range book.first {
			if lo[first][i] < lo[book.first[low]][i] {
				low = n
			}
		}
		// Of equal costs the first counts, so this one, found out of order, is a bound and no result.
		bound := lo[book.first[low]][i] + book.cheapestSecond(low, hi, i)
		best[i] = math.Float32frombits(math.Float32bits(bound) + 1)
		for n, first := range book.first {
			if lo[first][i]+least < best[i] {
				if c := lo[first][i] + book.cheapestSecond(n, hi, i); c < best[i] {
					best[i], rank[i] = c, int32(n)
				}
			}
		}
	}
}

// cheapestSecond returns the lowest cost in a lane of the second halves that follow
// the n-th first half. Costs are not negative, so their bits compare as they do,
// and integers do without a branch.
func (b *codebook) cheapestSecond(n int, hi []lanes, lane int) float32 {
	at := b.place[n]
	least := uint32(math.MaxUint32)
	for _, h := range b.list[at+2 : at+2+int(b.list[at+1])] {
		least = min(least, math.Float32bits(hi[h/laneBytes][lane]))
	}
	return math.Float32frombits(least)
}

// sum adds the lanes, the first to the last.
func (l *lanes) sum() (s float32) {
	for _, v := range l {
		s += v
	}
	return s
}
