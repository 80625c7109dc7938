// Package manifest defines the record of a plan, as JSON.
//
// [Decode] reads one, [Encode] writes it in its one spelling, [Manifest.Check]
// says whether it agrees with itself, [Diff] what changed between two. [Schema]
// is the format as JSON Schema.
//
// # Units and axes
//
// Fields that end in _bytes are exact sizes. Other numbers are the shortest
// decimals that read back as the same float64. Shapes are in GGUF's order, the
// contiguous axis first and the experts' last. Unknown is null, never 0; a list
// is never null, save expert_types of a tensor that holds no routed expert.
//
// # Versions
//
// format_version is MAJOR.MINOR. A minor version adds fields and changes none:
// what a newer one added is dropped by an older reader, and an unknown major
// version is refused.
//
// # Untrusted input
//
// Decode refuses what it does not know, duplicates and contradictions, with a
// [*FieldError] that names the field; it never panics. Names in a manifest may
// hold any text that prints: escape them for where they go.
//
// # Scope
//
// The package needs the standard library alone, for other tools to import, and
// knows no models or types: planner.CheckManifest does.
package manifest

// A Manifest is a quantization plan for one model. Field order is the order
// of keys in the file.
type Manifest struct {
	FormatVersion string      `json:"format_version"`
	Generator     Generator   `json:"generator"`
	Target        Target      `json:"target"`
	Model         Model       `json:"model"`
	Statistics    *Statistics `json:"statistics"`
	Policy        Policy      `json:"policy"`
	Totals        Totals      `json:"totals"`
	Measured      *Measured   `json:"measured" since:"1"` // what running the planned file showed; null where nobody said
	Layers        []Layer     `json:"layers"`
	Tensors       []Tensor    `json:"tensors"`
	Findings      []Finding   `json:"findings"`
}

// A Generator names the program that wrote the manifest.
type Generator struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// A Target names the engine whose rules the plan follows.
type Target struct {
	Engine  string `json:"engine"`
	Version string `json:"version"`
}

// A Model identifies the planned model. Counts are of the source.
type Model struct {
	Name            string  `json:"name"`
	Architecture    string  `json:"architecture"`
	Files           []File  `json:"files"`
	TensorCount     uint64  `json:"tensor_count"`
	Parameters      uint64  `json:"parameters"`
	TensorBytes     uint64  `json:"tensor_bytes"`
	FileBytes       uint64  `json:"file_bytes"`
	BlockCount      uint64  `json:"block_count"`
	MoELayerCount   uint64  `json:"moe_layer_count"`
	ExpertCount     uint64  `json:"expert_count"`
	ExpertUsedCount *uint64 `json:"expert_used_count"` // the largest over layers; null where the model does not say
}

// A File is one file of the source model; HeaderSHA256 is over its bytes from
// 0 to the start of tensor data.
type File struct {
	Name         string `json:"name"`
	SizeBytes    uint64 `json:"size_bytes"`
	HeaderSHA256 string `json:"header_sha256"`
}

// Statistics says what the plan knew about traffic.
type Statistics struct {
	Inputs              []Input  `json:"inputs"`
	CountsKind          string   `json:"counts_kind"`
	Tokens              *uint64  `json:"tokens"`
	Activations         *uint64  `json:"activations"`
	Deff                *float64 `json:"deff"`
	LayersWithCounts    uint64   `json:"layers_with_counts"`
	LayersWithoutCounts []int    `json:"layers_without_counts"`
	UnseenExperts       uint64   `json:"unseen_experts"`
	ScarceExperts       uint64   `json:"scarce_experts"`
}

// An Input is one statistics file.
type Input struct {
	Name      string `json:"name"`
	Format    string `json:"format"`
	SizeBytes uint64 `json:"size_bytes"`
	SHA256    string `json:"sha256"`
}

// A Policy holds every choice that led to the plan. Fields that the named
// policy does not use are null.
type Policy struct {
	Name           string        `json:"name"`
	Preset         *string       `json:"preset"`
	TiersBy        *string       `json:"tiers_by"`
	Scope          *string       `json:"scope"`
	Fuse           *string       `json:"fuse"`
	HotPercentile  *float64      `json:"hot_percentile"`
	ColdPercentile *float64      `json:"cold_percentile"`
	HotShare       *float64      `json:"hot_share" since:"1"`  // of tiers by traffic, which have no percentiles
	ColdShare      *float64      `json:"cold_share" since:"1"` // the same
	HotType        string        `json:"hot_type"`
	WarmType       *string       `json:"warm_type"`
	ColdType       *string       `json:"cold_type"`
	Base           string        `json:"base"`
	MaxTiers       *int          `json:"max_tiers" since:"1"` // types among a tensor's experts in the split plan at most; 0 for no limit
	Pins           []Pin         `json:"pins"`
	DefinedTypes   []DefinedType `json:"defined_types"`
	Budget         *Budget       `json:"budget"`
	Prediction     *Prediction   `json:"prediction" since:"1"` // what the damage of a plan without a budget is predicted from; null where none is
	Run            *Run          `json:"run" since:"1"`        // null where no run was asked about
}

// A Pin gives every tensor whose name matches Pattern (RE2, unanchored) a type.
type Pin struct {
	Pattern string `json:"pattern"`
	Type    string `json:"type"`
}

// A DefinedType is a type that GGML does not have, declared by its block.
type DefinedType struct {
	Name            string `json:"name"`
	WeightsPerBlock uint64 `json:"weights_per_block"`
	BytesPerBlock   uint64 `json:"bytes_per_block"`
}

// A Budget holds the budget policy's problem and how well it was solved.
type Budget struct {
	Target       string       `json:"target"`
	TargetValue  float64      `json:"target_value"`
	Like         *string      `json:"like" since:"1"` // the file type whose file's size is the target; else null
	Objective    string       `json:"objective"`
	Seed         uint64       `json:"seed"`
	ScopeTensors string       `json:"scope_tensors"`
	TieGateUp    bool         `json:"tie_gate_up"`
	Types        []string     `json:"types"`
	MaxTypes     *int         `json:"max_types" since:"1"` // distinct types among the tensors that the policy decides at most; null for no bound
	Errors       ErrorSource  `json:"errors"`
	Sensitivity  *Sensitivity `json:"sensitivity"`
	Damage       float64      `json:"damage"`
	Bound        float64      `json:"bound"`
	Gap          float64      `json:"gap"`
	PricePerByte *float64     `json:"price_per_byte" since:"1"` // damage that a byte saved where the fused plan's budget broke off; null where all fits
	SplitDamage  float64      `json:"split_damage"`
	SplitBound   float64      `json:"split_bound"`
	SplitGap     float64      `json:"split_gap"`
}

// An ErrorSource says where the errors of types came from.
type ErrorSource struct {
	Kind   string  `json:"kind"` // "measured" or "typical"
	Name   *string `json:"name"`
	SHA256 *string `json:"sha256"`
}

// A Prediction says what a damage was predicted from.
type Prediction struct {
	Errors      ErrorSource `json:"errors"`
	Sensitivity Sensitivity `json:"sensitivity"`
}

// A Sensitivity says how much each tensor was taken to matter. Interpolated
// lists the tensors that a table did not measure; Floor was taken off its
// values, found by FloorRule.
type Sensitivity struct {
	Kind         string   `json:"kind" since:"1"` // one of [SensitivityKinds]
	Name         *string  `json:"name"`           // null for typical ones and none, as SHA256
	SHA256       *string  `json:"sha256"`
	DropType     *string  `json:"drop_type" since:"1"`
	Floor        *float64 `json:"floor" since:"1"`
	FloorRule    *string  `json:"floor_rule" since:"1"`
	Interpolated []string `json:"interpolated"`
}

// Totals are sums over the manifest's entries.
type Totals struct {
	SourceBytes          uint64       `json:"source_bytes"`
	PlannedBytes         uint64       `json:"planned_bytes"`
	SavedBytes           int64        `json:"saved_bytes"`
	SavedFraction        float64      `json:"saved_fraction"`
	PlannedBitsPerWeight float64      `json:"planned_bits_per_weight"`
	PlannedFileBytes     *uint64      `json:"planned_file_bytes"`
	SplitPlannedBytes    uint64       `json:"split_planned_bytes"`
	SplitSavedBytes      int64        `json:"split_saved_bytes"`
	SplitBitsPerWeight   float64      `json:"split_bits_per_weight"`
	RoutedExperts        ExpertTotals `json:"routed_experts"`

	// What the two plans are predicted to lose, a budget's as it says itself; null
	// where the error of a routed expert's type is not known.
	Damage      *float64 `json:"damage" since:"1"`
	SplitDamage *float64 `json:"split_damage" since:"1"`

	// SplitFileBytes is the file that apply --split writes, names and tables of
	// tiers included. SplitRatio is how many times the split plan's predicted
	// damage a fused plan of its bytes has: under the budget policy the plan's
	// own; null where nothing is predicted.
	SplitFileBytes *uint64  `json:"split_file_bytes" since:"1"`
	SplitRatio     *float64 `json:"split_damage_ratio" since:"1"`

	// What a probe with mixtures lets the two plans' files be expected to show;
	// null without one.
	PredictedKLD      *PredictedKLD `json:"predicted_kld" since:"1"`
	SplitPredictedKLD *PredictedKLD `json:"split_predicted_kld" since:"1"`

	Tiers     []TierTotal `json:"tiers"`
	Baselines []Baseline  `json:"baselines"`
	Run       *RunTotals  `json:"run" since:"1"` // of policy.run; null where no run was asked about
}

// ExpertTotals are the bytes of the routed experts alone.
type ExpertTotals struct {
	SourceBytes       uint64 `json:"source_bytes"`
	PlannedBytes      uint64 `json:"planned_bytes"`
	SplitPlannedBytes uint64 `json:"split_planned_bytes"`
}

// A TierTotal sums the experts of one tier over all layers.
type TierTotal struct {
	Tier              string   `json:"tier"`
	Experts           uint64   `json:"experts"`
	ActivationShare   *float64 `json:"activation_share"`
	SplitPlannedBytes uint64   `json:"split_planned_bytes"`
}

// A Baseline is the whole model at one llama-quantize file type.
type Baseline struct {
	Name        string `json:"name"`
	TensorBytes uint64 `json:"tensor_bytes"`
	SavedBytes  int64  `json:"saved_bytes"`

	// Damage is in the unit of the totals'; null where an error of one of the file
	// type's types is not known.
	Damage *float64 `json:"damage" null:"allowed" since:"1"`

	PredictedKLD *PredictedKLD `json:"predicted_kld" null:"allowed" since:"1"` // as that of the totals
}

// A PredictedKLD is a mean KL divergence in nats per token on the text of the
// probe, with a band that speaks for other texts too.
type PredictedKLD struct {
	KLD  float64 `json:"kld"`
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

// A Measured is what llama-perplexity --kl-divergence showed of the fused
// plan's file: the mean in nats per token, its standard error, and the digest
// of the text where it is known.
type Measured struct {
	KLD           float64 `json:"kld"`
	StandardError float64 `json:"standard_error"`
	TextSHA256    *string `json:"text_sha256"`
}

// A Layer is one MoE layer's experts.
type Layer struct {
	Layer         int      `json:"layer"`
	Activations   *uint64  `json:"activations"`
	HotThreshold  *uint64  `json:"hot_threshold"`
	ColdThreshold *uint64  `json:"cold_threshold"`
	Experts       []Expert `json:"experts"`
}

// An Expert is what is known and decided about one expert of one layer.
type Expert struct {
	Expert   int      `json:"expert"`
	Count    *uint64  `json:"count"`
	Share    *float64 `json:"share"`
	Relative *float64 `json:"relative"`
	Tier     *string  `json:"tier"`
	Type     *string  `json:"type"`
	Flag     *string  `json:"flag"`
}

// A Tensor is the decision for one tensor.
type Tensor struct {
	Name              string   `json:"name"`
	Role              string   `json:"role"`
	Layer             *int     `json:"layer"`
	Expert            *int     `json:"expert"`
	Shape             []uint64 `json:"shape"`
	Parameters        uint64   `json:"parameters"`
	SourceType        string   `json:"source_type"`
	SourceBytes       uint64   `json:"source_bytes"`
	PlannedType       string   `json:"planned_type"`
	PlannedBytes      uint64   `json:"planned_bytes"`
	SavedBytes        int64    `json:"saved_bytes"`
	Reason            string   `json:"reason"`
	ExpertTypes       []string `json:"expert_types" null:"allowed"`
	SplitPlannedBytes uint64   `json:"split_planned_bytes"`

	// What the budget policy took the tensor to matter, and where it has that
	// from; null where it takes all tensors alike, or does not apply.
	Sensitivity     *float64 `json:"sensitivity" since:"1"`
	SensitivityFrom *string  `json:"sensitivity_from" since:"1"`

	// The larger type of the fused plan that saves most damage per byte, and
	// the smaller one that costs least; null where there is none, and where the
	// budget policy does not choose by damage.
	StepUp   *Step `json:"step_up" since:"1"`
	StepDown *Step `json:"step_down" since:"1"`
}

// A Step is a change of a tensor's planned type to another. Bytes and Damage are
// the other's less the planned one's.
type Step struct {
	Type   string  `json:"type"`
	Bytes  int64   `json:"bytes"`
	Damage float64 `json:"damage"`
}

// A Finding is something a reviewer should know.
type Finding struct {
	Code    string `json:"code"`
	Subject string `json:"subject"`
	Message string `json:"message"`
}
