package main

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner"
	"github.com/ggufplan/ggufplan/planner/llamaquantize"
	"github.com/ggufplan/ggufplan/planner/manifest"
	"github.com/ggufplan/ggufplan/stats"
	"github.com/ggufplan/ggufplan/stats/measure"
)

type measureFlags struct {
	stats    []string
	evidence *evidenceFlags
	out      string
	types    []string
	full     bool
	quick    bool
	accuracy string
	seed     uint64
	part     string
	merge    bool
	resume   bool
	workers  int
	quiet    bool
}

func measureCommand() *command {
	return &command{
		name: "measure", operands: "MODEL | --merge PART...", short: "the error of every expert in every candidate type, from the weights", groups: []flagGroup{
			{"common flags", []string{"stats", "output", "types", "quick", "resume", "quiet"}},
			{"how much is read", []string{"precision", "full", "seed"}},
			{"parts and threads", []string{"part", "merge", "threads"}},
			statisticsGroup,
		},
		min: 1, max: -1,
		long: `Encodes and decodes the weights of every expert of every expert tensor, and of
every other tensor that llama-quantize quantizes, in every candidate type, and
writes the relative error of each as JSON: what plan --errors weighs traffic
with. An imatrix gives the column weights; without one they are ones.

Every row is read, a million of an expert that has more; those to encode are
drawn from --seed, half by their share of the norm and half by that of the peaks,
until the 95 % interval of each relative error is within --precision (5 %), and
the closer the more traffic an expert has: a tensor's error, weighted by traffic,
is within a fifth of that (1 %) from 32 layers on, a tenth with up to 8. --quick
takes 20 % and 4 %, and a tenth of the time: from 10 % on only some rows are read,
and tensors of 30 experts and more have ten measured in every type and the others
in one, from which the ten's ratios give the rest. --full encodes every row.
With -o, finished experts are kept in OUT.partial: after an interruption --resume
goes on from there and ends with the same bytes. Memory stays below 512 MB for
models as large as DeepSeek-V3.

A type that needs an imatrix is measured where --stats has a complete entry of
the tensor. A weight that is NaN or infinite, or too large for a candidate's
scale, is an error that names it.

--part I/N measures one share of the work, a stretch of the file; --merge joins
the parts into the bytes that one run would have written.

Examples:
  $ ggufplan measure model-f16.gguf --stats mix.imatrix.gguf --types Q2_K,Q4_K -o errors.json
  ...
  $ ggufplan measure model-f16.gguf --stats mix.imatrix.gguf --types Q2_K,Q4_K \
      --part 1/2 -o part-1.json
  ...
  $ ggufplan measure model-f16.gguf --stats mix.imatrix.gguf --types Q2_K,Q4_K \
      --part 2/2 -o part-2.json
  ...
  $ ggufplan measure --merge part-1.json part-2.json -o merged.json
  ...`,
		setup: func(flags *pflag.FlagSet) func(*call, []string) error {
			o := &measureFlags{}
			flags.StringArrayVar(&o.stats, "stats", nil, "activation statistics: counts and column weights, `FILE`; several merge")
			flags.StringVarP(&o.out, "output", "o", "", "write to `OUT` instead of standard output, and keep resumable state in OUT.partial")
			flags.StringSliceVar(&o.types, "types", nil, "candidate types: `LIST` of types and of the sets "+strings.Join(planner.TypeSetNames(), ", ")+"; "+planner.DefaultTypeSet+" if not given")
			oneOf(flags, "types", typesAndSets()...)
			flags.BoolVar(&o.full, "full", false, "encode every row instead of a sample")
			flags.StringVar(&o.accuracy, "precision", "5%", "sample until an expert's error is known within `P`, such as 2% or 0.02; its tensor's within a fifth")
			flags.BoolVar(&o.quick, "quick", false, "a rough sample: the same as --precision 20%")
			flags.Uint64Var(&o.seed, "seed", 1, "seed of the sample, `N`")
			flags.StringVar(&o.part, "part", "", "measure share I of N, `I/N`")
			flags.BoolVar(&o.merge, "merge", false, "join parts into the whole")
			flags.BoolVar(&o.resume, "resume", false, "go on from OUT.partial")
			flags.IntVar(&o.workers, "threads", 0, "number of threads, `N`; one per processor if 0. The result is the same")
			flags.BoolVarP(&o.quiet, "quiet", "q", false, "no summary on stderr")
			o.evidence = addEvidenceFlags(flags)
			return func(c *call, operands []string) error {
				if o.merge {
					return c.mergeParts(o, flags, operands)
				}
				if len(operands) != 1 {
					return hinted(fmt.Errorf("measure takes one MODEL, not %d operands", len(operands)), "ggufplan measure model.gguf --stats imatrix.gguf -o errors.json")
				}
				if err := refuseTogether(flags, "full", "quick", "precision"); err != nil {
					return err
				}
				return c.measure(o, operands[0])
			}
		},
	}
}

var partPattern = regexp.MustCompile(`^([0-9]{1,7})/([0-9]{1,7})$`)

func parsePart(s string) (*measure.Part, error) {
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
	return &measure.Part{Index: i, Of: n}, nil
}

// parseTypes reads a list of names of types that can be encoded, and of sets of
// them; of none, the default set.
func parseTypes(flag string, names []string) ([]quant.Type, error) {
	if len(names) == 0 {
		names = []string{planner.DefaultTypeSet}
	}
	var types []quant.Type
	for _, name := range names {
		if set, ok := planner.TypeSet(strings.ToLower(strings.TrimSpace(name))); ok {
			for _, t := range set {
				if quant.CanEncode(t.GGML) {
					types = append(types, t.GGML)
				}
			}
			continue
		}
		if same, ok := sameName(name, plannableTypeNames()); ok {
			name = same
		}
		f, ok := quant.ByName(strings.TrimSpace(name))
		if ft, mix := llamaquantize.FileTypeByName(name); !ok && mix {
			return nil, flagError(flag, mixError(ft))
		}
		if !ok {
			return nil, flagError(flag, didYouMean(fmt.Errorf("%q is not a type", name), name, plannableTypeNames(), "--"+flag+" ", "--"+flag+" Q2_K,Q3_K,Q4_K"))
		}
		if !quant.CanEncode(f.Type) {
			return nil, hinted(fmt.Errorf("--%s: there is no encoder for %s", flag, f.Name), "--"+flag+" Q2_K,Q3_K,Q4_K")
		}
		types = append(types, f.Type)
	}
	return types, nil
}

// parsePrecision reads a fraction or a percentage between 0 and 1.
func parsePrecision(text string) (float64, error) {
	digits, percent := strings.CutSuffix(strings.TrimSpace(text), "%")
	v, err := strconv.ParseFloat(strings.TrimSpace(digits), 64)
	if percent {
		v /= 100
	}
	if err != nil || !(v >= measure.FinestPrecision && v <= measure.CoarsestPrecision) {
		return 0, hinted(fmt.Errorf("--precision: want %g%% to %g%%, got %q", 100*measure.FinestPrecision, 100*measure.CoarsestPrecision, text), "--precision 5%")
	}
	return v, nil
}

// refuseTogether wants at most one of the flags.
func refuseTogether(flags *pflag.FlagSet, names ...string) error {
	given := ""
	for _, name := range names {
		if !flags.Changed(name) {
			continue
		}
		if given != "" {
			return hinted(fmt.Errorf("--%s and --%s contradict each other", given, name), "ggufplan "+flags.Name()+" --help")
		}
		given = name
	}
	return nil
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
	if o.resume && !o.keepsState() {
		return hinted(fmt.Errorf("--resume needs -o FILE: the state is in FILE.partial"), "ggufplan measure model.gguf --stats imatrix.gguf -o errors.json --resume")
	}
	precision, err := parsePrecision(o.accuracy)
	if err != nil {
		return err
	}
	if o.quick {
		precision = measure.QuickPrecision
	}
	if o.workers < 0 {
		return hinted(fmt.Errorf("--threads: %d is below 0", o.workers), "--threads 8")
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
	inputs := slices.Clone(o.stats)
	for _, f := range model.Files {
		inputs = append(inputs, f.Path)
	}
	if err := o.overwrites(inputs); err != nil {
		return err
	}
	bar := c.newProgress("measuring", weightsText)
	options := measure.Options{
		Types: types, Full: o.full, Precision: precision, Seed: o.seed, Part: part, Workers: o.workers,
		Quantizable: llamaquantize.Quantizable,
		Progress:    bar.hook(),
		Generator:   manifest.GeneratorName + " " + manifest.GeneratorVersion,
	}
	if o.keepsState() {
		options.Journal = measure.NewJournal(o.statePath(), o.resume)
		defer options.Journal.Close()
	}
	result, err := measure.Run(c.ctx, model, evidence, options)
	bar.done()
	if err != nil {
		return o.explain(c, options.Journal, fmt.Errorf("%s: %w", filepath.Base(path), err))
	}
	if err := c.writeErrors(o, result); err != nil {
		return err
	}
	if options.Journal != nil {
		return options.Journal.Remove()
	}
	return nil
}

// weightsText writes a number of weights for a person.
func weightsText(n uint64) string {
	if n >= 1e9 {
		return fmt.Sprintf("%.1f G weights", float64(n)/1e9)
	}
	return fmt.Sprintf("%.1f M weights", float64(n)/1e6)
}

// statePath is where an unfinished measurement is kept.
func (o *measureFlags) statePath() string { return o.out + ".partial" }

// keepsState reports whether there is a place for it: not beside standard
// output, a device or a pipe.
func (o *measureFlags) keepsState() bool {
	if o.out == "" || o.out == "-" {
		return false
	}
	info, err := os.Stat(o.out)
	return err != nil || info.Mode().IsRegular()
}

// overwrites reports the first input that the output or its state would
// overwrite.
func (o *measureFlags) overwrites(inputs []string) error {
	if !o.keepsState() {
		return nil
	}
	return cmp.Or(refuseOverwrite(o.out, inputs...), refuseOverwrite(o.statePath(), inputs...))
}

// explain adds what to do about a measurement that did not end. State that no
// further run could use is removed.
func (o *measureFlags) explain(c *call, journal *measure.Journal, err error) error {
	var fault *quant.EncodeError
	switch {
	case errors.Is(err, measure.ErrJournalExists):
		return hinted(err, fmt.Sprintf("add --resume to go on, or remove %s to start anew", shellQuote(o.statePath())))
	case errors.Is(err, measure.ErrJournalInUse):
		return hinted(err, "wait for it, or write to another file: -o other.json")
	case errors.Is(err, measure.ErrModelChanged) && journal != nil:
		return hinted(err, fmt.Sprintf("remove %s to start anew", shellQuote(o.statePath())))
	case c.ctx.Err() != nil && journal != nil:
		return hinted(c.ctx.Err(), fmt.Sprintf("what is done is kept in %s: run the same command with --resume", shellQuote(o.statePath())))
	case journal == nil:
	case errors.Is(err, quant.ErrNotFinite) || errors.Is(err, quant.ErrScaleOverflow):
		err = errors.Join(err, journal.Remove())
	}
	if errors.As(err, &fault) && errors.Is(err, quant.ErrScaleOverflow) {
		return hinted(err, fmt.Sprintf("name the candidates without %v, such as --types BF16", fault.Type))
	}
	return err
}

// mergeFlags are the flags that go with --merge: parts are measured already.
var mergeFlags = []string{"merge", "output", "quiet"}

func (c *call) mergeParts(o *measureFlags, flags *pflag.FlagSet, paths []string) error {
	var extra []string
	flags.Visit(func(f *pflag.Flag) {
		if !slices.Contains(mergeFlags, f.Name) {
			extra = append(extra, "--"+f.Name)
		}
	})
	if len(extra) > 0 {
		return hinted(fmt.Errorf("--merge takes no %s: the parts are measured already", strings.Join(extra, " or ")), "ggufplan measure --merge part-1.json part-2.json -o errors.json")
	}
	parts := make([]*measure.Result, len(paths))
	names := make([]string, len(paths))
	if err := o.overwrites(paths); err != nil {
		return err
	}
	for i, path := range paths {
		e, err := c.readErrors(path)
		if err != nil {
			return err
		}
		parts[i], names[i] = e.Result, filepath.Base(path)
	}
	whole, err := measure.Merge(parts, names)
	if err != nil {
		return err
	}
	return c.writeErrors(o, whole)
}

// writeErrors writes an errors file and sums it up on stderr.
func (c *call) writeErrors(o *measureFlags, e *measure.Result) error {
	if o.out == "" || o.out == "-" {
		return measure.Write(c.stdout, e)
	}
	out := outputs{c: c}
	defer out.discard()
	f, err := out.create(o.out)
	if err != nil {
		return err
	}
	if err := measure.Write(f, e); err != nil {
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
	fmt.Fprintf(c.wrapped(c.stderr), "%s: %d tensors, %d experts and whole tensors, %d types, %.1f %% of rows encoded, column weights: %s\n",
		filepath.Base(o.out), len(e.Tensors), experts, len(e.Types), share, e.Weights)
	return nil
}
