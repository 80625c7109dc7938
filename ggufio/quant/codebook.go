package quant

import (
	"slices"
	"sync"
)

// A codebook is the codewords of the one-bit IQ types, eight weights of three
// levels, arranged for an exhaustive search. A codeword is cut into two halves.
// The cost of a codeword is the sum of its halves' costs, of which there are
// few: 81, a half being four weights of three levels. So the search finds the
// cheapest second half among those that may follow a first half, for every first
// half.
type codebook struct {
	level []float32 // what a weight of a codeword may be
	// list holds for each first half that occurs: laneBytes × the half, the
	// number of its second halves filled up to a multiple of four by repetition,
	// and laneBytes × each of those.
	list  []uint16
	first []uint8    // the n-th first half
	place []int      // where it begins in list
	id    []uint16   // the codeword of each place in list
	word  [][8]uint8 // levels of each codeword
}

var iq1Book = sync.OnceValue(func() *codebook { return newCodebook(iq1Codes[:], iq1Levels[:]) })

const (
	bookDims = 8  // weights per codeword
	halves   = 81 // different halves of three levels
)

func newCodebook(codes []uint16, levels []int8) *codebook {
	b := &codebook{word: make([][8]uint8, len(codes))}
	for _, l := range levels {
		b.level = append(b.level, float32(l))
	}
	follow := make([][]uint16, halves)
	for i, c := range codes {
		for j := range bookDims {
			b.word[i][j] = uint8(c >> (2 * j) & 3)
		}
		first := b.half(b.word[i][:bookDims/2])
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
		b.first = append(b.first, uint8(first))
		b.place = append(b.place, len(b.list))
		b.list = append(b.list, uint16(laneBytes*first), uint16(len(ids)))
		b.id = append(b.id, 0, 0)
		for _, id := range ids {
			second := b.half(b.word[id][bookDims/2:])
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
	book   *codebook
	c      [24]lanes     // cost of each weight at each level
	p      [36]lanes     // of pairs of weights
	lo, hi [halves]lanes // of halves
	best   lanes         // lowest cost of a codeword
	rank   [8]int32      // which first half has it
}

// tables computes the costs of half codewords, scaled by scale, for groups x
// with importances w: a lanes for each weight of a group.
func (s *searcher) tables(x, w []lanes, scale *lanes) {
	distances(s.c[:], x, w, scale, s.book.level)
	for k := range 4 {
		sums(s.p[9*k:9*k+9], s.c[6*k:6*k+3], s.c[6*k+3:6*k+6])
	}
	sums(s.lo[:], s.p[0:9], s.p[9:18])
	sums(s.hi[:], s.p[18:27], s.p[27:36])
}

func (s *searcher) scan() { scan(&s.best, &s.rank, s.lo[:], s.hi[:], s.book) }

// codeword returns the codeword that the last scan found in a lane: the first
// of its cost.
func (s *searcher) codeword(lane int) uint16 {
	rank, best := s.rank[lane], s.best[lane]
	at := s.book.place[rank]
	first, n := s.book.list[at]/laneBytes, int(s.book.list[at+1])
	seconds, ids := s.book.list[at+2:at+2+n], s.book.id[at+2:at+2+n]
	lo := s.lo[first][lane]
	for k, h := range seconds {
		if lo+s.hi[h/laneBytes][lane] == best {
			return ids[k]
		}
	}
	return ids[0] // not reached: the cost is one of these
}
