package verify

import (
	"fmt"
	"slices"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/planner/manifest"
)

// Source reports how a model differs from the one that was planned: what
// carries a plan out starts from the very file.
func Source(plan *manifest.Manifest, model *ggufio.Model) error {
	planned := make([]ggufio.FileID, len(plan.Model.Files))
	for i, f := range plan.Model.Files {
		planned[i] = ggufio.FileID(f)
	}
	if err := ggufio.SameModel(planned, model.FileIDs()); err != nil {
		return fmt.Errorf("the plan is for %w", err)
	}
	if len(plan.Tensors) != len(model.Tensors) {
		return fmt.Errorf("the plan has %d tensors, the model %d", len(plan.Tensors), len(model.Tensors))
	}
	for i := range plan.Tensors {
		want, t := &plan.Tensors[i], &model.Tensors[i]
		if want.Name != t.Name || !slices.Equal(want.Shape, t.Shape) || want.SourceType != t.Type.String() {
			return fmt.Errorf("tensor %d of the plan is %s %s %v, the model's is %s %s %v", i, want.Name, want.SourceType, want.Shape, t.Name, t.Type, t.Shape)
		}
	}
	return nil
}
