package main

import (
	"errors"
	"fmt"

	"github.com/spf13/pflag"

	"github.com/ggufplan/ggufplan/planner/llamapatch"
)

func patchCommand() *command {
	return &command{
		name: "patch-llamacpp", operands: "DIR", short: "let a llama.cpp source tree run expert tiers", min: 1, max: 1,
		long: `Inserts lines into the source tree of llama.cpp v` + llamapatch.Version + ` in DIR, so that what is
built of it runs tier files: models whose experts lie in several tensors per
projection (BASE.tier0.weight, BASE.tier1.weight, ...), with a table (BASE.tiers)
that says where each expert is. Nothing is removed, and other models run as
before. Where the tree is another version, or a place is not found, it is left
as it is. A tree that has the lines already is left so too, which is no error.

What it costs: each tier converts the activations and adds its rows, so the more
tiers, the slower: about a tenth of the speed at three tiers of one type, on a
CPU.

What is missing: GPUs. Their kernels leave rows of empty slots unwritten, so a
model with tiers is refused while a GPU is in use (run with --device none).
llama-imatrix stops at tier files: collect statistics on the plain model.

--print writes the diff to standard output and changes nothing.

Example:
  $ cd llama.cpp && ggufplan patch-llamacpp . && cmake -B build && cmake --build build`,
		setup: func(flags *pflag.FlagSet) func(*call, []string) error {
			show := flags.Bool("print", false, "print the lines as a diff, and change nothing")
			return func(c *call, operands []string) error {
				p, err := llamapatch.Prepare(operands[0])
				if errors.Is(err, llamapatch.ErrPatched) {
					fmt.Fprintf(c.stderr, "ggufplan: %s has the lines already: nothing to do\n", operands[0])
					return nil
				}
				if err != nil {
					return err
				}
				if *show {
					return p.Diff(c.stdout)
				}
				if err := p.Write(); err != nil {
					return err
				}
				lines, files := p.Lines()
				fmt.Fprintf(c.stderr, "ggufplan: %d lines inserted into %d files of %s: build it as usual\n", lines, files, operands[0])
				return nil
			}
		},
	}
}
