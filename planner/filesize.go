package planner

import (
	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/planner/llamaquantize"
)

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
