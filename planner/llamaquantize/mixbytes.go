package llamaquantize

import (
	"errors"
	"fmt"
	"math"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/quant"
)

// TensorBytes returns the bytes of a tensor in a type: those it has where that
// is the source's own.
func TensorBytes(t *ggufio.Tensor, typ quant.Type) (uint64, error) {
	if typ == t.Type {
		return t.SizeBytes, nil
	}
	f, ok := quant.Lookup(typ)
	if !ok {
		return 0, fmt.Errorf("%v is not in the type table", typ)
	}
	return f.Layout.EncodedBytes(t.Rows(), t.Shape[0])
}

// MixBytes returns the bytes of the model's tensors as llama-quantize makes
// them of a file type, with no rule and no importance matrix.
func MixBytes(m *ggufio.Model, ft FileType) (uint64, error) {
	_, size, err := NewMixer(m).Mix(ft)
	return size, err
}

// Mix is [Mix] and [MixBytes] of the mixer's model.
func (x *Mixer) Mix(ft FileType) (types []quant.Type, sizeBytes uint64, err error) {
	if types, err = x.types(ft, false); err != nil {
		return nil, 0, err
	}
	for i, t := range types {
		size, err := TensorBytes(&x.model.Tensors[i], t)
		if err != nil {
			return nil, 0, fmt.Errorf("tensor %s: %w", x.model.Tensors[i].Name, err)
		}
		if sizeBytes += size; sizeBytes > math.MaxInt64 || size > math.MaxInt64 {
			return nil, 0, errors.New("the tensors together are larger than 2^63-1 bytes")
		}
	}
	return types, sizeBytes, nil
}
