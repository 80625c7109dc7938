package planner

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/planner/frequency"
	"github.com/ggufplan/ggufplan/planner/llamaquantize"
	"github.com/ggufplan/ggufplan/stats"
)

// A Problem is everything a plan is computed from.
type Problem struct {
	Model *ggufio.Model

	// Evidence is what is known about the experts, fitted to Model
	// ([stats.Evidence.Fit]). The budget policy can do without: nil.
	Evidence *stats.Evidence

	// Baselines are file types to compare the plan with, besides the usual
	// ones.
	Baselines []llamaquantize.FileType

	Run *RunRequest // a run whose memory is asked for; nil for none

	Types  *frequency.Types // what names in the policy mean; nil for GGML's types alone
	Policy Policy
}

// A PolicyName says how types are chosen.
type PolicyName string

// The policies.
const (
	PolicyFrequency PolicyName = "frequency"
	PolicyBudget    PolicyName = "budget"
)

// BaseKeep is the base that leaves every tensor that the policy does not
// decide at its source type.
const BaseKeep = "keep"

// A Policy holds every choice of the user's that shapes a plan. The zero Policy
// makes none: [Solve] refuses it and says which it lacks.
type Policy struct {
	Name      PolicyName
	Frequency Frequency

	// Budget is the budget policy's. Any plan's damage is predicted from its
	// Errors and Sensitivity, of others from typical ones where it has none.
	Budget Budget

	// Base is what tensors get that the policy does not decide: [BaseKeep], or
	// a llama-quantize file type such as "Q4_K_M".
	Base string
	Pins []Pin

	// MaxTiers bounds the types among the experts of a tensor in the split plan;
	// 0 for no bound.
	MaxTiers int
}

// DefaultMaxTiers is nearly as good as no bound: on a model whose traffic is
// skewed its predicted damage is 3 to 5 % above, and each tier costs speed.
const DefaultMaxTiers = 3

// DefaultPolicy is the frequency policy with its default preset, everything
// else as Q4_K_M has it.
func DefaultPolicy() Policy {
	tiers, _ := frequency.Preset(frequency.PresetDefault)
	return Policy{Name: PolicyFrequency, Base: "Q4_K_M", MaxTiers: DefaultMaxTiers, Frequency: Frequency{
		Preset: frequency.PresetDefault, TiersBy: TiersByMax, Scope: ScopeLayer, Fuse: FuseActivations, Tiers: tiers, Shares: frequency.DefaultShares()}}
}

// complete reports every choice that a policy leaves open.
func (p *Policy) complete() error {
	var missing []string
	need := func(field string, set bool) {
		if !set {
			missing = append(missing, field)
		}
	}
	need("Name", p.Name != "")
	need("Base", p.Base != "")
	if fr := &p.Frequency; p.Name != PolicyBudget {
		need("Frequency.TiersBy", fr.TiersBy != "")
		need("Frequency.Scope", fr.Scope != "")
		need("Frequency.Fuse", fr.Fuse != "")
		need("Frequency.HotType", fr.HotType != frequency.Type{})
		need("Frequency.WarmType", fr.WarmType != frequency.Type{})
		need("Frequency.ColdType", fr.ColdType != frequency.Type{})
	} else {
		need("Budget.Target", p.Budget.Target != "")
		need("Budget.Objective", p.Budget.Objective != "")
		need("Budget.Scope", p.Budget.Scope != "")
	}
	if missing != nil {
		return fmt.Errorf("the policy lacks %s: DefaultPolicy has every choice of the frequency policy", strings.Join(missing, ", "))
	}
	return nil
}

// Frequency holds the parameters of the frequency policy. The budget policy
// uses HotType alone, for layers without statistics.
type Frequency struct {
	Preset          string // a preset's name, or "custom"
	TiersBy         TiersBy
	Scope           Scope
	Fuse            Fuse
	frequency.Tiers // the percentiles are not used by TiersByTraffic

	Shares frequency.Shares // of TiersByTraffic
}

// TiersBy says what makes an expert hot or cold.
type TiersBy string

// Max compares counts with a fraction of the largest; Rank compares ranks;
// Traffic goes by shares of all traffic.
const (
	TiersByMax     TiersBy = "max"
	TiersByRank    TiersBy = "rank"
	TiersByTraffic TiersBy = "traffic"
)

// A Scope says which experts are compared with each other.
type Scope string

// Experts are compared within their layer, or over the whole model.
const (
	ScopeLayer Scope = "layer"
	ScopeModel Scope = "model"
)

// A Fuse says how a fused tensor's one type follows from its experts' tiers.
type Fuse string

// The ways to fuse.
const (
	// FuseActivations: the type of the tier that carries the most activations,
	// ties to the hotter.
	FuseActivations Fuse = "activations"
	// FuseHottest: the type of the hottest tier that has an expert.
	FuseHottest Fuse = "hottest"
	// FuseBytes: the largest of the three tier types, after shape fallback,
	// that costs no more than the split plan; the smallest if none does.
	FuseBytes Fuse = "bytes"
)

// A Pin gives every tensor whose name the pattern matches a type, above policy
// and base; it may enlarge. The first pin that matches wins.
type Pin struct {
	Pattern *regexp.Regexp
	Type    frequency.Type
}
