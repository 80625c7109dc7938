package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/spf13/pflag"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/planner"
	"github.com/ggufplan/ggufplan/planner/apply"
	"github.com/ggufplan/ggufplan/planner/llamaquantize"
	"github.com/ggufplan/ggufplan/planner/manifest"
	"github.com/ggufplan/ggufplan/planner/simulate"
	"github.com/ggufplan/ggufplan/stats"
)

type simulateFlags struct {
	stats       []string
	evidence    *evidenceFlags
	out         string
	fused       bool
	expertsOnly bool
	store       string
	workers     int
	quiet       bool
}

func simulateCommand() *command {
	return &command{
		name: "simulate", operands: "PLAN MODEL", short: "a stock-runnable copy of the model that carries the plan's rounding error", groups: []flagGroup{
			{"common flags", []string{"stats", "output", "fused", "experts-only", "store", "threads", "quiet"}},
			statisticsGroup,
		},
		min: 2, max: 2,
		long: `Writes a copy of MODEL, the plan's F16, BF16 or F32 source, in which every
planned tensor's weights have been put through their planned types and back:
each expert through its own type in the split plan, or with --fused each tensor
through its one type. Any llama.cpp runs it, so its perplexity and KL divergence
tell what the plan costs.

--stats must be the statistics that the plan was made with: their imatrix gives
the column weights that encoders use. The copy is read back and checked before
it takes its name. Memory is some 40 MB and 5 MB a thread, whatever the model. A
model of several shards gives as many, named after OUT.

A quantized file also quantizes activations while it runs; a simulated one does
not.

Example:
  $ ggufplan simulate plan.json model-f16.gguf --stats mix.imatrix.gguf -o sim.gguf
  ...`,
		setup: func(flags *pflag.FlagSet) func(*call, []string) error {
			o := &simulateFlags{}
			flags.StringVarP(&o.out, "output", "o", "", "write the copy to `OUT`")
			flags.StringArrayVar(&o.stats, "stats", nil, "the statistics that the plan was made with, `FILE`")
			flags.BoolVar(&o.fused, "fused", false, "simulate the fused plan: one type per tensor")
			flags.BoolVar(&o.expertsOnly, "experts-only", false, "leave all but routed experts as they are")
			flags.StringVar(&o.store, "store", "source", "store changed tensors in the source's type, those of a quantized source as f32; or all of them exactly, as f32: `TYPE`")
			oneOf(flags, "store", "source", "f32")
			flags.IntVar(&o.workers, "threads", 0, "number of threads, `N`; one per processor if 0. The result is the same")
			flags.BoolVarP(&o.quiet, "quiet", "q", false, "no summary on stderr")
			o.evidence = addEvidenceFlags(flags)
			return func(c *call, operands []string) error { return c.simulate(o, operands[0], operands[1]) }
		},
	}
}

func (c *call) simulate(o *simulateFlags, planPath, modelPath string) error {
	if o.out == "" {
		return hinted(fmt.Errorf("simulate needs -o OUT"), "ggufplan simulate plan.json model.gguf --stats imatrix.gguf -o sim.gguf")
	}
	if o.store != "source" && o.store != "f32" {
		return hinted(fmt.Errorf("--store: %q is neither source nor f32", o.store), "--store f32")
	}
	if o.workers < 0 {
		return fmt.Errorf("--threads: %d is below 0", o.workers)
	}
	plan, err := c.readPlan(planPath)
	if err != nil {
		return err
	}
	model, err := ggufio.Open(modelPath)
	if err != nil {
		return err
	}
	targets := copyNames(o.out, len(model.Files))
	options := simulate.Options{Names: targets, Fused: o.fused, ExpertsOnly: o.expertsOnly, StoreF32: o.store == "f32"}
	if options.Columns, err = c.planColumns(o, plan, model); err != nil {
		return err
	}
	copied, err := simulate.New(plan, model, options)
	if err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(modelPath), err)
	}
	inputs := append([]string{planPath}, o.stats...)
	for _, f := range model.Files {
		inputs = append(inputs, f.Path)
	}
	for _, target := range targets {
		if info, err := os.Stat(target); target == "-" || err == nil && !info.Mode().IsRegular() {
			return hinted(fmt.Errorf("-o: %s is not a regular file: the copy is read back", target), "-o sim.gguf")
		}
		if err := refuseOverwrite(target, inputs...); err != nil {
			return err
		}
	}
	out := outputs{c: c}
	defer out.discard()
	for _, target := range targets {
		if _, err := out.create(target); err != nil {
			return err
		}
	}
	files := make([]int, len(targets))
	for i := range files {
		files[i] = i
	}
	// To the layout, the empty file is a run that was killed at once.
	writing, err := c.newLayoutWriting(copied.Layout, files, apply.WriteOptions{Resume: true, Workers: o.workers})
	if err != nil {
		return err
	}
	for i := range targets {
		if _, err := writing.write(c.ctx, i, out.pending[i].temp.Name()); err != nil {
			return err
		}
	}
	if err := out.commit(); err != nil {
		return err
	}
	if _, err := ggufio.Open(targets[0]); err != nil {
		return fmt.Errorf("the copy does not open: %w", err)
	}
	if !o.quiet {
		fmt.Fprintf(c.wrapped(c.stderr), "%s: %d tensors changed, %d experts among them; all other bytes are the source's\n", filepath.Base(targets[0]), copied.Tensors, copied.Experts)
	}
	return nil
}

// planColumns returns the column weights of the plan's statistics: nil where
// none are given and the plan needs none.
func (c *call) planColumns(o *simulateFlags, plan *manifest.Manifest, model *ggufio.Model) (stats.Columns, error) {
	if len(o.stats) == 0 {
		if plan.Statistics != nil && slices.ContainsFunc(plan.Statistics.Inputs, func(in manifest.Input) bool { return llamaquantize.IsImatrix(in.Format) }) {
			c.warn("without --stats, weights are encoded without the imatrix that the plan was made with")
		}
		return nil, nil
	}
	evidence, err := o.evidence.read(c, o.stats, model)
	if err != nil {
		return nil, err
	}
	if plan.Statistics == nil {
		return nil, fmt.Errorf("--stats: the plan was made without statistics")
	}
	planned := planner.PlannedFrom(plan.Statistics)
	return evidence.Columns, checkPlanned(planned, planned, evidence, "--stats ")
}

var shardName = regexp.MustCompile(`-[0-9]{5}-of-[0-9]{5}\.gguf$|\.gguf$`)

// copyNames returns the files of a copy with n shards that is to be out.
func copyNames(out string, n int) []string {
	if n == 1 {
		return []string{out}
	}
	prefix := shardName.ReplaceAllString(out, "")
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("%s-%05d-of-%05d.gguf", prefix, i+1, n)
	}
	return names
}
