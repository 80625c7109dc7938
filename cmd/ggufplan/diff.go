package main

import (
	"fmt"

	"github.com/spf13/pflag"

	"github.com/ggufplan/ggufplan/planner/manifest"
	"github.com/ggufplan/ggufplan/planner/review"
)

func diffCommand() *command {
	return &command{
		name: "diff", operands: "OLD NEW", short: "what changed between two plans", min: 2, max: 2,
		long: `Reviews what changed between two plans of one model: the new plan's verdict, old
beside new, changed inputs and policy, tensors that moved by role and direction,
experts, findings. --json lists every difference; --to markdown is for a comment
on a pull request. OLD or NEW may be - for standard input.

Example:
  $ git show main:plan.json | ggufplan diff - plan.json --to markdown

exit status: 0 no difference; 1 the plans differ; 2 trouble`,
		setup: func(flags *pflag.FlagSet) func(*call, []string) error {
			asJSON := flags.Bool("json", false, "print every difference as JSON")
			to := flags.String("to", "text", "how to write it: `FORMAT` is text, markdown or json")
			oneOf(flags, "to", "text", "markdown", "json")
			return func(c *call, operands []string) error {
				if err := checkWord(flags, "to", *to); err != nil {
					return err
				}
				if *asJSON && *to == "markdown" {
					return fmt.Errorf("--json and --to markdown exclude each other")
				}
				if operands[0] == "-" && operands[1] == "-" {
					return fmt.Errorf("only one of OLD and NEW can be standard input")
				}
				before, err := c.readPlan(operands[0])
				if err != nil {
					return err
				}
				after, err := c.readPlan(operands[1])
				if err != nil {
					return err
				}
				if !review.Comparable(before, after) {
					return fmt.Errorf("%s is a plan of %q, %s of another model, %q", inputName(operands[0]), before.Model.Name, inputName(operands[1]), after.Model.Name)
				}
				d := manifest.Diff(before, after)
				switch {
				case *asJSON || *to == "json":
					err = writeJSON(c.stdout, d)
				case *to == "markdown":
					err = review.MarkdownDifference(c.stdout, before, after, d)
				default:
					review.WriteDifference(c.page(), before, after, d)
				}
				if err == nil && !d.Empty() {
					err = errAnswered
				}
				return err
			}
		},
	}
}
