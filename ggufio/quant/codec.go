package quant

import (
	"errors"
	"fmt"
	"math"
)

// A codec is what the package can do with one type.
type codec struct {
	// decode writes the weights of whole blocks. The caller has checked that
	// src holds exactly the blocks of len(dst) weights.
	decode func(dst []float32, src []byte)

	// newEncoder makes the encoder of one goroutine; nil where the package
	// cannot write the type.
	newEncoder func() rowEncoder

	// needsWeights says that encoding without weights is refused.
	needsWeights bool
}

// A rowEncoder holds the scratch memory of one goroutine's encoding.
type rowEncoder interface {
	// encodeRow writes the blocks of a row of finite weights; weights, where
	// not nil, are finite, not negative and as many as row. It returns the
	// index of the first block that the type cannot hold, or -1.
	encodeRow(dst []byte, row, weights []float32) int
}

// encodeFunc is an encoder without scratch memory.
type encodeFunc func(dst []byte, row, weights []float32) int

func (f encodeFunc) encodeRow(dst []byte, row, weights []float32) int { return f(dst, row, weights) }

// stateless makes the constructor of an encoder without scratch memory.
func stateless(f encodeFunc) func() rowEncoder { return func() rowEncoder { return f } }

// codecs is indexed by type; types past its end, and rows without decode, are
// sized but not decoded.
var codecs = [...]codec{
	// One weight per block.
	F32:  {decode: decodeF32, newEncoder: stateless(encodeF32)},
	F16:  {decode: decodeF16, newEncoder: stateless(encodeF16)},
	BF16: {decode: decodeBF16, newEncoder: stateless(encodeBF16)},

	// Blocks of 32.
	Q8_0: {decode: decodeQ8_0, newEncoder: stateless(encodeQ8_0)},

	Q4_0: {decode: decodeQ4_0, newEncoder: newQ4_0},
	Q4_1: {decode: decodeQ4_1, newEncoder: newQ4_1},
	Q5_0: {decode: decodeQ5_0, newEncoder: newQ5_0},
	Q5_1: {decode: decodeQ5_1, newEncoder: newQ5_1},

	// Super-blocks of 256.
	Q2_K: {decode: decodeQ2_K, newEncoder: newAffine(&affineQ2K)},
	Q3_K: {decode: decodeQ3_K, newEncoder: newSymmetric(&symmetricQ3K)},
	Q4_K: {decode: decodeQ4_K, newEncoder: newAffine(&affineQ4K)},
	Q5_K: {decode: decodeQ5_K, newEncoder: newAffine(&affineQ5K)},
	Q6_K: {decode: decodeQ6_K, newEncoder: newSymmetric(&symmetricQ6K)},

	// Four bits with levels of their own.
	IQ4_NL: {decode: decodeIQ4_NL, newEncoder: newIQ4_NL},
	IQ4_XS: {decode: decodeIQ4_XS, newEncoder: newSymmetric(&symmetricIQ4XS)},
	MXFP4:  {decode: decodeMXFP4, newEncoder: newMXFP4},

	// Codebooks, ternary and the small types.
	IQ1_S:   {decode: decodeIQ1S, newEncoder: iq1sFormat.newEncoder, needsWeights: true},
	IQ1_M:   {decode: decodeIQ1M, newEncoder: iq1mFormat.newEncoder, needsWeights: true},
	IQ2_XXS: {decode: decodeIQ2XXS, newEncoder: iq2xxsFormat.newEncoder, needsWeights: true},
	IQ2_XS:  {decode: decodeIQ2XS, newEncoder: iq2xsFormat.newEncoder, needsWeights: true},
	IQ2_S:   {decode: decodeIQ2S, newEncoder: iq2sFormat.newEncoder, needsWeights: true},
	IQ3_XXS: {decode: decodeIQ3XXS, newEncoder: iq3xxsFormat.newEncoder, needsWeights: true},
	IQ3_S:   {decode: decodeIQ3S, newEncoder: iq3sFormat.newEncoder},
	TQ1_0:   {decode: decodeTQ1_0, newEncoder: newTQ1_0Encoder},
	TQ2_0:   {decode: decodeTQ2_0, newEncoder: newTQ2_0Encoder},
	NVFP4:   {decode: decodeNVFP4, newEncoder: stateless(encodeNVFP4)},
	Q1_0:    {decode: decodeQ1_0, newEncoder: stateless(encodeQ1_0)},
	Q2_0:    {decode: decodeQ2_0, newEncoder: newQ2_0Encoder},
}

func codecOf(t Type) codec {
	if uint64(t) < uint64(len(codecs)) {
		return codecs[t]
	}
	return codec{}
}

// CanDecode reports whether [Decode] knows the type.
func CanDecode(t Type) bool { return codecOf(t).decode != nil }

// CanEncode reports whether [NewEncoder] knows the type.
func CanEncode(t Type) bool { return codecOf(t).newEncoder != nil }

// EncodeNeedsWeights reports whether encoding to the type is refused without
// column weights: with so few bits, what to give up must be known.
func EncodeNeedsWeights(t Type) bool { return codecOf(t).needsWeights }

// Decode writes the weights that src encodes to dst.
//
// len(dst) must be whole blocks of t and src exactly their encoding, be it one
// row or many. The result has the bits that GGML's own conversion gives. Any
// bytes decode: a block whose scale is infinite or NaN gives such weights.
func Decode(t Type, dst []float32, src []byte) error {
	c := codecOf(t)
	if c.decode == nil {
		return fmt.Errorf("%v cannot be decoded", t)
	}
	if err := checkLengths(t, len(dst), len(src)); err != nil {
		return err
	}
	c.decode(dst, src)
	return nil
}

func checkLengths(t Type, weights, size int) error {
	want, err := byType[t].Layout.EncodedBytes(1, uint64(weights))
	if err != nil {
		return fmt.Errorf("%v: %w", t, err)
	}
	if uint64(size) != want {
		return fmt.Errorf("%v: %d weights take %d bytes, not %d", t, weights, want, size)
	}
	return nil
}

// An Encoder writes rows in one type. It holds scratch memory, so that
// encoding allocates nothing: use one per goroutine.
//
// Error is the squared error over the squared weights, both weighted by
// importance, on 48 rows of the experts of testdata/bytemoe-2x8 with its
// imatrix; wider models differ by little. Speed is that of encoding with
// importance, as a multiple of ggml_quantize_chunk's on one x86-64 core; both
// ways are in BenchmarkEncode and BenchmarkDecode, in turns with the library. The
// table is written by go test ./ggufio/quant -run DocTable -update.
//
// Without AVX2, with the build tag purego on the same core, K types run at 0.3
// (Q3_K, Q6_K) to 1.2 times the library's speed with AVX2, IQ4 at 2.9 and 4, IQ2
// and IQ3 at 0.8 to 1.5, legacy types at 0.5 to 1.3, IQ1_S and IQ1_M at 0.3. So it
// is on arm64, as far as its cores are like: there is no code for NEON.
//
//	type     bits    error     speed
//	Q4_0     4.5     0.0053    1.5
//	Q4_1     5       0.0032    4.4
//	Q5_0     5.5     0.0013    1.8
//	Q5_1     6       0.00073   4.5
//	Q8_0     8.5     2.7e-05   2
//	Q2_K     2.625   0.045     3.2
//	Q3_K     3.438   0.015     1.1
//	Q4_K     4.5     0.0033    4.8
//	Q5_K     5.5     0.00085   4.6
//	Q6_K     6.562   0.00021   1.5
//	IQ2_XXS  2.062   0.079     4.3
//	IQ2_XS   2.312   0.055     5.8
//	IQ3_XXS  3.062   0.018     3.2
//	IQ1_S    1.562   0.16      1.4
//	IQ4_NL   4.5     0.0042    4
//	IQ3_S    3.438   0.012     3.4
//	IQ2_S    2.562   0.043     2.4
//	IQ4_XS   4.25    0.0043    2.7
//	IQ1_M    1.75    0.12      1.4
//	TQ1_0    1.688   0.62      2.4
//	TQ2_0    2.062   0.62      7.8
//	MXFP4    4.25    0.014     4.7
//	NVFP4    4.5     0.0087    9.9
//	Q1_0     1.125   0.36      1.8
//	Q2_0     2.25    0.5       4.8
type Encoder struct {
	format       Format
	enc          rowEncoder
	needsWeights bool
}

// NewEncoder returns an encoder to the type.
func NewEncoder(t Type) (*Encoder, error) {
	c := codecOf(t)
	if c.newEncoder == nil {
		return nil, fmt.Errorf("%v cannot be encoded", t)
	}
	return &Encoder{byType[t], c.newEncoder(), c.needsWeights}, nil
}

// Type returns the type that the encoder writes.
func (e *Encoder) Type() Type { return e.format.Type }

var (
	// ErrNotFinite reports a weight or an importance that is NaN or infinite.
	ErrNotFinite = errors.New("not a finite number")
	// ErrNegativeWeight reports an importance below zero.
	ErrNegativeWeight = errors.New("importance weight is negative")
	// ErrScaleOverflow reports a finite weight too large for the type's scale.
	ErrScaleOverflow = errors.New("the type's scale cannot hold it")
	// ErrNeedsWeights reports a type that is not encoded without weights.
	ErrNeedsWeights = errors.New("needs importance weights (an imatrix)")
)

// An EncodeError says which weight of a row cannot be encoded.
type EncodeError struct {
	Type   Type
	Block  int     // index of the block in the row
	Column int     // index of the weight in the row
	Value  float32 // the weight, or the importance where that is at fault
	Err    error   // ErrNotFinite, ErrNegativeWeight or ErrScaleOverflow
}

func (e *EncodeError) Error() string {
	return fmt.Sprintf("%v: block %d, column %d: %v: %v", e.Type, e.Block, e.Column, e.Value, e.Err)
}

func (e *EncodeError) Unwrap() error { return e.Err }

// EncodeRow writes the encoding of row to dst.
//
// weights gives the importance of each column, such as the mean square of the
// activations that meet it; the encoder then seeks a small sum of
// weights[i] × (row[i] − decoded[i])². Most types let large weights count for
// somewhat more, as GGML's searches do, so that models encoded by either
// behave alike. Only ratios within a row matter. nil weighs all columns alike.
//
// row must be whole blocks, dst exactly their encoding, and weights nil or as
// long as row; row and weights must be finite, weights not negative. A row that
// the type cannot hold is an [*EncodeError], never a block of other values;
// dst is then undefined.
func (e *Encoder) EncodeRow(dst []byte, row, weights []float32) error {
	t := e.format.Type
	if err := checkLengths(t, len(row), len(dst)); err != nil {
		return err
	}
	if weights != nil && len(weights) != len(row) {
		return fmt.Errorf("%v: %d importance weights for a row of %d", t, len(weights), len(row))
	}
	if weights == nil && e.needsWeights {
		return fmt.Errorf("%v: %w", t, ErrNeedsWeights)
	}
	if !allBelow(row, 0x7fffffff, infBits) {
		return e.firstBad(row, func(v float32) error {
			if math.Float32bits(v)&0x7fffffff >= infBits {
				return ErrNotFinite
			}
			return nil
		})
	}
	// A negative weight, even −0, has the largest bits; −0 is let through below.
	if !allBelow(weights, 0xffffffff, infBits) {
		err := e.firstBad(weights, func(v float32) error {
			switch {
			case math.Float32bits(v)&0x7fffffff >= infBits:
				return ErrNotFinite
			case v < 0:
				return ErrNegativeWeight
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if bad := e.enc.encodeRow(dst, row, weights); bad >= 0 {
		return e.overflow(row, bad)
	}
	return nil
}

const infBits = 0x7f800000

// allBelow reports whether the masked bits of all values are below limit.
func allBelow(x []float32, mask, limit uint32) bool {
	return largestBits(x, mask) < limit
}

// firstBad returns the error of the first value that has one.
func (e *Encoder) firstBad(x []float32, why func(float32) error) error {
	for i, v := range x {
		if err := why(v); err != nil {
			return &EncodeError{e.format.Type, i / int(e.format.Layout.WeightsPerBlock), i, v, err}
		}
	}
	return nil
}

// overflow names the largest weight of a block, which its scale follows.
func (e *Encoder) overflow(row []float32, block int) error {
	n := int(e.format.Layout.WeightsPerBlock)
	worst := block * n
	for i := worst; i < block*n+n; i++ {
		if magnitude(row[i]) > magnitude(row[worst]) {
			worst = i
		}
	}
	return &EncodeError{e.format.Type, block, worst, row[worst], ErrScaleOverflow}
}

// magnitude is |x|.
func magnitude(x float32) float32 {
	return math.Float32frombits(math.Float32bits(x) & 0x7fffffff)
}
