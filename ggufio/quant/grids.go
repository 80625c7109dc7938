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

// scaled8 writes eight weights: scale × codeword, negative where a bit of
// signs is set. The sign goes to the scale, so that it survives a NaN.
func scaled8(y []float32, scale float32, g *[8]float32, signs uint8) {
	s := [2]float32{scale, -scale}
	_ = y[7]
	y[0] = s[signs&1] * g[0]
	y[1] = s[signs>>1&1] * g[1]
	y[2] = s[signs>>2&1] * g[2]
	y[3] = s[signs>>3&1] * g[3]
	y[4] = s[signs>>4&1] * g[4]
	y[5] = s[signs>>5&1] * g[5]
	y[6] = s[signs>>6&1] * g[6]
	y[7] = s[signs>>7] * g[7]
}

// scaled44 writes eight weights from two codewords of four.
func scaled44(y []float32, scale float32, g, h *[4]float32, signs uint8) {
	s := [2]float32{scale, -scale}
	_ = y[7]
	y[0] = s[signs&1] * g[0]
	y[1] = s[signs>>1&1] * g[1]
	y[2] = s[signs>>2&1] * g[2]
	y[3] = s[signs>>3&1] * g[3]
	y[4] = s[signs>>4&1] * h[0]
	y[5] = s[signs>>5&1] * h[1]
	y[6] = s[signs>>6&1] * h[2]
	y[7] = s[signs>>7] * h[3]
}
