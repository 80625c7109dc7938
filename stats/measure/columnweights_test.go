package measure

import (
	"slices"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/quant"
)

// partColumns has the entries of its tensors: values per tensor and matrix,
// nil for a matrix without a count.
type partColumns map[string][][]float64

func (c partColumns) MeanSquares(tensor string, expert int, dst []float64) (bool, error) {
	if expert >= len(c[tensor]) || c[tensor][expert] == nil {
		return false, nil
	}
	copy(dst, c[tensor][expert])
	return true, nil
}

func (c partColumns) Complete(tensor string, columns, matrices uint64) bool {
	return uint64(len(c[tensor])) == matrices && len(c[tensor][0]) == int(columns)
}

func TestColumnWeights(t *testing.T) {
	columns := partColumns{
		"blk.0.ffn_up_exps.weight": {{1, 2}, nil},
		"blk.0.attn_k_b.weight":    {{1, 2}, {3, 4}, {5, 6}},
		"blk.1.attn_k_b.weight":    {{1, 2}},
	}
	experts := &ggufio.Tensor{Name: "blk.0.ffn_up_exps.weight", Type: quant.F16, Shape: []uint64{2, 5, 2}, Role: ggufio.RoleExpertUp, Expert: -1}
	heads := &ggufio.Tensor{Name: "blk.0.attn_k_b.weight", Type: quant.F16, Shape: []uint64{2, 4, 3}, Role: ggufio.RoleAttention, Expert: -1}
	fewer := &ggufio.Tensor{Name: "blk.1.attn_k_b.weight", Type: quant.F16, Shape: []uint64{2, 4, 3}, Role: ggufio.RoleAttention, Expert: -1}
	other := &ggufio.Tensor{Name: "blk.0.ffn_gate_exps.weight", Type: quant.F16, Shape: []uint64{2, 5, 2}, Role: ggufio.RoleExpertGate, Expert: -1}
	var w ColumnWeights
	for _, tt := range []struct {
		name     string
		tensor   *ggufio.Tensor
		slice    int
		measured bool
		row      uint64
		want     []float64
	}{
		{"an expert", experts, 0, true, 4, []float64{1, 2}},
		{"an expert that no token reached", experts, 1, false, 0, []float64{1, 1}},
		{"the last row of the first head", heads, 0, true, 3, []float64{1, 2}},
		{"the first row of the second head", heads, 0, true, 4, []float64{3, 4}},
		{"the last head", heads, 0, true, 11, []float64{5, 6}},
		{"an entry of fewer heads", fewer, 0, false, 0, nil},
		{"no entry", other, 0, false, 0, nil},
	} {
		measured, err := w.Read(columns, tt.tensor, tt.slice)
		if err != nil || measured != tt.measured {
			t.Errorf("%s: measured is %v, error %v", tt.name, measured, err)
		}
		if got := w.Of(w.Matrix(tt.row)); !slices.Equal(got, tt.want) {
			t.Errorf("%s: weights %v, want %v", tt.name, got, tt.want)
		}
	}
	if measured, err := w.Read(nil, experts, 0); measured || err != nil || w.Of(0) != nil {
		t.Error("without an imatrix there are weights")
	}
}
