package planner

import (
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner/frequency"
	"github.com/ggufplan/ggufplan/planner/memory"
)

// fitProblem asks for a plan of a model that fits a machine.
func fitProblem(m *ggufio.Model, gpu, cpu uint64) *Problem {
	p := budgetProblem(m, 7, 0)
	p.Policy.Budget.Target, p.Policy.Budget.SizeBytes = TargetMemory, 0
	p.Run = &RunRequest{Options: memory.Options{ContextTokens: 1024, Sequences: 2, KeyType: quant.F16, ValueType: quant.Q8_0}, GPULimitBytes: &gpu, CPULimitBytes: &cpu}
	return p
}

// totalsOf is what a run of a plan takes on each device.
func totalsOf(p *Plan) [2]uint64 {
	return [2]uint64{memory.CPU: p.Run.Planned.CPU.Total(), memory.GPU: p.Run.Planned.GPU.Total()}
}

// The placement and the types are the best of all that keep the limits.
func TestFitAgainstBruteForce(t *testing.T) {
	types := []frequency.Type{frequency.GGML(quant.Q2_K), frequency.GGML(quant.Q4_K)}
	for _, o := range []gguftest.MoE{{Layers: 2, Experts: 4, Type: quant.BF16}, {Layers: 3, Dense: 1, Experts: 2, Type: quant.F16}, {Layers: 2, Experts: 4, Tied: true, Vocab: 512, Type: quant.BF16}} {
		m := tinyMoE(t, o)
		everything := solve(t, fitProblem(m, 1<<40, 1<<40))
		full := totalsOf(everything)
		tried, fitted := 0, 0
		for _, gpu := range []float64{0.5, 0.8, 0.9, 0.95, 1.2} {
			for _, cpu := range []float64{0.5, 1, 1.3, 2} {
				p := fitProblem(m, uint64(gpu*float64(full[memory.GPU])), uint64(cpu*float64(full[memory.CPU])))
				p.Policy.Budget.Scope = ScopeExperts
				if o.Tied {
					p.Policy.Budget.Scope = ScopeAll
				}
				p.Policy.Budget.Types = types
				plan, err := Solve(p)
				var machine *MachineError
				if err != nil && !errors.As(err, &machine) {
					t.Fatal(err)
				}
				if o.Tied {
					if err == nil {
						checkFit(t, plan)
					}
					continue
				}
				want, ok := bestFit(t, p)
				tried++
				switch {
				case ok != (err == nil):
					t.Errorf("%+v, GPU %v, CPU %v: %v, but there is a plan: %v", o, gpu, cpu, err, ok)
				case ok:
					fitted++
					checkFit(t, plan)
					if got := plan.Budget.Damage; math.Abs(got-want) > 1e-12*want {
						t.Errorf("%+v, GPU %v, CPU %v: damage %v, the least is %v", o, gpu, cpu, got, want)
					}
				}
			}
		}
		if !o.Tied && (fitted == 0 || fitted == tried) {
			t.Errorf("%+v: of %d machines %d fit: the test tests little", o, tried, fitted)
		}
	}
}

// checkFit holds a plan to its machine's limits.
func checkFit(t *testing.T, plan *Plan) {
	t.Helper()
	for d, total := range totalsOf(plan) {
		if limit := plan.Run.Request.limit(memory.Device(d)); total > limit {
			t.Errorf("%s: %d bytes of %d", memory.Device(d), total, limit)
		}
	}
	if _, err := encodePlan(plan); err != nil {
		t.Error(err)
	}
}

// bestFit tries every placement with every choice of types, and estimates each
// from scratch. Where all experts on the CPU do not fit either, it gives up as
// the second round is not brute force's to try.
func bestFit(t *testing.T, p *Problem) (least float64, ok bool) {
	t.Helper()
	f, err := newFrame(p)
	if err != nil {
		t.Fatal(err)
	}
	w, err := newWeighing(f)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.fixedBytes(f.undecided()); err != nil {
		t.Fatal(err)
	}
	shape, err := memory.NewShape(p.Model)
	if err != nil {
		t.Fatal(err)
	}
	for _, round := range w.placements() {
		best := uint64(math.MaxUint64)
		for _, placement := range round {
			o := p.Run.Options
			o.Placement = placement
			weights := memory.SourceWeights(p.Model)
			for i := range weights {
				weights[i].Type, weights[i].SizeBytes = w.fixedTypes[i].GGML, w.fixed[i]
			}
			beside, err := shape.Beside(p.Model, o)
			if err != nil {
				t.Fatal(err)
			}
			var try func(c int, cost uint64, held [2]uint64)
			on := shape.Devices(p.Model, placement)
			var fixed [2]uint64
			for i := range weights {
				if w.cellOf[i] < 0 {
					for _, d := range on[i] {
						fixed[d] += shape.HeldBytes(d, &p.Model.Tensors[i], weights[i].Type, weights[i].SizeBytes)
					}
				}
			}
			fixed[memory.GPU] += beside.GPU.Total()
			fixed[memory.CPU] += beside.CPU.Total()
			try = func(c int, cost uint64, held [2]uint64) {
				if cost >= best || held[0] > p.Run.limit(0) || held[1] > p.Run.limit(1) {
					return
				}
				if c == len(w.cells) {
					if held[memory.GPU]+beside.CopiesOf(shape.CopiedWeights(p.Model, weights, &o)) <= p.Run.limit(memory.GPU) {
						best = cost
					}
					return
				}
				cell := &w.cells[c]
				for i, x := range cell.candidates {
					next, more := held, cost
					for _, d := range on[cell.index] {
						next[d] += shape.HeldBytes(d, cell.slot.tensor, x.Type.GGML, x.SizeBytes)
					}
					for e := range cell.cost {
						more += cell.cost[e][i]
					}
					weights[cell.index].SizeBytes = x.SizeBytes
					try(c+1, more, next)
				}
			}
			try(0, 0, fixed)
		}
		if best < math.MaxUint64 {
			return w.damageOf(best), true
		}
	}
	return 0, false
}

// What a machine lacks is said to the byte: with that much more there is a
// plan, with a byte less there is none.
func TestFitImpossible(t *testing.T) {
	m := tinyMoE(t, gguftest.MoE{Layers: 2, Experts: 4, Type: quant.BF16})
	_, err := Solve(fitProblem(m, 1000, 1000))
	var short *MachineError
	if !errors.As(err, &short) {
		t.Fatal(err)
	}
	need := short.Needs
	plan := solve(t, fitProblem(m, need[memory.GPU], need[memory.CPU]))
	checkFit(t, plan)
	if got := totalsOf(plan); got != need {
		t.Errorf("the smallest run takes %v, %v was said", got, need)
	}
	p := fitProblem(m, need[memory.GPU], need[memory.CPU]-1)
	if _, err := Solve(p); !errors.As(err, &short) {
		t.Errorf("a byte less: %v", err)
	}
	p = fitProblem(m, 1<<40, 1<<40)
	p.Run.GPULimitBytes = nil
	if plan := solve(t, p); plan.Run.Request.Placement.GPULayers != 0 || plan.Run.Planned.GPU.Total() != 0 {
		t.Errorf("without a card: %+v", plan.Run.Request.Placement)
	}
	p.Run = nil
	if _, err := Solve(p); !errors.Is(err, ErrNoLimits) {
		t.Errorf("without a machine: %v", err)
	}
	p = fitProblem(m, 1<<40, 1<<40)
	p.Policy.Budget.MaxTypes = 2
	if _, err := Solve(p); !errors.Is(err, ErrTypesOfDevices) {
		t.Errorf("a bound on types: %v", err)
	}
	unknown := tinyMoE(t, gguftest.MoE{Arch: "neverheard", Layers: 2, Experts: 4, Type: quant.BF16})
	var u *memory.UnknownError
	if _, err := Solve(fitProblem(unknown, 1<<40, 1<<40)); !errors.As(err, &u) {
		t.Errorf("an architecture that nobody knows: %v", err)
	}
}

// More memory never costs damage, and the same problem has the same plan.
func TestFitSweep(t *testing.T) {
	m := tinyMoE(t, gguftest.MoE{Layers: 4, Experts: 8, Type: quant.BF16})
	card := totalsOf(solve(t, fitProblem(m, 1<<40, 1<<40)))[memory.GPU]
	alone := fitProblem(m, 0, 1<<40)
	alone.Run.GPULimitBytes = nil
	ram := totalsOf(solve(t, alone))[memory.CPU]
	before, layers := math.Inf(1), map[int]bool{}
	for i := range 8 {
		p := fitProblem(m, card*17/20, ram*uint64(2+i)/10)
		plan, err := Solve(p)
		if err != nil {
			continue
		}
		checkFit(t, plan)
		if plan.Budget.Damage > before {
			t.Errorf("with %d bytes of RAM damage is %v, with less %v", *p.Run.CPULimitBytes, plan.Budget.Damage, before)
		}
		before = plan.Budget.Damage
		layers[plan.Run.Request.Placement.CPUExpertLayers] = true
		a, _ := encodePlan(plan)
		b, _ := encodePlan(solve(t, fitProblem(m, *p.Run.GPULimitBytes, *p.Run.CPULimitBytes)))
		if string(a) != string(b) {
			t.Error("the same problem has two plans")
		}
	}
	if len(layers) < 2 {
		t.Errorf("one placement for all machines: %v", fmt.Sprint(layers))
	}
}
