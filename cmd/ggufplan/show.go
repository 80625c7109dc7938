package main

import (
	"fmt"

	"github.com/spf13/pflag"

	"github.com/ggufplan/ggufplan/planner/manifest"
	"github.com/ggufplan/ggufplan/planner/review"
)

func showCommand() *command {
	return &command{
		name:     "show",
		operands: "PLAN",
		short:    "a manifest for a person; why a tensor or an expert gets its type",
		long: `
Shows a manifest: its totals beside the whole model at usual file types, its
tiers, its layers, its findings. --layer, --expert and --tensor explain choices:
an expert of a layer, an expert in every layer, a layer, a tensor; with --errors
also what every type would take and cost there. --fit shows what a run of the
plan, of the source and of every file type takes: the run that plan --ctx was
asked about, or with --model another. PLAN may be - for standard input.

Example:

  $ ggufplan plan model-f16.gguf --stats mix.imatrix.gguf -q -o plan.json
  $ ggufplan show plan.json
  model       bytemoe-2x8, qwen3moe, 2 blocks, 2 with 8 experts
  ...
  $ ggufplan show plan.json --layer 1 --expert 3
  layer  expert   count   share  of the largest  tier  type  flag  why
      1       3  38,047  7.93 %         27.60 %  cold  Q2_K  good  38,047 < 41,348
  ...`,
		min: 1, max: 1,
		setup: func(flags *pflag.FlagSet) func(*call, []string) error {
			s := &showFlags{flags: flags}
			flags.IntVar(&s.layer, "layer", 0, "explain the choices in block `N`")
			flags.IntVar(&s.expert, "expert", 0, "explain the choices for expert `E`")
			flags.StringVar(&s.tensor, "tensor", "", "explain the choice for the tensor `NAME`")
			flags.StringVar(&s.errors, "errors", "", "with the others: what every type would cost, from the errors that measure wrote to `FILE`")
			flags.BoolVar(&s.json, "json", false, "print the same facts as JSON")
			flags.BoolVar(&s.verbose, "verbose", false, "list every finding")
			flags.BoolVar(&s.fit, "fit", false, "show what a run takes; with --model and --ctx another than the plan's")
			flags.StringVar(&s.model, "model", "", "with --fit: the planned `MODEL`, for another run than the plan's")
			s.machine = addRunFlags(flags, false)
			return func(c *call, operands []string) error { return s.run(c, operands[0]) }
		},
	}
}

type showFlags struct {
	flags         *pflag.FlagSet
	layer, expert int
	tensor        string
	errors        string
	json, verbose bool
	fit           bool
	model         string
	machine       *runFlags
}

// screenLines is how many lines that repeat a kind a person is shown unasked.
const screenLines = 20

// listLimit is how many lines that repeat a kind a command prints.
func listLimit(verbose bool) review.Limit {
	if verbose {
		return review.Limit{}
	}
	return review.Limit{Lines: screenLines, All: "--verbose lists all"}
}

func (s *showFlags) run(c *call, path string) error {
	m, err := c.readPlan(path)
	if err != nil {
		return err
	}
	if s.fit || s.model != "" || s.flags.Changed("ctx") || s.machine.given() != "" {
		return s.showRun(c, path, m)
	}
	layer, expert, tensor := s.flags.Changed("layer"), s.flags.Changed("expert"), s.flags.Changed("tensor")
	if tensor && layer {
		return hinted(fmt.Errorf("--tensor and --layer exclude each other: a tensor has its layer"), "ggufplan "+shellQuote("show", path, "--tensor", s.tensor))
	}
	if s.errors != "" && !layer && !expert && !tensor {
		return hinted(fmt.Errorf("--errors explains a choice: which, say --layer, --expert or --tensor"), "ggufplan "+shellQuote("show", path, "--layer", "0", "--errors", s.errors))
	}
	if !layer && !expert && !tensor {
		if s.json {
			data, err := manifest.Encode(m)
			if err != nil {
				return err
			}
			err = c.writeProduct(data)
			return err
		}
		review.WritePlan(c.page(), m, listLimit(s.verbose))
		return nil
	}
	x := &explanation{Explanation: review.Explanation{Policy: m.Policy, Layers: []manifest.Layer{}, Tensors: []manifest.Tensor{}}}
	if tensor {
		err = x.ofTensor(m, s.tensor)
	} else {
		err = x.ofLayers(m, s.layer, layer)
	}
	tensors := x.Tensors // whole, also where one expert is explained
	if err == nil && expert {
		err = x.onlyExpert(s.expert)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if s.errors != "" {
		if err := c.addChoices(x, m, s.errors, tensors, s.expert, expert); err != nil {
			return err
		}
	}
	if s.json {
		return writeJSON(c.stdout, x)
	}
	x.write(c.page(), m, s.flags, listLimit(s.verbose))
	if s.errors != "" {
		x.writeChoices(c.page())
	}
	return nil
}
