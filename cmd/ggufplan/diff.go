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
		long: `Shows what changed between two plans of one model: inputs, policy, totals,
tensors and experts that moved type or tier. Moves are grouped, so that a review
stays readable; --json lists each. OLD or NEW may be - for standard input.

Example:
  $ git show main:plan.json | ggufplan diff - plan.json

exit status: 0 no difference; 1 the plans differ; 2 trouble`,
		setup: func(flags *pflag.FlagSet) func(*call, []string) error {
			asJSON := flags.Bool("json", false, "print every difference as JSON")
			return func(c *call, operands []string) error {
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
				d := manifest.Diff(before, after)
				if *asJSON {
					if err := writeJSON(c.stdout, d); err != nil {
						return err
					}
				} else {
					review.WriteDifference(c.stdout, d)
				}
				if !d.Empty() {
					return &findingError{fmt.Errorf("the plans differ")}
				}
				return nil
			}
		},
	}
}
