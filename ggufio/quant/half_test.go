package quant

import (
	"math"
	"testing"
)

func TestHalfToFloat(t *testing.T) {
	for bits, want := range map[uint16]float32{0: 0, 1: 0x1p-24, 0x3ff: 1023 * 0x1p-24, 0x400: 0x1p-14, 0x3555: 1365 * 0x1p-12, 0x7bff: 65504, 0x7c00: float32(math.Inf(1)), 0xfc00: float32(math.Inf(-1)), 0xc000: -2} {
		if got := HalfToFloat(bits); got != want {
			t.Errorf("%#04x: %v, want %v", bits, got, want)
		}
	}
	if !math.IsNaN(float64(HalfToFloat(0x7e01))) {
		t.Error("0x7e01 is not NaN")
	}
}
