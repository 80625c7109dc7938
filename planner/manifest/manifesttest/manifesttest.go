// Package manifesttest has manifests for the tests of packages that spell or
// show plans.
package manifesttest

import (
	"strings"

	"github.com/ggufplan/ggufplan/planner/manifest"
)

// TwoExperts returns a plan of one layer with two experts, for a test to change.
// It holds types and shapes, no sizes.
func TwoExperts() *manifest.Manifest {
	layer := 0
	tensor := func(name, role string, shape []uint64, source, planned string) manifest.Tensor {
		t := manifest.Tensor{Name: name, Role: role, Shape: shape, SourceType: source, PlannedType: planned, Reason: "a reason"}
		if strings.HasPrefix(name, "blk.") {
			t.Layer = &layer
		}
		return t
	}
	m := manifest.New()
	m.Model.Name = "a model"
	m.Model.Files = []manifest.File{{Name: "model-f16.gguf"}}
	m.Policy.Base = "Q4_K_M"
	m.Tensors = []manifest.Tensor{
		tensor("token_embd.weight", "embedding", []uint64{256, 64}, "F16", "Q4_K"),
		tensor("blk.0.attn_norm.weight", "norm", []uint64{256}, "F32", "F32"),
		tensor("blk.0.ffn_gate_inp.weight", "router", []uint64{256, 2}, "F32", "F32"),
		tensor("blk.0.ffn_up_exps.weight", "expert_up", []uint64{256, 256, 2}, "F16", "Q3_K"),
		tensor("blk.0.ffn_down_exps.weight", "expert_down", []uint64{256, 256, 2}, "F16", "IQ4_XS"),
	}
	m.Tensors[3].ExpertTypes = []string{"Q4_K", "Q3_K"}
	m.Tensors[4].ExpertTypes = []string{"IQ4_XS", "IQ4_XS"}
	return m
}
