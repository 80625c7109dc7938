package planner

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner/frequency"
	"github.com/ggufplan/ggufplan/planner/internal/knapsack"
	"github.com/ggufplan/ggufplan/planner/llamaquantize"
	"github.com/ggufplan/ggufplan/planner/manifest"
	"github.com/ggufplan/ggufplan/stats"
	"github.com/ggufplan/ggufplan/stats/measure"
)

// A weighing is the budget policy's problem before a budget is set: what every
// candidate of every tensor takes and costs. Damage is held as an integer, a
// multiple of 2^-scale, so that sums are exact.
type weighing struct {
	frame  *frame
	budget *Budget

	types  []frequency.Type       // candidates asked for, smallest first
	cells  []cell                 // by layer, projection, expert
	cellOf []int                  // by slot, -1 where the policy does not decide
	tiedTo map[int]frequency.Type // by slot: the type of the pinned tensor that it is tied to
	ties   []tie
	sets   []knapsack.Set // by tie: what splitSets made of it
	room   *room
	scale  int
	fixed  []uint64 // by slot: bytes, where the policy does not decide

	others    []cell // tensors that may be quantized and that the policy does not decide, without candidates
	otherLoss float64
	otherCost uint64   // the same in units of 2^-scale
	leftOut   []string // tensors whose damage is not known

	withoutImatrix []string // types that a routed expert's tensor cannot have for want of an importance matrix

	price        *float64 // damage per byte at the fused plan's cut; nil where all fits
	paletteBound *uint64  // a cost below which no fused plan of so few types is; nil for any number

	fixedTypes []frequency.Type // beside fixed

	shares       *layerShares
	sensitivity  []sensitivity // by slot
	interpolated []string      // tensors whose sensitivity was not measured
	table        tableRecord
	measured     map[string]*measure.TensorLoss
}

// A cell is a tensor that the policy decides.
type cell struct {
	slot       *slot
	index      int         // of slot
	candidates []candidate // by size, then type number; no type twice
	weights    []float64   // by expert: sensitivity × share
	damage     [][]float64 // by expert and candidate; until the costs are known
	cost       [][]uint64  // damage × 2^scale, rounded
	total      []uint64    // by candidate: the cost of all experts
}

// A candidate is a type that a tensor can have: the outcome of one that was
// asked for.
type candidate struct {
	outcome
	free bool // the source's own type: no error
}

// splits reports whether the split plan decides expert by expert.
func (c *cell) splits() bool { return c.slot.layer >= 0 && c.slot.tensor.Expert < 0 }

// expertBytes returns the bytes of one expert in a candidate.
func (c *cell) expertBytes(i int) uint64 { return c.candidates[i].SizeBytes / uint64(len(c.cost)) }

func newWeighing(f *frame) (*weighing, error) {
	w, err := startWeighing(f)
	if err != nil {
		return nil, err
	}
	if err := w.weighCells(); err != nil {
		return nil, err
	}
	for i := range w.cellOf {
		if w.cellOf[i] >= 0 {
			w.noteInterpolated(i)
		}
	}
	if err := w.weighOthers(); err != nil {
		return nil, err
	}
	if err := w.setScale(); err != nil {
		return nil, err
	}
	for c := range w.cells {
		w.cells[c].damage = nil // the costs say it from here on
	}
	return w, nil
}

// startWeighing settles what the errors of each tensor count for, whatever its
// type and whoever decides it.
func startWeighing(f *frame) (*weighing, error) {
	b := &f.problem.Policy.Budget
	if err := b.Validate(); err != nil {
		return nil, err
	}
	if ev := f.problem.Evidence; len(f.layers) > 0 && b.Objective.weighing().needsTraffic() {
		if ev == nil || ev.Kind == stats.KindNone || ev.Kind == stats.KindRank {
			return nil, ErrNeedsTraffic
		}
	}
	w := &weighing{frame: f, budget: b, room: new(room), cellOf: slices.Repeat([]int{-1}, len(f.slots)), tiedTo: map[int]frequency.Type{}}
	w.indexErrors()
	w.shares = &layerShares{w: w}
	return w, w.sensitivities()
}

// weighCells lists what the policy decides, with what every candidate of it
// costs.
func (w *weighing) weighCells() error {
	if err := w.resolveTypes(); err != nil {
		return err
	}
	if err := w.findCells(); err != nil {
		return err
	}
	for c := range w.cells {
		if err := w.weigh(&w.cells[c]); err != nil {
			return err
		}
	}
	return nil
}

// weighOthers adds up the damage of what the policy does not decide: pinned
// tensors, those of the base, layers without statistics.
func (w *weighing) weighOthers() error {
	for i := range w.frame.slots {
		s := &w.frame.slots[i]
		if w.cellOf[i] >= 0 || s.state == slotKept || !llamaquantize.Quantizable(s.tensor) {
			continue
		}
		v := w.undecided(i)
		t, err := s.plan(&v)
		if err != nil {
			return err
		}
		c := cell{slot: s, index: i}
		if c.weights, err = w.sensitiveWeights(&c); err != nil {
			w.leftOut = append(w.leftOut, s.tensor.Name)
			continue
		}
		w.others = append(w.others, c)
		if t.Type == s.source {
			continue
		}
		damages, err := w.damages(nil, &c, t.Type)
		if err != nil {
			w.leftOut = append(w.leftOut, s.tensor.Name)
			continue
		}
		for _, d := range damages {
			w.otherLoss += d
		}
	}
	return nil
}

// indexErrors finds measured errors by tensor.
func (w *weighing) indexErrors() {
	b := w.budget
	if b.Errors == nil {
		return
	}
	w.measured = make(map[string]*measure.TensorLoss, len(b.Errors.Tensors))
	for i := range b.Errors.Tensors {
		w.measured[b.Errors.Tensors[i].Name] = &b.Errors.Tensors[i]
	}
}

// resolveTypes settles which types are candidates, smallest first.
func (w *weighing) resolveTypes() error {
	w.types = slices.Clone(w.budget.Types)
	if w.types == nil && w.budget.Errors != nil {
		for _, name := range w.budget.Errors.Types {
			if f, ok := quant.ByName(name); ok && f.Quantized && f.Writable && f.Engine == quant.LlamaCpp {
				w.types = append(w.types, frequency.GGML(f.Type))
			}
		}
	}
	if w.budget.Types == nil && w.budget.Errors == nil {
		w.types, _ = TypeSet(DefaultTypeSet)
	}
	if w.budget.Types == nil && w.budget.Errors != nil {
		set, _ := TypeSet(DefaultTypeSet)
		usual := slices.DeleteFunc(slices.Clone(w.types), func(t frequency.Type) bool { return !slices.Contains(set, t) })
		if len(usual) > 0 {
			w.types = usual
		}
	}
	if least := w.budget.MinType; least != nil {
		w.types = slices.DeleteFunc(w.types, func(t frequency.Type) bool {
			return cmp.Or(compareRates(t, *least), cmp.Compare(t.Name, least.Name)) < 0
		})
		if len(w.types) == 0 {
			return fmt.Errorf("no candidate type has as many bits per weight as %s", least.Name)
		}
	}
	if len(w.types) == 0 {
		return fmt.Errorf("no candidate types")
	}
	slices.SortFunc(w.types, compareTypes)
	return nil
}

// compareTypes orders types by bits per weight, then by number.
func compareTypes(a, b frequency.Type) int {
	return cmp.Or(compareRates(a, b), cmp.Compare(a.GGML, b.GGML), cmp.Compare(a.Name, b.Name))
}

func compareRates(a, b frequency.Type) int {
	return knapsack.CompareRates(knapsack.Rate{Cost: a.Layout.BytesPerBlock, Bytes: a.Layout.WeightsPerBlock}, knapsack.Rate{Cost: b.Layout.BytesPerBlock, Bytes: b.Layout.WeightsPerBlock})
}

// findCells lists the tensors that the policy decides, with their candidates.
func (w *weighing) findCells() error {
	f, b := w.frame, w.budget
	if b.Target == TargetExpertBPW && len(f.layers) == 0 {
		return ErrNoExpertsToBound
	}
	traffic := b.Objective.weighing().needsTraffic()
	if err := w.checkPinnedTies(); err != nil {
		return err
	}
	for i := range f.slots {
		s := &f.slots[i]
		switch {
		case s.state != slotOpen:
			continue
		case s.layer < 0 && b.Scope == ScopeExperts:
			continue
		case s.layer >= 0 && f.layers[s.layer].evidence == nil && (traffic || f.hasCounts()):
			continue // no statistics: the hot type
		case w.tieToPin(i):
			continue
		}
		candidates, err := w.candidates(s)
		if err != nil {
			return err
		}
		w.cells = append(w.cells, cell{slot: s, index: i, candidates: candidates})
	}
	slices.SortStableFunc(w.cells, func(a, b cell) int {
		s, t := a.slot.tensor, b.slot.tensor
		return cmp.Or(cmp.Compare(s.Layer, t.Layer), cmp.Compare(projection(s.Role), projection(t.Role)), cmp.Compare(s.Expert, t.Expert))
	})
	for c := range w.cells {
		w.cellOf[w.cells[c].index] = c
	}
	w.tie()
	return w.checkTies()
}

// hasCounts reports whether the evidence says how busy experts are.
func (f *frame) hasCounts() bool {
	ev := f.problem.Evidence
	return ev != nil && ev.Kind != stats.KindNone && ev.Kind != stats.KindRank
}

// projection orders the tensors of a layer: gate, up, gate and up in one, down,
// then all others in the file's order.
func projection(r ggufio.Role) int {
	i := slices.Index([]ggufio.Role{ggufio.RoleExpertGate, ggufio.RoleExpertUp, ggufio.RoleExpertGateUp, ggufio.RoleExpertDown}, r)
	if i < 0 {
		return 4
	}
	return i
}

// candidates lists what the types asked for come to for a tensor: after shape
// fallback, none that saves no bytes over the source's type, and that type.
func (w *weighing) candidates(s *slot) ([]candidate, error) {
	var list []candidate
	for _, t := range w.types {
		o, err := s.resolve(t, false)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(list, func(c candidate) bool { return c.Type == o.Type }) {
			continue
		}
		if f, ok := quant.Lookup(o.Type.GGML); ok && f.NeedsImatrix && o.Type != s.source && !w.frame.hasImatrix(s.tensor) {
			if s.layer >= 0 && !slices.Contains(w.withoutImatrix, o.Type.Name) {
				w.withoutImatrix = append(w.withoutImatrix, o.Type.Name)
			}
			continue
		}
		if w.budget.Types == nil && o.Type != s.source && !w.isKnown(s, o.Type) {
			continue // not measured for this tensor; others were
		}
		list = append(list, candidate{o, o.Type == s.source})
	}
	if len(list) == 0 && w.budget.Types == nil && w.budget.Errors != nil {
		return nil, &MissingErrorError{s.tensor.Name, "any type that it can have"}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s: none of the types can be had without an imatrix entry of its own: add a type that needs none, such as Q2_K", s.tensor.Name)
	}
	if !slices.ContainsFunc(list, func(c candidate) bool { return c.free }) {
		list = append(list, candidate{outcome{Type: s.source, SizeBytes: s.tensor.SizeBytes}, true})
	}
	slices.SortStableFunc(list, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.SizeBytes, b.SizeBytes), cmp.Compare(a.Type.GGML, b.Type.GGML))
	})
	return list, nil
}

// isKnown reports whether there is an error of the tensor in a type.
func (w *weighing) isKnown(s *slot, t frequency.Type) bool {
	if w.budget.Errors == nil {
		_, ok := typicalError(t.GGML)
		return ok
	}
	m := w.measured[s.tensor.Name]
	return m != nil && slices.Contains(m.Types, t.Name)
}

// expertWeights returns what the errors of a tensor's experts count for, not to
// be written to.
func (w *weighing) expertWeights(s *slot) ([]float64, error) {
	switch {
	case s.layer < 0:
		return []float64{1}, nil
	case w.budget.Objective == ObjectiveMSE:
		return slices.Repeat([]float64{1}, s.matrices()), nil
	case w.frame.layers[s.layer].evidence == nil:
		n := w.frame.layers[s.layer].experts
		return slices.Repeat([]float64{1 / float64(n)}, s.matrices()), nil
	}
	all, err := w.shares.of(s.layer)
	if err != nil {
		return nil, err
	}
	if e := s.tensor.Expert; e >= 0 {
		all = all[e : e+1]
	}
	return all, nil
}

// sensitiveWeights returns sensitivity × weight of every expert of a cell.
func (w *weighing) sensitiveWeights(c *cell) ([]float64, error) {
	shares, err := w.expertWeights(c.slot)
	if err != nil {
		return nil, err
	}
	weights := make([]float64, len(shares))
	for e, share := range shares {
		weights[e] = float64(w.sensitivity[c.index].value * share)
	}
	return weights, nil
}

// weigh computes a cell's damages: sensitivity × weight × error, for every
// expert and candidate.
func (w *weighing) weigh(c *cell) error {
	var err error
	if c.weights, err = w.sensitiveWeights(c); err != nil {
		return err
	}
	c.damage = grid[float64](len(c.weights), len(c.candidates))
	var damages []float64
	for i := range c.candidates {
		if c.candidates[i].free {
			continue
		}
		if damages, err = w.damages(damages, c, c.candidates[i].Type); err != nil {
			return err
		}
		for e, d := range damages {
			c.damage[e][i] = d
		}
	}
	return nil
}

// grid makes rows of zeros that lie side by side.
func grid[T any](rows, columns int) [][]T {
	all, out := make([]T, rows*columns), make([][]T, rows)
	for i := range out {
		out[i] = all[i*columns:][:columns:columns]
	}
	return out
}

// damages returns what a type costs each expert of a cell, in room where that is
// large enough.
func (w *weighing) damages(room []float64, c *cell, t frequency.Type) ([]float64, error) {
	errs, err := w.errorsOf(c, t)
	if err != nil {
		return nil, err
	}
	out := measure.Sized(room, uint64(len(c.weights)))
	absolute := w.budget.Objective == ObjectiveMSE
	for e, weight := range c.weights {
		r := errs.relative(e)
		if absolute {
			r = errs.plain(e)
		}
		d := float64(weight * r)
		if !(d >= 0 && d <= math.MaxFloat64) {
			return nil, fmt.Errorf("%s: damage of %s is %v", c.slot.tensor.Name, t, d)
		}
		out[e] = d
	}
	return out, nil
}

// typeErrors are the errors of a tensor's experts in one type.
type typeErrors struct {
	measured *measure.TensorLoss // nil: typical
	index    int                 // of the type
	typical  float64
}

func (t typeErrors) relative(expert int) float64 {
	if t.measured == nil {
		return t.typical
	}
	return t.measured.Experts[expert].Types[t.index].Relative
}

func (t typeErrors) plain(expert int) float64 {
	if t.measured == nil {
		return t.typical // 0: typical errors are relative
	}
	return t.measured.Experts[expert].Types[t.index].PlainError
}

// A MissingErrorError reports an error that was not measured.
type MissingErrorError struct{ Tensor, Type string }

func (e *MissingErrorError) Error() string {
	return fmt.Sprintf("%s: its error as %s was not measured", e.Tensor, e.Type)
}

func (w *weighing) errorsOf(c *cell, t frequency.Type) (typeErrors, error) {
	name := c.slot.tensor.Name
	if lossless(t) {
		return typeErrors{}, nil
	}
	if w.budget.Errors == nil {
		r, ok := typicalError(t.GGML)
		if !ok {
			return typeErrors{}, fmt.Errorf("%s: there is no typical error of %s", name, t)
		}
		return typeErrors{typical: r}, nil
	}
	m := w.measured[name]
	if m == nil || len(m.Experts) != c.slot.matrices() {
		return typeErrors{}, &MissingErrorError{name, t.Name}
	}
	i := slices.Index(m.Types, t.Name)
	if i < 0 {
		return typeErrors{}, &MissingErrorError{name, t.Name}
	}
	return typeErrors{measured: m, index: i}, nil
}

// setScale turns damages into integers whose sum fits.
func (w *weighing) setScale() error {
	var total float64
	for c := range w.cells {
		for _, damages := range w.cells[c].damage {
			total += slices.Max(damages)
		}
	}
	costOf, err := w.scaleTo(total + w.otherLoss)
	if err != nil {
		return err
	}
	w.otherCost = costOf(w.otherLoss)
	for c := range w.cells {
		cell := &w.cells[c]
		cell.cost = grid[uint64](len(cell.damage), len(cell.candidates))
		for e, damages := range cell.damage {
			for i, d := range damages {
				cell.cost[e][i] = costOf(d)
			}
		}
		cell.addUp()
	}
	return nil
}

// addUp finds what each candidate costs all experts.
func (c *cell) addUp() {
	c.total = make([]uint64, len(c.candidates))
	for _, costs := range c.cost {
		for i, cost := range costs {
			c.total[i] += cost
		}
	}
}

// scaleTo sets the scale for damages that add up to a total at most, and returns
// what turns one into a cost.
func (w *weighing) scaleTo(total float64) (costOf func(damage float64) uint64, err error) {
	if total > math.MaxFloat64 {
		return nil, fmt.Errorf("the damages add up to more than a number can hold")
	}
	_, exponent := math.Frexp(total)
	w.scale = 61 - exponent
	if factor := math.Ldexp(1, w.scale); factor > 0 && factor <= math.MaxFloat64 {
		return func(damage float64) uint64 { return uint64(math.RoundToEven(float64(damage * factor))) }, nil
	}
	scale := w.scale
	return func(damage float64) uint64 { return uint64(math.RoundToEven(math.Ldexp(damage, scale))) }, nil // the same, slower
}

// planDamage returns the damage of a plan whose decided tensors cost so much:
// that of all tensors whose error is known.
func (w *weighing) planDamage(cost uint64) float64 { return w.damageOf(cost + w.otherCost) }

// damageOf returns a cost as damage.
func (w *weighing) damageOf(cost uint64) float64 { return math.Ldexp(float64(cost), -w.scale) }

// recordPolicy says what was solved and how well.
func (w *weighing) recordPolicy(fused, split *assignment) *manifest.Budget {
	b := w.budget
	rec := &manifest.Budget{
		Target: string(b.Target), TargetValue: b.BitsPerWeight.Float64(), Objective: string(b.Objective), Seed: b.Seed,
		ScopeTensors: string(b.Scope), TieGateUp: b.TieGateUp, Types: []string{}, Errors: w.recordErrors(),
		Damage: w.planDamage(fused.cost), Bound: w.planDamage(fused.bound), Gap: w.gap(fused),
		SplitDamage: w.planDamage(split.cost), SplitBound: w.planDamage(split.bound), SplitGap: w.gap(split),
	}
	if b.Target == TargetMemory {
		rec.TargetValue = w.frame.problem.Run.limitBytes()
	}
	if b.Target == TargetSize {
		rec.TargetValue = float64(b.SizeBytes)
		if b.Like != "" {
			rec.Like = &b.Like
		}
	}
	if b.MaxTypes > 0 {
		rec.MaxTypes = &b.MaxTypes
	}
	rec.PricePerByte = w.price
	for _, t := range w.types {
		rec.Types = append(rec.Types, t.Name)
	}
	rec.Sensitivity = w.recordSensitivity()
	return rec
}

// recordErrors says where errors came from.
func (w *weighing) recordErrors() manifest.ErrorSource {
	if e := w.budget.Errors; e != nil {
		return manifest.ErrorSource{Kind: "measured", Name: &e.Name, SHA256: &e.SHA256}
	}
	return manifest.ErrorSource{Kind: "typical"}
}

// gap is how far a plan may be from the optimum, as a fraction of its damage.
func (w *weighing) gap(a *assignment) float64 {
	cost := a.cost + w.otherCost
	if cost == 0 {
		return 0
	}
	return float64(a.cost-a.bound) / float64(cost)
}
