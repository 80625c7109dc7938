package planner

import (
	"fmt"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner/llamaquantize"
	"github.com/ggufplan/ggufplan/stats"
)

// FileTypeBytes returns the size of the file that llama-quantize makes of a
// model as a file type, with the importance matrix of the statistics if they
// are one.
func FileTypeBytes(m *ggufio.Model, ev *stats.Evidence, ft llamaquantize.FileType) (uint64, error) {
	types, err := llamaquantize.MixWith(m, ft, llamaquantize.HasImatrix(ev))
	if err != nil {
		return 0, err
	}
	return fileBytes(m, ev, types)
}

func fileBytes(m *ggufio.Model, ev *stats.Evidence, types []quant.Type) (uint64, error) {
	var a adder
	total := llamaquantize.HeaderBytes(m, ev)
	for i, t := range types {
		size, err := llamaquantize.TensorBytes(&m.Tensors[i], t)
		if err != nil {
			return 0, fmt.Errorf("tensor %s: %w", m.Tensors[i].Name, err)
		}
		a.add(&total, ggufio.Padded(size, llamaquantize.OutputAlignment))
	}
	if a.over {
		return 0, errTooLarge
	}
	return total, nil
}

// FileBytes returns the size of the file that carrying out the plan writes:
// what HeaderBytes counts, and every tensor with its padding.
func (p *Plan) FileBytes() (uint64, error) {
	var a adder
	size := llamaquantize.HeaderBytes(p.Problem.Model, p.Problem.Evidence)
	for i := range p.Tensors {
		a.add(&size, ggufio.Padded(p.Tensors[i].SizeBytes, llamaquantize.OutputAlignment))
	}
	if a.over {
		return 0, errTooLarge
	}
	return size, nil
}
