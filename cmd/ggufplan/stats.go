package main

import (
	"errors"
	"fmt"

	"github.com/spf13/pflag"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/stats"
	"github.com/ggufplan/ggufplan/stats/read"
)

func statsCommand() *command {
	return &command{
		name:     "stats",
		operands: "FILE...",
		short:    "read, check, merge, compare and convert activation statistics",
		long: `
Shows what activation statistics say about the experts of a model, and how far
they can be trusted. Several files are merged: exact counts add up, anything
else is combined by shares. The format is told by the content, gzip and zstd
are unwrapped, and "-" is standard input.

In tables of CSV, JSONL and JSON a row means what the names of its columns say.
A count wins over a share; of two counts --count-column chooses; a row of one
expert without either is one activation, as --count-column none says of all.
Rows of one expert add up; where they differ by a column that is not listed
here they are refused. Processes that counted the same tokens give scaled
counts. Names in any case, * for any text:

` + read.ColumnNames() + `
With --model the statistics are mapped onto the model and checked against it;
those of another model are refused with what differs. That they come from
another finetune of the same shapes cannot be seen.

Snapshots of one llama-imatrix --save-frequency run (OUT.at_N), given beside
its final file, are not added up: they show how far counts vary from one
stretch of text to the next.

Example:

  $ ggufplan stats mix.imatrix.gguf --model model-f16.gguf
  ...
  traffic  exact counts of 240,000 tokens, 2 experts per token, 2 layers
  ...
  layer   tokens  effective   gini  hottest      coldest      unseen  busiest first
      0  240,000  7.53 of 8  0.186  6    18.3 %  1     6.8 %       0  ██▇▇▆▄▄▃
      1  240,000  7.14 of 8  0.245  7    28.7 %  6     7.4 %       0  █▅▄▃▃▃▃▃
  ...

Columns of the table: tokens through the layer; experts that would be used as
evenly by the same entropy; Gini coefficient, 0 for even use; the share of the
layer's traffic that the hottest and the coldest expert have; experts never
used; the distribution, busiest expert first. JSON has these at six significant
digits, entropy in bits.

Shares of tokens are given with a 95 % interval. Tokens of a text are
correlated, so counts are divided by a design effect before the interval is
taken: measured from block records where the source has them, else 10, a guess.
An expert is "scarce" below 10 and "low" below 100 effective activations.

--diff compares traffic with another file: per layer the Jensen-Shannon
distance (to base 2: 0 for equal, 1 for disjoint), the rank correlation, and
the experts that change tier under the default preset.

-o writes the canonical form: JSON that every command here reads like the
original. Column means stay in the imatrix.`,
		groups: []flagGroup{
			{"common flags", []string{"model", "diff", "json", "output", "verbose"}},
			statisticsGroup,
		},
		min: 1, max: -1,
		setup: func(flags *pflag.FlagSet) func(*call, []string) error {
			s := &statsRun{}
			flags.StringVar(&s.model, "model", "", "check the statistics against `MODEL` and map their layers onto it")
			flags.StringVar(&s.diff, "diff", "", "compare with the statistics in `FILE`")
			s.evidence = addEvidenceFlags(flags)
			flags.BoolVar(&s.json, "json", false, "print the same facts as JSON")
			flags.BoolVar(&s.verbose, "verbose", false, "list every finding")
			flags.StringVarP(&s.output, "output", "o", "", "write the canonical form to `FILE`; with -, to standard output instead of the table")
			return s.run
		},
	}
}

// A statsRun is one run of the command.
type statsRun struct {
	model, diff, output string
	json, verbose       bool
	evidence            *evidenceFlags
}

func (s *statsRun) run(c *call, files []string) error {
	if s.output == "-" && (s.json || s.diff != "") {
		return hinted(fmt.Errorf("--output - puts the canonical form on standard output, where --json and --diff print"), "name a file after -o")
	}
	var m *ggufio.Model
	if s.model != "" {
		var err error
		if m, err = ggufio.Open(s.model); err != nil {
			if errors.Is(err, ggufio.ErrImatrix) {
				return hinted(err, "ggufplan "+shellQuote("stats", s.model, "--model")+" MODEL")
			}
			return err
		}
	}
	if err := refuseOverwrite(s.output, append([]string{s.model, s.diff}, files...)...); err != nil {
		return err
	}
	ev, err := s.evidence.read(c, files, m)
	if err != nil {
		return err
	}
	report := reportOn(ev)
	if s.diff != "" {
		other, err := s.evidence.read(c, []string{s.diff}, m)
		if err != nil {
			return err
		}
		if report.Diff, err = compareEvidence(ev, other); err != nil {
			return withHint(fmt.Errorf("%s: %w", s.diff, err))
		}
	}
	out := outputs{c: c}
	defer out.discard()
	if s.output != "" {
		content, err := read.MarshalCanonical(ev)
		if err != nil {
			return err
		}
		if s.output == "-" {
			err := c.writeProduct(content)
			return err
		}
		if err := out.write(s.output, content); err != nil {
			return err
		}
	}
	if s.json {
		err = writeJSON(c.stdout, report)
	} else {
		report.write(c.page(), listLimit(s.verbose))
	}
	if err != nil {
		return err
	}
	return c.commitPrinted(&out)
}

// compareEvidence compares the traffic of two sources.
func compareEvidence(a, b *stats.Evidence) (*statsDiff, error) {
	shifts, onlyA, onlyB, err := stats.Compare(a, b, defaultTiers)
	if err != nil {
		return nil, err
	}
	d := &statsDiff{Inputs: reportInputs(b), Layers: []statsShift{}, OnlyFirst: append([]int{}, onlyA...), OnlySecond: append([]int{}, onlyB...)}
	for _, s := range shifts {
		d.Layers = append(d.Layers, statsShift{s.Layer, s.JensenShannon, s.Spearman, append([]stats.TierMove{}, s.Moved...)})
	}
	return d, nil
}
