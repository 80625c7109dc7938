package planner

import (
	"path/filepath"
	"reflect"
	"runtime"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/quant"
)

// On the shapes of a published model a frontier has the plans of its sizes,
// whatever the number of goroutines.
func TestFrontierOfPublishedShapes(t *testing.T) {
	p := budgetProblem(gguftest.OpenHeader(t, filepath.Join(recorded, "olmoe-1b-7b-bf16.gguf")), 3, 0)
	p.Policy.MaxTiers = 3
	// Some experts are scarce: which types they may have depends on the size.
	for _, l := range p.Evidence.Layers {
		l.Counts[3], l.Counts[40] = 2, 0
	}
	p.Policy.Budget.Errors = measuredErrors(p.Model, p.Evidence, 3)
	least := cheapest(t, p)
	sizes := SpacedSizes(least, 3*least, 6)
	var fronts []*Frontier
	for _, processors := range []int{1, 8} {
		before := runtime.GOMAXPROCS(processors)
		front, err := SolveFrontier(p, sizes, nil)
		runtime.GOMAXPROCS(before)
		if err != nil {
			t.Fatal(err)
		}
		fronts = append(fronts, front)
	}
	if !reflect.DeepEqual(fronts[0], fronts[1]) {
		t.Errorf("on one processor %+v, on eight %+v", fronts[0].Points, fronts[1].Points)
	}
	for i, size := range sizes {
		p.Policy.Budget.SizeBytes = size
		plan, x := solve(t, p), fronts[0].Points[i]
		fused := FrontierPlan{FileBytes: plan.Totals.FileBytes, Damage: plan.Budget.Damage, Bound: plan.Budget.Bound, Gap: plan.Budget.Gap}
		split := FrontierPlan{FileBytes: plan.Totals.SplitFileBytes, Damage: plan.Budget.SplitDamage, Bound: plan.Budget.SplitBound, Gap: plan.Budget.SplitGap}
		if *x.Fused != fused || *x.Split != split {
			t.Errorf("%d bytes: %+v and %+v, the plan has %+v and %+v", size, *x.Fused, *x.Split, fused, split)
		}
	}
}

// What does not depend on the size is worked out once.
func TestFrontierSharesSets(t *testing.T) {
	p := budgetProblem(tinyMoE(t, gguftest.MoE{Layers: 2, Experts: 4}), 3, 0)
	p.Policy.MaxTiers = 2
	size := cheapest(t, p) + 400_000
	f, err := newFrame(p)
	if err != nil {
		t.Fatal(err)
	}
	w, err := newWeighing(f)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.frontierPoints([]uint64{size, size + 100_000}, nil); err != nil {
		t.Fatal(err)
	}
	if len(w.sets) == 0 {
		t.Fatal("the sizes had nothing to share")
	}
	own := w.frontierWorker(f.undecided().layers)
	if _, err := own.point(size); err != nil {
		t.Fatal(err)
	}
	for i := range w.sets {
		if a, b := w.sets[i].Units, own.sets[i].Units; len(a) != len(b) || len(a) > 0 && &a[0][0] != &b[0][0] {
			t.Errorf("set %d was made again", i)
		}
	}
	if own.room == w.room || own.budget == w.budget {
		t.Error("a worker has its memory from another")
	}
}

// Kimi K2's shapes with made-up counts and typical errors.
func BenchmarkFrontierKimiK2(b *testing.B) {
	m := tinyMoE(b, gguftest.MoE{Layers: 60, Experts: 384, Used: 8, Embd: 7168, FF: 2048, Vocab: 163840, Type: quant.BF16})
	p := budgetProblem(m, 1, 0)
	p.Policy.Budget.Errors, p.Policy.MaxTiers = nil, DefaultMaxTiers
	for b.Loop() {
		if _, err := SolveFrontier(p, nil, nil); err != nil {
			b.Fatal(err)
		}
	}
}
