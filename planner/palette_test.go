package planner

import (
	"errors"
	"math"
	"math/bits"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner/frequency"
)

// decidedTypes lists the types of the tensors that the budget policy decided,
// in both plans.
func decidedTypes(plan *Plan) []frequency.Type {
	var types []frequency.Type
	add := func(t frequency.Type) {
		if !slices.Contains(types, t) {
			types = append(types, t)
		}
	}
	for i := range plan.Tensors {
		x := &plan.Tensors[i]
		if x.StepUp == nil && x.StepDown == nil && !regexp.MustCompile("^(least|its only)").MatchString(x.Reason) {
			continue
		}
		add(x.Type)
		for _, t := range x.ExpertTypes {
			add(t)
		}
	}
	return types
}

func TestMaxTypesAgainstEverySet(t *testing.T) {
	binding := 0
	for n := range 6 {
		m := tinyMoE(t, gguftest.MoE{Layers: 1, Experts: 4, FF: 256, Vocab: 40})
		p := budgetProblem(m, uint64(n), 0)
		p.Policy.Budget.Types = kTypes
		p.Policy.Budget.SizeBytes = cheapest(t, p) + 100_000 + uint64(n)*90_000
		free := solve(t, p).Budget.Damage
		for most := 1; most <= 3; most++ {
			p.Policy.Budget.MaxTypes = most
			plan, err := Solve(p)
			// The best of all sets of as many candidates. The source's type, which
			// cannot be left out, is in a set of its own accord.
			best, all := math.Inf(1), append(slices.Clone(kTypes), frequency.GGML(quant.F16))
			for set := range uint64(1) << len(all) {
				if bits.OnesCount64(set) != most {
					continue
				}
				if d, ok := bestOfSet(p, all, set); ok {
					best = min(best, d)
				}
			}
			var unreachable *UnreachableError
			if errors.As(err, &unreachable) {
				if !math.IsInf(best, 1) || unreachable.CheapestBytes <= p.Policy.Budget.SizeBytes {
					t.Errorf("problem %d, %d types: %v, but a plan has damage %v", n, most, err, best)
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			checkBudget(t, plan)
			if types := decidedTypes(plan); len(types) > most {
				t.Errorf("problem %d: types %v, at most %d are wanted", n, types, most)
			}
			if math.Abs(plan.Budget.Damage-best) > 1e-9*best || plan.Budget.Gap != 0 {
				t.Errorf("problem %d, %d types: damage %v, gap %v, the best of all sets is %v", n, most, plan.Budget.Damage, plan.Budget.Gap, best)
			}
			if best > free {
				binding++
			}
		}
	}
	if binding < 6 {
		t.Errorf("the bound cost something in %d plans only", binding)
	}
}

// bestOfSet solves the problem with the candidates of a set alone.
func bestOfSet(p *Problem, all []frequency.Type, set uint64) (float64, bool) {
	own := *p
	own.Policy.Budget.MaxTypes = 0
	f, err := newFrame(&own)
	if err != nil {
		return 0, false
	}
	w, err := newWeighing(f)
	if err != nil {
		return 0, false
	}
	w = w.only(func(t frequency.Type) bool { return set>>slices.Index(all, t)&1 != 0 })
	for c := range w.cells {
		if len(w.cells[c].candidates) == 0 {
			return 0, false
		}
	}
	both, err := w.solve(f.undecided())
	if err != nil {
		return 0, false
	}
	return w.damageOf(both.fused.cost), true
}

// Large models with all types: proved, and the same each time.
func TestMaxTypesOfPublishedShapes(t *testing.T) {
	m := gguftest.OpenHeader(t, filepath.Join(recorded, "deepseek-v3-bf16.gguf"))
	p := budgetProblem(m, 5, 260_000_000_000)
	p.Policy.MaxTiers = 1
	last := 0.0
	for _, most := range []int{0, 6, 4, 2} {
		p.Policy.Budget.MaxTypes = most
		plan := solve(t, p)
		if types := decidedTypes(plan); most > 0 && len(types) > most {
			t.Errorf("types %v, at most %d are wanted", types, most)
		}
		if plan.Budget.Damage < last || plan.Budget.Gap > 0 {
			t.Errorf("%d types: damage %v after %v, gap %v", most, plan.Budget.Damage, last, plan.Budget.Gap)
		}
		last = plan.Budget.Damage
	}
}

func TestMaxTypesTooFew(t *testing.T) {
	// Rows of 96 do not divide into blocks of 256.
	m := tinyMoE(t, gguftest.MoE{Layers: 1, Experts: 4, Embd: 256, FF: 96, Vocab: 40, Sparse: true})
	p := budgetProblem(m, 1, 1<<40)
	p.Policy.Budget.Types = []frequency.Type{frequency.GGML(quant.Q4_K)}
	p.Policy.Budget.MaxTypes = 1
	if plan, err := Solve(p); err != nil {
		t.Errorf("%v: the source's type serves all", err)
	} else if types := decidedTypes(plan); len(types) != 1 || types[0].Name != "F16" && types[0].Name != "BF16" {
		t.Errorf("types %v", types)
	}
}

func TestSteps(t *testing.T) {
	m := tinyMoE(t, gguftest.MoE{Layers: 2, Experts: 4, FF: 256, Vocab: 40})
	p := budgetProblem(m, 3, 0)
	p.Policy.Budget.Types = kTypes
	p.Policy.Budget.SizeBytes = cheapest(t, p) + 400_000
	plan := solve(t, p)
	price := plan.Budget.PricePerByte
	if price == nil || *price <= 0 {
		t.Fatalf("price %v", price)
	}
	ups, downs := 0, 0
	for i := range plan.Tensors {
		x := &plan.Tensors[i]
		for _, s := range []*Step{x.StepUp, x.StepDown} {
			if s == nil {
				continue
			}
			// A plan with that one type changed has that much more bytes and damage.
			trial := *plan
			trial.Tensors = slices.Clone(plan.Tensors)
			typ, ok := quant.ByName(s.Type)
			if !ok {
				t.Fatal(s.Type)
			}
			trial.Tensors[i].Type = frequency.GGML(typ.Type)
			before, _ := damageByHand(p, plan)
			after, _ := damageByHand(p, &trial)
			if math.Abs(after-before-s.Damage) > 1e-9*before {
				t.Errorf("%s: step to %s of damage %v, is %v", x.Tensor.Name, s.Type, s.Damage, after-before)
			}
			size, err := typ.Layout.EncodedBytes(x.Tensor.Rows(), x.Tensor.Shape[0])
			if err != nil || int64(size)-int64(x.SizeBytes) != s.Bytes {
				t.Errorf("%s: step to %s of %d bytes, is %d", x.Tensor.Name, s.Type, s.Bytes, int64(size)-int64(x.SizeBytes))
			}
			if (s.Bytes > 0) != (s == x.StepUp) || (s.Damage < 0) != (s == x.StepUp) {
				t.Errorf("%s: step %+v", x.Tensor.Name, *s)
			}
		}
		if x.StepUp != nil {
			ups++
		}
		if x.StepDown != nil {
			downs++
		}
	}
	if ups < 10 || downs < 5 {
		t.Errorf("%d steps up, %d down", ups, downs)
	}
}
