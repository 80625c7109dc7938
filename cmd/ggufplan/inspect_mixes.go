package main

import (
	"cmp"
	"io"
	"slices"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/planner/llamaquantize"
	"github.com/ggufplan/ggufplan/planner/review"
)

// An inspectedMix is the whole model as one of llama-quantize's file types.
type inspectedMix struct {
	Name        string `json:"name"`
	TensorBytes uint64 `json:"tensor_bytes"`
}

// inspectMixes sizes the model as every file type, the smallest first. A file
// type that llama-quantize refuses for this model is left out.
func inspectMixes(m *ggufio.Model) []inspectedMix {
	mixes := []inspectedMix{}
	for _, ft := range llamaquantize.FileTypes() {
		if size, err := llamaquantize.MixBytes(m, ft); err == nil {
			mixes = append(mixes, inspectedMix{ft.Name, size})
		}
	}
	slices.SortStableFunc(mixes, func(a, b inspectedMix) int { return cmp.Compare(a.TensorBytes, b.TensorBytes) })
	return mixes
}

func (r *inspection) writeMixes(w io.Writer) {
	t := review.NewTable("file type", ">size", ">bits per weight", ">of this file's")
	for _, x := range r.FileTypes {
		t.Add(x.Name, review.Size(x.TensorBytes), review.BitsPerWeight(x.TensorBytes, r.Parameters), review.Percent(x.TensorBytes, r.TensorBytes))
	}
	t.Write(w, "")
}
