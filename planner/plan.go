package planner

import (
	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/planner/frequency"
	"github.com/ggufplan/ggufplan/planner/manifest"
)

// A Plan says what every tensor of a model becomes, and why.
type Plan struct {
	Problem  *Problem
	Base     string       // Policy.Base as llama-quantize names it
	Tensors  []TensorPlan // parallel to Problem.Model.Tensors
	Layers   []LayerPlan  // MoE layers, ascending
	Totals   Totals
	Findings []Finding // by code, then in the model's order

	// Run is the memory of the run that was asked about; nil where none was.
	Run *RunMemory

	// Budget records the budget policy's problem and how well it was solved;
	// nil under the frequency policy.
	Budget *manifest.Budget

	// Prediction says what the damage of a plan without a budget is predicted
	// from; nil where none is.
	Prediction *manifest.Prediction
}

// A TensorPlan is the decision for one tensor.
type TensorPlan struct {
	Tensor    *ggufio.Tensor
	Type      frequency.Type // of the fused plan, after shape fallback
	SizeBytes uint64         // in Type
	Reason    string

	// ExpertTypes is the split plan: what each expert held by the tensor gets,
	// after shape fallback. It is nil for a tensor that is not a routed expert's.
	ExpertTypes    []frequency.Type
	SplitSizeBytes uint64 // of the split plan; SizeBytes where ExpertTypes is nil

	// Sensitivity is what the budget policy took the tensor to matter, and
	// SensitivityFrom where it has that from; "" where all tensors are alike.
	Sensitivity     float64
	SensitivityFrom string

	// StepUp is the larger type that saves most damage per byte, StepDown the
	// smaller one that costs least, both of the fused plan; nil for none.
	StepUp, StepDown *manifest.Step
}

// A LayerPlan is one MoE layer's experts. Pointers are nil where a number is
// unknown or the policy does not use it.
type LayerPlan struct {
	Layer         int
	HasStatistics bool     // false: no entry, or traffic that sums to 0
	Tokens        *uint64  // through the layer
	Activations   *uint64  // sum of counts
	Deff          *float64 // design effect of the counts
	Thresholds    *frequency.Thresholds
	Experts       []ExpertPlan
}

// An ExpertPlan is what is known and decided about one expert of one layer.
type ExpertPlan struct {
	Count    *uint64
	Share    *float64 // of the layer's activations
	Relative *float64 // count as a fraction of the scope's largest
	Tier     *frequency.Tier
	Type     *frequency.Type // as the policy gave it, before shape fallback; nil where projections differ
	Flag     string          // how far the count can be trusted; "" where unknown
}

// Totals are sums over a plan's tensors and layers.
type Totals struct {
	Parameters   uint64
	SourceBytes  uint64
	PlannedBytes uint64
	SplitBytes   uint64
	Experts      ExpertTotals
	Tiers        []TierTotal // hot, warm, cold; empty under the budget policy

	// FileBytes is the size of the file that llama-quantize writes when it
	// carries out the fused plan as export spells it.
	FileBytes uint64

	// SplitFileBytes is the size of the file that apply writes of the split
	// plan.
	SplitFileBytes uint64

	// Damage and SplitDamage are what both plans are predicted to lose; nil where
	// that is not known.
	Damage, SplitDamage *float64

	// SplitRatio is how many times the split plan's predicted damage a fused
	// plan has: under the budget policy the fused plan, else the best of the
	// tiers' types within the split plan's bytes. Nil where that is not known.
	SplitRatio *float64

	// What the plans' files can be expected to show; nil without a probe that
	// says so.
	PredictedKLD, SplitPredictedKLD *manifest.PredictedKLD

	Baselines []Baseline
}

// ExpertTotals are the bytes of the routed experts alone.
type ExpertTotals struct {
	Parameters, SourceBytes, PlannedBytes, SplitBytes uint64
}

// A TierTotal sums the experts of one tier over all layers.
type TierTotal struct {
	Tier            frequency.Tier
	Experts         uint64
	ActivationShare *float64 // of all activations; nil where counts are only an order
	SplitBytes      uint64
}

// A Finding is something a reviewer should know, phrased for a person and
// coded for a program.
type Finding struct {
	Code    string
	Subject string // "blk.3", an input's name, or a tensor's
	Message string
}
