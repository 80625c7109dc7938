package quant

import "encoding/binary"

// The ternary types: weight = d × (−1, 0 or 1), d a binary16 behind the digits.
const (
	// TQ1_0: five ternary digits to a byte, the byte being the fraction of 256
	// that they are of 3⁵, rounded up, so that multiplying by three brings out
	// one digit after another. 32 bytes hold the first 160 weights, 16 bytes the
	// next 80, both digit by digit; four bytes of four digits hold the rest.
	tq1_0Bytes = 54
	// TQ2_0: two bits per weight; each 32 bytes hold 128 weights, the low bits
	// of all bytes first.
	tq2_0Bytes = 66
)

var powersOf3 = [6]uint8{1, 3, 9, 27, 81, 243}

// A tq1Part is a run of TQ1_0's bytes that are read digit by digit.
type tq1Part struct{ bytes, digits int }

var tq1Parts = [...]tq1Part{{32, 5}, {16, 5}, {4, 4}}

func decodeTQ1_0(dst []float32, src []byte) {
	for len(dst) >= 256 && len(src) >= tq1_0Bytes {
		d := halfToFloat(binary.LittleEndian.Uint16(src[52:]))
		values := levels(d)
		q, y := src[:52], dst[:256]
		for _, part := range tq1Parts {
			for digit := range part.digits {
				p := powersOf3[digit]
				for i, b := range q[:part.bytes] {
					y[i] = values[uint16(b*p)*3>>8]
				}
				y = y[part.bytes:]
			}
			q = q[part.bytes:]
		}
		dst, src = dst[256:], src[tq1_0Bytes:]
	}
}

func decodeTQ2_0(dst []float32, src []byte) {
	for len(dst) >= 256 && len(src) >= tq2_0Bytes {
		d := halfToFloat(binary.LittleEndian.Uint16(src[64:]))
		values := levels(d)
		for half := range 2 {
			q, y := src[32*half:32*half+32], dst[128*half:128*half+128]
			for i, b := range q {
				y[i] = values[b&3]
				y[i+32] = values[b>>2&3]
				y[i+64] = values[b>>4&3]
				y[i+96] = values[b>>6]
			}
		}
		dst, src = dst[256:], src[tq2_0Bytes:]
	}
}

// levels returns d × (−1, 0, 1, 2), by multiplication: d may be NaN.
func levels(d float32) (v [4]float32) {
	for i := range v {
		v[i] = d * float32(i-1)
	}
	return v
}
