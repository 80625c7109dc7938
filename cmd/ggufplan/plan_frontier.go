package main

import (
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/planner"
	"github.com/ggufplan/ggufplan/planner/review"
)

// frontierFlags ask for sizes against damage instead of a manifest.
type frontierFlags struct {
	flags *pflag.FlagSet
	sizes string
	json  bool
	svg   string
	mark  string
}

func addFrontierFlags(flags *pflag.FlagSet) *frontierFlags {
	f := &frontierFlags{flags: flags}
	flags.StringVar(&f.sizes, "frontier", "", "instead of a manifest, print what damage each of N sizes from LOW to HIGH comes to: `LOW:HIGH:N`, such as 8GiB:24GiB:17; alone, 17 sizes from the smallest plan to the largest usual file type")
	flags.Lookup("frontier").NoOptDefVal = usualFrontier
	mayStandAlone(flags, "frontier", `^[^-./\\][^/\\]*:[^/\\]*$`)
	flags.BoolVar(&f.json, "json", false, "print the frontier as JSON")
	flags.StringVar(&f.svg, "svg", "", "draw the frontier into `FILE`, a PNG if its name ends in .png, else an SVG; - for standard output")
	flags.StringVar(&f.mark, "mark", "", "point out the plan in `FILE` in the picture")
	return f
}

func (f *frontierFlags) asked() bool { return f.flags.Changed("frontier") }

// usualFrontier is what --frontier without sizes stands for.
const usualFrontier = "usual"

// maxFrontierSizes bounds the work; a picture shows no more.
const maxFrontierSizes = 1000

// parse reads LOW:HIGH:N. Sizes are evenly spaced, the ends among them.
func (f *frontierFlags) parse() ([]uint64, error) {
	bad := func(err error) error {
		return flagError("frontier", hinted(err, "--frontier 8GiB:24GiB:17"))
	}
	if f.sizes == usualFrontier {
		return nil, nil
	}
	parts := strings.Split(f.sizes, ":")
	if len(parts) != 3 {
		return nil, bad(fmt.Errorf("%q is not LOW:HIGH:N", f.sizes))
	}
	low, err := parseSize(parts[0])
	if err != nil {
		return nil, flagError("frontier", err)
	}
	high, err := parseSize(parts[1])
	if err != nil {
		return nil, flagError("frontier", err)
	}
	n, err := strconv.ParseUint(parts[2], 10, 32)
	if err != nil || n < 2 || n > maxFrontierSizes {
		return nil, bad(fmt.Errorf("%q sizes: want 2 to %d", parts[2], maxFrontierSizes))
	}
	if low >= high {
		return nil, bad(fmt.Errorf("%s is not below %s", parts[0], parts[1]))
	}
	return planner.SpacedSizes(low, high, int(n)), nil
}

// validate refuses flags that go only with a frontier, or not with one.
func (f *frontierFlags) validate() error {
	for _, flag := range []struct{ name, use string }{{"json", "--json"}, {"svg", "--svg frontier.svg"}, {"mark", "--svg frontier.svg --mark plan.json"}} {
		if f.flags.Changed(flag.name) && !f.asked() {
			return hinted(fmt.Errorf("--%s goes with --frontier", flag.name), "ggufplan plan model.gguf --stats imatrix.gguf --errors errors.json --frontier 8GiB:24GiB:17 "+flag.use)
		}
	}
	if !f.asked() {
		return nil
	}
	if f.json && f.svg == "-" {
		return hinted(fmt.Errorf("--json and --svg - both write to standard output"), "--json --svg frontier.svg")
	}
	if f.mark != "" && f.svg == "" {
		return hinted(fmt.Errorf("--mark goes with --svg"), "--svg frontier.svg --mark "+f.mark)
	}
	for _, flag := range []string{"output", "markdown", "html", "junit", "annotations", "max-size", "max-bpw", "min-saved", "min-coverage", "fail-on"} {
		if f.flags.Changed(flag) {
			return hinted(fmt.Errorf("--%s is about a manifest, and --frontier writes none", flag), "leave --"+flag+" out")
		}
	}
	return nil
}

// solveFrontier solves a frontier, with a line of progress on a terminal.
func (c *call) solveFrontier(problem *planner.Problem, sizes []uint64, page bool) (*planner.Frontier, error) {
	bar := c.newProgress("frontier", func(n uint64) string { return fmt.Sprintf("%d sizes", n) })
	defer bar.done()
	if page {
		return planner.SolvePageFrontier(problem, bar.count)
	}
	return planner.SolveFrontier(problem, sizes, bar.count)
}

// show prints and draws a frontier.
func (f *frontierFlags) show(c *call, model *ggufio.Model, front *planner.Frontier) error {
	chart := frontierChart(model.Name, model.Parameters(), front)
	if f.mark != "" {
		plan, err := c.readPlan(f.mark)
		if err != nil {
			return err
		}
		mark := review.PlanMark(plan, filepath.Base(f.mark))
		if mark == nil || plan.Model.Parameters != chart.Weights {
			return fmt.Errorf("%s: --mark wants a plan of this model with a predicted damage", inputName(f.mark))
		}
		chart.Marks = append(chart.Marks, *mark)
	}
	if f.svg == "-" {
		return chart.SVG(c.stdout)
	}
	out := outputs{c: c}
	defer out.discard()
	if f.svg != "" {
		file, err := out.create(f.svg)
		if err != nil {
			return err
		}
		if err := drawFrontier(file, f.svg, chart); err != nil {
			return err
		}
	}
	switch {
	case f.json:
		if err := writeJSON(c.stdout, front); err != nil {
			return err
		}
	default:
		writeFrontier(c.page(), front)
	}
	return c.commitPrinted(&out)
}

// writeFrontier prints a frontier as a table.
func writeFrontier(w io.Writer, front *planner.Frontier) {
	number := func(v float64) string { return strconv.FormatFloat(v, 'g', 5, 64) }
	predicted := slices.ContainsFunc(front.Points, func(p planner.FrontierPoint) bool { return p.Fused != nil && p.Fused.PredictedKLD != nil })
	columns, types := []string{">budget", ">fused file", ">damage", ">split file", ">damage", ">of the fused"}, []string{"file type", ">file", ">damage"}
	if predicted {
		columns, types = append(columns, ">fused KL divergence", ">split"), append(types, ">KL divergence")
	}
	t := review.NewTable(columns...)
	for _, p := range front.Points {
		if p.Fused == nil {
			t.Add(review.Size(p.BudgetBytes), "too small")
			continue
		}
		share := "-"
		if p.Fused.Damage > 0 {
			share = strconv.FormatFloat(100*p.Split.Damage/p.Fused.Damage, 'f', 1, 64) + " %"
		}
		cells := []string{review.Size(p.BudgetBytes), review.Count(p.Fused.FileBytes), number(p.Fused.Damage), review.Count(p.Split.FileBytes), number(p.Split.Damage), share}
		if predicted {
			cells = append(cells, review.PredictedKLD(p.Fused.PredictedKLD), review.PredictedKLD(p.Split.PredictedKLD))
		}
		t.Add(cells...)
	}
	t.Write(w, "")
	if len(front.Baselines) == 0 {
		return
	}
	fmt.Fprintln(w)
	b := review.NewTable(types...)
	for _, x := range front.Baselines {
		damage := "unknown"
		if x.Damage != nil {
			damage = number(*x.Damage)
		}
		cells := []string{x.Name, review.Count(x.FileBytes), damage}
		if predicted {
			cells = append(cells, review.PredictedKLD(x.PredictedKLD))
		}
		b.Add(cells...)
	}
	b.Write(w, "")
}
