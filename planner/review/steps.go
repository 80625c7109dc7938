package review

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

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

// stepSections lists the cheapest improvements and savings of a budget plan:
// what each comes to, and beside the price at which the budget was cut.
func stepSections(m *manifest.Manifest) []section {
	b := m.Policy.Budget
	if b == nil {
		return nil
	}
	improvements, savings := cheapestSteps(m)
	return []section{stepSection("Cheapest improvements", improvements, b.PricePerByte), stepSection("Cheapest savings", savings, b.PricePerByte)}
}

func stepSection(title string, steps []tensorStep, price *float64) section {
	s := section{title: title, table: NewTable("tensor", "from", "to", ">bytes", ">damage", ">per MiB", ">of price")}
	if price != nil {
		s.note = priceNote(*price)
	}
	for _, x := range steps[:min(maxSteps, len(steps))] {
		share := "-"
		if price != nil && *price > 0 {
			share = times(x.rate / *price)
		}
		s.table.Add(x.tensor.Name, x.tensor.PlannedType, x.step.Type, SignedSize(x.step.Bytes), signedDamage(x.step.Damage), Damage(x.rate*(1<<20)), share)
	}
	return s
}

func priceNote(perByte float64) string {
	return "The budget was cut at a price of " + Damage(perByte*(1<<20)) + " damage per MiB."
}

func signedDamage(v float64) string {
	if v < 0 {
		return Damage(v)
	}
	return "+" + Damage(v)
}

// stepText writes a step of a tensor in a few words.
func stepText(s *manifest.Step) string {
	if s == nil {
		return ""
	}
	return fmt.Sprintf("%s: %s, damage %s", s.Type, SignedSize(s.Bytes), signedDamage(s.Damage))
}

// showSteps prints the cheapest improvements and savings of a budget plan.
func showSteps(w io.Writer, m *manifest.Manifest) {
	price := false
	for _, s := range stepSections(m) {
		if len(s.table.rows) == 0 {
			continue
		}
		fmt.Fprintln(w)
		if !price && m.Policy.Budget.PricePerByte != nil {
			fmt.Fprintf(w, "price       %s damage per MiB, where the budget was cut\n", Damage(*m.Policy.Budget.PricePerByte*(1<<20)))
			price = true
		}
		s.table.heading[0] = strings.ToLower(s.title)
		for _, row := range s.table.rows {
			for i := range row {
				row[i] = Printable(row[i])
			}
		}
		s.table.Write(w, "")
	}
}
