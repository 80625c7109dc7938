package planner

import (
	"slices"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/planner/frequency"
	"github.com/ggufplan/ggufplan/planner/manifest"
	"github.com/ggufplan/ggufplan/stats"
)

// Manifest returns the record of the plan.
func (p *Plan) Manifest() *manifest.Manifest {
	m := manifest.New()
	m.Model = recordModel(p.Problem.Model, len(p.Layers))
	m.Statistics = p.recordStatistics()
	m.Policy = p.recordPolicy()
	m.Totals = p.recordTotals()
	m.Layers = append(m.Layers, make([]manifest.Layer, len(p.Layers))...)
	spread(len(p.Layers), func(i int) error {
		m.Layers[i] = recordLayer(&p.Layers[i])
		return nil
	})
	m.Tensors = slices.Grow(m.Tensors, len(p.Tensors))
	var last *TensorPlan // the tensors of a layer share the list of types
	for i := range p.Tensors {
		x := &p.Tensors[i]
		rec := recordTensor(x)
		switch {
		case x.ExpertTypes == nil:
		case last != nil && len(last.ExpertTypes) == len(x.ExpertTypes) && &last.ExpertTypes[0] == &x.ExpertTypes[0]:
			rec.ExpertTypes = m.Tensors[len(m.Tensors)-1].ExpertTypes
		default:
			rec.ExpertTypes = make([]string, len(x.ExpertTypes))
			for e, typ := range x.ExpertTypes {
				rec.ExpertTypes[e] = typ.Name
			}
		}
		m.Tensors = append(m.Tensors, rec)
		last = x
	}
	for _, f := range p.Findings {
		m.Findings = append(m.Findings, manifest.Finding{Code: f.Code, Subject: manifest.Printable(f.Subject), Message: manifest.Printable(f.Message)})
	}
	return m
}

func recordModel(m *ggufio.Model, moeLayers int) manifest.Model {
	rec := manifest.Model{
		Name: manifest.Printable(m.Name), Architecture: manifest.Printable(m.Architecture.Name), Files: []manifest.File{},
		TensorCount: uint64(len(m.Tensors)), Parameters: m.Parameters(), TensorBytes: m.TensorBytes(), FileBytes: m.FileBytes(),
		BlockCount: uint64(m.Architecture.BlockCount), MoELayerCount: uint64(moeLayers),
	}
	for _, f := range m.Files {
		rec.Files = append(rec.Files, manifest.File{Name: manifest.Printable(f.Name), SizeBytes: f.SizeBytes, HeaderSHA256: f.HeaderSHA256})
	}
	experts := m.MostExperts()
	rec.ExpertCount = uint64(experts)
	used := uint64(0)
	if k := m.Architecture.ExpertUsedCount; len(k) > 0 {
		used = uint64(slices.Max(k))
	}
	if used > 0 || experts == 0 {
		rec.ExpertUsedCount = &used
	}
	return rec
}

func (p *Plan) recordStatistics() *manifest.Statistics {
	ev := p.Problem.Evidence
	if ev == nil {
		return nil
	}
	rec := &manifest.Statistics{Inputs: recordInputs(ev), CountsKind: string(ev.Kind), LayersWithoutCounts: []int{}}
	var deffs []float64
	for i := range p.Layers {
		l := &p.Layers[i]
		if l.Activations != nil {
			if rec.Activations == nil {
				rec.Activations = new(uint64)
			}
			*rec.Activations += *l.Activations
		}
		if l.Deff != nil {
			deffs = append(deffs, *l.Deff)
		}
		if l.Tokens != nil && (rec.Tokens == nil || *l.Tokens > *rec.Tokens) {
			rec.Tokens = new(*l.Tokens)
		}
		if l.HasStatistics {
			rec.LayersWithCounts++
		} else {
			rec.LayersWithoutCounts = append(rec.LayersWithoutCounts, l.Layer)
		}
		for _, x := range l.Experts {
			switch x.Flag {
			case FlagUnseen:
				rec.UnseenExperts++
			case FlagScarce:
				rec.ScarceExperts++
			}
		}
	}
	if len(deffs) > 0 {
		rec.Deff = new(stats.Median(deffs))
	}
	return rec
}

func recordInputs(ev *stats.Evidence) []manifest.Input {
	inputs := []manifest.Input{}
	for _, in := range ev.Inputs {
		inputs = append(inputs, manifest.Input{Name: manifest.Printable(in.Name), Format: in.Format, SizeBytes: in.SizeBytes, SHA256: in.SHA256})
	}
	return inputs
}

// PlannedFrom identifies the statistics files that a plan was made with.
func PlannedFrom(s *manifest.Statistics) []stats.FileID {
	if s == nil {
		return nil
	}
	files := make([]stats.FileID, len(s.Inputs))
	for i, in := range s.Inputs {
		files[i] = stats.FileID{Name: in.Name, SizeBytes: in.SizeBytes, SHA256: in.SHA256}
	}
	return files
}

func (p *Plan) recordPolicy() manifest.Policy {
	pol := &p.Problem.Policy
	rec := manifest.Policy{
		Name: string(pol.Name), HotType: pol.Frequency.HotType.Name, Base: p.Base,
		Pins: []manifest.Pin{}, DefinedTypes: []manifest.DefinedType{},
	}
	if pol.Name == PolicyFrequency {
		fr := &pol.Frequency
		rec.Preset, rec.TiersBy = new(fr.Preset), new(string(fr.TiersBy))
		rec.Scope, rec.Fuse = new(string(fr.Scope)), new(string(fr.Fuse))
		if fr.TiersBy == TiersByTraffic {
			rec.HotShare, rec.ColdShare = new(fr.Shares.Hot.Float64()), new(fr.Shares.Cold.Float64())
		} else {
			rec.HotPercentile, rec.ColdPercentile = new(fr.HotPercentile.Float64()), new(fr.ColdPercentile.Float64())
		}
		rec.WarmType, rec.ColdType = new(fr.WarmType.Name), new(fr.ColdType.Name)
	}
	rec.Budget, rec.Prediction, rec.MaxTiers = p.Budget, p.Prediction, new(pol.MaxTiers)
	rec.Run = p.recordRun()
	for _, pin := range pol.Pins {
		rec.Pins = append(rec.Pins, manifest.Pin{Pattern: pin.Pattern.String(), Type: pin.Type.Name})
	}
	if p.Problem.Types != nil {
		for _, t := range p.Problem.Types.Declared() {
			rec.DefinedTypes = append(rec.DefinedTypes, manifest.DefinedType{
				Name: t.Name, WeightsPerBlock: t.Layout.WeightsPerBlock, BytesPerBlock: t.Layout.BytesPerBlock})
		}
	}
	return rec
}

func (p *Plan) recordTotals() manifest.Totals {
	t := &p.Totals
	rec := manifest.Totals{
		SourceBytes: t.SourceBytes, PlannedBytes: t.PlannedBytes,
		SavedBytes: saved(t.SourceBytes, t.PlannedBytes), PlannedBitsPerWeight: bitsPerWeight(t.PlannedBytes, t.Parameters),
		PlannedFileBytes: new(t.FileBytes),
		SplitFileBytes:   new(t.SplitFileBytes), SplitRatio: t.SplitRatio,
		Damage: t.Damage, SplitDamage: t.SplitDamage,
		PredictedKLD: t.PredictedKLD, SplitPredictedKLD: t.SplitPredictedKLD,
		SplitPlannedBytes: t.SplitBytes, SplitSavedBytes: saved(t.SourceBytes, t.SplitBytes),
		SplitBitsPerWeight: bitsPerWeight(t.SplitBytes, t.Parameters),
		RoutedExperts: manifest.ExpertTotals{
			SourceBytes: t.Experts.SourceBytes, PlannedBytes: t.Experts.PlannedBytes, SplitPlannedBytes: t.Experts.SplitBytes},
		Tiers: []manifest.TierTotal{}, Baselines: []manifest.Baseline{},
	}
	for _, b := range t.Baselines {
		rec.Baselines = append(rec.Baselines, manifest.Baseline{
			Name: b.FileType.Name, TensorBytes: b.TensorBytes, SavedBytes: saved(t.SourceBytes, b.TensorBytes), Damage: b.Damage, PredictedKLD: b.PredictedKLD})
	}
	if t.SourceBytes > 0 {
		rec.SavedFraction = float64(rec.SavedBytes) / float64(t.SourceBytes)
	}
	rec.Run = p.recordRunTotals()
	for _, tier := range t.Tiers {
		rec.Tiers = append(rec.Tiers, manifest.TierTotal{
			Tier: tier.Tier.String(), Experts: tier.Experts, ActivationShare: tier.ActivationShare, SplitPlannedBytes: tier.SplitBytes})
	}
	return rec
}

// saved returns how much smaller a plan is than its source, negative where it
// is larger. Both are below 2^63.
func saved(source, planned uint64) int64 { return int64(source) - int64(planned) }

// bitsPerWeight returns 8·size/parameters, 0 for no parameters.
func bitsPerWeight(sizeBytes, parameters uint64) float64 {
	if parameters == 0 {
		return 0
	}
	return 8 * float64(sizeBytes) / float64(parameters)
}

func recordLayer(l *LayerPlan) manifest.Layer {
	rec := manifest.Layer{Layer: l.Layer, Activations: l.Activations, Experts: make([]manifest.Expert, len(l.Experts))}
	if l.Thresholds != nil {
		rec.HotThreshold, rec.ColdThreshold = new(l.Thresholds.Hot), new(l.Thresholds.Cold)
	}
	tiers := [...]string{frequency.Cold.String(), frequency.Warm.String(), frequency.Hot.String()}
	for e := range l.Experts {
		x := &l.Experts[e]
		rec.Experts[e] = manifest.Expert{Expert: e, Count: x.Count, Share: x.Share, Relative: x.Relative}
		if x.Tier != nil {
			rec.Experts[e].Tier = &tiers[*x.Tier]
		}
		if x.Type != nil {
			rec.Experts[e].Type = &x.Type.Name
		}
		if x.Flag != "" {
			rec.Experts[e].Flag = &x.Flag
		}
	}
	return rec
}

func recordTensor(x *TensorPlan) manifest.Tensor {
	t := x.Tensor
	rec := manifest.Tensor{
		Name: t.Name, Role: string(t.Role), Shape: slices.Clone(t.Shape), Parameters: t.Parameters,
		SourceType: t.Type.String(), SourceBytes: t.SizeBytes,
		PlannedType: x.Type.Name, PlannedBytes: x.SizeBytes, SavedBytes: saved(t.SizeBytes, x.SizeBytes),
		Reason: x.Reason, SplitPlannedBytes: x.SplitSizeBytes,
	}
	if t.Layer >= 0 {
		rec.Layer = new(t.Layer)
	}
	if t.Expert >= 0 {
		rec.Expert = new(t.Expert)
	}
	rec.StepUp, rec.StepDown = x.StepUp, x.StepDown
	if x.SensitivityFrom != "" {
		rec.Sensitivity, rec.SensitivityFrom = &x.Sensitivity, &x.SensitivityFrom
	}
	return rec
}
