package quant

import (
	"math"
	"sync"
)

// A shellBook is the codebook of an IQ type of magnitudes, arranged for
// GGML's way of searching it. A group's weights are first rounded to levels,
// each by itself. If these levels are no codeword, the codewords at the least
// distances from them, in levels and whatever the importance, are
// compared. The search is not exhaustive, and what it misses is part of the
// error that a file has: with importances of very unequal size, a third of it.
//
// A word packs a codeword's levels, two bits each where it has eight weights and
// three where it has four.
type shellBook struct {
	dims   int // weights per codeword
	levels int // per weight; level l stands for 2l+1
	// entry holds for each group of levels, the first one counting least,
	// where its list begins, in batches of eight words, times 256; whether it is
	// a codeword; and how many batches there are.
	entry []uint32
	words []uint16 // filled up to whole batches by repetition of the first
	code  []uint16 // the codeword's number, by word
}

const (
	batchWords    = 8
	entryWord     = 0x80 // a codeword
	entryBatches  = 0x7f
	entryPlaceBit = 8
)

// newShellBook arranges the codewords for lists of the given number of shells:
// distances that occur.
func newShellBook(codes []uint16, levels, dims, shells int) *shellBook {
	b := &shellBook{dims: dims, levels: levels}
	points := 1
	for range dims {
		points *= levels
	}
	b.entry, b.code = make([]uint32, points), make([]uint16, 1<<(dims*b.bits()))
	for i, c := range codes {
		b.code[c] = uint16(i)
	}
	// A distance is that of the first half of the dimensions and of the second.
	first, second := b.distances(codes, 0), b.distances(codes, dims/2)
	distance, shell := make([]uint16, len(codes)), make([]uint16, len(codes)+1)
	for p := range b.entry {
		low, high := first[p%len(first)], second[p/len(first)]
		next := uint16(math.MaxUint16)
		for i, d := range low {
			d += high[i]
			distance[i] = d
			next = min(next, d)
		}
		begin := len(b.words)
		for s := range shells {
			if s > 0 {
				// What is not above wraps round and is never the least.
				above, farther := next+1, uint16(math.MaxUint16)
				for _, d := range distance {
					farther = min(farther, d-above)
				}
				if next = above + farther; next < above {
					break
				}
			}
			n := 0
			for i, d := range distance {
				shell[n] = codes[i]
				if d == next {
					n++
				}
			}
			b.words = append(b.words, shell[:n]...)
			if next == 0 {
				b.entry[p] = entryWord
				break
			}
		}
		for len(b.words)%batchWords != 0 {
			b.words = append(b.words, b.words[begin])
		}
		if len(b.words)-begin > batchWords*entryBatches {
			panic("quant: a list of codewords is too long")
		}
		b.entry[p] |= uint32(begin/batchWords)<<entryPlaceBit | uint32((len(b.words)-begin)/batchWords)
	}
	return b
}

// distances lists how far each codeword is from each point in half of the
// dimensions: from the given one on.
func (b *shellBook) distances(codes []uint16, from int) [][]uint16 {
	points := 1
	for range b.dims / 2 {
		points *= b.levels
	}
	out := make([][]uint16, points)
	for p := range out {
		out[p] = make([]uint16, len(codes))
		for j, rest := from, p; j < from+b.dims/2; j, rest = j+1, rest/b.levels {
			for i, c := range codes {
				t := int(c)>>(j*b.bits())&(1<<b.bits()-1) - rest%b.levels
				out[p][i] += uint16(t * t)
			}
		}
	}
	return out
}

// bits is the size of a level in a word.
func (b *shellBook) bits() int {
	if b.dims == 4 {
		return 3
	}
	return 2
}

// Making a book takes milliseconds, so it waits until one is needed.
var (
	iq2xxsShells = sync.OnceValue(func() *shellBook { return newShellBook(iq2xxsCodes[:], len(iq2xxsLevels), 8, 2) })
	iq2xsShells  = sync.OnceValue(func() *shellBook { return newShellBook(iq2xsCodes[:], len(iq2xsLevels), 8, 2) })
	iq2sShells   = sync.OnceValue(func() *shellBook { return newShellBook(iq2sCodes[:], len(iq2sLevels), 8, 1) })
	iq3xxsShells = sync.OnceValue(func() *shellBook { return newShellBook(iq3xxsCodes[:], len(iq3xxsLevels), 4, 2) })
	iq3sShells   = sync.OnceValue(func() *shellBook { return newShellBook(iq3sCodes[:], len(iq3sLevels), 4, 3) })
)

// A shellSearch is a sub-block's search at one scale: of octets of eight
// weights, each one group or two.
type shellSearch struct {
	// In: magnitudes, importances, and the square roots of these, with which
	// codewords are compared. The assembly knows where the fields are.
	x, w, pick [32]float32

	// Out: the word and the list of each group, and the sums of w x q and w q²
	// over the octets, weight by weight of an octet.
	word   [8]uint16
	entry  [8]uint32
	qx, qq lanes
}

// searchGo searches n octets. Levels are rounded with inverse, and codewords
// compared at scale; of equal ones, the first place in a batch wins, then the
// first batch.
func (s *shellSearch) searchGo(b *shellBook, n int, inverse, scale float32) {
	s.qx, s.qq = lanes{}, lanes{}
	dims, levels, highest, bits := b.dims, b.levels, float32(b.levels-1), b.bits()
	var scaled [8]float32
	for l := range levels {
		scaled[l] = float32(scale * float32(2*l+1))
	}
	for k := range n * 8 / dims {
		begin := k * dims
		x, w, pick := s.x[begin:][:dims], s.w[begin:][:dims], s.pick[begin:][:dims]
		p, power := 0, 1
		for _, v := range x {
			p += power * int(roundClamp(float32(float32(v*inverse)-1)*0.5, 0, highest))
			power *= levels
		}
		entry := b.entry[p]
		words := b.words[batchWords*(entry>>entryPlaceBit):][:batchWords*(entry&entryBatches)]
		word := words[0]
		if entry&entryWord == 0 {
			var cost shellCosts
			for j, v := range x {
				row := &cost[j%8]
				for l, level := range scaled[:levels] {
					t := level - v
					row[l] = float32(float32(t*t) * pick[j])
				}
			}
			if dims == 8 {
				word = cost.cheapest8(words)
			} else {
				word = cost.cheapest4(words)
			}
		}
		s.word[k], s.entry[k] = word, entry
		qx, qq := s.qx[begin%8:][:dims], s.qq[begin%8:][:dims]
		for j, v := range x {
			q := float32(2*(word&(1<<bits-1)) + 1)
			word >>= bits
			wq := w[j] * q
			qx[j] += float32(wq * v)
			qq[j] += float32(wq * q)
		}
	}
}

// A shellCosts is what each weight of a group costs at each level.
type shellCosts [8][8]float32

// cheapest8 returns the cheapest word of eight weights. Costs are not negative,
// so their bits compare as they do; the place of a word, below them, decides
// between equal ones, and integers are compared without a branch.
func (c *shellCosts) cheapest8(words []uint16) uint16 {
	least := uint64(math.MaxUint64)
	for i, v := range words {
		sum := c[0][v&3] + c[1][v>>2&3] + c[2][v>>4&3] + c[3][v>>6&3] + c[4][v>>8&3] + c[5][v>>10&3] + c[6][v>>12&3] + c[7][v>>14]
		least = min(least, wordKey(sum, i, v))
	}
	return uint16(least)
}

// cheapest4 is cheapest8 for words of four weights.
func (c *shellCosts) cheapest4(words []uint16) uint16 {
	least := uint64(math.MaxUint64)
	for i, v := range words {
		sum := c[0][v&7] + c[1][v>>3&7] + c[2][v>>6&7] + c[3][v>>9&7]
		least = min(least, wordKey(sum, i, v))
	}
	return uint16(least)
}

// wordKey orders words by cost, then place in a batch, then batch.
func wordKey(cost float32, i int, word uint16) uint64 {
	at := uint64(i)
	return uint64(math.Float32bits(cost))<<32 | at%batchWords<<24 | at/batchWords<<16 | uint64(word)
}
