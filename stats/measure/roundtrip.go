package measure

import (
	"fmt"
	"math"

	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/stats"
)

// A RowLoss is what encoding a row and decoding it again does to its weights
// w_i, with d_i the differences and m_i the column weights.
type RowLoss struct {
	WeightedError float64 // sum of m_i d_i^2
	WeightedNorm  float64 // sum of m_i w_i^2
	PlainError    float64 // sum of d_i^2
	PlainNorm     float64 // sum of w_i^2

	// WorstBlock is the block with the largest share of the weighted error:
	// its index in the row, its weighted error and its weighted norm.
	WorstBlock                 int
	WorstError, WorstBlockNorm float64
}

// A RoundTrip encodes rows in one type and decodes them again. It holds
// scratch memory, so that a row allocates nothing: use one per goroutine.
type RoundTrip struct {
	typ     quant.Type
	block   int
	enc     *quant.Encoder
	encoded []byte
	decoded []float32
	weights []float64 // m_i of the errors; nil for ones
	given   []float32 // m_i as the encoder is given them; nil for none
}

// NewRoundTrip returns a round trip through a type that can be encoded and
// decoded, without column weights.
func NewRoundTrip(t quant.Type) (*RoundTrip, error) {
	enc, err := quant.NewEncoder(t)
	if err != nil {
		return nil, err
	}
	if !quant.CanDecode(t) {
		return nil, fmt.Errorf("%v cannot be decoded", t)
	}
	f, _ := quant.Lookup(t)
	return &RoundTrip{typ: t, block: int(f.Layout.WeightsPerBlock), enc: enc}, nil
}

// SetWeights gives the column weights of the rows that follow: finite and not
// negative, one per column. The encoder is given them rounded to float32, as
// llama-quantize is; errors and norms use them as they are. nil takes them
// away: the encoder gets none and errors are plain.
//
// Only ratios matter to the encoder. Where float32 lacks the range for a
// weight, all are scaled by a power of two, and none that is positive becomes
// zero.
func (r *RoundTrip) SetWeights(weights []float64) {
	if weights == nil {
		r.weights, r.given = nil, nil
		return
	}
	r.weights, r.given = weights, EncoderWeights(r.given, weights)
}

// EncoderWeights returns column weights as encoders are given them, in dst
// where it is large enough: float32, as [RoundTrip.SetWeights] says.
func EncoderWeights(dst []float32, weights []float64) []float32 {
	dst = Sized(dst, uint64(len(weights)))
	exponent := weightExponent(weights)
	for i, w := range weights {
		if exponent != 0 && w > 0 {
			w = max(math.Ldexp(w, -exponent), math.SmallestNonzeroFloat32)
		}
		dst[i] = float32(w)
	}
	return dst
}

// weightExponent returns the power of two to divide weights by so that the
// largest lies between a half and one, or 0 where float32 holds them all as
// normal numbers.
func weightExponent(weights []float64) int {
	const leastNormal = 0x1p-126
	largest, outside := 0.0, false
	for _, w := range weights {
		largest = max(largest, w)
		outside = outside || w > math.MaxFloat32 || w > 0 && w < leastNormal
	}
	if !outside {
		return 0
	}
	_, exponent := math.Frexp(largest)
	return exponent
}

// Decoded returns the weights that the last row came back as, until the next
// row overwrites them.
func (r *RoundTrip) Decoded() []float32 { return r.decoded }

// Row encodes and decodes one row and returns its error. Sums run block by
// block from the left, so their bits depend on nothing but the row, the
// weights and the type. The error says which weight the type cannot hold.
func (r *RoundTrip) Row(row []float32) (RowLoss, error) {
	if r.weights != nil && len(r.weights) != len(row) {
		return RowLoss{}, fmt.Errorf("%v: %d weights for a row of %d", r.typ, len(r.weights), len(row))
	}
	if err := r.There(row, r.given); err != nil {
		return RowLoss{}, err
	}
	return r.compare(row), nil
}

// There encodes and decodes one row with column weights as encoders take them,
// instead of those that are set, and computes no error.
func (r *RoundTrip) There(row, given []float32) error {
	f, _ := quant.Lookup(r.typ)
	size, err := f.Layout.EncodedBytes(1, uint64(len(row)))
	if err != nil {
		return fmt.Errorf("%v: %w", r.typ, err)
	}
	r.encoded, r.decoded = Sized(r.encoded, size), Sized(r.decoded, uint64(len(row)))
	if err := r.enc.EncodeRow(r.encoded, row, given); err != nil {
		return err
	}
	return quant.Decode(r.typ, r.decoded, r.encoded)
}

func (r *RoundTrip) compare(row []float32) RowLoss {
	var weightedError, weightedNorm, plainError, plainNorm stats.Sum
	var out RowLoss
	for start := 0; start < len(row); start += r.block {
		end := min(start+r.block, len(row))
		var we, wn, pe, pn float64
		for i := start; i < end; i++ {
			w := float64(row[i])
			d := w - float64(r.decoded[i])
			dd, ww := float64(d*d), float64(w*w)
			pe += dd
			pn += ww
			if r.weights != nil {
				we += float64(r.weights[i] * dd)
				wn += float64(r.weights[i] * ww)
			}
		}
		if r.weights == nil {
			we, wn = pe, pn
		}
		weightedError.Add(we)
		weightedNorm.Add(wn)
		plainError.Add(pe)
		plainNorm.Add(pn)
		if start == 0 || we > out.WorstError {
			out.WorstBlock, out.WorstError, out.WorstBlockNorm = start/r.block, we, wn
		}
	}
	out.WeightedError, out.WeightedNorm = weightedError.Value(), weightedNorm.Value()
	out.PlainError, out.PlainNorm = plainError.Value(), plainNorm.Value()
	return out
}
