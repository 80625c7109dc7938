package planner

import (
	"errors"
	"fmt"

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
		bound := uint64(knapsack.MaxTotal)
		for _, p := range round {
			x, err := w.newMachine(shape, p)
			if err != nil {
				return nil, err
			}
			err = x.solve()
			var short *MachineError
			switch {
			case errors.As(err, &short):
				if nearest == nil || short.missing() < nearest.missing() {
					nearest = short
				}
				continue
			case err != nil:
				return nil, err
			}
			bound = min(bound, x.fused.bound)
			if best == nil || x.fused.cost < best.fused.cost {
				best = x
			}
		}
		if best == nil {
			continue
		}
		best.fused.bound = min(bound, best.fused.cost)
		split, err := best.split(d)
		if err != nil {
			return nil, err
		}
		d.placement = &best.placement
		return &plans{fused: best.fused, split: split}, nil
	}
	return nil, nearest
}

// A machine is the budget policy's problem with a placement.
type machine struct {
	w         *weighing
	shape     *memory.Shape
	placement memory.Placement
	options   memory.Options
	on        [][]memory.Device // by slot
	beside    [2]uint64         // by device: what is held beside the cells' weights and copies
	fused     *assignment
}

func (w *weighing) newMachine(s *memory.Shape, p memory.Placement) (*machine, error) {
	model := w.frame.problem.Model
	x := &machine{w: w, shape: s, placement: p, options: w.frame.problem.Run.Options, on: s.Devices(model, p)}
	x.options.Placement = p
	r, err := s.Beside(model, x.options)
	if err != nil {
		return nil, err
	}
	x.beside = [2]uint64{memory.CPU: r.CPU.Total(), memory.GPU: r.GPU.Total()}
	for i := range w.frame.slots {
		if w.cellOf[i] >= 0 {
			continue
		}
		for _, d := range x.on[i] {
			x.beside[d] += memory.HeldBytes(d, &model.Tensors[i], w.fixedTypes[i].GGML, w.fixed[i])
		}
	}
	return x, nil
}

// held is what a device holds of a cell in a candidate.
func (x *machine) held(d memory.Device, c *cell, candidate int) uint64 {
	o := &c.candidates[candidate]
	return memory.HeldBytes(d, c.slot.tensor, o.Type.GGML, o.SizeBytes)
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

// solve finds the fused plan. What both devices hold ties their problems
// together: it is tried in each of its types.
func (x *machine) solve() error {
	c := x.shared()
	if c < 0 {
		a, err := x.solveWith(-1, 0)
		x.fused = a
		return err
	}
	var nearest *MachineError
	bound := uint64(knapsack.MaxTotal)
	for i := range x.w.cells[c].candidates {
		a, err := x.solveWith(c, i)
		var short *MachineError
		switch {
		case errors.As(err, &short):
			if nearest == nil || short.missing() < nearest.missing() {
				nearest = short
			}
			continue
		case err != nil:
			return err
		}
		bound = min(bound, a.bound)
		if x.fused == nil || a.cost < x.fused.cost {
			x.fused = a
		}
	}
	if x.fused == nil {
		return nearest
	}
	x.fused.bound = min(bound, x.fused.cost)
	return nil
}

// solveWith solves the devices' problems, the CPU's first: copies of what it
// holds take of the card's memory. A cell of both devices has a candidate.
func (x *machine) solveWith(both, candidate int) (*assignment, error) {
	w := x.w
	a := &assignment{choice: make([][]int, len(w.cells))}
	short := &MachineError{Placement: x.placement}
	beside := x.beside
	if both >= 0 {
		cell := &w.cells[both]
		a.choice[both] = make([]int, len(cell.cost))
		for e := range cell.cost {
			a.choice[both][e] = candidate
			a.cost += cell.cost[e][candidate]
		}
		a.bound = a.cost
		for d := range beside {
			beside[d] += x.held(memory.Device(d), cell, candidate)
		}
	}
	lacks := false
	for _, d := range []memory.Device{memory.CPU, memory.GPU} {
		if d == memory.GPU {
			beside[d] += x.copies(a)
		}
		limit := w.frame.problem.Run.limit(d)
		short.Needs[d], short.Limit[d] = beside[d], limit
		sol, err := w.solvePart(a, x.part(d), limit-min(limit, beside[d]))
		var unreachable *UnreachableError
		switch {
		case errors.As(err, &unreachable):
			short.Needs[d] += unreachable.CheapestBytes
			lacks = true
		case err != nil:
			return nil, err
		case beside[d] > limit:
			lacks = true
		default:
			a.cost += sol.Cost
			a.bound += sol.Bound
		}
	}
	if lacks {
		return nil, short
	}
	return a, nil
}

// copies is what the card holds of copies of what the CPU holds; the smallest
// types stand for what has no choice yet.
func (x *machine) copies(a *assignment) uint64 {
	w := x.w
	weights := make([]memory.Weight, len(w.frame.slots))
	for i := range weights {
		weights[i].SizeBytes = w.fixed[i]
		if c := w.cellOf[i]; c >= 0 {
			pick := 0
			if a.choice[c] != nil {
				pick = a.choice[c][0]
			}
			weights[i].SizeBytes = w.cells[c].candidates[pick].SizeBytes
		}
	}
	return x.shape.CopyBytes(w.frame.problem.Model, weights, x.options)
}

// split solves the split plan within the bytes that each device has left for
// routed experts.
func (x *machine) split(d *decision) (*assignment, error) {
	w := x.w
	out, unproven := x.fused, uint64(0)
	for _, device := range []memory.Device{memory.CPU, memory.GPU} {
		part := x.part(device)
		held := x.beside[device]
		if device == memory.GPU {
			held += x.copies(x.fused)
		}
		for c := range w.cells {
			cell := &w.cells[c]
			if len(x.on[cell.index]) > 1 || part.has(c) && !cell.splits() {
				held += x.held(device, cell, x.fused.choice[c][0])
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
