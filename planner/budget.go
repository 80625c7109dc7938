package planner

import (
	"errors"
	"fmt"
	"math/big"
	"math/bits"
	"slices"
	"strings"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/planner/frequency"
	"github.com/ggufplan/ggufplan/planner/internal/knapsack"
	"github.com/ggufplan/ggufplan/planner/llamaquantize"
	"github.com/ggufplan/ggufplan/stats"
	"github.com/ggufplan/ggufplan/stats/measure"
)

// Budget holds the parameters of the budget policy, which chooses types to
// minimise predicted damage within a number of bytes.
type Budget struct {
	Target        Target
	SizeBytes     uint64             // TargetSize: the largest planned file
	Like          string             // TargetSize: the file type that SizeBytes is the size of, for the record
	BitsPerWeight frequency.Fraction // TargetBPW and TargetExpertBPW

	Objective Objective
	Seed      uint64           // of ObjectiveRandom
	Scope     TensorScope      // which tensors are part of the problem
	TieGateUp bool             // gate and up of a layer (and expert) get the same type
	Types     []frequency.Type // candidates; nil for those of [DefaultTypeSet] that have a known error
	MinType   *frequency.Type  // no candidate below it, by bits per weight, then name; nil for no bound
	MaxTypes  int              // distinct types among the tensors that the policy decides at most; 0 for no bound
	Errors    *NamedErrors     // nil: typical errors per type

	Sensitivity *NamedSensitivity // nil: all tensors alike
}

// NamedErrors are measured errors and the file they came from.
type NamedErrors struct {
	stats.FileID
	*measure.Result
}

// NamedSensitivity says which sensitivities apply: of kind typical, or a table
// and the file it came from.
type NamedSensitivity struct {
	Kind SensitivityKind
	stats.FileID
	*measure.Sensitivity
}

// A Target says what a budget bounds.
type Target string

// The targets.
const (
	TargetSize      Target = "size"       // bytes of the quantized file
	TargetBPW       Target = "bpw"        // 8 × planned bytes / parameters
	TargetExpertBPW Target = "expert-bpw" // the same for routed experts alone
	TargetMemory    Target = "memory"     // of Problem.Run, on each device
)

// A TensorScope says which tensors the budget policy decides.
type TensorScope string

// The scopes.
const (
	ScopeAll     TensorScope = "all"     // every tensor that llama-quantize quantizes
	ScopeExperts TensorScope = "experts" // routed experts; the base decides the rest
)

// An Objective says what predicted damage is: what an expert's error counts
// for.
type Objective string

// The objectives. The last three are ablations, for comparison.
const (
	ObjectiveOutputShare    Objective = "output-share"    // relative error × share of the layer's output energy
	ObjectiveTraffic        Objective = "traffic"         // relative error × smoothed share of the traffic
	ObjectiveRelative       Objective = "relative"        // relative error, experts alike
	ObjectiveMSE            Objective = "mse"             // squared error of the weights, absolute
	ObjectiveUniform        Objective = "uniform"         // one type for all, then the next tensors in order
	ObjectiveRandom         Objective = "random"          // upgrades in a seeded random order
	ObjectiveInverseTraffic Objective = "inverse-traffic" // relative error × normalised inverse of the traffic
)

// Objectives lists the objectives, the default first.
func Objectives() []Objective {
	return []Objective{ObjectiveOutputShare, ObjectiveTraffic, ObjectiveRelative, ObjectiveMSE, ObjectiveUniform, ObjectiveRandom, ObjectiveInverseTraffic}
}

// weighing returns the objective that says what damage is: uniform and random
// plans are measured by the default's.
func (o Objective) weighing() Objective {
	if o == ObjectiveUniform || o == ObjectiveRandom {
		return ObjectiveOutputShare
	}
	return o
}

// needsTraffic reports whether the objective weighs experts by how busy they
// are.
func (o Objective) needsTraffic() bool {
	return o == ObjectiveOutputShare || o == ObjectiveTraffic || o == ObjectiveInverseTraffic
}

// Reasons why the budget policy has too little to go by.
var (
	ErrNeedsTraffic     = errors.New("the statistics say nothing about how often experts are used, which the objective needs")
	ErrNoExpertsToBound = errors.New("the model has no routed experts, which the target bounds")
	ErrNeedsMeasured    = errors.New("the objective needs measured errors")
	ErrTypesOfDevices   = errors.New("a bound on the number of types goes with one budget, not with a graphics card's and a CPU's")
)

// An UnreachableError reports a budget that no plan keeps.
type UnreachableError struct {
	CheapestBytes uint64 // of the smallest plan there is
	BudgetBytes   uint64
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("cheapest plan needs %d bytes, budget is %d bytes", e.CheapestBytes, e.BudgetBytes)
}

// Validate checks the parameters of the budget policy.
func (b *Budget) Validate() error {
	switch b.Target {
	case TargetSize, TargetMemory:
	case TargetBPW, TargetExpertBPW:
		if b.BitsPerWeight.Rat().Sign() <= 0 {
			return fmt.Errorf("target %s of %s: want more than 0", b.Target, b.BitsPerWeight)
		}
	default:
		return fmt.Errorf("target %q: want %q, %q, %q or %q", b.Target, TargetSize, TargetBPW, TargetExpertBPW, TargetMemory)
	}
	if !slices.Contains(Objectives(), b.Objective) {
		var names []string
		for _, o := range Objectives() {
			names = append(names, string(o))
		}
		return fmt.Errorf("objective %q: want one of %s", b.Objective, strings.Join(names, ", "))
	}
	if b.Scope != ScopeAll && b.Scope != ScopeExperts {
		return fmt.Errorf("tensor scope %q: want %q or %q", b.Scope, ScopeAll, ScopeExperts)
	}
	if b.MaxTypes < 0 {
		return fmt.Errorf("at most %d types: want 0 or more", b.MaxTypes)
	}
	for i, t := range b.Types {
		if err := Plannable(t); err != nil {
			return err
		}
		if t.Declared {
			return fmt.Errorf("type %s is declared, so its error is not known", t.Name)
		}
		if slices.Contains(b.Types[:i], t) {
			return fmt.Errorf("duplicate type %s", t.Name)
		}
	}
	if b.MaxTypes > 0 && b.Target == TargetMemory {
		return ErrTypesOfDevices
	}
	if b.Objective == ObjectiveMSE && b.Errors == nil {
		return ErrNeedsMeasured
	}
	return nil
}

// budgetBytes returns the bytes that a plan may take: of the file, of all
// tensors or of the routed experts, by the target.
func (b *Budget) budgetBytes(f *frame) uint64 {
	if b.Target == TargetSize {
		return min(b.SizeBytes, knapsack.MaxTotal)
	}
	var parameters uint64
	for i := range f.slots {
		if b.Target == TargetBPW || f.slots[i].layer >= 0 {
			parameters += f.slots[i].tensor.Parameters
		}
	}
	r := new(big.Rat).SetInt(new(big.Int).SetUint64(parameters))
	r.Mul(r, b.BitsPerWeight.Rat())
	r.Quo(r, big.NewRat(8, 1))
	n := new(big.Int).Quo(r.Num(), r.Denom())
	if !n.IsUint64() {
		return knapsack.MaxTotal
	}
	return min(n.Uint64(), knapsack.MaxTotal)
}

// counted returns what a tensor of some size counts for against the budget.
func (b *Budget) counted(s *slot, sizeBytes uint64) uint64 {
	switch {
	case b.Target == TargetSize:
		return ggufio.Padded(sizeBytes, llamaquantize.OutputAlignment)
	case b.Target == TargetExpertBPW && s.layer < 0:
		return 0
	}
	return sizeBytes
}

// chooseBudget solves both plans within the budget.
func (f *frame) chooseBudget() (*decision, error) {
	w, err := newWeighing(f)
	if err != nil {
		return nil, err
	}
	d := f.undecided()
	if w, err = w.limitTypes(d); err != nil {
		return nil, err
	}
	both, err := w.solve(d)
	if err != nil {
		return nil, err
	}
	if o := w.budget.Objective; o != ObjectiveUniform && o != ObjectiveRandom && w.budget.Target != TargetMemory {
		budget := w.budget.budgetBytes(f)
		if err := w.setPrice(budget - min(both.fixedBytes, budget)); err != nil {
			return nil, err
		}
	}
	w.record(d, both.fused, both.split)
	d.budget, d.weighing = w.recordPolicy(both.fused, both.split), w
	d.findings = append(d.findings, w.damageFindings()...)
	return d, nil
}

// plans are a budget's two plans and what they count for against it.
type plans struct {
	fused, split           *assignment
	fusedBytes, splitBytes uint64
	weighing               *weighing // whose candidates they choose from
	fixedBytes             uint64    // of what the policy does not decide
}

// solve solves both plans: the fused one, and with the bytes it leaves for
// routed experts the split one.
func (w *weighing) solve(d *decision) (*plans, error) {
	if w.budget.Target == TargetMemory {
		return w.solveMemory(d)
	}
	fixed, err := w.fixedBytes(d)
	if err != nil {
		return nil, err
	}
	budget := w.budget.budgetBytes(w.frame)
	fused, err := w.solveFused(fixed, budget)
	if err != nil {
		return nil, err
	}
	others := fixed + w.othersBytes(fused)
	file := w.otherTensors(fused)
	left := budget - others
	if w.budget.Target == TargetSize {
		// A tier file is padded otherwise, and has keys of its own.
		others = file.data + ggufio.Padded(file.header+tierKeysBytes(), file.align) + file.align
		left = budget - min(budget, others)
	}
	split, err := w.solveSplit(fused, left, d.layers)
	if err != nil {
		return nil, err
	}
	p := &plans{fused, split, fixed + w.countedBytes(fused), others + w.splitBytes(split), w, fixed}
	if w.budget.Target == TargetSize {
		w.addTiers(file, split)
		p.splitBytes, err = file.sizeBytes()
	}
	return p, err
}

// otherTensors starts a tier file with all tensors that the split plan does not
// decide.
func (w *weighing) otherTensors(fused *assignment) *tierFile {
	f := newTierFile(w.frame.problem.Model, w.frame.problem.Evidence)
	for i := range w.frame.slots {
		c := w.cellOf[i]
		switch {
		case c < 0:
			f.whole(w.fixed[i])
		case !w.cells[c].splits():
			f.whole(w.cells[c].candidates[fused.choice[c][0]].SizeBytes)
		}
	}
	return f
}

// addTiers adds the tensors that the split plan decides.
func (w *weighing) addTiers(f *tierFile, split *assignment) {
	for c := range w.cells {
		if cell := &w.cells[c]; cell.splits() {
			f.tiers(cell.slot.tensor, tiersBy(split.choice[c], cell.expertBytes))
		}
	}
}

// countedBytes returns what a fused plan's cells count for.
func (w *weighing) countedBytes(a *assignment) uint64 {
	total := w.othersBytes(a)
	for c := range w.cells {
		if cell := &w.cells[c]; cell.splits() {
			total += w.budget.counted(cell.slot, cell.candidates[a.choice[c][0]].SizeBytes)
		}
	}
	return total
}

// splitBytes returns the bytes of the experts that a split plan decides.
func (w *weighing) splitBytes(a *assignment) uint64 {
	var total uint64
	for c := range w.cells {
		if cell := &w.cells[c]; cell.splits() {
			for _, i := range a.choice[c] {
				total += cell.expertBytes(i)
			}
		}
	}
	return total
}

// undecided returns the verdict on a slot that the policy does not decide.
func (w *weighing) undecided(i int) verdict {
	if t, ok := w.tiedTo[i]; ok {
		return verdict{Fused: t, Reason: "the same type as the pinned tensor it is tied to"}
	}
	if s := &w.frame.slots[i]; s.state == slotOpen && s.layer >= 0 {
		return verdict{Fused: w.frame.problem.Policy.Frequency.HotType, Reason: "no statistics for its layer: hot type"}
	}
	return verdict{}
}

// fixedBytes returns what counts against the budget whatever the policy
// decides: the file's header, and the tensors that it does not decide. It
// gives layers without statistics the hot type.
func (w *weighing) fixedBytes(d *decision) (uint64, error) {
	f := w.frame
	total := uint64(0)
	w.fixed, w.fixedTypes = make([]uint64, len(f.slots)), make([]frequency.Type, len(f.slots))
	if w.budget.Target == TargetSize {
		total = llamaquantize.HeaderBytes(f.problem.Model, f.problem.Evidence)
	}
	for i := range f.slots {
		if w.cellOf[i] >= 0 {
			continue
		}
		s := &f.slots[i]
		v := &d.verdicts[i]
		*v = w.undecided(i)
		t, err := s.plan(v)
		if err != nil {
			return 0, err
		}
		w.fixed[i], w.fixedTypes[i] = t.SizeBytes, t.Type
		var carry uint64
		if total, carry = bits.Add64(total, w.budget.counted(s, t.SizeBytes), 0); carry != 0 || total > knapsack.MaxTotal {
			return 0, fmt.Errorf("%s: the plan's sizes add up to more than 2^62 bytes", s.tensor.Name)
		}
	}
	return total, nil
}

// An assignment is a candidate for every expert of every cell, and how good
// the choice is known to be.
type assignment struct {
	choice [][]int // by cell and expert, index into cell.candidates
	cost   uint64  // in units of weighing.scale
	bound  uint64
}

// clone copies an assignment, to go on from there.
func (a *assignment) clone() *assignment {
	return &assignment{choice: slices.Clone(a.choice), cost: a.cost, bound: a.bound}
}

// solveFused gives every cell one candidate.
func (w *weighing) solveFused(fixed, budget uint64) (*assignment, error) {
	a := &assignment{choice: make([][]int, len(w.cells))}
	sol, err := w.solvePart(a, w.whole(), budget-min(fixed, budget))
	var unreachable *UnreachableError
	switch {
	case errors.As(err, &unreachable):
		return nil, &UnreachableError{fixed + unreachable.CheapestBytes, budget}
	case err != nil:
		return nil, err
	case fixed > budget:
		return nil, &UnreachableError{fixed, budget} // and everything else counts for nothing
	}
	a.cost, a.bound = sol.Cost, sol.Bound
	if w.paletteBound != nil {
		a.bound = min(a.bound, *w.paletteBound)
	}
	return a, nil
}

// solvePart gives every cell of a part one candidate, in a.
func (w *weighing) solvePart(a *assignment, p part, budget uint64) (*knapsack.Solution, error) {
	windows := make(cellWindows, len(w.cells))
	for c := range w.cells {
		if cell := &w.cells[c]; p.has(c) && cell.slot.layer >= 0 && !cell.splits() {
			windows[c] = []window{{most: knapsack.MaxTotal}}
		}
	}
	guards := w.guards(func(c *cell) bool { return c.slot.layer >= 0 && !c.splits() }, windows)
	return w.solveGuarded(a, guards, windows, budget, knapsack.ExactLimits, func() []group { return w.fusedGroups(p, windows) })
}

// choose applies the objective: the optimum, or an ablation's rule.
func (w *weighing) choose(k *knapsack.Knapsack, groups []group, budget uint64, lim knapsack.Limits) *knapsack.Solution {
	sol, ok := k.Solve(budget, lim)
	if !ok {
		panic("planner: the smallest choice was found to fit, and does not")
	}
	switch w.budget.Objective {
	case ObjectiveUniform:
		return w.uniform(groups, budget, sol.Bound)
	case ObjectiveRandom:
		return randomUpgrades(groups, budget, w.budget.Seed, sol.Bound)
	}
	return sol
}

// othersBytes returns what the cells that are no routed experts' count for.
func (w *weighing) othersBytes(a *assignment) uint64 {
	var total uint64
	for c := range w.cells {
		if cell := &w.cells[c]; !cell.splits() {
			total += w.budget.counted(cell.slot, cell.candidates[a.choice[c][0]].SizeBytes)
		}
	}
	return total
}

// record writes both plans into the decision.
func (w *weighing) record(d *decision, fused, split *assignment) {
	reason := "least predicted damage within the budget"
	switch w.budget.Objective {
	case ObjectiveUniform:
		reason = "the largest single type within the budget, tensors in order"
	case ObjectiveRandom:
		reason = "random upgrades within the budget"
	}
	ups, downs := w.steps(fused)
	for c := range w.cells {
		cell := &w.cells[c]
		v := verdict{up: ups[c], down: downs[c], Fused: cell.candidates[fused.choice[c][0]].Type, Reason: reason}
		if v.Reason = w.pricedReason(reason, v.up, v.down); len(cell.candidates) == 1 {
			v.Reason = "its only candidate"
		}
		if cell.slot.layer >= 0 {
			v.Split = make([]frequency.Type, len(cell.cost))
			for e, choice := range split.choice[c] {
				v.Split[e] = cell.candidates[choice].Type
			}
		}
		d.verdicts[cell.index] = v
	}
	for i := range w.sensitivity {
		d.verdicts[i].sensitivity = w.sensitivity[i]
	}
	for k := range w.frame.layers {
		w.recordExperts(k, d)
	}
}

// recordExperts names each expert's type where its projections have the same.
func (w *weighing) recordExperts(k int, d *decision) {
	plan := &d.layers[k]
	mixed := make([]bool, len(plan.Experts))
	put := func(e int, t *frequency.Type) {
		x := &plan.Experts[e]
		if x.Type != nil && *x.Type != *t {
			mixed[e] = true
		}
		x.Type = t
	}
	for _, i := range w.frame.layers[k].slots {
		s := &w.frame.slots[i]
		for j := range s.matrices() {
			t := &s.settled
			if v := &d.verdicts[i]; s.state == slotOpen {
				t = &v.Fused
				if v.Split != nil {
					t = &v.Split[j]
				}
			}
			put(expertOf(s.tensor, j), t)
		}
	}
	for e := range mixed {
		if mixed[e] {
			plan.Experts[e].Type = nil
		}
	}
}
