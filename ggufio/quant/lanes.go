package quant

// A lanes holds one number for each of eight groups that are searched together.
type lanes [8]float32

// The functions of this file do the arithmetic of a codebook search. All costs
// are finite and not negative.

// distances writes w (x − s × level)² for each level, lane by lane.
func distances(dst []lanes, x, w, s *lanes, levels []float32) {
	for l, level := range levels {
		for i := range dst[l] {
			t := x[i] - float32(s[i]*level)
			dst[l][i] = w[i] * float32(t*t)
		}
	}
}

// sums writes dst[a + len(p) b] = p[a] + q[b].
func sums(dst, p, q []lanes) {
	for b := range q {
		row := dst[len(p)*b:][:len(p)]
		for a := range row {
			for i := range row[a] {
				row[a][i] = p[a][i] + q[b][i]
			}
		}
	}
}

// oddSums writes dst[a + len(p) b] = min(pOdd[a] + q[b], p[a] + qOdd[b]): the
// cheapest way to have one flipped sign in either of two parts.
func oddSums(dst, p, pOdd, q, qOdd []lanes) {
	for b := range q {
		row := dst[len(p)*b:][:len(p)]
		for a := range row {
			for i := range row[a] {
				row[a][i] = min(pOdd[a][i]+q[b][i], p[a][i]+qOdd[b][i])
			}
		}
	}
}

// scan finds the lowest cost of a codeword in each lane, lo + hi, and the place
// of its half in the book's list; of equal ones the first.
func scan(best *lanes, place *[8]int32, lo, hi []lanes, list []uint16) {
	for i := range best {
		best[i] = maxCost
	}
	for n := int32(0); len(list) > 0; n++ {
		first, his := list[0]/laneBytes, list[2:2+list[1]]
		var m lanes
		m = hi[his[0]/laneBytes]
		for _, h := range his[1:] {
			v := &hi[h/laneBytes]
			for i := range m {
				if v[i] < m[i] {
					m[i] = v[i]
				}
			}
		}
		for i := range m {
			if c := lo[first][i] + m[i]; c < best[i] {
				best[i], place[i] = c, n
			}
		}
		list = list[2+len(his):]
	}
}

// scanOdd is scan where one half has a flipped sign.
func scanOdd(best *lanes, place *[8]int32, lo, loOdd, hi, hiOdd []lanes, list []uint16) {
	for i := range best {
		best[i] = maxCost
	}
	for n := int32(0); len(list) > 0; n++ {
		first, his := list[0]/laneBytes, list[2:2+list[1]]
		m, o := hi[his[0]/laneBytes], hiOdd[his[0]/laneBytes]
		for _, h := range his[1:] {
			v, u := &hi[h/laneBytes], &hiOdd[h/laneBytes]
			for i := range m {
				if v[i] < m[i] {
					m[i] = v[i]
				}
				if u[i] < o[i] {
					o[i] = u[i]
				}
			}
		}
		for i := range m {
			c := min(loOdd[first][i]+m[i], lo[first][i]+o[i])
			if c < best[i] {
				best[i], place[i] = c, n
			}
		}
		list = list[2+len(his):]
	}
}

const (
	laneBytes = 32
	maxCost   = 3e38
)
