package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/spf13/pflag"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/planner/manifest"
	"github.com/ggufplan/ggufplan/planner/review"
	"github.com/ggufplan/ggufplan/planner/verify"
)

func verifyCommand() *command {
	return &command{
		name: "verify", operands: "PLAN [MODEL]", short: "every tensor of a quantized file against the plan", min: 1, max: 2,
		long: `Compares every tensor of MODEL, a quantized GGUF file or any shard of a set,
with the plan: missing and extra tensors, wrong types, shapes and sizes, and the
total; the file's size; and whether it was quantized with an importance matrix
as the plan was. All differences are listed, sorted. Only headers are read,
with --data every block too.

With --dry-run-log the plan is compared with what llama-quantize --dry-run
printed, before anything is quantized:

  $ llama-quantize --dry-run ... 2> dry-run.log; ggufplan verify plan.json --dry-run-log dry-run.log

exit status: 0 all as planned; 1 something differs; 2 another model, or an
unreadable file`,
		setup: func(flags *pflag.FlagSet) func(*call, []string) error {
			log := flags.String("dry-run-log", "", "compare what llama-quantize --dry-run printed into `FILE`, - for standard input, instead of a model")
			asJSON := flags.Bool("json", false, "print the comparison as JSON")
			reading := flags.Bool("data", false, "read every block too: weights that are not finite, matrices and experts that are all zeros")
			allowNoImatrix := flags.Bool("allow-no-imatrix", false, "accept a file that was quantized without the plan's importance matrix")
			verbose := flags.Bool("verbose", false, "list every difference, a line each")
			reports := addReportFlags(flags)
			return func(c *call, operands []string) error {
				if err := reports.validate(); err != nil {
					return err
				}
				if *log != "" && (*reading || *allowNoImatrix) {
					return fmt.Errorf("--data and --allow-no-imatrix are about a model, not a log")
				}
				if (*log == "") == (len(operands) == 1) {
					return hinted(fmt.Errorf("verify takes PLAN and either MODEL or --dry-run-log FILE"), "ggufplan verify plan.json model-planned.gguf")
				}
				plan, err := c.readPlan(operands[0])
				if err != nil {
					return err
				}
				report, err := c.compare(plan, operands, *log, verify.Options{AllowNoImatrix: *allowNoImatrix}, *reading)
				if err != nil {
					return err
				}
				if err := refuseOverwrite(reports.junit, append(slices.Clone(operands), *log)...); err != nil {
					return err
				}
				if *asJSON {
					err = writeJSON(c.stdout, report)
				} else {
					writeReport(c.page(), report, *verbose)
				}
				if err != nil {
					return err
				}
				files := outputs{c: c}
				defer files.discard()
				if err := reports.writeJUnit(&files, "ggufplan verify", differenceCases(report)); err != nil {
					return err
				}
				if err := c.commitPrinted(&files); err != nil {
					return err
				}
				if *asJSON {
					reports.annotateVerify(c.stderr, report)
				} else {
					reports.annotateVerify(c.stdout, report)
				}
				if len(report.Differences) > 0 {
					return errAnswered
				}
				return nil
			}
		},
	}
}

// compare holds the model, or else the log, against the plan.
func (c *call) compare(plan *manifest.Manifest, operands []string, log string, o verify.Options, data bool) (*verify.Report, error) {
	if log == "" {
		model, err := ggufio.Open(operands[1])
		if err != nil {
			return nil, err
		}
		report, err := verify.Model(plan, model, o)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", operands[1], err)
		}
		if data {
			bar := c.newProgress("reading", review.Size)
			defer bar.done()
			if err := report.Data(c.ctx, model, 0, bar.count); err != nil {
				return nil, err
			}
		}
		return report, nil
	}
	in, err := c.openInput(log)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	report, err := verify.DryRunLog(plan, filepath.Base(log), in)
	if errors.Is(err, verify.ErrNoLog) {
		return nil, hinted(err, "it is printed on standard error: llama-quantize --dry-run ... 2> dry-run.log")
	}
	return report, err
}
