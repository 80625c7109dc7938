package quant

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
// first half that has it, by its rank in the book's list.
func scanGo(best *lanes, rank *[8]int32, lo, hi []lanes, list []uint16) {
	*best = unscanned
	for n := int32(0); len(list) > 0; n++ {
		first, his := list[0]/laneBytes, list[2:2+list[1]]
		m := hi[his[0]/laneBytes]
		for _, h := range his[1:] {
			lower(&m, &hi[h/laneBytes])
		}
		for i := range m {
			if c := lo[first][i] + m[i]; c < best[i] {
				best[i], rank[i] = c, n
			}
		}
		list = list[2+len(his):]
	}
}

var unscanned = lanes{maxCost, maxCost, maxCost, maxCost, maxCost, maxCost, maxCost, maxCost}

// lower lowers m to v where v is less.
func lower(m, v *lanes) {
	for i := range m {
		if v[i] < m[i] {
			m[i] = v[i]
		}
	}
}

// sum adds the lanes, the first to the last.
func (l *lanes) sum() (s float32) {
	for _, v := range l {
		s += v
	}
	return s
}
