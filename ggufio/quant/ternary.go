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
	for len(dst) >= superWeights && len(src) >= tq1_0Bytes {
		d := HalfToFloat(binary.LittleEndian.Uint16(src[52:]))
		expandTQ1((*[superWeights]float32)(dst), (*[tq1_0Bytes]byte)(src), d)
		dst, src = dst[superWeights:], src[tq1_0Bytes:]
	}
}

func expandTQ1Go(dst *[superWeights]float32, src *[tq1_0Bytes]byte, d float32) {
	values := levels(d)
	q, y := src[:52], dst[:]
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
}

func decodeTQ2_0(dst []float32, src []byte) {
	for len(dst) >= superWeights && len(src) >= tq2_0Bytes {
		d := HalfToFloat(binary.LittleEndian.Uint16(src[64:]))
		expandTQ2((*[superWeights]float32)(dst), (*[tq2_0Bytes]byte)(src), d)
		dst, src = dst[superWeights:], src[tq2_0Bytes:]
	}
}

func expandTQ2Go(dst *[superWeights]float32, src *[tq2_0Bytes]byte, d float32) {
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
}

// levels returns d × (−1, 0, 1, 2), by multiplication: d may be NaN.
func levels(d float32) (v [4]float32) {
	for i := range v {
		v[i] = d * float32(i-1)
	}
	return v
}

// A ternaryEncoder encodes TQ1_0 or TQ2_0.
type ternaryEncoder struct {
	bytes int
	pack  func(dst []byte, digits *[superWeights]uint8)
	digit [superWeights]uint8
}

func newTQ1_0Encoder() rowEncoder { return &ternaryEncoder{bytes: tq1_0Bytes, pack: packTQ1_0} }
func newTQ2_0Encoder() rowEncoder { return &ternaryEncoder{bytes: tq2_0Bytes, pack: packTQ2_0} }

// encodeRow follows the rule of GGML's encoders, which search nothing and use
// no importance: d is the largest magnitude. These types are for models that
// were trained with ternary weights.
func (e *ternaryEncoder) encodeRow(dst []byte, row, _ []float32) int {
	for block := 0; len(row) >= superWeights; block++ {
		x := row[:superWeights]
		half, inverse, ok := ruledScale(maxMagnitude(x))
		if !ok {
			return block
		}
		out := dst[:e.bytes]
		levelBytes(e.digit[:], x, inverse, -1, 1)
		e.pack(out, &e.digit)
		binary.LittleEndian.PutUint16(out[e.bytes-2:], half)
		row, dst = row[superWeights:], dst[e.bytes:]
	}
	return -1
}

// packTQ2_0 takes eight bytes at a time.
func packTQ2_0(dst []byte, digits *[superWeights]uint8) {
	for half := range 2 {
		q := digits[128*half : 128*half+128]
		for i := 0; i < 32; i += 8 {
			v := binary.LittleEndian.Uint64(q[i:]) |
				binary.LittleEndian.Uint64(q[32+i:])<<2 |
				binary.LittleEndian.Uint64(q[64+i:])<<4 |
				binary.LittleEndian.Uint64(q[96+i:])<<6
			binary.LittleEndian.PutUint64(dst[32*half+i:], v)
		}
	}
}

// tq1Fractions holds the byte of each number of five ternary digits.
var tq1Fractions = func() (t [243]uint8) {
	for i := range t {
		t[i] = uint8((i*256 + 242) / 243)
	}
	return t
}()

func packTQ1_0(dst []byte, digits *[superWeights]uint8) {
	q := digits[:]
	for _, part := range tq1Parts {
		for i := range part.bytes {
			v := 0
			for digit := range 5 {
				v *= 3
				if digit < part.digits {
					v += int(q[digit*part.bytes+i])
				}
			}
			dst[i] = tq1Fractions[v]
		}
		dst, q = dst[part.bytes:], q[part.bytes*part.digits:]
	}
}
