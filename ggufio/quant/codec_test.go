package quant

import (
	"errors"
	"math"
	"strings"
	"testing"
)

func TestEncodeRowRefuses(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, tt := range []struct {
		name  string
		at    int     // column to spoil
		value float32 // with this
		weigh float32 // or its importance, where not 0, with this
		want  error
	}{
		{name: "NaN", at: 37, value: nan, want: ErrNotFinite},
		{name: "infinity", at: 63, value: -inf, want: ErrNotFinite},
		{name: "NaN importance", at: 5, weigh: nan, want: ErrNotFinite},
		{name: "infinite importance", at: 5, weigh: inf, want: ErrNotFinite},
		{name: "negative importance", at: 5, weigh: -1, want: ErrNegativeWeight},
	} {
		for _, f := range formats {
			if !CanEncode(f.Type) {
				continue
			}
			t.Run(tt.name+"/"+f.Name, func(t *testing.T) {
				n := 2 * max(64, int(f.Layout.WeightsPerBlock))
				row, weights := make([]float32, n), make([]float32, n)
				for i := range weights {
					row[i], weights[i] = 1, 1
				}
				if tt.weigh != 0 {
					weights[tt.at] = tt.weigh
				} else {
					row[tt.at] = tt.value
				}
				e, err := NewEncoder(f.Type)
				if err != nil {
					t.Fatal(err)
				}
				err = e.EncodeRow(make([]byte, encodedSize(t, f, n)), row, weights)
				var where *EncodeError
				if !errors.As(err, &where) || !errors.Is(err, tt.want) {
					t.Fatalf("EncodeRow: %v, want %v", err, tt.want)
				}
				if where.Column != tt.at || where.Block != tt.at/int(f.Layout.WeightsPerBlock) {
					t.Errorf("block %d, column %d, want column %d", where.Block, where.Column, tt.at)
				}
			})
		}
	}
}

func encodedSize(t testing.TB, f Format, weights int) int {
	t.Helper()
	n, err := f.Layout.EncodedBytes(1, uint64(weights))
	if err != nil {
		t.Fatal(err)
	}
	return int(n)
}

func TestLengths(t *testing.T) {
	for _, f := range formats {
		if !CanDecode(f.Type) {
			continue
		}
		block := int(f.Layout.WeightsPerBlock)
		for _, n := range []int{0, 31, 32, 33, 255, 256, 257} {
			whole := n%block == 0
			size := (n + block - 1) / block * int(f.Layout.BytesPerBlock)
			if err := Decode(f.Type, make([]float32, n), make([]byte, size)); (err == nil) != whole {
				t.Errorf("Decode %v of %d weights: %v", f.Type, n, err)
			}
			if err := Decode(f.Type, make([]float32, n), make([]byte, size+1)); err == nil {
				t.Errorf("Decode %v of %d weights takes a byte too many", f.Type, n)
			}
			if !CanEncode(f.Type) {
				continue
			}
			e, err := NewEncoder(f.Type)
			if err != nil {
				t.Fatal(err)
			}
			ones := make([]float32, n)
			for i := range ones {
				ones[i] = 1
			}
			if err := e.EncodeRow(make([]byte, size), ones, ones); (err == nil) != whole {
				t.Errorf("EncodeRow %v of %d weights: %v", f.Type, n, err)
			}
			if n == 0 {
				continue
			}
			if err := e.EncodeRow(make([]byte, size), ones, ones[1:]); err == nil {
				t.Errorf("EncodeRow %v takes %d importance weights for %d columns", f.Type, n-1, n)
			}
		}
	}
}

func TestUnknownTypes(t *testing.T) {
	for _, typ := range []Type{4, 5, 36, I32, 43, math.MaxUint32} {
		if CanDecode(typ) || CanEncode(typ) {
			t.Errorf("%v: decode %v, encode %v", typ, CanDecode(typ), CanEncode(typ))
		}
		if err := Decode(typ, nil, nil); err == nil || !strings.Contains(err.Error(), "cannot be decoded") {
			t.Errorf("Decode %v: %v", typ, err)
		}
		if _, err := NewEncoder(typ); err == nil || !strings.Contains(err.Error(), "cannot be encoded") {
			t.Errorf("NewEncoder %v: %v", typ, err)
		}
	}
}

func TestRowsAllocateNothing(t *testing.T) {
	for _, f := range formats {
		if !CanEncode(f.Type) {
			continue
		}
		row, weights := make([]float32, 2*superWeights), make([]float32, 2*superWeights)
		for i := range row {
			row[i], weights[i] = float32(i%37)-18.5, float32(1+i%5)
		}
		enc, err := NewEncoder(f.Type)
		if err != nil {
			t.Fatal(err)
		}
		wire := make([]byte, encodedSize(t, f, len(row)))
		dst := make([]float32, len(row))
		if n := testing.AllocsPerRun(5, func() {
			if err := enc.EncodeRow(wire, row, weights); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%v: EncodeRow allocates %v times", f.Type, n)
		}
		if n := testing.AllocsPerRun(5, func() {
			if err := Decode(f.Type, dst, wire); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%v: Decode allocates %v times", f.Type, n)
		}
	}
}
