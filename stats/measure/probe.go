package measure

import (
	"bufio"
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/stats/internal/strictjson"
)

// What a file of probed sensitivities says of itself.
const (
	ProbeSchemaName    = "ggufplan.sensitivity"
	ProbeFormatVersion = "1.0"
)

// ProbeSchema is the JSON Schema of a file of probed sensitivities.
//
//go:embed sensitivity.schema.json
var ProbeSchema []byte

// A Probe holds what runs of a model with a group of tensors in one type, and
// others with every tensor in some type, showed: the KL divergence in nats per
// token from the model without. Field order is the order of keys.
type Probe struct {
	Schema        string        `json:"schema"` // "ggufplan.sensitivity"
	FormatVersion string        `json:"format_version"`
	Generator     string        `json:"generator"`
	Model         Model         `json:"model"`
	Reference     *Model        `json:"reference"`  // what runs were compared with and made from, where it is not the model; else null
	Statistics    []Input       `json:"statistics"` // importance matrices that the runs were encoded with
	Text          *ProbeText    `json:"text"`       // null where base logits were given
	ContextTokens uint64        `json:"context_tokens"`
	Chunks        uint64        `json:"chunks"` // at most, of a piece of the text
	Copies        string        `json:"copies"` // "simulated" or "quantized": see [Probe.Fit]
	ProbeType     string        `json:"probe_type"`
	WholeType     string        `json:"whole_type"` // of the run of kind whole
	Bands         string        `json:"bands"`      // the number of depth bands, or "tensor"
	Types         []string      `json:"types"`      // that tensors' errors are in
	Part          *Part         `json:"part"`       // null for the whole
	Tensors       []ProbeTensor `json:"tensors"`    // file order
	Runs          []ProbeRun    `json:"runs"`       // in order of their names in [Probe.RunNames]
	Fit           *ProbeFit     `json:"fit"`        // null in a part
}

// ProbeText identifies the text that the runs were scored on.
type ProbeText struct {
	Name      string `json:"name"`
	SizeBytes uint64 `json:"size_bytes"`
	SHA256    string `json:"sha256"`
}

// A ProbeTensor is a tensor of the model that runs varied.
type ProbeTensor struct {
	Name     string    `json:"name"`
	Group    string    `json:"group"`
	Typical  float64   `json:"typical"`  // typical sensitivity: its weight in the group
	Errors   []float64 `json:"errors"`   // relative, parallel to types, after shape fallback
	Mixtures []string  `json:"mixtures"` // its type in each mixture, before shape fallback
}

// The kinds of runs.
const (
	RunGroup   = "group"   // a group at the probe type
	RunMixture = "mixture" // each tensor in some type
	RunWhole   = "whole"   // a whole file, really quantized
)

// A ProbeRun is what one run showed, over all pieces of text that it saw.
type ProbeRun struct {
	Name          string  `json:"name"` // the group's, "mixture.1" and so on, or "whole"
	Kind          string  `json:"kind"`
	KLD           float64 `json:"kld"` // mean, in nats per token
	StandardError float64 `json:"standard_error"`
	ScoredTokens  uint64  `json:"scored_tokens"`
	Control       float64 `json:"control"` // what a run showed in which nothing changed
}

// A ProbeFit says how a sum of alpha × error becomes a KL divergence:
// y0 + k × sum.
type ProbeFit struct {
	K      *float64  `json:"k"`      // null without a mixture
	Spread *float64  `json:"spread"` // the largest factor between a mixture and k × its sum
	Y0     *float64  `json:"y0"`     // null without a whole run or k
	Ratios []float64 `json:"ratios"` // of each mixture, measured over its sum: 1 where tensors add up
}

// Net returns what each run showed over its control.
func (r *ProbeRun) Net() float64 { return max(0, r.KLD-r.Control) }

// Run returns a run by name, nil where it is not there.
func (p *Probe) Run(name string) *ProbeRun {
	for i := range p.Runs {
		if p.Runs[i].Name == name {
			return &p.Runs[i]
		}
	}
	return nil
}

func (p *Probe) byName() map[string]*ProbeRun {
	runs := make(map[string]*ProbeRun, len(p.Runs))
	for i := range p.Runs {
		runs[p.Runs[i].Name] = &p.Runs[i]
	}
	return runs
}

// MixtureName returns the name of the i-th mixture's run, counted from 0.
func MixtureName(i int) string { return "mixture." + strconv.Itoa(i+1) }

// RunNames lists the runs of a probe: those of groups in the order of their
// first tensors, of mixtures, and of the whole file.
func (p *Probe) RunNames() []string {
	var names []string
	seen := map[string]bool{}
	mixtures := 0
	for i := range p.Tensors {
		t := &p.Tensors[i]
		if !seen[t.Group] {
			seen[t.Group] = true
			names = append(names, t.Group)
		}
		mixtures = len(t.Mixtures)
	}
	for i := range mixtures {
		names = append(names, MixtureName(i))
	}
	return append(names, RunWhole)
}

// leastNet is what a group's net value is raised to, over the median of all:
// less is below the noise.
const leastNet = 0.05

// NetByGroup returns what each group's run showed over its control; less than
// a twentieth of the median counts as that. Roles without any effect are left
// out: nothing was measured.
func (p *Probe) NetByGroup() map[string]float64 {
	var net []float64
	for i := range p.Runs {
		if r := &p.Runs[i]; r.Kind == RunGroup && r.Net() > 0 {
			net = append(net, r.Net())
		}
	}
	if len(net) == 0 {
		return nil
	}
	slices.Sort(net)
	least := leastNet * (net[(len(net)-1)/2] + net[len(net)/2]) / 2
	runs := p.byName()
	effect := map[string]bool{} // by role
	for i := range p.Tensors {
		t := &p.Tensors[i]
		if r := runs[t.Group]; r != nil && r.Net() > 0 {
			effect[roleOf(t.Name)] = true
		}
	}
	out := map[string]float64{}
	for i := range p.Tensors {
		t := &p.Tensors[i]
		if r := runs[t.Group]; r != nil && effect[roleOf(t.Name)] {
			out[t.Group] = max(r.Net(), least)
		}
	}
	return out
}

// roleOf is a tensor's name without its layer.
func roleOf(name string) string {
	if layer, _, _ := ggufio.ParseTensorName(name); layer >= 0 {
		return name[len("blk.")+len(strconv.Itoa(layer)):]
	}
	return name
}

// Alphas returns the sensitivity of every tensor of a measured group, in KL
// divergence per relative error:
//
//	alpha(t) = net KLD of the group · s(t) / sum over the group of (s · r)
//
// with s the typical sensitivities and r the errors at the probe type, of which
// errorOf gives the i-th tensor's.
func (p *Probe) Alphas(errorOf func(i int) float64) map[string]float64 {
	net := p.NetByGroup()
	sums := map[string]float64{}
	for i := range p.Tensors {
		t := &p.Tensors[i]
		sums[t.Group] += float64(t.Typical * errorOf(i))
	}
	out := map[string]float64{}
	for i := range p.Tensors {
		t := &p.Tensors[i]
		if v, ok := net[t.Group]; ok && sums[t.Group] > 0 {
			if alpha := float64(v*t.Typical) / sums[t.Group]; alpha > 0 && alpha <= maxSensitivity {
				out[t.Name] = alpha
			}
		}
	}
	return out
}

// MaxProbeSpread is the largest spread at which sensitivities hold.
const MaxProbeSpread = 1.5

func (p *Probe) typeIndex(name string) int { return slices.Index(p.Types, name) }

// SetFit fits k and y0. k is the geometric mean of measured over sum of the
// mixtures, whose simulated copies have no y0 (those of a quantized reference
// have it taken off); y0 is what the whole file, really quantized, shows
// beyond k times its sum.
func (p *Probe) SetFit() {
	at := p.typeIndex(p.ProbeType)
	alphas := p.Alphas(func(i int) float64 { return p.Tensors[i].Errors[at] })
	sumOf := func(typeOf func(t *ProbeTensor) string) float64 {
		sum := 0.0
		for i := range p.Tensors {
			t := &p.Tensors[i]
			sum += float64(alphas[t.Name] * t.Errors[p.typeIndex(typeOf(t))])
		}
		return sum
	}
	fit := &ProbeFit{Ratios: []float64{}}
	p.Fit = fit
	var sums, nets []float64
	for m := range p.mixtures() {
		r := p.Run(MixtureName(m))
		if r == nil || r.Net() == 0 {
			continue
		}
		if sum := sumOf(func(t *ProbeTensor) string { return t.Mixtures[m] }); sum > 0 {
			sums, nets = append(sums, sum), append(nets, r.Net())
			fit.Ratios = append(fit.Ratios, r.Net()/sum)
		}
	}
	if len(sums) == 0 {
		return
	}
	y0 := 0.0
	k := geometricMean(nets, sums, y0)
	if whole := p.Run(RunWhole); whole != nil {
		sum := sumOf(func(*ProbeTensor) string { return p.WholeType })
		beyond := func() float64 { return max(0, whole.Net()-float64(k*sum)) }
		y0 = beyond()
		if p.Copies == CopiesQuantized {
			k = geometricMean(nets, sums, y0)
			y0 = beyond()
		}
		fit.Y0 = &y0
	}
	spread := 1.0
	for i := range sums {
		fitted := float64(k * sums[i])
		if p.Copies == CopiesQuantized {
			fitted += y0
		}
		spread = max(spread, nets[i]/fitted, fitted/nets[i])
	}
	fit.K, fit.Spread = &k, &spread
}

// How a run's weights are stored: in the reference's own type after a round
// trip, or in the run's type.
const (
	CopiesSimulated = "simulated"
	CopiesQuantized = "quantized"
)

func (p *Probe) mixtures() int {
	if len(p.Tensors) == 0 {
		return 0
	}
	return len(p.Tensors[0].Mixtures)
}

// geometricMean returns that of (net - y0) / sum; what y0 takes all of counts
// as a tenth of it.
func geometricMean(nets, sums []float64, y0 float64) float64 {
	log := 0.0
	for i := range nets {
		log += math.Log(max(nets[i]-y0, nets[i]/10) / sums[i])
	}
	return math.Exp(log / float64(len(nets)))
}

// MergeProbes joins the parts of a probe, given in any order.
func MergeProbes(parts []*Probe, names []string) (*Probe, error) {
	whole := *parts[0]
	whole.Part, whole.Runs, whole.Fit = nil, nil, nil
	want, err := whole.identity()
	if err != nil {
		return nil, err
	}
	runs := map[string]ProbeRun{}
	for i, part := range parts {
		if part.Part == nil {
			return nil, fmt.Errorf("%s: is whole, not a part", names[i])
		}
		own := *part
		own.Part, own.Runs, own.Fit = nil, nil, nil
		got, err := own.identity()
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(got, want) {
			return nil, fmt.Errorf("%s: is of another probe than %s: model, text, statistics and flags have to be the same", names[i], names[0])
		}
		for _, r := range part.Runs {
			if _, ok := runs[r.Name]; ok {
				return nil, fmt.Errorf("%s: run %s is in another part too", names[i], r.Name)
			}
			runs[r.Name] = r
		}
	}
	for _, name := range whole.RunNames() {
		r, ok := runs[name]
		if !ok {
			return nil, fmt.Errorf("run %s is in no part: %d of %d parts are given", name, len(parts), parts[0].Part.Of)
		}
		whole.Runs = append(whole.Runs, r)
	}
	whole.SetFit()
	return &whole, nil
}

// identity is what the parts of a probe have in common.
func (p *Probe) identity() ([]byte, error) { return json.Marshal(p) }

// EncodeProbe returns the content of a file of probed sensitivities: JSON with
// a line for each tensor and run, keys in struct order and a final newline.
func EncodeProbe(p *Probe) ([]byte, error) {
	own := *p
	own.Schema, own.FormatVersion = ProbeSchemaName, ProbeFormatVersion
	if err := own.validate(); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	out := errorsWriter{w: bufio.NewWriter(&b)}
	fields := reflect.ValueOf(own)
	for i := range fields.NumField() {
		out.text(separator(i, "{", ",") + "\n  " + strconv.Quote(strictjson.Tag(fields.Type().Field(i))) + ": ")
		field := fields.Field(i)
		if field.Kind() == reflect.Slice && field.Type().Elem().Kind() == reflect.Struct {
			out.text("[")
			for k := range field.Len() {
				out.text(separator(k, "", ",") + "\n    ")
				out.value(field.Index(k).Interface(), 0)
			}
			out.text(separator(field.Len(), "", "\n  ") + "]")
			continue
		}
		out.value(field.Interface(), 0)
	}
	out.text("\n}\n")
	if err := errors.Join(out.err, out.w.Flush()); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// IsProbe reports whether JSON is, or says that it is, a file of probed
// sensitivities.
func IsProbe(data []byte) bool {
	var head struct {
		Schema json.RawMessage `json:"schema"`
	}
	return json.Unmarshal(data, &head) == nil && len(head.Schema) > 0 && head.Schema[0] == '"'
}

// DecodeProbe reads what [EncodeProbe] writes, as strictly as [Decode].
func DecodeProbe(data []byte) (*Probe, error) {
	var p Probe
	if err := decodeRecord(data, ProbeSchemaName, ProbeFormatVersion, "not sensitivities of probe", &p); err != nil {
		return nil, err
	}
	if err := p.validate(); err != nil {
		return nil, err
	}
	return &p, nil
}

// maxProbeTokens bounds counts of tokens, so that sums of them fit.
const maxProbeTokens = 1 << 40

func (p *Probe) validate() error {
	if p.Copies != CopiesSimulated && p.Copies != CopiesQuantized {
		return fmt.Errorf("copies: %q is neither %s nor %s", p.Copies, CopiesSimulated, CopiesQuantized)
	}
	if n, err := strconv.Atoi(p.Bands); p.Bands != BandsTensor && (err != nil || n < 1 || n > MaxBands || strconv.Itoa(n) != p.Bands) {
		return fmt.Errorf("bands: %q is neither %s nor a number from 1 to %d", p.Bands, BandsTensor, MaxBands)
	}
	if p.ContextTokens < 3 || p.ContextTokens > maxProbeTokens || p.Chunks < 1 || p.Chunks > maxProbeTokens {
		return fmt.Errorf("context_tokens, chunks: %d and %d", p.ContextTokens, p.Chunks)
	}
	if err := checkTypeNames(p.Types); err != nil {
		return fmt.Errorf("types: %w", err)
	}
	for _, name := range []string{p.ProbeType, p.WholeType} {
		if p.typeIndex(name) < 0 {
			return fmt.Errorf("types: %q is not among them", name)
		}
	}
	if part := p.Part; part != nil && (part.Index < 1 || part.Index > part.Of) {
		return fmt.Errorf("part: %d of %d", part.Index, part.Of)
	}
	for _, m := range []*Model{&p.Model, p.Reference} {
		if m == nil {
			continue
		}
		for i, f := range m.Files {
			if !isSHA256(f.HeaderSHA256) {
				return fmt.Errorf("files[%d].header_sha256: %q is not a sha256 in lower-case hex", i, f.HeaderSHA256)
			}
		}
	}
	if len(p.Model.Files) == 0 {
		return fmt.Errorf("model.files: is empty")
	}
	for i, in := range p.Statistics {
		if !isSHA256(in.SHA256) {
			return fmt.Errorf("statistics[%d].sha256: %q is not a sha256 in lower-case hex", i, in.SHA256)
		}
	}
	if p.Text != nil && !isSHA256(p.Text.SHA256) {
		return fmt.Errorf("text.sha256: %q is not a sha256 in lower-case hex", p.Text.SHA256)
	}
	if err := p.validateTensors(); err != nil {
		return err
	}
	return p.validateRuns()
}

// What bands can be.
const (
	BandsTensor = "tensor" // a run for each tensor
	MaxBands    = 1024
)

func (p *Probe) validateTensors() error {
	if len(p.Tensors) == 0 || len(p.Tensors) > maxSensitivityNames {
		return fmt.Errorf("tensors: %d of them", len(p.Tensors))
	}
	seen := map[string]bool{}
	for i := range p.Tensors {
		t := &p.Tensors[i]
		switch {
		case seen[t.Name]:
			return fmt.Errorf("duplicate tensor %s", t.Name)
		case t.Group == "":
			return fmt.Errorf("tensor %s: has no group", t.Name)
		case !(t.Typical > 0 && t.Typical <= maxSensitivity):
			return fmt.Errorf("tensor %s: typical: %v", t.Name, t.Typical)
		case len(t.Errors) != len(p.Types):
			return fmt.Errorf("tensor %s: %d errors for %d types", t.Name, len(t.Errors), len(p.Types))
		case len(t.Mixtures) != p.mixtures():
			return fmt.Errorf("tensor %s: is in %d mixtures, the first in %d", t.Name, len(t.Mixtures), p.mixtures())
		}
		seen[t.Name] = true
		for _, r := range t.Errors {
			if !isAmount(r) || r > maxSensitivity {
				return fmt.Errorf("tensor %s: errors: %v", t.Name, r)
			}
		}
		for _, name := range t.Mixtures {
			if f, ok := quant.ByName(name); !ok || p.typeIndex(f.Name) < 0 {
				return fmt.Errorf("tensor %s: mixtures: %q is not among the types", t.Name, name)
			}
		}
	}
	return nil
}

func (p *Probe) validateRuns() error {
	names := p.RunNames()
	mixtures := p.mixtures()
	groups := len(names) - mixtures - 1
	at, effect := 0, false
	for i := range p.Runs {
		r := &p.Runs[i]
		k := slices.Index(names[at:], r.Name)
		if k < 0 {
			return fmt.Errorf("run %s: is no run of the tensors' groups, twice there or out of order", r.Name)
		}
		kind := RunGroup
		if at += k; at >= groups {
			kind = RunMixture
		}
		if at == len(names)-1 {
			kind = RunWhole
		}
		at++
		if r.Kind != kind {
			return fmt.Errorf("run %s: kind: %q, want %s", r.Name, r.Kind, kind)
		}
		for _, v := range []float64{r.KLD, r.StandardError, r.Control} {
			if !isAmount(v) || v > maxSensitivity {
				return fmt.Errorf("run %s: %v is not a divergence", r.Name, v)
			}
		}
		if r.ScoredTokens == 0 || r.ScoredTokens > maxProbeTokens {
			return fmt.Errorf("run %s: scored_tokens: %d", r.Name, r.ScoredTokens)
		}
		effect = effect || kind == RunGroup && r.Net() > 0
	}
	if p.Part != nil {
		return nil
	}
	runs := p.byName()
	for _, name := range names[:groups] {
		if runs[name] == nil {
			return fmt.Errorf("run %s: is missing", name)
		}
	}
	if !effect {
		return fmt.Errorf("no group's run shows more than its control")
	}
	if f := p.Fit; f != nil {
		for _, v := range []*float64{f.K, f.Spread, f.Y0} {
			if v != nil && (!isAmount(*v) || *v > maxSensitivity) {
				return fmt.Errorf("fit: %v", *v)
			}
		}
		if (f.K == nil) != (f.Spread == nil) || f.K != nil && *f.K == 0 || f.Spread != nil && *f.Spread < 1 || f.Y0 != nil && f.K == nil {
			return fmt.Errorf("fit: k, spread and y0 do not go together")
		}
	}
	return nil
}
