package quant

import (
	"fmt"
	"math/bits"
)

// A BlockLayout says how an encoding packs the weights of one row. Its fields
// are integers, so sizes never pass through floating point and a budget is the
// same number on every machine.
type BlockLayout struct {
	WeightsPerBlock uint64 // consecutive weights of a row that share their scales
	BytesPerBlock   uint64 // encoded size of those weights, scales included
	RowHeaderBytes  uint64 // bytes before the blocks of each row; 0 for all of GGML's own types
}

// BitsPerWeight is for people to read; it leaves row headers out. Use
// [BlockLayout.EncodedBytes] to compute a size.
func (l BlockLayout) BitsPerWeight() float64 {
	return float64(8*l.BytesPerBlock) / float64(l.WeightsPerBlock)
}

// EncodedBytes returns the size of a tensor of rows × rowWeights weights.
//
// Blocks do not span rows, so rowWeights must be a multiple of WeightsPerBlock;
// EncodedBytes reports an error otherwise, rather than round to a size that
// no encoder produces. A size over 2^62 is an error too.
func (l BlockLayout) EncodedBytes(rows, rowWeights uint64) (uint64, error) {
	if l.WeightsPerBlock == 0 {
		return 0, fmt.Errorf("a block of 0 weights has no size")
	}
	if rowWeights%l.WeightsPerBlock != 0 {
		return 0, fmt.Errorf("row of %d weights does not divide into blocks of %d", rowWeights, l.WeightsPerBlock)
	}
	overRow, rowBytes := bits.Mul64(rowWeights/l.WeightsPerBlock, l.BytesPerBlock)
	rowBytes, carry := bits.Add64(rowBytes, l.RowHeaderBytes, 0)
	over, size := bits.Mul64(rows, rowBytes)
	if overRow != 0 || carry != 0 || over != 0 || size > 1<<62 {
		return 0, fmt.Errorf("%d rows of %d weights overflow the size limit of 2^62 bytes", rows, rowWeights)
	}
	return size, nil
}
