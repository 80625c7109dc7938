package quant

// NVFP4: 64 weights in four sub-blocks of 16. Four scale bytes, unsigned E4M3
// floats, come first; then eight bytes per sub-block, the low nibbles its first
// eight weights. weight = scale × E2M1 value.
const nvfp4Bytes = 36

// nvfp4Scales holds the scale of each byte, halved, to go with fp4Doubled. The
// top bit is ignored; 0x7f, but not 0xff, stands for NaN in E4M3 and reads as 0.
var nvfp4Scales = func() (t [256]float32) {
	for i := range t {
		exponent, mantissa := i>>3&15, float32(i&7)
		if exponent == 0 {
			t[i] = mantissa * 0x1p-10
			continue
		}
		t[i] = (8 + mantissa) * 0x1p-11 * float32(uint32(1)<<exponent)
	}
	t[0x7f] = 0
	return t
}()

// fp4Doubled holds twice the value of each E2M1 nibble; −0 reads as 0.
var fp4Doubled = [16]float32{0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12}

func decodeNVFP4(dst []float32, src []byte) {
	for len(dst) >= 64 && len(src) >= nvfp4Bytes {
		for sub := range 4 {
			scale := nvfp4Scales[src[sub]]
			q, y := src[4+8*sub:12+8*sub], dst[16*sub:16*sub+16]
			for i, b := range q {
				y[i] = scale * fp4Doubled[b&15]
				y[i+8] = scale * fp4Doubled[b>>4]
			}
		}
		dst, src = dst[64:], src[nvfp4Bytes:]
	}
}
