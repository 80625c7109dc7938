package quant

import "slices"

// A codebook is the codewords of an IQ type, arranged for search. A codeword
// is cut into two halves. The cost of a codeword is the sum of its halves'
// costs, of which there are few: 81 where a half is four weights of three
// levels, 64 where it is two weights of eight. So the search finds the cheapest
// second half among those that may follow a first half, for every first half.
type codebook struct {
	dims   int       // weights per codeword
	level  []float32 // what a weight of a codeword may be
	halves int       // different halves
	// list holds for each first half that occurs: laneBytes × the half, the
	// number of its second halves filled up to a multiple of four by repetition,
	// and laneBytes × each of those.
	list  []uint16
	place []int      // where the n-th first half begins in list
	id    []uint16   // the codeword of each place in list
	word  [][8]uint8 // levels of each codeword
}

var (
	iq1Book    = newCodebook(iq1Codes[:], iq1Levels[:], 8)
	iq2xxsBook = newCodebook(iq2xxsCodes[:], iq2xxsLevels[:], 8)
	iq2xsBook  = newCodebook(iq2xsCodes[:], iq2xsLevels[:], 8)
	iq2sBook   = newCodebook(iq2sCodes[:], iq2sLevels[:], 8)
	iq3xxsBook = newCodebook(iq3xxsCodes[:], iq3xxsLevels[:], 4)
	iq3sBook   = newCodebook(iq3sCodes[:], iq3sLevels[:], 4)
)

func newCodebook(codes []uint16, levels []int8, dims int) *codebook {
	n := len(levels)
	b := &codebook{dims: dims, halves: 1, word: make([][8]uint8, len(codes))}
	for _, l := range levels {
		b.level = append(b.level, float32(l))
	}
	for range dims / 2 {
		b.halves *= n
	}
	bits := 16 / dims
	if dims == 4 {
		bits = 3
	}
	follow := make([][]uint16, b.halves)
	for i, c := range codes {
		for j := range dims {
			b.word[i][j] = uint8(c >> (j * bits) & (1<<bits - 1))
		}
		first := b.half(b.word[i][:dims/2])
		follow[first] = append(follow[first], uint16(i))
	}
	// Shorter lists come first: a loop whose count changes seldom is predicted.
	order := make([]int, 0, len(follow))
	for first, ids := range follow {
		if len(ids) > 0 {
			order = append(order, first)
		}
	}
	slices.SortStableFunc(order, func(i, j int) int { return (len(follow[i])+3)/4 - (len(follow[j])+3)/4 })
	for _, first := range order {
		ids := follow[first]
		for len(ids)%4 != 0 {
			ids = append(ids, ids[len(ids)-1])
		}
		b.place = append(b.place, len(b.list))
		b.list = append(b.list, uint16(laneBytes*first), uint16(len(ids)))
		b.id = append(b.id, 0, 0)
		for _, id := range ids {
			second := b.half(b.word[id][dims/2 : dims])
			b.list = append(b.list, uint16(laneBytes*second))
			b.id = append(b.id, id)
		}
	}
	return b
}

// half numbers the levels of half a codeword.
func (b *codebook) half(levels []uint8) int {
	h := 0
	for i := len(levels) - 1; i >= 0; i-- {
		h = h*len(b.level) + int(levels[i])
	}
	return h
}

// A searcher finds the cheapest codewords of eight groups at a time.
type searcher struct {
	book    *codebook
	c, cOdd [32]lanes // cost of each weight at each level; with its sign flipped
	p, pOdd [36]lanes // of pairs of weights; with one sign flipped
	lo, hi  [81]lanes // of halves
	loOdd   [81]lanes
	hiOdd   [81]lanes
	best    lanes    // lowest cost of a codeword
	bestOdd lanes    // with one sign flipped
	rank    [8]int32 // which first half has it
	rankOdd [8]int32
}

// tables computes the costs of half codewords, scaled by scale, for groups x
// with importances w: a lanes for each weight of a group.
func (s *searcher) tables(x, w []lanes, scale *lanes) {
	distances(s.c[:], x, w, scale, s.book.level)
	if s.book.dims == 4 {
		sums(s.lo[:64], s.c[0:8], s.c[8:16])
		sums(s.hi[:64], s.c[16:24], s.c[24:32])
		return
	}
	for k := range 4 {
		sums(s.p[9*k:9*k+9], s.c[6*k:6*k+3], s.c[6*k+3:6*k+6])
	}
	sums(s.lo[:], s.p[0:9], s.p[9:18])
	sums(s.hi[:], s.p[18:27], s.p[27:36])
}

// tablesOdd adds the costs with one sign flipped. flipped is x with all signs
// changed; where it is x itself no sign is flipped.
func (s *searcher) tablesOdd(flipped, w []lanes, scale *lanes) {
	distances(s.cOdd[:], flipped, w, scale, s.book.level)
	if s.book.dims == 4 {
		oddSums(s.loOdd[:64], s.c[0:8], s.cOdd[0:8], s.c[8:16], s.cOdd[8:16])
		oddSums(s.hiOdd[:64], s.c[16:24], s.cOdd[16:24], s.c[24:32], s.cOdd[24:32])
		return
	}
	for k := range 4 {
		oddSums(s.pOdd[9*k:9*k+9], s.c[6*k:6*k+3], s.cOdd[6*k:6*k+3], s.c[6*k+3:6*k+6], s.cOdd[6*k+3:6*k+6])
	}
	oddSums(s.loOdd[:], s.p[0:9], s.pOdd[0:9], s.p[9:18], s.pOdd[9:18])
	oddSums(s.hiOdd[:], s.p[18:27], s.pOdd[18:27], s.p[27:36], s.pOdd[27:36])
}

func (s *searcher) scan() { scan(&s.best, &s.rank, s.lo[:], s.hi[:], s.book.list) }

func (s *searcher) scanOdd() {
	scanOdd(&s.bestOdd, &s.rankOdd, s.lo[:], s.loOdd[:], s.hi[:], s.hiOdd[:], s.book.list)
}

// codeword returns the codeword that the last scan, or scanOdd, found in a
// lane: the first of its cost.
func (s *searcher) codeword(lane int, odd bool) uint16 {
	rank, best := s.rank[lane], s.best[lane]
	if odd {
		rank, best = s.rankOdd[lane], s.bestOdd[lane]
	}
	at := s.book.place[rank]
	first, n := s.book.list[at]/laneBytes, int(s.book.list[at+1])
	seconds, ids := s.book.list[at+2:at+2+n], s.book.id[at+2:at+2+n]
	lo, loOdd := s.lo[first][lane], s.loOdd[first][lane]
	for k, h := range seconds {
		c := s.hi[h/laneBytes][lane]
		if odd {
			c = min(c+loOdd, s.hiOdd[h/laneBytes][lane]+lo)
		} else {
			c += lo
		}
		if c == best {
			return ids[k]
		}
	}
	return ids[0] // not reached: the cost is one of these
}
