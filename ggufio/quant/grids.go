package quant

// Codebooks unpacked for decoding: the weights of each codeword as floats.
var (
	iq1Grid    = unpack8(iq1Codes[:], iq1Levels[:])
	iq2xxsGrid = unpack8(iq2xxsCodes[:], iq2xxsLevels[:])
	iq2xsGrid  = unpack8(iq2xsCodes[:], iq2xsLevels[:])
	iq2sGrid   = unpack8(iq2sCodes[:], iq2sLevels[:])
	iq3xxsGrid = unpack4(iq3xxsCodes[:], iq3xxsLevels[:])
	iq3sGrid   = unpack4(iq3sCodes[:], iq3sLevels[:])
)

// evenSigns completes seven sign bits: the eighth makes the number of minuses
// even, so that it need not be stored.
var evenSigns = func() (t [128]uint8) {
	for i := range t {
		parity := 0
		for b := i; b != 0; b >>= 1 {
			parity ^= b & 1
		}
		t[i] = uint8(i | parity<<7)
	}
	return t
}()

func unpack8(codes []uint16, levels []int8) [][8]float32 {
	grid := make([][8]float32, len(codes))
	for i, c := range codes {
		for j := range 8 {
			grid[i][j] = float32(levels[c>>(2*j)&3])
		}
	}
	return grid
}

func unpack4(codes []uint16, levels []int8) [][4]float32 {
	grid := make([][4]float32, len(codes))
	for i, c := range codes {
		for j := range 4 {
			grid[i][j] = float32(levels[c>>(3*j)&7])
		}
	}
	return grid
}

// groups is what a super-block says of each of its 32 groups of eight weights.
type groups struct {
	code  [64]uint16  // one codeword of eight weights, or two of four
	sign  [32]uint32  // in the low bits; a set bit is a minus
	scale [32]float32 // of the codeword
	shift [32]float32 // added to the codeword first
}

// expand8Go writes scale × codeword, negative where a sign is set. The sign
// goes to the scale, so that it survives a NaN.
func expand8Go(dst *[superWeights]float32, grid [][8]float32, g *groups) {
	for i := range g.scale {
		y, c := dst[8*i:8*i+8], &grid[g.code[i]]
		s, signs := [2]float32{g.scale[i], -g.scale[i]}, g.sign[i]
		for j := range y {
			y[j] = s[signs>>j&1] * c[j]
		}
	}
}

// expand44Go is expand8Go for codewords of four weights.
func expand44Go(dst *[superWeights]float32, grid [][4]float32, g *groups) {
	for i := range g.code {
		y, c := dst[4*i:4*i+4], &grid[g.code[i]]
		s, signs := [2]float32{g.scale[i/2], -g.scale[i/2]}, g.sign[i/2]>>(i&1*4)
		y[0] = s[signs&1] * c[0]
		y[1] = s[signs>>1&1] * c[1]
		y[2] = s[signs>>2&1] * c[2]
		y[3] = s[signs>>3&1] * c[3]
	}
}

// expandShiftedGo writes scale × (codeword + shift); the sum is exact.
func expandShiftedGo(dst *[superWeights]float32, grid [][8]float32, g *groups) {
	for i := range g.scale {
		y, c := dst[8*i:8*i+8], &grid[g.code[i]]
		scale, shift := g.scale[i], g.shift[i]
		for j := range y {
			y[j] = scale * (c[j] + shift)
		}
	}
}
