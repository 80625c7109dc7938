package quant_test

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio/quant"
)

// writable lists every type that the package writes.
func writable() []quant.Format {
	var list []quant.Format
	for t := quant.F32; t <= quant.Q2_0; t++ {
		if f, ok := quant.Lookup(t); ok && quant.CanEncode(t) {
			list = append(list, f)
		}
	}
	return list
}

// eachWritable runs a test for every type, with an encoder and without, and
// with column weights of 512 columns.
func eachWritable(t *testing.T, test func(t *testing.T, f quant.Format, enc *quant.Encoder, weights []float32)) {
	for _, f := range writable() {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			enc, err := quant.NewEncoder(f.Type)
			if err != nil {
				t.Fatal(err)
			}
			if !quant.EncodeNeedsWeights(f.Type) {
				test(t, f, enc, nil)
			}
			r := rand.New(rand.NewPCG(5, uint64(f.Type)))
			weights := make([]float32, propertyColumns)
			for i := range weights {
				weights[i] = float32(math.Exp(r.NormFloat64()))
			}
			test(t, f, enc, weights)
		})
	}
}

const propertyColumns = 512

func propertyRow(seed uint64) []float32 {
	r := rand.New(rand.NewPCG(seed, 6))
	row := make([]float32, propertyColumns)
	for i := range row {
		row[i] = float32(0.1 * r.NormFloat64())
	}
	return row
}

// roundTrip encodes a row and decodes it.
func roundTrip(t *testing.T, f quant.Format, enc *quant.Encoder, row, weights []float32) (wire []byte, decoded []float32) {
	t.Helper()
	size, err := f.Layout.EncodedBytes(1, uint64(len(row)))
	if err != nil {
		t.Fatal(err)
	}
	wire, decoded = make([]byte, size), make([]float32, len(row))
	if err := enc.EncodeRow(wire, row, weights); err != nil {
		t.Fatal(err)
	}
	if err := quant.Decode(f.Type, decoded, wire); err != nil {
		t.Fatal(err)
	}
	return wire, decoded
}

func squaredError(x, y []float32) float64 {
	sum := 0.0
	for i := range x {
		d := float64(x[i]) - float64(y[i])
		sum += d * d
	}
	return sum
}

func TestZeroIsExact(t *testing.T) {
	eachWritable(t, func(t *testing.T, f quant.Format, enc *quant.Encoder, weights []float32) {
		row := make([]float32, propertyColumns)
		row[3] = float32(math.Copysign(0, -1))
		if _, got := roundTrip(t, f, enc, row, weights); squaredError(row, got) != 0 {
			t.Errorf("zeros come back as %v", got)
		}
	})
}

func TestScalingByTwo(t *testing.T) {
	eachWritable(t, func(t *testing.T, f quant.Format, enc *quant.Encoder, weights []float32) {
		row, twice := propertyRow(1), make([]float32, propertyColumns)
		for i, v := range row {
			twice[i] = 2 * v
		}
		_, a := roundTrip(t, f, enc, row, weights)
		_, b := roundTrip(t, f, enc, twice, weights)
		ea, eb := squaredError(row, a), squaredError(twice, b)
		// Scales of a few types lie below the normal range of binary16, where
		// rounding is not relative.
		if eb < 4*0.98*ea || eb > 4*1.02*ea {
			t.Errorf("weights twice as large leave %v times the squared error, want 4", eb/ea)
		}
	})
}

// TestBlocksStandAlone wants the second block of a row encoded as it would be
// as the first. The types that weigh errors by the row's mean square see it.
func TestBlocksStandAlone(t *testing.T) {
	eachWritable(t, func(t *testing.T, f quant.Format, enc *quant.Encoder, weights []float32) {
		n := max(int(f.Layout.WeightsPerBlock), 1)
		row := propertyRow(2)
		swap := func(x []float32) []float32 {
			if x == nil {
				return nil
			}
			y := append([]float32(nil), x...)
			copy(y, x[n:2*n])
			copy(y[n:2*n], x[:n])
			return y
		}
		wire, _ := roundTrip(t, f, enc, row, weights)
		swapped, _ := roundTrip(t, f, enc, swap(row), swap(weights))
		size := int(f.Layout.BytesPerBlock)
		if !bytes.Equal(wire[:size], swapped[size:2*size]) || !bytes.Equal(wire[size:2*size], swapped[:size]) {
			t.Error("swapping two blocks does not swap their encodings")
		}
	})
}

// TestScratchIsClean wants a row's bytes not to depend on the row before.
func TestScratchIsClean(t *testing.T) {
	eachWritable(t, func(t *testing.T, f quant.Format, enc *quant.Encoder, weights []float32) {
		want, _ := roundTrip(t, f, enc, propertyRow(3), weights)
		roundTrip(t, f, enc, make([]float32, propertyColumns), weights)
		roundTrip(t, f, enc, propertyRow(4), weights)
		if got, _ := roundTrip(t, f, enc, propertyRow(3), weights); !bytes.Equal(got, want) {
			t.Error("the same row has other bytes after other rows")
		}
	})
}

// TestLargeRows wants rows near the limits of float32 held or refused.
func TestLargeRows(t *testing.T) {
	eachWritable(t, func(t *testing.T, f quant.Format, enc *quant.Encoder, weights []float32) {
		for _, scale := range []float64{1e4, 1e6, 1e9, 1e19, 1e30, 3e38} {
			row := propertyRow(7)
			// The largest of the second block, far from the others.
			at := max(int(f.Layout.WeightsPerBlock), 1) + 5
			row[at] = float32(scale)
			size, err := f.Layout.EncodedBytes(1, propertyColumns)
			if err != nil {
				t.Fatal(err)
			}
			wire, got := make([]byte, size), make([]float32, propertyColumns)
			if err := enc.EncodeRow(wire, row, weights); err != nil {
				var where *quant.EncodeError
				if !errors.As(err, &where) || !errors.Is(err, quant.ErrScaleOverflow) {
					t.Fatalf("at %g: %v", scale, err)
				}
				if where.Block != at/int(f.Layout.WeightsPerBlock) || where.Column != at {
					t.Errorf("at %g: %v, want column %d", scale, err, at)
				}
				if scale < 65504 && f.Type != quant.NVFP4 { // whose scales end at 448
					t.Errorf("at %g: %v", scale, err)
				}
				continue
			}
			if err := quant.Decode(f.Type, got, wire); err != nil {
				t.Fatal(err)
			}
			for i, v := range got {
				if v != v || math.Abs(float64(v)) > math.MaxFloat32 {
					t.Fatalf("at %g: weight %d comes back as %v", scale, i, v)
				}
			}
			limit := 1.0
			if f.Type == quant.IQ2_XXS {
				limit = 1.5 // GGML's scale for it, which ours follows, can be far off
			}
			if e, norm := squaredError(row, got), squaredError(row, make([]float32, len(row))); !(e < limit*norm) {
				t.Errorf("at %g: the squared error is %g of the norm", scale, e/norm)
			}
		}
	})
}

// TestTinyRows wants subnormal rows to come back no worse than as zeros.
func TestTinyRows(t *testing.T) {
	eachWritable(t, func(t *testing.T, f quant.Format, enc *quant.Encoder, weights []float32) {
		for _, scale := range []float64{1e-6, 1e-8, 1e-12, 1e-30, 1e-39, 1e-44} {
			row := propertyRow(8)
			for i := range row {
				row[i] = float32(float64(row[i]) * scale)
			}
			_, got := roundTrip(t, f, enc, row, weights)
			if e, norm := squaredError(row, got), squaredError(row, make([]float32, len(row))); e > 1.05*norm {
				t.Errorf("at %g the squared error is %g of the norm", scale, e/norm)
			}
		}
	})
}

// TestWeightsAtTheirLimits wants any finite weights to give a sane block.
func TestWeightsAtTheirLimits(t *testing.T) {
	eachWritable(t, func(t *testing.T, f quant.Format, enc *quant.Encoder, weights []float32) {
		if weights == nil {
			return
		}
		row := propertyRow(9)
		norm := squaredError(row, make([]float32, len(row)))
		for _, w := range []float32{0, 1e-45, 1e-38, math.MaxFloat32} {
			even := make([]float32, len(row))
			for i := range even {
				even[i] = w
			}
			if _, got := roundTrip(t, f, enc, row, even); !(squaredError(row, got) < norm) {
				t.Errorf("all columns at %g: the squared error is %g of the norm", w, squaredError(row, got)/norm)
			}
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add(uint32(quant.Q4_K), bytes.Repeat([]byte{0x7c}, 144))
	f.Add(uint32(quant.IQ2_XS), bytes.Repeat([]byte{0xff}, 74))
	f.Add(uint32(quant.MXFP4), bytes.Repeat([]byte{0xff}, 17))
	f.Fuzz(func(t *testing.T, typ uint32, src []byte) {
		list := decodable()
		format := list[int(typ%uint32(len(list)))]
		blocks := len(src) / int(format.Layout.BytesPerBlock)
		dst := make([]float32, blocks*int(format.Layout.WeightsPerBlock))
		if err := quant.Decode(format.Type, dst, src[:blocks*int(format.Layout.BytesPerBlock)]); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzEncode(f *testing.F) {
	f.Add(uint32(quant.Q4_K), uint32(1), []byte{0, 1, 2, 3})
	f.Add(uint32(quant.Q6_K), uint32(0), []byte{0x7f, 0x7f, 0xff, 0xff})
	// The first row of some types waits for tables, which instrumented and on a
	// busy machine takes longer than the ten seconds of one execution.
	for _, format := range writable() {
		enc, err := quant.NewEncoder(format.Type)
		if err != nil {
			f.Fatal(err)
		}
		wire := make([]byte, 256/format.Layout.WeightsPerBlock*format.Layout.BytesPerBlock)
		if err := enc.EncodeRow(wire, propertyRow(1)[:256], slices.Repeat([]float32{1}, 256)); err != nil {
			f.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, typ, weighted uint32, bits []byte) {
		list := writable()
		format := list[int(typ%uint32(len(list)))]
		// The bytes are the weights' signs, exponents and first fractions, then
		// the column weights'.
		row, weights := make([]float32, 256), make([]float32, 256)
		at := func(i int) uint32 {
			if 2*i+1 >= len(bits) {
				return 0
			}
			return uint32(bits[2*i])<<24 | uint32(bits[2*i+1])<<16
		}
		for i := range row {
			row[i] = math.Float32frombits(at(i))
			weights[i] = math.Float32frombits(at(256+i) &^ (1 << 31))
		}
		if weighted%2 == 0 && !quant.EncodeNeedsWeights(format.Type) {
			weights = nil
		}
		enc, err := quant.NewEncoder(format.Type)
		if err != nil {
			t.Fatal(err)
		}
		wire := make([]byte, 256/format.Layout.WeightsPerBlock*format.Layout.BytesPerBlock)
		if err := enc.EncodeRow(wire, row, weights); err != nil {
			var where *quant.EncodeError
			if !errors.As(err, &where) {
				t.Fatalf("%v is no EncodeError", err)
			}
			return
		}
		got := make([]float32, 256)
		if err := quant.Decode(format.Type, got, wire); err != nil {
			t.Fatal(err)
		}
		for i, v := range got {
			if v != v || math.Abs(float64(v)) > math.MaxFloat32 {
				t.Fatalf("%v: weight %d, %v, comes back as %v", format.Type, i, row[i], v)
			}
		}
	})
}
