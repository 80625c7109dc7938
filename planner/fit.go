package planner

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/ggufplan/ggufplan/planner/internal/knapsack"
	"github.com/ggufplan/ggufplan/planner/memory"
)

// limitBytes is what all devices together may hold.
func (r *RunRequest) limitBytes() float64 {
	total := 0.0
	for _, n := range []*uint64{r.GPULimitBytes, r.CPULimitBytes} {
		if n != nil {
			total += float64(*n)
		}
	}
	return total
}

// limit is what a device may hold.
func (r *RunRequest) limit(d memory.Device) uint64 {
	n := r.CPULimitBytes
	if d == memory.GPU {
		n = r.GPULimitBytes
	}
	if n == nil {
		return knapsack.MaxTotal
	}
	return min(*n, knapsack.MaxTotal)
}

// ErrNoLimits is a plan to fit a machine without saying which.
var ErrNoLimits = errors.New("a plan that fits a machine needs the machine's memory")

// A MachineError reports a machine that no plan fits: what the nearest
// placement needs at least with the smallest types, and what there is.
type MachineError struct {
	Placement    memory.Placement
	Needs, Limit [2]uint64
}

func (e *MachineError) Error() string {
	text := "no types fit"
	for _, d := range []memory.Device{memory.GPU, memory.CPU} {
		if e.Needs[d] > e.Limit[d] {
			text += fmt.Sprintf("; the %s needs %d bytes and has %d, %d too few", d, e.Needs[d], e.Limit[d], e.Needs[d]-e.Limit[d])
		}
	}
	return text
}

// missing is how many bytes the machine lacks.
func (e *MachineError) missing() uint64 {
	total := uint64(0)
	for d := range e.Needs {
		total += e.Needs[d] - min(e.Needs[d], e.Limit[d])
	}
	return total
}

// placements lists the placements to try in two rounds, the best of equals
// first: all blocks on the card, and experts of as few as possible of the
// first on the CPU; and only if nothing fits then, all experts on the CPU and
// blocks too. Without a limit for a card there is none.
func (w *weighing) placements() [][]memory.Placement {
	m := w.frame.problem.Model
	if w.frame.problem.Run.GPULimitBytes == nil {
		return [][]memory.Placement{{{}}}
	}
	blocks := m.Architecture.BlockCount
	first, last := []memory.Placement{{GPULayers: blocks + 1}}, 0
	for _, layer := range m.MoELayers() {
		first = append(first, memory.Placement{GPULayers: blocks + 1, CPUExpertLayers: layer + 1})
		last = layer + 1
	}
	var second []memory.Placement
	for n := blocks; n >= 0; n-- {
		second = append(second, memory.Placement{GPULayers: n, CPUExpertLayers: last})
	}
	return [][]memory.Placement{first, second}
}

// solveMemory solves both plans within the memory of a machine. A placement
// says which device holds each tensor, and so makes of the two limits two
// problems of their own; the best placement is that of the least damage, the
// first in the order of [weighing.placements] among equals.
func (w *weighing) solveMemory(d *decision) (*plans, error) {
	if w.frame.problem.Run == nil || w.frame.problem.Run.limitBytes() == 0 {
		return nil, ErrNoLimits
	}
	shape, err := memory.NewShape(w.frame.problem.Model)
	if err != nil {
		return nil, err
	}
	if u := shape.CacheUnknown(); u != nil {
		return nil, u
	}
	if _, err := w.fixedBytes(d); err != nil {
		return nil, err
	}
	var nearest *MachineError
	for _, round := range w.placements() {
		var best *machine
		found := &search{cost: math.MaxUint64, bound: math.MaxUint64}
		for _, p := range round {
			x, err := w.newMachine(shape, p)
			if err != nil {
				return nil, err
			}
			before := found.cost
			var short *MachineError
			switch err := x.solve(found); {
			case errors.As(err, &short):
				if nearest == nil || short.missing() < nearest.missing() {
					nearest = short
				}
			case err != nil:
				return nil, err
			case found.cost < before:
				best = x
			}
		}
		if best == nil {
			continue
		}
		fused := found.best
		fused.bound = min(found.bound, fused.cost)
		split, err := best.split(fused, d)
		if err != nil {
			return nil, err
		}
		d.placement = &best.placement
		return &plans{fused: fused, split: split}, nil
	}
	return nil, nearest
}

// A search is the best fused plan found yet, and a cost that none is below.
type search struct {
	best        *assignment
	cost, bound uint64
}

// take keeps a plan if it is better.
func (s *search) take(a *assignment) {
	s.bound = min(s.bound, a.bound)
	if a.cost < s.cost {
		s.best, s.cost = a, a.cost
	}
}

// pass leaves out plans that cost at least so much.
func (s *search) pass(cost uint64) { s.bound = min(s.bound, cost) }

// A machine is the budget policy's problem with a placement.
type machine struct {
	w         *weighing
	shape     *memory.Shape
	placement memory.Placement
	run       *memory.Run       // beside the cells' weights and copies
	on        [][]memory.Device // by slot
	beside    [2]uint64         // by device: what is held beside the cells' weights and copies
	options   memory.Options
	fixed     memory.Copies // of the copied tensors that the policy does not decide
}

func (w *weighing) newMachine(s *memory.Shape, p memory.Placement) (*machine, error) {
	model := w.frame.problem.Model
	o := w.frame.problem.Run.Options
	o.Placement = p
	r, err := s.Beside(model, o)
	if err != nil {
		return nil, err
	}
	x := &machine{w: w, shape: s, placement: p, run: r, options: o, on: s.Devices(model, p)}
	x.beside = [2]uint64{memory.CPU: r.CPU.Total(), memory.GPU: r.GPU.Total()}
	for i := range w.frame.slots {
		if w.cellOf[i] >= 0 {
			continue
		}
		if s.Copied(&model.Tensors[i], &o) {
			x.fixed.Add(w.fixed[i])
		}
		for _, d := range x.on[i] {
			x.beside[d] += s.HeldBytes(d, &model.Tensors[i], w.fixedTypes[i].GGML, w.fixed[i])
		}
	}
	return x, nil
}

// held is what a device holds of a cell in a candidate.
func (x *machine) held(d memory.Device, c *cell, candidate int) uint64 {
	o := &c.candidates[candidate]
	return x.shape.HeldBytes(d, c.slot.tensor, o.Type.GGML, o.SizeBytes)
}

// part is the cells that one device holds. What is not loaded counts against
// the CPU's limit all the same, or it would keep the source's type.
func (x *machine) part(d memory.Device) part {
	return part{
		has: func(c int) bool {
			on := x.on[x.w.cells[c].index]
			return len(on) == 1 && on[0] == d || len(on) == 0 && d == memory.CPU
		},
		counted: func(c *cell, i int) uint64 { return x.held(d, c, i) },
	}
}

// shared returns the cell that both devices hold, -1 for none: an embedding
// that serves as the output.
func (x *machine) shared() int {
	for c := range x.w.cells {
		if len(x.on[x.w.cells[c].index]) > 1 {
			return c
		}
	}
	return -1
}

// solve looks for better fused plans than the best found yet. What both devices
// hold ties their problems together: it is tried in each of its types.
func (x *machine) solve(found *search) error {
	c := x.shared()
	if c < 0 {
		return x.solveWith(-1, 0, found)
	}
	var nearest *MachineError
	fits := false
	for i := range x.w.cells[c].candidates {
		err := x.solveWith(c, i, found)
		var short *MachineError
		switch {
		case errors.As(err, &short):
			if nearest == nil || short.missing() < nearest.missing() {
				nearest = short
			}
		case err != nil:
			return err
		default:
			fits = true
		}
	}
	if !fits {
		return nearest
	}
	return nil
}

// solveWith solves the devices' problems; a cell of both has a candidate. The
// copies that the card holds of what lies in RAM depend on the sizes of that:
// each bound of them is tried. Larger bounds leave the card less.
func (x *machine) solveWith(both, candidate int, found *search) error {
	w := x.w
	start := &assignment{choice: make([][]int, len(w.cells))}
	beside := x.beside
	if both >= 0 {
		cell := &w.cells[both]
		start.choice[both] = slices.Repeat([]int{candidate}, len(cell.cost))
		start.cost = w.costOf(cell, start.choice[both])
		for d := range beside {
			beside[d] += x.held(memory.Device(d), cell, candidate)
		}
	}
	start.bound = start.cost
	bounds := x.copyBounds()
	short := &MachineError{Placement: x.placement}
	solve := func(d memory.Device, a *assignment, bound memory.Copies) (*knapsack.Solution, error) {
		held := beside[d]
		if d == memory.GPU {
			held += x.run.CopiesOf(bound)
		}
		return x.solveDevice(d, a, held, bound, short)
	}
	// The best that the CPU can do and the best that the card can do.
	cpu, err := solve(memory.CPU, start.clone(), memory.Copies{LargestBytes: math.MaxUint64, SecondBytes: math.MaxUint64})
	if err != nil {
		return err
	}
	gpu, err := solve(memory.GPU, start.clone(), bounds[0])
	if err != nil {
		return err
	}
	if cpu == nil || gpu == nil {
		return short
	}
	fits := false
	for _, bound := range bounds {
		if least := start.cost + cpu.Bound + gpu.Bound; least >= found.cost {
			found.pass(least)
			return nil
		}
		a := start.clone()
		c, err := solve(memory.CPU, a, bound)
		if err != nil {
			return err
		}
		if c == nil {
			continue
		}
		if least := start.cost + c.Bound + gpu.Bound; least >= found.cost {
			found.pass(least)
			fits = true
			continue
		}
		g, err := solve(memory.GPU, a, bound)
		if err != nil {
			return err
		}
		if g == nil {
			break
		}
		gpu, fits = g, true
		a.cost += c.Cost + g.Cost
		a.bound += c.Bound + g.Bound
		found.take(a)
	}
	if !fits {
		return short
	}
	return nil
}

// solveDevice solves one device's problem, nil where nothing fits; short learns
// what it needs at least.
func (x *machine) solveDevice(d memory.Device, a *assignment, held uint64, copied memory.Copies, short *MachineError) (*knapsack.Solution, error) {
	limit := x.w.frame.problem.Run.limit(d)
	p := x.part(d)
	if d == memory.CPU {
		p.allowed = func(c *cell, i int) bool {
			return copied.Holds(c.candidates[i].SizeBytes) || !x.shape.Copied(c.slot.tensor, &x.options)
		}
	}
	need, lacks := held, held > limit
	sol, err := x.w.solvePart(a, p, limit-min(limit, held))
	var unreachable *UnreachableError
	switch {
	case errors.As(err, &unreachable):
		need, lacks = held+unreachable.CheapestBytes, true
	case err != nil:
		return nil, err
	}
	if !lacks {
		if short.Needs[d] == 0 {
			short.Needs[d], short.Limit[d] = held, limit
		}
		return sol, nil
	}
	if old := short.Needs[d]; old <= short.Limit[d] || need < old {
		short.Needs[d], short.Limit[d] = need, limit
	}
	return nil, nil
}

// copyBounds lists what the copied tensors' sizes can be bounded by, from what
// takes the least of the card: all of one size, or one and others below.
func (x *machine) copyBounds() []memory.Copies {
	all := []uint64{0, x.fixed.LargestBytes, x.fixed.SecondBytes}
	// Each is a choice of sizes, all of which a bound must hold for one of them.
	choices := [][][]uint64{{{x.fixed.LargestBytes, x.fixed.SecondBytes}}}
	for _, t := range x.w.ties {
		if !x.shape.Copied(x.w.cells[t.members[0]].slot.tensor, &x.options) {
			continue
		}
		var choice [][]uint64
		for _, picks := range t.picks {
			var sizes []uint64
			for m, c := range t.members {
				sizes = append(sizes, x.w.cells[c].candidates[picks[m]].SizeBytes)
			}
			choice, all = append(choice, sizes), append(all, sizes...)
		}
		choices = append(choices, choice)
	}
	slices.Sort(all)
	all = slices.Compact(all)
	bounds := []memory.Copies{}
	for i, largest := range all {
		for _, second := range all[:max(1, i)] {
			b := memory.Copies{LargestBytes: largest, SecondBytes: min(largest, second)}
			none := func(choice [][]uint64) bool { return !slices.ContainsFunc(choice, b.HoldsAll) }
			if !slices.ContainsFunc(choices, none) {
				bounds = append(bounds, b)
			}
		}
	}
	slices.SortFunc(bounds, func(a, b memory.Copies) int {
		return cmp.Or(cmp.Compare(x.run.CopiesOf(a), x.run.CopiesOf(b)), cmp.Compare(a.LargestBytes, b.LargestBytes), cmp.Compare(a.SecondBytes, b.SecondBytes))
	})
	return bounds
}

// copies is what the card holds of copies of what a plan has in RAM.
func (x *machine) copies(a *assignment) uint64 {
	copied := x.fixed
	for c := range x.w.cells {
		if cell := &x.w.cells[c]; x.shape.Copied(cell.slot.tensor, &x.options) {
			copied.Add(cell.candidates[a.choice[c][0]].SizeBytes)
		}
	}
	return x.run.CopiesOf(copied)
}

// split solves the split plan within the bytes that each device has left for
// routed experts.
func (x *machine) split(fused *assignment, d *decision) (*assignment, error) {
	w := x.w
	out, unproven := fused, uint64(0)
	for _, device := range []memory.Device{memory.CPU, memory.GPU} {
		part := x.part(device)
		held := x.beside[device]
		if device == memory.GPU {
			held += x.copies(fused)
		}
		for c := range w.cells {
			cell := &w.cells[c]
			if len(x.on[cell.index]) > 1 || part.has(c) && !cell.splits() {
				held += x.held(device, cell, fused.choice[c][0])
			}
		}
		limit := w.frame.problem.Run.limit(device)
		next, err := w.splitPart(out, part.has, limit-min(limit, held), d.layers)
		if err != nil {
			return nil, err
		}
		out = next
		if device == memory.CPU {
			unproven = out.cost - out.bound
		}
	}
	out.bound -= min(out.bound, unproven)
	return out, nil
}
