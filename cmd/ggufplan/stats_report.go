package main

import (
	"slices"

	"github.com/ggufplan/ggufplan/planner/frequency"
	"github.com/ggufplan/ggufplan/stats"
)

// A statsReport is what stats shows, as JSON has it.
type statsReport struct {
	Inputs        []statsInput    `json:"inputs"`
	CountsKind    string          `json:"counts_kind"`
	LayerAxis     string          `json:"layer_axis"` // "blocks", or "rows" of unknown meaning
	Architecture  *string         `json:"architecture"`
	Datasets      []string        `json:"datasets"`
	Signals       []string        `json:"signals"` // what the source has beyond counts
	Match         *stats.Match    `json:"match"`   // null without a model, or where entries have no names
	Tokens        *uint64         `json:"tokens"`  // the largest over layers
	TopK          *int            `json:"top_k"`
	Deff          *float64        `json:"deff"`        // the median over layers with counts
	Verdict       string          `json:"verdict"`     // stable if all layers are, unstable if one is, else unknown
	UnseenExperts *int            `json:"unseen"`      // null where unknown
	ScarceExperts *int            `json:"scarce"`      // null where unknown
	TokensNeeded  *uint64         `json:"more_tokens"` // until no expert is scarce, at the rates seen
	Layers        []statsLayer    `json:"layers"`
	Shared        []statsShared   `json:"shared_experts"`
	Findings      []stats.Finding `json:"findings"`
	Diff          *statsDiff      `json:"diff,omitempty"`
}

type statsInput struct {
	Name      string  `json:"name"`
	Format    string  `json:"format"`
	Kind      string  `json:"counts_kind"`
	Phase     *string `json:"phase"`
	SizeBytes uint64  `json:"size_bytes"`
	SHA256    string  `json:"sha256"`
}

// A statsLayer is one layer. Facts that its source cannot tell are null.
type statsLayer struct {
	Layer           int            `json:"layer"`
	Kind            string         `json:"kind"`
	Tokens          *uint64        `json:"tokens"`
	Activations     *uint64        `json:"activations"`
	TopK            *int           `json:"top_k"`
	Summary         *stats.Summary `json:"summary"`
	UnseenExperts   []int          `json:"unseen"` // null where unknown
	ScarceExperts   []int          `json:"scarce"` // null where unknown
	LowExperts      []int          `json:"low"`    // null where unknown
	SuperExperts    []int          `json:"super"`  // null without maximum activations
	Deff            *float64       `json:"deff"`   // null without counts
	DeffMeasured    bool           `json:"deff_measured"`
	Blocks          int            `json:"blocks"`
	EffectiveTokens *float64       `json:"effective_tokens"`
	TokensNeeded    *uint64        `json:"more_tokens"`
	Verdict         string         `json:"verdict"`
	HalvesDistance  *float64       `json:"halves_distance"`
	HalvesSpearman  *float64       `json:"halves_spearman"`
	Experts         []statsExpert  `json:"experts"`
	distribution    []float64
}

type statsExpert struct {
	Expert          int       `json:"expert"`
	Count           *uint64   `json:"count"`
	Weight          *float64  `json:"weight"` // relative statistics and ranks
	Share           *float64  `json:"share"`  // of the layer's activations
	TokenShare      *float64  `json:"token_share"`
	TokenShareRange []float64 `json:"token_share_interval"` // 95 %
	Flag            *string   `json:"flag"`
	TokensNeeded    *uint64   `json:"more_tokens"` // until it is not scarce

	GateUpEnergy    *float64 `json:"gate_up_energy,omitempty"`
	DownEnergy      *float64 `json:"down_energy,omitempty"`
	GateWeight      *float64 `json:"mean_gate_weight,omitempty"`
	OutNorm         *float64 `json:"mean_out_norm,omitempty"`
	GatedOutNorm    *float64 `json:"mean_gated_out_norm,omitempty"` // REAP saliency
	MaxOut          *float64 `json:"max_out,omitempty"`
	GateUpMeanShare *float64 `json:"gate_up_mean_energy,omitempty"`
	DownMeanShare   *float64 `json:"down_mean_energy,omitempty"`
}

type statsShared struct {
	Layer  int     `json:"layer"`
	Tokens *uint64 `json:"tokens"`
}

type statsDiff struct {
	Inputs     []statsInput `json:"inputs"`
	Layers     []statsShift `json:"layers"`
	OnlyFirst  []int        `json:"layers_only_in_first"`
	OnlySecond []int        `json:"layers_only_in_second"`
}

type statsShift struct {
	Layer         int              `json:"layer"`
	JensenShannon float64          `json:"jensen_shannon_distance"`
	Spearman      *float64         `json:"spearman"`
	Moved         []stats.TierMove `json:"tier_changes"`
}

func nullIfEmpty(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func reportInputs(ev *stats.Evidence) []statsInput {
	inputs := []statsInput{}
	for _, in := range ev.Inputs {
		inputs = append(inputs, statsInput{in.Name, in.Format, string(in.Kind), nullIfEmpty(in.Phase), in.SizeBytes, in.SHA256})
	}
	return inputs
}

func reportOn(ev *stats.Evidence) *statsReport {
	r := &statsReport{
		Inputs: reportInputs(ev), Match: ev.Match, CountsKind: string(ev.Kind), LayerAxis: string(ev.LayerAxis), Architecture: nullIfEmpty(ev.Architecture),
		Datasets: append([]string{}, ev.Datasets...), Signals: []string{}, Layers: []statsLayer{}, Shared: []statsShared{}, Findings: append([]stats.Finding{}, ev.Findings...),
		Verdict: string(stats.VerdictUnknown),
	}
	if ev.TopK > 0 {
		r.TopK = &ev.TopK
	}
	for i := range ev.Layers {
		r.Layers = append(r.Layers, reportLayer(ev, &ev.Layers[i]))
	}
	for _, l := range ev.Shared {
		r.Shared = append(r.Shared, statsShared{l.Index, l.Tokens})
	}
	r.Signals = signalsOf(ev)
	r.total(ev)
	return r
}

// total fills in what is over all layers.
func (r *statsReport) total(ev *stats.Evidence) {
	var deffs []float64
	verdicts := map[string]int{}
	for i := range r.Layers {
		l := &r.Layers[i]
		if l.Tokens != nil && (r.Tokens == nil || *r.Tokens < *l.Tokens) {
			r.Tokens = l.Tokens
		}
		if l.Deff != nil {
			deffs = append(deffs, *l.Deff)
			verdicts[l.Verdict]++
		}
		r.UnseenExperts = addCount(r.UnseenExperts, l.UnseenExperts)
		r.ScarceExperts = addCount(r.ScarceExperts, l.ScarceExperts)
		if l.TokensNeeded != nil && (r.TokensNeeded == nil || *r.TokensNeeded < *l.TokensNeeded) {
			r.TokensNeeded = l.TokensNeeded
		}
	}
	if len(deffs) > 0 {
		r.Deff = new(stats.Median(deffs))
	}
	switch {
	case verdicts[string(stats.VerdictUnstable)] > 0:
		r.Verdict = string(stats.VerdictUnstable)
	case len(deffs) > 0 && verdicts[string(stats.VerdictStable)] == len(deffs):
		r.Verdict = string(stats.VerdictStable)
	}
}

func addCount(sum *int, list []int) *int {
	if list == nil {
		return sum
	}
	n := len(list)
	if sum != nil {
		n += *sum
	}
	return &n
}

func reportLayer(ev *stats.Evidence, l *stats.Layer) statsLayer {
	out := statsLayer{Layer: l.Index, Kind: string(l.Kind), Tokens: l.Tokens, Verdict: string(stats.VerdictUnknown), Experts: []statsExpert{}}
	if l.TopK > 0 {
		out.TopK = &l.TopK
	}
	sum, err := l.Activations()
	counted := l.Counts != nil && err == nil && sum > 0
	if counted {
		out.Activations = &sum
		out.confidence(ev, l)
	} else if l.UnseenKnown != nil {
		out.UnseenExperts = l.UnseenKnown
	}
	if s, ok := l.Summarize(ev.Kind); ok {
		out.Summary = &s
	}
	if l.MaxOut != nil {
		out.SuperExperts = append([]int{}, l.SuperExperts...)
	}
	total := 0.0
	for _, w := range l.Weights {
		total += w
	}
	for e := range l.Experts() {
		x := statsExpert{Expert: e}
		switch {
		case counted:
			x.Count = &l.Counts[e]
			share := float64(l.Counts[e]) / float64(sum)
			x.Share = &share
			out.expertConfidence(ev, l, &x)
		case l.Weights != nil:
			x.Weight = &l.Weights[e]
			if total > 0 && ev.Kind == stats.KindRelative {
				share := l.Weights[e] / total
				x.Share = &share
			}
		}
		if x.Flag == nil && slices.Contains(l.UnseenKnown, e) {
			x.Flag = nullIfEmpty(string(stats.FlagUnseen))
		}
		expertSignals(l, e, &x)
		out.Experts = append(out.Experts, x)
		if x.Share != nil {
			out.distribution = append(out.distribution, *x.Share)
		}
	}
	return out
}

// confidence fills in how far a layer's counts can be trusted.
func (out *statsLayer) confidence(ev *stats.Evidence, l *stats.Layer) {
	out.UnseenExperts = []int{}
	for e, n := range l.Counts {
		if n == 0 {
			out.UnseenExperts = append(out.UnseenExperts, e)
		}
	}
	if ev.Kind != stats.KindExact {
		return // counts are multiples of real ones
	}
	deff := l.Deff()
	out.Deff, out.DeffMeasured = &deff, l.Blocks != nil
	if l.Blocks != nil {
		out.Blocks = l.Blocks.N
	}
	out.ScarceExperts, out.LowExperts = []int{}, []int{}
	for e, n := range l.Counts {
		switch stats.FlagOf(n, deff) {
		case stats.FlagScarce:
			out.ScarceExperts = append(out.ScarceExperts, e)
		case stats.FlagLow:
			out.LowExperts = append(out.LowExperts, e)
		}
		if more, ok := l.TokensNeeded(e, stats.ScarceBelow); ok && (out.TokensNeeded == nil || *out.TokensNeeded < more) {
			out.TokensNeeded = &more
		}
	}
	if n, ok := l.EffectiveTokens(); ok {
		out.EffectiveTokens = &n
	}
	shift, verdict := l.Stability()
	out.Verdict = string(verdict)
	if verdict != stats.VerdictUnknown {
		out.HalvesDistance, out.HalvesSpearman = &shift.JensenShannon, shift.Spearman
	}
}

func (out *statsLayer) expertConfidence(ev *stats.Evidence, l *stats.Layer, x *statsExpert) {
	if ev.Kind != stats.KindExact {
		return
	}
	x.Flag = nullIfEmpty(string(stats.FlagOf(*x.Count, l.Deff())))
	if iv, ok := l.ShareInterval(x.Expert); ok {
		p := float64(*x.Count) / float64(*l.Tokens)
		x.TokenShare, x.TokenShareRange = &p, []float64{iv.Low, iv.High}
	}
	if more, ok := l.TokensNeeded(x.Expert, stats.ScarceBelow); ok {
		x.TokensNeeded = &more
	}
}

// expertSignals fills in what a source tells of an expert beyond its count.
// Sums over tokens become means where the count is known.
func expertSignals(l *stats.Layer, e int, x *statsExpert) {
	at := func(values []float64) *float64 {
		if values == nil {
			return nil
		}
		return &values[e]
	}
	mean := func(values []float64) *float64 {
		if values == nil || l.Counts == nil || l.Counts[e] == 0 {
			return nil
		}
		m := values[e] / float64(l.Counts[e])
		return &m
	}
	x.GateUpEnergy, x.DownEnergy = at(l.GateUpEnergy), at(l.DownEnergy)
	x.GateUpMeanShare, x.DownMeanShare = at(l.GateUpMeanEnergy), at(l.DownMeanEnergy)
	x.GateWeight, x.OutNorm, x.GatedOutNorm = mean(l.GateWeightSum), mean(l.OutNormSum), mean(l.GatedOutNormSum)
	x.MaxOut = at(l.MaxOut)
}

// signalsOf lists what some layer has beyond counts.
func signalsOf(ev *stats.Evidence) []string {
	list := []string{}
	has := func(name string, of func(l *stats.Layer) bool) {
		for i := range ev.Layers {
			if of(&ev.Layers[i]) {
				list = append(list, name)
				return
			}
		}
	}
	if ev.Columns != nil {
		list = append(list, "column mean squares")
	}
	has("input energy", func(l *stats.Layer) bool { return l.GateUpEnergy != nil || l.DownEnergy != nil })
	has("input means", func(l *stats.Layer) bool { return l.GateUpMeanEnergy != nil || l.DownMeanEnergy != nil })
	has("gate weights", func(l *stats.Layer) bool { return l.GateWeightSum != nil })
	has("output norms", func(l *stats.Layer) bool { return l.OutNormSum != nil })
	has("gated output norms (REAP)", func(l *stats.Layer) bool { return l.GatedOutNormSum != nil })
	has("maximum activations", func(l *stats.Layer) bool { return l.MaxOut != nil })
	has("block records", func(l *stats.Layer) bool { return l.Blocks != nil })
	return list
}

// defaultTiers sorts a layer's experts into tiers as the default preset does,
// each layer by itself.
func defaultTiers(ev *stats.Evidence, l *stats.Layer) ([]string, error) {
	tiers, _ := frequency.Preset(frequency.PresetDefault)
	var sorted []frequency.Tier
	switch {
	case l.Counts != nil:
		sorted = tiers.ByCount(l.Counts)
	case l.Weights != nil && ev.Kind == stats.KindRelative:
		sorted = tiers.ByWeight(l.Weights)
	}
	var list []string
	for _, tier := range sorted {
		list = append(list, tier.String())
	}
	return list, nil
}
