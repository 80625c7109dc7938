package review

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/ggufplan/ggufplan/planner/manifest"
)

// maxSteps is how many steps a list shows.
const maxSteps = 10

// A tensorStep is one tensor's step from its planned type to another.
type tensorStep struct {
	tensor *manifest.Tensor
	step   *manifest.Step
	rate   float64 // damage per byte
}

// cheapestSteps lists the steps that save most damage per byte, or that cost
// least.
func cheapestSteps(m *manifest.Manifest) (improvements, savings []tensorStep) {
	for i := range m.Tensors {
		t := &m.Tensors[i]
		for _, s := range []*manifest.Step{t.StepUp, t.StepDown} {
			if s == nil || s.Bytes == 0 {
				continue
			}
			x := tensorStep{t, s, math.Abs(s.Damage / float64(s.Bytes))}
			if s.Bytes > 0 {
				improvements = append(improvements, x)
			} else {
				savings = append(savings, x)
			}
		}
	}
	slices.SortStableFunc(improvements, func(a, b tensorStep) int { return cmp.Compare(b.rate, a.rate) })
	slices.SortStableFunc(savings, func(a, b tensorStep) int { return cmp.Compare(a.rate, b.rate) })
	return improvements, savings
}

// stepTable shows the first of some steps: what each comes to, and beside the
// price at which the budget was cut.
func stepTable(title string, steps []tensorStep, price *float64) *Table {
	t := NewTable(title, "from", "to", ">bytes", ">damage", ">damage per MiB", ">of the price")
	for _, x := range steps[:min(maxSteps, len(steps))] {
		share := "-"
		if price != nil && *price > 0 {
			share = times(x.rate / *price)
		}
		sign := "+"
		if x.step.Damage < 0 {
			sign = "-"
		}
		t.Add(Printable(x.tensor.Name), Printable(x.tensor.PlannedType), Printable(x.step.Type), SignedSize(x.step.Bytes),
			sign+Damage(math.Abs(x.step.Damage)), Damage(x.rate*(1<<20)), share)
	}
	return t
}

// showSteps prints the cheapest improvements and savings of a budget plan.
func showSteps(w io.Writer, m *manifest.Manifest) {
	b := m.Policy.Budget
	if b == nil {
		return
	}
	improvements, savings := cheapestSteps(m)
	if len(improvements)+len(savings) == 0 {
		return
	}
	fmt.Fprintln(w)
	if b.PricePerByte != nil {
		fmt.Fprintf(w, "price       %s damage per MiB, where the budget was cut\n", Damage(*b.PricePerByte*(1<<20)))
	}
	if len(improvements) > 0 {
		stepTable("cheapest improvements", improvements, b.PricePerByte).Write(w, "")
	}
	if len(savings) > 0 {
		if len(improvements) > 0 {
			fmt.Fprintln(w)
		}
		stepTable("cheapest savings", savings, b.PricePerByte).Write(w, "")
	}
}
