package measure

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/stats"
	"github.com/ggufplan/ggufplan/stats/pace"
)

// Options say what to measure and how.
type Options struct {
	// Types are the candidates; nil for [Candidates].
	Types []quant.Type

	// Full encodes every row. Otherwise rows are sampled to Precision, a relative
	// half width, 0 for [DefaultPrecision]: see [Run].
	Full      bool
	Precision float64
	Seed      uint64

	// Part measures one share of the work; nil for all of it.
	Part *Part

	// Quantizable says which tensors other than routed experts count; nil for
	// none of them.
	Quantizable func(*ggufio.Tensor) bool

	// Workers is the number of goroutines, 0 for one per processor up to 64.
	// The result does not depend on it.
	Workers int

	// Journal holds what an interrupted run had done; nil to keep none.
	Journal *Journal

	// Progress is told how far the run is, counted in weights times types: what
	// a sample may yet need or spare is foreseen. Calls do not overlap. It may be
	// nil.
	Progress func(pace.Progress)

	Generator string // "ggufplan 0.1.0"

	timed bool // costs are those of this machine, for a moment's work
}

// Candidates are the types that are measured by default: every quantized type
// that can be encoded, smallest first.
func Candidates() []quant.Type {
	var types []quant.Type
	for _, f := range quant.Formats() {
		if f.Quantized && quant.CanEncode(f.Type) {
			types = append(types, f.Type)
		}
	}
	sortBySize(types)
	return types
}

// sortBySize puts the type with the fewest bits per weight first, ties by
// type number.
func sortBySize(types []quant.Type) {
	slices.SortFunc(types, func(a, b quant.Type) int {
		fa, _ := quant.Lookup(a)
		fb, _ := quant.Lookup(b)
		return cmp.Or(
			cmp.Compare(fa.Layout.BytesPerBlock*fb.Layout.WeightsPerBlock, fb.Layout.BytesPerBlock*fa.Layout.WeightsPerBlock),
			cmp.Compare(a, b))
	})
}

// A measurement is one run: the result as far as it can be said before
// anything is read, and the items of work in the order of the result.
type measurement struct {
	model    *ggufio.Model
	weights  string // the state of the model's files when measuring began
	data     *ggufio.Data
	evidence *stats.Evidence // nil without statistics
	options  Options
	result   *Result
	items    []measureItem
	groups   []itemGroup // all items, in runs that one worker measures together
	means    layerMeans
	layers   int // of the model
	costs    pace.Costs
	traffic  struct { // of the layer last asked for
		layer *stats.Layer
		all   float64
	}
}

// An itemGroup is a run of the items: one, or all experts of a tensor that are
// measured together.
type itemGroup struct {
	first, count int
	expected     work
}

// A measureItem is one expert of one tensor.
type measureItem struct {
	*measuredTensor
	slice  int         // the expert's place in the tensor
	target float64     // relative half width to measure to
	place  *ExpertLoss // where the result goes
}

// A measuredTensor is what the items of one tensor share.
type measuredTensor struct {
	tensor *ggufio.Tensor
	types  []quant.Type
	works  []work // on a weight in each of the types
}

// Measure computes the error of every expert of every expert tensor, and of
// every other quantizable tensor, in every candidate type.
//
// evidence, fitted to the model, gives counts and column weights; it may be
// nil. A type that needs an imatrix is a candidate only where the imatrix has
// a complete entry under the tensor's own name. The source's own type costs
// nothing: a tensor that keeps its type is copied.
//
// Unless all rows are measured, they are sampled without replacement: every row
// is read for its norm, or some drawn evenly where the precision is 10 % or
// coarser or an expert has more than 2^20 rows, and the rows to encode are drawn
// from these by weight, in an order that follows from the seed, the tensor's name,
// the expert and the norms. Rows are added until the 95 % interval of each type's
// relative error is within the precision of it, and narrower the more traffic the
// expert has, so that the tensor's traffic-weighted error is within a fifth of that
// in models of 32 layers and more, a tenth with up to 8; see sample.go for the
// estimator. Whole tensors without experts are measured to that.
//
// A weight that is NaN or infinite in a row that is read, or too large for a
// candidate's scale in one that is encoded, ends the measurement: the error names
// tensor, expert, row and column, and the type where it is one's scale. It is that
// of the first expert in the order of the file.
//
// Memory stays within 4 MiB per worker and 40 bytes per row of its expert, 5 MB
// for a vocabulary of 130,000. Of more than 2^20 rows as many are known, in 100 MB,
// and more only where they do not tell the rest. The result takes 40 bytes per
// expert and type: 60 MB for DeepSeek-V3's 44544 routed expert matrices in 25
// types.
//
// The result has the same bits for any number of workers, for a run that was
// resumed, and for parts that were merged.
func Run(ctx context.Context, model *ggufio.Model, evidence *stats.Evidence, options Options) (*Result, error) {
	options.timed = options.Progress != nil
	m, err := newMeasurement(model, evidence, options)
	if err != nil {
		return nil, err
	}
	if m.weights, err = m.weightsState(); err != nil {
		return nil, err
	}
	if m.data, err = model.OpenData(); err != nil {
		return nil, err
	}
	defer m.data.Close()
	result, err := m.run(ctx)
	if err != nil {
		return nil, err
	}
	if state, err := m.weightsState(); err != nil || state != m.weights {
		return nil, errors.Join(ErrModelChanged, err)
	}
	return result, nil
}

func newMeasurement(model *ggufio.Model, evidence *stats.Evidence, options Options) (*measurement, error) {
	if model.IsTierFile() {
		return nil, ggufio.ErrTierFile
	}
	if options.Types == nil {
		options.Types = Candidates()
	}
	for _, t := range options.Types {
		if !quant.CanEncode(t) {
			return nil, fmt.Errorf("%v cannot be measured: there is no encoder for it", t)
		}
	}
	types := slices.Clone(options.Types)
	sortBySize(types)
	options.Types = slices.Compact(types)
	if options.Precision == 0 {
		options.Precision = DefaultPrecision
	}
	if !(options.Precision >= FinestPrecision && options.Precision <= CoarsestPrecision) {
		return nil, fmt.Errorf("precision %v: want %v to %v", options.Precision, FinestPrecision, CoarsestPrecision)
	}
	m := &measurement{model: model, evidence: evidence, options: options}
	m.result = &Result{
		Schema: ErrorsSchemaName, FormatVersion: ErrorsFormatVersion, Generator: options.Generator,
		Model:      Model{Name: model.Name, Architecture: model.Architecture.Name, Files: model.FileIDs()},
		Statistics: []Input{}, Weights: "none",
		Sampling: Sampling{Mode: "sample", Seed: options.Seed, Confidence: sampleConfidence, TargetHalf: options.Precision},
		Part:     options.Part,
		Types:    typeNames(options.Types),
		Tensors:  []TensorLoss{},
	}
	if options.Full {
		m.result.Sampling = Sampling{Mode: "full", Confidence: sampleConfidence}
	}
	if evidence != nil {
		for _, in := range evidence.Inputs {
			m.result.Statistics = append(m.result.Statistics, Input{in.Name, in.SHA256})
		}
		if m.columns() != nil {
			m.result.Weights = "imatrix"
		}
	}
	if options.timed {
		var err error
		if m.costs, err = pace.Timed(options.Types, m.columns() != nil); err != nil {
			return nil, err
		}
	}
	for i := range model.Tensors {
		m.layers = max(m.layers, model.Tensors[i].Layer+1)
	}
	for i := range model.Tensors {
		m.addTensor(&model.Tensors[i])
	}
	if len(m.items) == 0 && !slices.ContainsFunc(options.Types, func(t quant.Type) bool { return !quant.EncodeNeedsWeights(t) }) {
		return nil, fmt.Errorf("no tensor has an imatrix entry, without which %v cannot be measured", options.Types[0])
	}
	if len(m.items) == 0 {
		return nil, fmt.Errorf("no tensor that can be quantized")
	}
	if err := m.takePart(); err != nil {
		return nil, err
	}
	m.layOut()
	return m, nil
}

// addTensor adds a tensor's items, or none if it is not to be measured.
func (m *measurement) addTensor(t *ggufio.Tensor) {
	wanted := t.Role.IsExpert()
	if m.options.Quantizable != nil {
		wanted = m.options.Quantizable(t)
	}
	if !wanted || !quant.CanDecode(t.Type) {
		return
	}
	shared := &measuredTensor{tensor: t, types: m.typesOf(t)}
	if len(shared.types) == 0 {
		return
	}
	shared.works = m.typeWorks(shared)
	experts := max(1, t.Experts())
	first := len(m.items)
	for slice := range experts {
		it := measureItem{measuredTensor: shared, slice: slice}
		it.target = targetOf(m.options.Precision, m.share(&it), m.layers)
		m.items = append(m.items, it)
	}
	if m.pools(experts, len(shared.types)) {
		m.groups = append(m.groups, itemGroup{first, experts, m.expected(m.items[first:])})
		return
	}
	for i := first; i < len(m.items); i++ {
		m.groups = append(m.groups, itemGroup{i, 1, m.expected(m.items[i:][:1])})
	}
}

// layOut lists the items' tensors in the result and gives each item its place.
func (m *measurement) layOut() {
	for start := 0; start < len(m.items); {
		end := start
		for end < len(m.items) && m.items[end].measuredTensor == m.items[start].measuredTensor {
			end++
		}
		t := m.items[start].tensor
		entry := TensorLoss{
			Name: t.Name, Role: string(t.Role), Shape: slices.Clone(t.Shape), Source: t.Type.String(),
			Types: typeNames(m.items[start].types), Experts: make([]ExpertLoss, end-start),
		}
		if t.Layer >= 0 {
			entry.Layer = &t.Layer
		}
		for i := range entry.Experts {
			m.items[start+i].place = &entry.Experts[i]
		}
		m.result.Tensors = append(m.result.Tensors, entry)
		start = end
	}
}

// typesOf returns the types to measure a tensor in: each candidate after shape
// fallback, without those that the tensor's statistics do not allow.
func (m *measurement) typesOf(t *ggufio.Tensor) []quant.Type {
	var types []quant.Type
	for _, candidate := range m.options.Types {
		typ := quant.ShapeFallback(candidate, t.Shape[0])
		f, _ := quant.Lookup(typ)
		if !quant.CanEncode(typ) || slices.Contains(types, typ) {
			continue
		}
		if (f.NeedsImatrix || quant.EncodeNeedsWeights(typ)) && !Covers(m.columns(), t) {
			continue
		}
		types = append(types, typ)
	}
	sortBySize(types)
	return types
}

func typeNames(types []quant.Type) []string {
	names := make([]string, len(types))
	for i, t := range types {
		names[i] = t.String()
	}
	return names
}

// run measures all items on several goroutines. Results go to their items'
// places, so their order of arrival does not matter.
func (m *measurement) run(ctx context.Context) (*Result, error) {
	done := make([]bool, len(m.items))
	if m.options.Journal != nil {
		if err := m.options.Journal.begin(m, done); err != nil {
			return nil, err
		}
		if err := m.measureAgain(ctx, m.options.Journal.last, done); err != nil {
			return nil, err
		}
	}
	ledger := newLedger(m, done)
	ledger.report(m.options.Progress)
	err := m.measureGroups(ctx, ledger, m.order(ledger.todo()), done)
	if at := slices.Index(ledger.failed, true); err != nil && ctx.Err() == nil && at >= 0 {
		// What was taken early is at fault: of what comes before it in the file,
		// some may be too.
		before := slices.DeleteFunc(ledger.todo(), func(n int) bool { return n > at })
		err = cmp.Or(m.measureGroups(ctx, ledger, before, done), err)
	}
	if err != nil {
		return nil, err
	}
	return m.result, nil
}

// measureGroups measures groups, by their numbers, in that order.
func (m *measurement) measureGroups(ctx context.Context, ledger *ledger, numbers []int, done []bool) error {
	var mu sync.Mutex // guards the result, the ledger and the journal
	return Parallel(ctx, len(numbers), m.options.Workers, func() *measureWorker { return newMeasureWorker(m) }, func(w *measureWorker, k int) error {
		g := &m.groups[numbers[k]]
		w.spend = func(x work) {
			mu.Lock()
			defer mu.Unlock()
			ledger.spend(numbers[k], x)
			ledger.report(m.options.Progress)
		}
		found, err := w.measureGroup(ctx, m.items[g.first:][:g.count])
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			ledger.giveUp(numbers[k])
			return err
		}
		for i, x := range found {
			*m.items[g.first+i].place = x
			done[g.first+i] = true
			if m.options.Journal != nil {
				err = errors.Join(err, m.options.Journal.add(g.first+i, x))
			}
		}
		ledger.finish(numbers[k])
		ledger.report(m.options.Progress)
		return err
	})
}

// measureAgain measures an item that the journal holds, with those of its group,
// and compares: files that look the same may hold other weights. No item is -1.
func (m *measurement) measureAgain(ctx context.Context, item int, done []bool) error {
	if item < 0 {
		return nil
	}
	at, _ := slices.BinarySearchFunc(m.groups, item, func(g itemGroup, item int) int { return g.first + g.count - 1 - item })
	g := m.groups[at]
	items := m.items[g.first:][:g.count]
	found, err := newMeasureWorker(m).measureGroup(ctx, items)
	if err != nil {
		return err
	}
	for i := range found {
		if !done[g.first+i] {
			continue
		}
		now, err := json.Marshal(found[i])
		if err != nil {
			return err
		}
		if then, err := json.Marshal(*items[i].place); err != nil || !bytes.Equal(now, then) {
			return errors.Join(fmt.Errorf("%s: %w: measured again, the errors are others", items[i].describe(), ErrModelChanged), err)
		}
	}
	return nil
}

// expert returns the number of the item's expert: that of its tensor if it
// holds a single one, else its place in the fused tensor.
func (it *measureItem) expert() int {
	if it.tensor.Expert >= 0 {
		return it.tensor.Expert
	}
	return it.slice
}

// describe names the item in errors.
func (it *measureItem) describe() string {
	if !it.tensor.Role.IsExpert() {
		return it.tensor.Name
	}
	return fmt.Sprintf("%s: expert %d", it.tensor.Name, it.expert())
}
