package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/ggufplan/ggufplan/planner/export"
	"github.com/ggufplan/ggufplan/planner/manifest"
	"github.com/ggufplan/ggufplan/planner/review"
)

// exportKinds lists what --to takes.
var exportKinds = []string{"llama-quantize", "ik-llama", "llama-server", "csv", "markdown", "html", "model-card"}

// repositoryName is what Hugging Face takes as a name: some old repositories
// have no organization.
var repositoryName = regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9._-]*/)?[A-Za-z0-9][A-Za-z0-9._-]*$`)

// rulesName stands for the rules in a command line when they are written to
// standard output.
const rulesName = "tensor-types.txt"

func exportCommand() *command {
	return &command{
		name: "export", operands: "PLAN", short: "a plan as llama-quantize takes it, or for people", min: 1, max: 1,
		long: `
Spells a plan for those who carry it out or judge it. --to takes

  llama-quantize  a --tensor-type-file for llama.cpp v0.5.0: one rule for every
                  tensor whose type llama-quantize may change. The command line
                  that goes with it is shown on standard error
  ik-llama        the --custom-q argument of ik_llama.cpp's llama-quantize
  llama-server    the command line that runs the planned model as plan --ctx
                  computed its memory: layers on the graphics card, experts in
                  RAM, context, cache. --out gives the model's path
  csv             every tensor, a line each
  markdown, html  a review: the verdict first, details folded; html draws the
                  maps of types and traffic, and with --frontier the frontier.
                  Gates given here stand in it as a table
  model-card      the README of a repository on Hugging Face, which links it to
                  --base-model

A plan that the program cannot carry out is refused, naming the tensor. A tensor
has one type: where the split plan gives single experts another, --verbose lists
what is lost. --model, --imatrix and --out give the paths of the command line,
which is quoted for a shell: ... --command > run.sh; sh -e run.sh

PLAN may be - for standard input.

Example:

  $ ggufplan plan model-f16.gguf --stats mix.imatrix.gguf -q -o plan.json
  $ ggufplan export plan.json --to llama-quantize -o tensor-types.txt --command
  ...`,
		setup: func(flags *pflag.FlagSet) func(*call, []string) error {
			to := flags.String("to", "", "what to write: `FORMAT` is "+review.Or(exportKinds))
			oneOf(flags, "to", exportKinds...)
			out := flags.StringP("output", "o", "", "write to `FILE` instead of standard output")
			frontier := flags.String("frontier", "", "draw into the HTML what plan --frontier --json wrote to `FILE`")
			gateFlags := addGateFlags(flags)
			base := flags.String("base-model", "", "the `REPOSITORY` on Hugging Face that the model comes from, ORGANIZATION/NAME, for the model card")
			command := flags.Bool("command", false, "print the llama-quantize command line on standard output; the rules go to -o")
			paths := &commandPaths{}
			flags.StringVar(&paths.model, "model", "", "the model's `PATH` in the command line; its name alone if not given")
			flags.StringArrayVar(&paths.imatrix, "imatrix", nil, "the imatrix's `PATH` in the command line, repeatable in the plan's order")
			flags.StringVar(&paths.out, "out", "", "the quantized file's `PATH` in the command line")
			verbose := flags.Bool("verbose", false, "list every tensor whose experts get other types in the split plan")
			return func(c *call, operands []string) error {
				if !slices.Contains(exportKinds, *to) {
					return didYouMean(fmt.Errorf("--to: %q is not one of %s", *to, strings.Join(exportKinds, ", ")), *to, exportKinds,
						"ggufplan export "+shellQuote(operands[0])+" --to ", "ggufplan export "+shellQuote(operands[0])+" --to llama-quantize")
				}
				carries := *to == "llama-quantize" || *to == "ik-llama"
				if *to == "llama-server" && (paths.model != "" || len(paths.imatrix) > 0) {
					return hinted(fmt.Errorf("--model and --imatrix are of llama-quantize: llama-server runs the planned file"), "--out PATH")
				}
				if !carries && *to != "llama-server" && paths.given() {
					return fmt.Errorf("--model, --imatrix and --out are of the command line: they go with --to llama-quantize and --to ik-llama, --out with --to llama-server, not %s", *to)
				}
				if *command && !carries {
					return fmt.Errorf("--command goes with --to llama-quantize and --to ik-llama, not %s", *to)
				}
				if *frontier != "" && *to != "html" {
					return fmt.Errorf("--frontier goes with --to html, not %s", *to)
				}
				if *base != "" && *to != "model-card" {
					return fmt.Errorf("--base-model goes with --to model-card, not %s", *to)
				}
				if flags.Changed("base-model") && !repositoryName.MatchString(*base) {
					return flagError("base-model", hinted(fmt.Errorf("%q is not a repository", *base), "--base-model Qwen/Qwen3-30B-A3B"))
				}
				gates, err := gateFlags.gates()
				if err != nil {
					return err
				}
				if len(gates) > 0 && *to != "html" && *to != "markdown" {
					return fmt.Errorf("gates go with --to markdown and --to html, not %s", *to)
				}
				plan, err := c.readPlan(operands[0])
				if err != nil {
					return err
				}
				if *out == "-" {
					*out = ""
				}
				if err := refuseOverwrite(*out, operands[0], *frontier); err != nil {
					return err
				}
				if carries {
					if err := paths.place(plan); err != nil {
						return err
					}
					return c.exportRules(plan, *to, *out, *command, *verbose, paths.out)
				}
				options, err := documentOptions(c, plan, gates, *frontier)
				if err != nil {
					return err
				}
				var b bytes.Buffer
				switch *to {
				case "llama-server":
					err = writeServerLine(&b, plan, paths.out, operands[0])
				case "csv":
					err = export.CSV(&b, plan)
				case "markdown":
					err = review.Markdown(&b, plan, options)
				case "html":
					err = review.HTML(&b, plan, options)
				case "model-card":
					err = export.ModelCard(&b, plan, *base)
				}
				if err != nil {
					return err
				}
				return c.writeOutput(*out, b.Bytes())
			}
		},
	}
}

// writeServerLine writes the command line that runs a plan.
func writeServerLine(w io.Writer, plan *manifest.Manifest, out, path string) error {
	line, err := export.LlamaServer(plan, export.Paths{Out: out})
	if errors.Is(err, export.ErrNoRun) {
		return hinted(fmt.Errorf("%s: %w", path, err), "plan with --ctx 32768 --fit-vram 24GiB --fit-ram 96GiB, or with --ctx and --gpu-layers or --experts-on-cpu")
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(w, line)
	return err
}

// documentOptions gathers what a document shows beside the plan.
func documentOptions(c *call, plan *manifest.Manifest, gates []gate, frontier string) (review.Options, error) {
	var o review.Options
	o.Gates, _ = checkGates(gates, plan)
	if frontier == "" {
		return o, nil
	}
	front, err := c.readFrontier(frontier)
	if err != nil {
		return o, err
	}
	if !ofModel(front, plan) {
		return o, fmt.Errorf("%s: is the frontier of another model than %s", inputName(frontier), review.Printable(plan.Model.Name))
	}
	o.Frontier = frontierChart(plan.Model.Name, plan.Model.Parameters, front)
	return o, nil
}

// commandPaths are where files lie: a plan holds names alone.
type commandPaths struct {
	model, out string
	imatrix    []string
}

func (p *commandPaths) given() bool { return p.model != "" || p.out != "" || len(p.imatrix) > 0 }

// place puts the paths into the plan in the place of names.
func (p *commandPaths) place(m *manifest.Manifest) error {
	if p.model != "" && len(m.Model.Files) > 0 {
		m.Model.Files[0].Name = p.model
	}
	if len(p.imatrix) == 0 {
		return nil
	}
	var places []*string
	if m.Statistics != nil {
		for i := range m.Statistics.Inputs {
			if in := &m.Statistics.Inputs[i]; strings.HasPrefix(in.Format, "imatrix") {
				places = append(places, &in.Name)
			}
		}
	}
	if len(places) != len(p.imatrix) {
		return fmt.Errorf("--imatrix: %d given, and the plan was made with %d", len(p.imatrix), len(places))
	}
	for i, path := range p.imatrix {
		*places[i] = path
	}
	return nil
}

// exportRules writes the rules to out, or to standard output, and shows the
// command line where the rules are not.
func (c *call) exportRules(plan *manifest.Manifest, to, out string, command, verbose bool, output string) error {
	paths := export.Paths{Rules: cmp.Or(out, rulesName), Out: output}
	var q *export.Quantization
	var err error
	if to == "ik-llama" {
		q, err = export.IKLlama(plan, paths)
	} else {
		q, err = export.LlamaQuantize(plan, paths)
	}
	if err != nil {
		return err
	}
	files := outputs{c: c}
	defer files.discard()
	switch {
	case out != "":
		if err := files.write(out, q.Rules); err != nil {
			return err
		}
	case !command:
		if err := c.writeProduct(q.Rules); err != nil {
			return err
		}
	}
	if command {
		for _, line := range q.Commands {
			fmt.Fprintln(c.stdout, line)
		}
	}
	if err := c.commitPrinted(&files); err != nil {
		return err
	}
	if command && out == "" && to == "llama-quantize" {
		c.say("hint", "ggufplan export PLAN --to llama-quantize -o %s", rulesName)
	}
	for _, note := range q.Notes {
		c.warn("%s", note)
	}
	if n := len(q.Losses); n > 0 {
		t := &plan.Totals
		c.warn("%d of the expert tensors have one type here and several in the split plan, which takes %d bytes where this takes %d", n, t.SplitPlannedBytes, t.PlannedBytes)
		if !verbose {
			c.say("hint", "--verbose lists them")
		}
		for _, l := range q.Losses[:n] {
			if verbose {
				c.warn("%s", l)
			}
		}
	}
	if !command {
		for _, line := range q.Commands {
			fmt.Fprintf(c.stderr, "%s\n", review.Printable(line))
		}
	}
	return nil
}
