package main

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner"
	"github.com/ggufplan/ggufplan/planner/manifest"
	"github.com/ggufplan/ggufplan/stats"
)

type measureFlags struct {
	stats    []string
	evidence *evidenceFlags
	out      string
	types    []string
	full     bool
	seed     uint64
	part     string
	merge    bool
	resume   bool
	workers  int
	quiet    bool
}

func measureCommand() *command {
	return &command{
		name: "measure", operands: "MODEL | --merge PART...", short: "the error of every expert in every candidate type, from the weights", min: 1, max: -1,
		long: `Encodes and decodes the weights of every expert of every expert tensor, and of
every other tensor that llama-quantize quantizes, in every candidate type, and
writes the relative error of each as JSON: what plan --errors weighs traffic
with. An imatrix gives the column weights; without one they are ones.

Rows are sampled, from --seed, until the 95 % interval of each relative error is
within 2 %; --full reads all. With -o, finished experts are kept in OUT.partial:
after an interruption --resume goes on from there and ends with the same bytes.
Memory stays below 512 MB for any model.

--part I/N measures one share of the work, a stretch of the file; --merge joins
the parts into the bytes that one run would have written.

Examples:
  $ ggufplan measure model-f16.gguf --stats mix.imatrix.gguf --types Q2_K,Q4_K -o errors.json
  ...
  $ ggufplan measure model-f16.gguf --stats mix.imatrix.gguf --types Q2_K,Q4_K --part 1/2 -o part-1.json
  ...
  $ ggufplan measure model-f16.gguf --stats mix.imatrix.gguf --types Q2_K,Q4_K --part 2/2 -o part-2.json
  ...
  $ ggufplan measure --merge part-1.json part-2.json -o merged.json
  ...`,
		setup: func(flags *pflag.FlagSet) func(*call, []string) error {
			o := &measureFlags{}
			flags.StringArrayVar(&o.stats, "stats", nil, "activation statistics: counts and column weights, `FILE`; several merge")
			flags.StringVarP(&o.out, "output", "o", "", "write to `OUT` instead of standard output, and keep resumable state in OUT.partial")
			flags.StringSliceVar(&o.types, "types", nil, "candidate types, comma separated `LIST`; all that can be encoded if not given")
			flags.BoolVar(&o.full, "full", false, "read every row instead of a sample")
			flags.Uint64Var(&o.seed, "seed", 1, "seed of the sample, `N`")
			flags.StringVar(&o.part, "part", "", "measure share I of N, `I/N`")
			flags.BoolVar(&o.merge, "merge", false, "join parts into the whole")
			flags.BoolVar(&o.resume, "resume", false, "go on from OUT.partial")
			flags.IntVar(&o.workers, "threads", 0, "number of threads, `N`; one per processor if 0. The result is the same")
			flags.BoolVarP(&o.quiet, "quiet", "q", false, "no summary on stderr")
			o.evidence = addEvidenceFlags(flags)
			return func(c *call, operands []string) error {
				if o.merge {
					return c.mergeParts(o, operands)
				}
				if len(operands) != 1 {
					return hinted(usageErrorf("measure takes one MODEL, not %d operands", len(operands)), "ggufplan measure model.gguf --stats imatrix.gguf -o errors.json")
				}
				return c.measure(o, operands[0])
			}
		},
	}
}

var partPattern = regexp.MustCompile(`^([0-9]{1,7})/([0-9]{1,7})$`)

func parsePart(s string) (*stats.Part, error) {
	if s == "" {
		return nil, nil
	}
	m := partPattern.FindStringSubmatch(s)
	if m == nil {
		return nil, hinted(fmt.Errorf("--part: %q is not I/N", s), "--part 3/16")
	}
	i, _ := strconv.Atoi(m[1])
	n, _ := strconv.Atoi(m[2])
	if i < 1 || i > n {
		return nil, hinted(fmt.Errorf("--part: %s: parts count from 1 to %d", s, n), "--part 3/16")
	}
	return &stats.Part{Index: i, Of: n}, nil
}

// parseTypes reads a list of names of types that can be encoded.
func parseTypes(flag string, names []string) ([]quant.Type, error) {
	var types []quant.Type
	for _, name := range names {
		f, ok := quant.ByName(strings.TrimSpace(name))
		if !ok {
			return nil, hinted(fmt.Errorf("--%s: %q is not a type", flag, name), "--"+flag+" Q2_K,Q3_K,Q4_K")
		}
		if !quant.CanEncode(f.Type) {
			return nil, hinted(fmt.Errorf("--%s: there is no encoder for %s", flag, f.Name), "--"+flag+" Q2_K,Q3_K,Q4_K")
		}
		types = append(types, f.Type)
	}
	return types, nil
}

func (c *call) measure(o *measureFlags, path string) error {
	part, err := parsePart(o.part)
	if err != nil {
		return err
	}
	types, err := parseTypes("types", o.types)
	if err != nil {
		return err
	}
	if o.resume && o.out == "" {
		return hinted(usageErrorf("--resume needs -o: the state is in OUT.partial"), "ggufplan measure model.gguf --stats imatrix.gguf -o errors.json --resume")
	}
	if o.workers < 0 {
		return usageErrorf("--threads: %d is below 0", o.workers)
	}
	model, err := ggufio.Open(path)
	if err != nil {
		return err
	}
	var evidence *stats.Evidence
	if len(o.stats) > 0 {
		if evidence, err = o.evidence.read(c, o.stats, model); err != nil {
			return err
		}
	}
	inputs := append([]string{}, o.stats...)
	for _, f := range model.Files {
		inputs = append(inputs, f.Path)
	}
	for _, in := range inputs {
		if o.out != "" && (sameFile(o.out, in) || sameFile(o.out+".partial", in)) {
			return fmt.Errorf("%s: is an input: the output would overwrite it", in)
		}
	}
	bar := c.newProgress("measuring", func(n uint64) string { return fmt.Sprintf("%.1f Mweights", float64(n)/1e6) })
	options := stats.MeasureOptions{
		Types: types, Full: o.full, Seed: o.seed, Part: part, Workers: o.workers,
		Quantizable: planner.Quantizable,
		Progress:    bar.update,
		Generator:   manifest.GeneratorName + " " + manifest.GeneratorVersion,
	}
	if o.out != "" {
		options.Journal = stats.NewJournal(o.out+".partial", o.resume)
		defer options.Journal.Close()
	}
	result, err := stats.Measure(c.ctx, model, evidence, options)
	bar.done()
	switch {
	case errors.Is(err, stats.ErrJournalExists):
		return hinted(err, fmt.Sprintf("add --resume to go on, or remove %s.partial to start anew", o.out))
	case err != nil && c.ctx.Err() != nil && o.out != "":
		return hinted(c.ctx.Err(), fmt.Sprintf("what is done is kept in %s.partial: run the same command with --resume", o.out))
	case err != nil:
		return fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	if err := c.writeErrors(o, result); err != nil {
		return err
	}
	if options.Journal != nil {
		return options.Journal.Remove()
	}
	return nil
}

func (c *call) mergeParts(o *measureFlags, paths []string) error {
	parts := make([]*stats.Errors, len(paths))
	names := make([]string, len(paths))
	for i, path := range paths {
		if o.out != "" && sameFile(o.out, path) {
			return fmt.Errorf("%s: is an input: the output would overwrite it", path)
		}
		e, err := c.readErrors(path)
		if err != nil {
			return err
		}
		parts[i], names[i] = e.Errors, filepath.Base(path)
	}
	whole, err := stats.MergeErrors(parts, names)
	if err != nil {
		return err
	}
	return c.writeErrors(o, whole)
}

// writeErrors writes an errors file and sums it up on stderr.
func (c *call) writeErrors(o *measureFlags, e *stats.Errors) error {
	data, err := stats.EncodeErrors(e)
	if err != nil {
		return err
	}
	if o.out == "" {
		_, err := c.stdout.Write(data)
		return err
	}
	var out outputs
	defer out.discard()
	if err := out.write(o.out, data); err != nil {
		return err
	}
	if err := out.commit(); err != nil {
		return err
	}
	if o.quiet {
		return nil
	}
	experts, rows, total := 0, uint64(0), uint64(0)
	for i := range e.Tensors {
		for _, x := range e.Tensors[i].Experts {
			experts++
			rows += x.Rows
			total += x.RowsTotal
		}
	}
	share := 100 * float64(rows) / math.Max(1, float64(total))
	fmt.Fprintf(c.stderr, "%s: %d tensors, %d experts and whole tensors, %d types, %.1f %% of rows encoded, column weights: %s\n",
		filepath.Base(o.out), len(e.Tensors), experts, len(e.Types), share, e.Weights)
	return nil
}
