package planner

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner/frequency"
	"github.com/ggufplan/ggufplan/planner/internal/knapsack"
	"github.com/ggufplan/ggufplan/planner/manifest"
	"github.com/ggufplan/ggufplan/stats/measure"
)

// A Frontier shows what predicted damage costs in bytes: both plans at several
// sizes, and llama-quantize's file types for comparison. Damage is over all
// tensors whose error is known.
type Frontier struct {
	Objective Objective          `json:"objective"`
	Points    []FrontierPoint    `json:"points"`
	Baselines []FrontierBaseline `json:"baselines"`
}

// A FrontierPoint is the pair of plans of one budget. Plans are nil where no
// plan fits.
type FrontierPoint struct {
	BudgetBytes uint64        `json:"budget_bytes"`
	Fused       *FrontierPlan `json:"fused"`
	Split       *FrontierPlan `json:"split"`
}

// A FrontierPlan is one plan's size as a file and its damage. Gap is how far
// it may be from the least damage, as a fraction of it.
type FrontierPlan struct {
	FileBytes uint64  `json:"file_bytes"`
	Damage    float64 `json:"damage"`
	Bound     float64 `json:"bound"`
	Gap       float64 `json:"gap"`

	PredictedKLD *manifest.PredictedKLD `json:"predicted_kld"` // null without a probe
}

// A FrontierBaseline is a file type; Damage is nil where the error of one of
// its types is not known.
type FrontierBaseline struct {
	Name      string   `json:"name"`
	FileBytes uint64   `json:"file_bytes"`
	Damage    *float64 `json:"damage"`

	PredictedKLD *manifest.PredictedKLD `json:"predicted_kld"` // null without a probe
}

// usualFrontier is how many sizes a frontier has if none are named, and
// pageFrontier how many that of a page, which draws lines between them.
const usualFrontier, pageFrontier = 17, 11

// SolveFrontier solves the problem's budget policy for each size, as
// [TargetSize]. If none can be kept, the error is an [*UnreachableError] of the
// largest. Without sizes it takes 17, evenly spaced from the smallest plan to
// the largest, or to the largest file type that plans are compared with where
// that is smaller. Progress, unless nil, is called before each size.
func SolveFrontier(p *Problem, sizes []uint64, progress func(done, total uint64)) (*Frontier, error) {
	return solveFrontier(p, sizes, usualFrontier, progress)
}

// SolvePageFrontier is [SolveFrontier] without sizes, for a page: it takes 11.
func SolvePageFrontier(p *Problem, progress func(done, total uint64)) (*Frontier, error) {
	return solveFrontier(p, nil, pageFrontier, progress)
}

func solveFrontier(p *Problem, sizes []uint64, usual int, progress func(done, total uint64)) (*Frontier, error) {
	own := *p
	own.Policy.Budget.Target = TargetSize
	f, err := newFrame(&own)
	if err != nil {
		return nil, err
	}
	w, err := newWeighing(f)
	if err != nil {
		return nil, err
	}
	front := &Frontier{Objective: w.budget.Objective, Points: []FrontierPoint{}, Baselines: []FrontierBaseline{}}
	list, err := baselines(&own, nil)
	if err != nil {
		return nil, err
	}
	w.predictBaselines(list)
	for _, b := range list {
		size, err := fileBytes(p.Model, p.Evidence, b.types)
		if err != nil {
			return nil, fmt.Errorf("baseline %s: %w", b.FileType.Name, err)
		}
		front.Baselines = append(front.Baselines, FrontierBaseline{Name: b.FileType.Name, FileBytes: size, Damage: b.Damage, PredictedKLD: b.PredictedKLD})
	}
	if len(sizes) == 0 {
		if sizes, err = w.usualSizes(front.Baselines, usual); err != nil {
			return nil, err
		}
	}
	front.Points, err = w.frontierPoints(sizes, progress)
	return front, err
}

// frontierExperts bounds the memory of solving several sizes at once: experts of
// all of them, at some 300 bytes each.
const frontierExperts = 1 << 18

// frontierPoints solves for each size, on several goroutines.
func (w *weighing) frontierPoints(sizes []uint64, progress func(done, total uint64)) ([]FrontierPoint, error) {
	experts := 1
	for c := range w.cells {
		experts += len(w.cells[c].cost)
	}
	workers := min(runtime.GOMAXPROCS(0), max(1, frontierExperts/experts))
	w.splitSets() // the workers share them
	points, missed := make([]FrontierPoint, len(sizes)), make([]*UnreachableError, len(sizes))
	var mu sync.Mutex
	done := uint64(0)
	layers := w.frame.undecided().layers
	newWorker := func() *frontierWorker { return w.frontierWorker(layers) }
	err := measure.Parallel(context.Background(), len(sizes), workers, newWorker, func(own *frontierWorker, i int) error {
		if progress != nil {
			mu.Lock()
			progress(done, uint64(len(sizes)))
			done++
			mu.Unlock()
		}
		var err error
		if points[i], err = own.point(sizes[i]); errors.As(err, &missed[i]) {
			return nil
		}
		return err
	})
	if err == nil && len(sizes) > 0 && !slices.Contains(missed, nil) {
		return nil, missed[len(sizes)-1]
	}
	return points, err
}

// A frontierWorker solves one size after the other.
type frontierWorker struct {
	*weighing // with a budget, a frame and a room of its own
	d         *decision
}

func (w *weighing) frontierWorker(layers []LayerPlan) *frontierWorker {
	own, budget, frame := *w, *w.budget, *w.frame
	own.budget, own.frame, own.room = &budget, &frame, new(room)
	frame.slots = slices.Clone(frame.slots)
	for i := range frame.slots {
		s := &frame.slots[i]
		s.resolved = slices.Clip(s.resolved) // what is added to them is the worker's
	}
	return &frontierWorker{&own, &decision{verdicts: make([]verdict, len(frame.slots)), layers: layers}}
}

// point solves for one size.
func (w *frontierWorker) point(size uint64) (FrontierPoint, error) {
	w.budget.SizeBytes = size
	point, d := FrontierPoint{BudgetBytes: size}, w.d
	both, err := w.solveLimited(d)
	if err != nil {
		return point, err
	}
	point.Fused = w.frontierPlan(both.fused, both.fusedBytes)
	point.Split = w.frontierPlan(both.split, both.splitBytes)
	if point.Fused.PredictedKLD, err = both.weighing.predictChoice(d, both.fused); err != nil {
		return point, err
	}
	point.Split.PredictedKLD, err = both.weighing.predictChoice(d, both.split)
	return point, err
}

// usualSizes returns the sizes of a frontier for which none are named.
func (w *weighing) usualSizes(baselines []FrontierBaseline, n int) ([]uint64, error) {
	largest, err := w.fusedBytes(knapsack.MaxTotal)
	if err != nil {
		return nil, err
	}
	high := uint64(0)
	for _, b := range baselines {
		high = max(high, b.FileBytes)
	}
	if high == 0 || high > largest {
		high = largest
	}
	var smallest *UnreachableError
	if _, err := w.fusedBytes(0); !errors.As(err, &smallest) {
		return nil, err
	}
	return SpacedSizes(smallest.CheapestBytes, max(high, smallest.CheapestBytes), n), nil
}

// fusedBytes returns what the fused plan of a size takes.
func (w *weighing) fusedBytes(size uint64) (uint64, error) {
	w.budget.SizeBytes = size
	d := w.frame.undecided()
	w, err := w.limitTypes(d)
	if err != nil {
		return 0, err
	}
	fixed, err := w.fixedBytes(d)
	if err != nil {
		return 0, err
	}
	fused, err := w.solveFused(fixed, w.budget.budgetBytes(w.frame))
	if err != nil {
		return 0, err
	}
	return fixed + w.countedBytes(fused), nil
}

// SpacedSizes returns n sizes, evenly spaced, the ends among them; n is at least
// 2 and low at most high.
func SpacedSizes(low, high uint64, n int) []uint64 {
	sizes := make([]uint64, n)
	parts := uint64(n - 1)
	step, rest := (high-low)/parts, (high-low)%parts
	for i := range sizes {
		sizes[i] = low + uint64(i)*step + uint64(i)*rest/parts
	}
	return sizes
}

func (w *weighing) frontierPlan(a *assignment, size uint64) *FrontierPlan {
	return &FrontierPlan{FileBytes: size, Damage: w.planDamage(a.cost), Bound: w.planDamage(a.bound), Gap: w.gap(a)}
}

// predictBaselines adds up the damage of file types over the tensors that may be
// quantized, and leaves it open where an error is not known.
func (w *weighing) predictBaselines(list []Baseline) {
	totals, open := make([]float64, len(list)), make([]bool, len(list))
	var rooms [][]float64
	for _, cells := range [][]cell{w.cells, w.others} {
		for i := range cells {
			c := &cells[i]
			var types []quant.Type // that the tensor's damages are in rooms for
			for k := range list {
				t := list[k].types[c.index]
				if t == c.slot.tensor.Type || open[k] {
					continue
				}
				at := slices.Index(types, t)
				if at < 0 {
					at = len(types)
					if at == len(rooms) {
						rooms = append(rooms, nil)
					}
					damages, err := w.damages(rooms[at], c, frequency.GGML(t))
					if err != nil {
						open[k] = true
						continue
					}
					rooms[at], types = damages, append(types, t)
				}
				for _, d := range rooms[at] {
					totals[k] += d
				}
			}
		}
	}
	for k := range list {
		if !open[k] {
			list[k].Damage = &totals[k]
			list[k].PredictedKLD = w.predict(func(i, _ int) frequency.Type { return frequency.GGML(list[k].types[i]) })
		}
	}
}
