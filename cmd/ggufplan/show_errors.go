package main

import (
	"fmt"
	"io"
	"strconv"

	"github.com/ggufplan/ggufplan/planner"
	"github.com/ggufplan/ggufplan/planner/manifest"
	"github.com/ggufplan/ggufplan/planner/review"
)

// addChoices adds what every type would cost the selected tensors, or one
// expert of them.
func (c *call) addChoices(x *explanation, m *manifest.Manifest, path string, tensors []manifest.Tensor, expert int, oneExpert bool) error {
	e, err := c.readErrors(path)
	if err != nil {
		return err
	}
	if oneExpert {
		selected := map[string]bool{}
		for i := range x.Tensors {
			selected[x.Tensors[i].Name] = true
		}
		var kept []manifest.Tensor
		for _, t := range tensors {
			if selected[t.Name] {
				kept = append(kept, t)
			}
		}
		tensors = kept
	} else {
		expert = -1
	}
	if x.Choices, err = planner.Choices(m, e.Result, tensors, expert); err != nil {
		return hinted(fmt.Errorf("%s: %w", e.Name, err), "ggufplan measure model.gguf --stats imatrix.gguf -o errors.json measures the plan's model")
	}
	if len(x.Choices) == 0 {
		return fmt.Errorf("%s: has no errors of what is asked for", e.Name)
	}
	return nil
}

// maxFullChoices is how many tensors are shown with all their types; of more,
// only the planned type and its neighbours are.
const maxFullChoices = 16

// writeChoices prints the alternatives, a line per type.
func (x *explanation) writeChoices(w io.Writer) {
	number := func(v float64) string { return strconv.FormatFloat(v, 'g', 4, 64) }
	signed := func(v float64) string {
		if v > 0 {
			return "+" + number(v)
		}
		return number(v)
	}
	for i := range x.Choices {
		c := &x.Choices[i]
		title := c.Tensor
		if c.Expert != nil {
			title += fmt.Sprintf(", expert %d, which counts for %s", *c.Expert, review.OptionalPercent(&c.Share))
		}
		fmt.Fprintf(w, "\n%s\n", review.Printable(title))
		t := review.NewTable("type", ">bytes", ">relative error", ">damage", "")
		planned := false
		for _, a := range c.Alternatives {
			note := ""
			switch {
			case a.Type == c.Planned:
				note, planned = "planned", true
			case c.Up != nil && a.Type == c.Up.Type:
				note = stepNote("larger", c.Up, signed)
			case c.Down != nil && a.Type == c.Down.Type:
				note = stepNote("smaller", c.Down, signed)
			case len(x.Choices) > maxFullChoices:
				continue
			}
			t.Add(a.Type, review.Count(a.SizeBytes), number(a.Relative), number(a.Damage), note)
		}
		if !planned {
			t.Add(review.Printable(c.Planned), "", "", "", "planned")
		}
		t.Write(w, "  ")
	}
}

// stepNote says what the next type of those that were measured changes; the
// plan's own steps are to candidates.
func stepNote(way string, s *planner.Step, signed func(float64) string) string {
	return fmt.Sprintf("next %s measured: %s bytes, %s damage", way, review.SignedCount(s.Bytes), signed(s.Damage))
}
