package planner

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner/frequency"
	"github.com/ggufplan/ggufplan/planner/manifest"
	"github.com/ggufplan/ggufplan/stats"
	"github.com/ggufplan/ggufplan/stats/measure"
)

// A SensitivityKind says where sensitivities come from.
type SensitivityKind string

// The kinds.
const (
	SensitivityNone    SensitivityKind = "none"    // all tensors alike
	SensitivityTypical SensitivityKind = "typical" // constants by class of tensor
	SensitivityTable   SensitivityKind = "table"   // one run a tensor, or several that share a run
	SensitivityProbe   SensitivityKind = "probe"   // what probe wrote
)

// Where a tensor's sensitivity comes from, as the manifest says it.
const (
	fromTypical = "typical"
	fromTable   = "measured"
	fromLayers  = "nearest layers"
	fromScaled  = "typical, scaled to the measured"
)

// A sensitivity is s(t) of one slot.
type sensitivity struct {
	value float64
	from  string // "" where all are alike
}

// sensitivities settles s(t) of every slot: typical, of a table or 1. What a
// table did not measure is interpolated between the nearest layers below and
// above whose tensor of the same name was, beyond the first and last taken from
// the nearest; where no layer's was, it is the typical value, scaled by what the
// class's measured tensors, or else all, have over theirs.
func (w *weighing) sensitivities() error {
	w.sensitivity = make([]sensitivity, len(w.frame.slots))
	s := w.budget.Sensitivity
	switch {
	case w.alike():
		for i := range w.sensitivity {
			w.sensitivity[i].value = 1
		}
		return nil
	case s.Kind == SensitivityTypical:
		typical, _ := typicalSensitivities(w.frame.problem.Model)
		for i, v := range typical {
			w.sensitivity[i] = sensitivity{v, fromTypical}
		}
		return nil
	case s.Sensitivity == nil:
		return fmt.Errorf("sensitivities of kind %q need a table", s.Kind)
	}
	t, err := newSensitivityTable(w)
	if err != nil {
		return err
	}
	for i := range w.sensitivity {
		w.sensitivity[i] = t.of(i)
	}
	w.table = t.record
	return nil
}

// noteInterpolated lists a tensor whose sensitivity its table did not measure.
func (w *weighing) noteInterpolated(i int) {
	if from := w.sensitivity[i].from; from == fromLayers || from == fromScaled {
		w.interpolated = append(w.interpolated, w.frame.slots[i].tensor.Name)
	}
}

// alike reports whether all tensors matter alike. Typical values weigh relative
// errors, not absolute ones.
func (w *weighing) alike() bool {
	s := w.budget.Sensitivity
	return s == nil || s.Kind == SensitivityNone || s.Kind == SensitivityTypical && w.budget.Objective == ObjectiveMSE
}

// A NoSensitivityError reports a table that measured no tensor of the model.
type NoSensitivityError struct{ First string }

func (e *NoSensitivityError) Error() string {
	return "no measured tensor of the sensitivity table is in the model; its first is " + e.First
}

// A tableRun is what dropping some tensors of one layer together showed.
type tableRun struct {
	kld   float64
	names []string
}

// fewRuns is the number of runs below which the second smallest says nothing
// about the floor: it would be most of what was measured.
const fewRuns = 10

// leastNet is what a run's net value is raised to, over the median of all: less
// is below the noise.
const leastNet = 0.05

// How the floor of a table was found, as the manifest says it.
const (
	floorControl    = "control run"
	floorPrediction = "prediction layers"
	floorSecond     = "second smallest run"
)

type sensitivityTable struct {
	w      *weighing
	index  map[string]int             // slot by name
	value  map[string]float64         // of the model's measured tensors
	series map[string]map[int]float64 // by name without the layer, then layer; without zeros
	layers int

	typical []float64
	class   []tensorClass
	scale   [classes]float64 // measured over typical; of classNone over all

	record tableRecord
}

// A tableRecord is what the manifest says about a table.
type tableRecord struct {
	floor    *float64
	rule     *string
	dropType *string
	flat     bool // all values within some per cent: no table of divergences
}

func newSensitivityTable(w *weighing) (*sensitivityTable, error) {
	table := w.budget.Sensitivity
	t := &sensitivityTable{w: w, index: map[string]int{}, value: map[string]float64{}, series: map[string]map[int]float64{}}
	for i := range w.frame.slots {
		s := &w.frame.slots[i]
		t.index[s.tensor.Name] = i
		t.layers = max(t.layers, s.tensor.Layer+1)
	}
	t.typical, t.class = typicalSensitivities(w.frame.problem.Model)
	if table.Probe != nil {
		return t, t.readProbe(table.Probe)
	}
	runs, err := t.netRuns()
	if err != nil {
		return nil, err
	}
	drop, err := t.dropType()
	if err != nil {
		return nil, err
	}
	sum, n := 0.0, 0
	for _, run := range runs {
		for _, name := range run.names {
			i, ok := t.index[name]
			if !ok {
				continue
			}
			r := 1.0
			if drop != nil {
				if r, err = t.w.errorAt(i, *drop); err != nil {
					return nil, err
				}
			}
			v := run.kld / float64(len(run.names)) / r
			if !(v > 0 && v <= math.MaxFloat64) {
				continue // no error at the drop type: nothing was measured
			}
			t.value[name] = v
			sum += v
			n++
		}
	}
	if n == 0 {
		return nil, &NoSensitivityError{table.Names[0]}
	}
	if drop == nil { // no unit: 1 is the mean
		for name := range t.value {
			t.value[name] /= sum / float64(n)
		}
	}
	t.findSeries()
	t.findScales()
	return t, nil
}

// readProbe takes the values of groups apart, and values of errors: measured
// where they were for the plan, else typical as the plan's are, else the
// probe's own.
func (t *sensitivityTable) readProbe(p *measure.Probe) error {
	drop, err := t.dropType()
	if err != nil {
		return err
	}
	model := t.w.frame.problem.Model
	if ggufio.SameModel(model.FileIDs(), p.Model.Files) != nil && (p.Model.Name != model.Name || p.Model.Architecture != model.Architecture.Name) {
		return &OtherProbeError{p.Model.Name}
	}
	at := slices.Index(p.Types, p.ProbeType)
	errorOf := make([]float64, len(p.Tensors))
	for i := range p.Tensors {
		errorOf[i] = p.Tensors[i].Errors[at]
		slot, ok := t.index[p.Tensors[i].Name]
		if !ok || t.w.budget.Errors != nil && !t.w.isKnown(&t.w.frame.slots[slot], *drop) {
			continue
		}
		if errorOf[i], err = t.w.errorAt(slot, *drop); err != nil {
			return err
		}
	}
	for name, v := range p.Alphas(func(i int) float64 { return errorOf[i] }) {
		if _, ok := t.index[name]; ok {
			t.value[name] = v
		}
	}
	if len(t.value) == 0 {
		return &NoSensitivityError{p.Tensors[0].Name}
	}
	floor, rule := 0.0, floorControl
	for i := range p.Runs {
		floor = max(floor, p.Runs[i].Control)
	}
	t.record.floor, t.record.rule = &floor, &rule
	t.findSeries()
	t.findScales()
	return nil
}

// An OtherProbeError reports sensitivities that were probed on another model.
type OtherProbeError struct{ Model string }

func (e *OtherProbeError) Error() string {
	return fmt.Sprintf("the sensitivities were probed on another model, %q", e.Model)
}

// netRuns returns the table's runs in its order with the floor taken off.
func (t *sensitivityTable) netRuns() ([]tableRun, error) {
	table := t.w.budget.Sensitivity
	a := &t.w.frame.problem.Model.Architecture
	runLayers := a.BlockCount - a.NextNBlocks
	t.record.flat = isFlat(table.Values)

	idle := []float64{} // what tensors show that the forward pass does not run
	effect := map[string]bool{}
	for i, name := range table.Names {
		v := table.Values[i]
		if math.IsNaN(v) {
			continue
		}
		if layerOf(name) >= runLayers && a.NextNBlocks > 0 {
			idle = append(idle, v)
		} else if v > 0 {
			effect[roleName(name)] = true
		}
	}
	idle = slices.DeleteFunc(idle, math.IsNaN)
	isIdle := len(idle) > 1 && slices.Min(idle) == slices.Max(idle)

	var names []string
	var values []float64
	for i, name := range table.Names {
		v := table.Values[i]
		switch {
		case math.IsNaN(v), !effect[roleName(name)], isIdle && layerOf(name) >= runLayers:
			continue // not measured, or no effect in this test
		}
		names, values = append(names, name), append(values, v)
	}
	runs := groupRuns(names, values)
	if len(runs) == 0 {
		return nil, &NoSensitivityError{table.Names[0]}
	}
	floor, rule := 0.0, ""
	switch {
	case table.Control != nil:
		floor, rule = *table.Control, floorControl
	case isIdle:
		floor, rule = idle[0], floorPrediction
	case len(runs) >= fewRuns:
		sorted := slices.SortedFunc(slices.Values(runs), func(a, b tableRun) int { return cmp.Compare(a.kld, b.kld) })
		floor, rule = sorted[1].kld, floorSecond
	}
	if rule != "" {
		t.record.floor, t.record.rule = &floor, &rule
	}
	net := make([]float64, len(runs))
	for i := range runs {
		net[i] = max(0, runs[i].kld-floor)
	}
	least := leastNet * stats.Median(net)
	if least == 0 {
		positive := slices.DeleteFunc(slices.Clone(net), func(v float64) bool { return v == 0 })
		if len(positive) == 0 {
			return nil, fmt.Errorf("no value is above the floor of %v, from the %s", floor, rule)
		}
		least = slices.Min(positive)
	}
	for i := range runs {
		runs[i].kld = max(net[i], least)
	}
	return runs, nil
}

// isFlat reports whether values are too much alike for divergences: a table of
// perplexities, all close to the model's own.
func isFlat(values []float64) bool {
	known := slices.DeleteFunc(slices.Clone(values), math.IsNaN)
	return len(known) > 2 && slices.Min(known) > 0.9*slices.Max(known)
}

// sharedIn is the part of layers in which tensors must show one value to have
// shared a run.
const sharedIn = 0.6

// groupRuns finds the tensors that were dropped together: of one layer, with
// one value, where the same roles show one value in over 60 % of the layers.
func groupRuns(names []string, values []float64) []tableRun {
	layers := map[int]map[string]int{} // role to index
	for i, name := range names {
		if l := layerOf(name); l >= 0 {
			if layers[l] == nil {
				layers[l] = map[string]int{}
			}
			layers[l][roleName(name)] = i
		}
	}
	type pair struct{ a, b string }
	both, equal := map[pair]int{}, map[pair]int{}
	for _, roles := range layers {
		for a, i := range roles {
			for b, j := range roles {
				if a < b {
					both[pair{a, b}]++
					if values[i] == values[j] && values[i] > 0 {
						equal[pair{a, b}]++
					}
				}
			}
		}
	}
	var runs []tableRun
	used := make([]bool, len(names))
	for i, name := range names {
		if used[i] {
			continue
		}
		run := tableRun{values[i], []string{name}}
		if l := layerOf(name); l >= 0 {
			for j := i + 1; j < len(names); j++ {
				if used[j] || values[j] != values[i] || layerOf(names[j]) != l {
					continue
				}
				p := pair{roleName(name), roleName(names[j])}
				if p.a > p.b {
					p.a, p.b = p.b, p.a
				}
				if float64(equal[p]) > sharedIn*float64(both[p]) && equal[p] > 1 {
					run.names = append(run.names, names[j])
					used[j] = true
				}
			}
		}
		runs = append(runs, run)
	}
	return runs
}

func layerOf(name string) int {
	layer, _, _ := ggufio.ParseTensorName(name)
	return layer
}

// roleName is a tensor's name without its layer, or all of it.
func roleName(name string) string {
	if kind, ok := kindOf(name); ok {
		return kind
	}
	return name
}

// kindOf returns a tensor's name without its layer, such as
// "ffn_up_exps.weight".
func kindOf(name string) (string, bool) {
	rest, ok := strings.CutPrefix(name, "blk.")
	if !ok {
		return "", false
	}
	_, kind, ok := strings.Cut(rest, ".")
	return kind, ok
}

// dropType returns the type that the table's runs had, nil where it is not
// known.
func (t *sensitivityTable) dropType() (*frequency.Type, error) {
	name := t.w.budget.Sensitivity.DropType
	if name == "" {
		return nil, nil
	}
	f, ok := quant.ByName(name)
	if !ok || f.Engine != quant.LlamaCpp {
		return nil, fmt.Errorf("drop type %q is not a type of llama.cpp", name)
	}
	if _, ok := typicalError(f.Type); !ok {
		return nil, fmt.Errorf("drop type %s: its error is not known", f.Name)
	}
	typ := frequency.GGML(f.Type)
	t.record.dropType = &typ.Name
	return &typ, nil
}

// errorAt returns the relative error of a whole tensor in a type, over its
// experts by what they count for: measured where it was, else typical.
func (w *weighing) errorAt(i int, drop frequency.Type) (float64, error) {
	s := &w.frame.slots[i]
	o, err := s.resolve(drop, false)
	if err != nil {
		return 0, err
	}
	if o.Type == s.source {
		return 0, nil
	}
	weights, err := w.expertWeights(s)
	if err != nil {
		return 0, err
	}
	sum := 0.0
	for e := range weights {
		r, _ := w.relativeError(s, e, len(weights), o.Type)
		sum += float64(weights[e] * r)
	}
	return sum, nil
}

// relativeError returns that of one of a tensor's experts in a type, measured
// where it was, else typical, and whether either is known.
func (w *weighing) relativeError(s *slot, expert, experts int, t frequency.Type) (float64, bool) {
	if m := w.measured[s.tensor.Name]; m != nil && len(m.Experts) == experts {
		if k := slices.Index(m.Types, t.Name); k >= 0 {
			return m.Experts[expert].Types[k].Relative, true
		}
	}
	if lossless(t) {
		return 0, true
	}
	return typicalError(t.GGML)
}

// findSeries collects by role what layers above and below can be judged by: not
// zeros, which are below the noise.
func (t *sensitivityTable) findSeries() {
	table := t.w.budget.Sensitivity
	for i, name := range table.Names {
		v, ok := t.value[name]
		kind, inBlock := kindOf(name)
		if !ok || !inBlock || table.Values[i] == 0 {
			continue
		}
		if t.series[kind] == nil {
			t.series[kind] = map[int]float64{}
		}
		t.series[kind][layerOf(name)] = v
	}
}

// findScales compares what was measured with typical values, class by class.
func (t *sensitivityTable) findScales() {
	var measured, typical [classes]float64
	for i := range t.typical {
		v, ok := t.value[t.w.frame.slots[i].tensor.Name]
		if !ok {
			continue
		}
		for _, c := range []class{classNone, t.class[i].class} {
			measured[c] += v
			typical[c] += t.typical[i]
			if t.class[i].class == classNone {
				break
			}
		}
	}
	for c := range t.scale {
		if t.scale[c] = measured[classNone] / typical[classNone]; typical[c] > 0 {
			t.scale[c] = measured[c] / typical[c]
		}
	}
}

func (t *sensitivityTable) of(i int) sensitivity {
	s := &t.w.frame.slots[i]
	if v, ok := t.value[s.tensor.Name]; ok {
		return sensitivity{v, fromTable}
	}
	if v, ok := t.interpolate(s); ok {
		return sensitivity{v, fromLayers}
	}
	return sensitivity{t.typical[i] * t.scale[t.class[i].class], fromScaled}
}

func (t *sensitivityTable) interpolate(s *slot) (float64, bool) {
	kind, _ := kindOf(s.tensor.Name)
	series := t.series[kind]
	layer := s.tensor.Layer
	if layer < 0 || len(series) == 0 {
		return 0, false
	}
	low, high := layer-1, layer+1
	for ; low >= 0; low-- {
		if _, ok := series[low]; ok {
			break
		}
	}
	for ; high < t.layers; high++ {
		if _, ok := series[high]; ok {
			break
		}
	}
	switch {
	case low < 0 && high >= t.layers:
		return 0, false
	case low < 0:
		return series[high], true
	case high >= t.layers:
		return series[low], true
	}
	along := float64(layer-low) / float64(high-low)
	return series[low] + float64(along*(series[high]-series[low])), true
}

// damageFindings says what the plan's damage is not based on.
func (w *weighing) damageFindings() []Finding {
	var list []Finding
	if w.budget.Errors == nil && len(w.cells)+len(w.others) > 0 {
		message := "errors are typical of each type, not measured on this model"
		if s := w.budget.Sensitivity; s != nil && s.Kind == SensitivityTypical {
			message = "errors are typical of each type and sensitivities of each class of tensor, not measured on this model"
		}
		if len(w.frame.layers) > 0 && w.budget.Objective.weighing() == ObjectiveOutputShare {
			message += "; an expert's output share is that of its down projection's input"
		}
		list = append(list, Finding{CodeTypicalErrors, w.frame.modelFile(), message})
	}
	if n := len(w.withoutImatrix); n > 0 && w.frame.problem.Policy.Name == PolicyBudget {
		list = append(list, Finding{CodeTypesLeftOut, w.frame.modelFile(),
			fmt.Sprintf("routed experts cannot have %s: they take an importance matrix, and the statistics have none for all of these tensors", strings.Join(w.withoutImatrix, ", "))})
	}
	if len(w.leftOut) > 0 {
		list = append(list, w.partialDamage("predicted damage leaves out %d tensors whose error is not known: %s", w.leftOut))
	}
	if s := w.budget.Sensitivity; s != nil && s.Sensitivity != nil && s.Probe != nil {
		if f := s.Probe.Fit; f != nil && f.Spread != nil && *f.Spread > measure.MaxProbeSpread {
			list = append(list, Finding{CodeProbeSpread, s.Name,
				fmt.Sprintf("mixtures of types are up to %.2f times off what the sensitivities add up to: they do not hold for this model, and no KL divergence is predicted", *f.Spread)})
		}
	}
	if w.table.flat {
		list = append(list, Finding{CodeFlatSensitivity, w.budget.Sensitivity.Name,
			"all values lie within 10 % of the largest: a table of perplexities, or one with little above its floor, says little about tensors"})
	}
	return list
}

// partialDamage is a finding about tensors, of which it names three.
func (w *weighing) partialDamage(format string, tensors []string) Finding {
	n := len(tensors)
	names := strings.Join(tensors[:min(n, 3)], ", ")
	if n > 3 {
		names += ", ..."
	}
	return Finding{CodePartialDamage, w.frame.modelFile(), fmt.Sprintf(format, n, names)}
}

// recordSensitivity says in the manifest what was used.
func (w *weighing) recordSensitivity() *manifest.Sensitivity {
	s := w.budget.Sensitivity
	rec := &manifest.Sensitivity{Kind: string(SensitivityNone), Interpolated: append([]string{}, w.interpolated...)}
	if w.alike() {
		return rec
	}
	rec.Kind = string(s.Kind)
	if s.Sensitivity != nil {
		rec.Name, rec.SHA256 = &s.Name, &s.SHA256
		rec.DropType, rec.Floor, rec.FloorRule = w.table.dropType, w.table.floor, w.table.rule
	}
	return rec
}
