package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner/llamaquantize"
	"github.com/ggufplan/ggufplan/planner/manifest"
	"github.com/ggufplan/ggufplan/planner/probe"
	"github.com/ggufplan/ggufplan/planner/review"
	"github.com/ggufplan/ggufplan/stats/measure"
	"github.com/ggufplan/ggufplan/stats/pace"
)

type probeFlags struct {
	flags     *pflag.FlagSet
	imatrix   []string
	evidence  *evidenceFlags
	text      string
	program   string
	out       string
	bands     string
	probeType string
	reference string
	logits    string
	context   int
	chunks    int
	part      string
	merge     bool
	resume    bool
	print     bool
	read      bool
	write     string
	workers   int
	quiet     bool

	args []string // behind "--"
}

func probeCommand() *command {
	return &command{
		name: "probe", operands: "MODEL [LOG...] [-- ARGS...] | --merge PART...", short: "sensitivities, by a dozen runs of llama-perplexity", min: 1, max: -1,
		long: `Finds out how much each part of MODEL matters: runs llama-perplexity (any build
of it, or a wrapper script; no shell is started) on copies of the model in which
one group of tensors is at --probe-type, and writes the sensitivities as JSON,
for plan --sensitivity. Groups are output, embedding, and attention and the like
(mix), shared experts and experts in --bands bands of depth, 10 to 14 runs;
--bands tensor makes a run for each tensor, for small models. A control run,
three mixtures of types and one whole file in Q6_K say what a plan's damage is
as a KL divergence: on this text within a factor of 1.35 in what was tried, and on
others mostly within the band that plans state, a factor of 1.5.

ARGS go to llama-perplexity, such as -ngl 99; -b equals --ctx always. The text is
used in pieces of --chunks until each run's standard error is below 10 % of what
it shows. One copy lies beside OUT at a time, and the base logits of a piece (2
bytes x vocabulary x scored tokens): their space is checked first. OUT.partial
keeps what is done: --resume goes on.

Runs start from MODEL, or from --reference, such as its Q8_0 file where the model
itself does not fit the GPU; a quantized one gets the probe type's own tensors,
encoded from MODEL. --logits takes base logits that are there, and their text.

For a GPU elsewhere --print writes the commands as a shell script, and --read
takes the outputs, files named RUN.log. --part I/N makes a share of the runs,
--merge joins the parts.

On a machine with llama.cpp:

    ggufplan probe model-f16.gguf --imatrix mix.imatrix.gguf --text eval.txt \
      --llama-perplexity ./llama-perplexity -o sensitivity.json -- -ngl 99
    ggufplan plan model-f16.gguf --imatrix mix.imatrix.gguf --target-size 12GiB \
      --measure --sensitivity sensitivity.json -o plan.json

Example, the commands for a GPU elsewhere:
  $ ggufplan probe model-f16.gguf --imatrix mix.imatrix.gguf --text eval.txt --print
  set -e
  ...`,
		setup: func(flags *pflag.FlagSet) func(*call, []string) error {
			o := &probeFlags{flags: flags}
			flags.StringArrayVar(&o.imatrix, "imatrix", nil, "the importance matrix, `FILE`; again for several")
			flags.StringVar(&o.text, "text", "", "the text to score, `FILE`: unlike that of the imatrix, like what the model is for")
			flags.StringVar(&o.program, "llama-perplexity", "llama-perplexity", "the program, `PATH`")
			flags.StringVarP(&o.out, "output", "o", "", "write the sensitivities to `OUT`, and keep resumable state beside it")
			flags.StringVar(&o.bands, "bands", probe.DefaultBands, "`N` bands of depth, or tensor for a run for each tensor")
			flags.StringVar(&o.probeType, "probe-type", "Q2_K", "the `TYPE` of a run's group")
			flags.StringVar(&o.reference, "reference", "", "start runs from `MODEL`, another file of the same weights")
			flags.StringVar(&o.logits, "logits", "", "base logits of llama-perplexity that are there, `FILE`, instead of --text")
			flags.IntVar(&o.context, "ctx", 512, "tokens of context, `N`")
			flags.IntVar(&o.chunks, "chunks", 64, "contexts in a piece of the text, at most `N`")
			flags.StringVar(&o.part, "part", "", "run share I of N, `I/N`")
			flags.BoolVar(&o.merge, "merge", false, "join parts into the whole")
			flags.BoolVar(&o.resume, "resume", false, "go on from OUT.partial")
			flags.BoolVar(&o.print, "print", false, "write the commands as a shell script instead of running them")
			flags.BoolVar(&o.read, "read", false, "take the outputs of runs made elsewhere: LOG..., each named RUN.log")
			flags.StringVar(&o.write, "write", "", "write the model of one run, `RUN`, to OUT, and run nothing")
			flags.IntVar(&o.workers, "threads", 0, "number of threads that encode, `N`; one per processor if 0. The result is the same")
			flags.BoolVarP(&o.quiet, "quiet", "q", false, "no summary on stderr")
			o.evidence = addEvidenceFlags(flags)
			return func(c *call, operands []string) error {
				if n := flags.ArgsLenAtDash(); n >= 0 {
					operands, o.args = operands[:n], operands[n:]
				}
				if o.merge {
					return c.mergeProbes(o, operands)
				}
				return c.probe(o, operands)
			}
		},
	}
}

const probeLine = "ggufplan probe model-f16.gguf --imatrix imatrix.gguf --text eval.txt --llama-perplexity ./llama-perplexity -o sensitivity.json"

func (o *probeFlags) validate(operands []string) error {
	if err := refuseTogether(o.flags, "print", "read", "write", "resume"); err != nil {
		return err
	}
	if err := refuseTogether(o.flags, "text", "logits"); err != nil {
		return err
	}
	switch {
	case len(operands) == 0:
		return hinted(fmt.Errorf("probe needs a MODEL"), probeLine)
	case len(operands) > 1 && !o.read:
		return hinted(fmt.Errorf("probe takes one MODEL, not %d operands", len(operands)), probeLine)
	case o.read && len(operands) == 1:
		return hinted(fmt.Errorf("--read needs the runs' outputs"), "ggufplan probe model-f16.gguf -o sensitivity.json --read *.log")
	case o.context < 3 || o.context > 1<<24:
		return hinted(fmt.Errorf("--ctx: %d: want 3 to %d", o.context, 1<<24), "--ctx 512")
	case o.chunks < 1 || o.chunks > 1<<24:
		return hinted(fmt.Errorf("--chunks: %d: want 1 to %d", o.chunks, 1<<24), "--chunks 64")
	case o.workers < 0:
		return hinted(fmt.Errorf("--threads: %d is below 0", o.workers), "--threads 8")
	}
	if n, err := strconv.Atoi(o.bands); o.bands != measure.BandsTensor && (err != nil || n < 1 || n > measure.MaxBands || strconv.Itoa(n) != o.bands) {
		return hinted(fmt.Errorf("--bands: %q is neither tensor nor a number from 1 to %d", o.bands, measure.MaxBands), "--bands 4")
	}
	runs := !o.print && !o.read && o.write == ""
	switch {
	case (runs || o.print) && o.text == "" && o.logits == "":
		return hinted(fmt.Errorf("probe needs --text FILE, or --logits"), probeLine)
	case (runs || o.write != "") && (o.out == "" || o.out == "-"):
		return hinted(fmt.Errorf("probe needs -o FILE: what it makes lies beside it"), probeLine)
	case (runs || o.print) && o.program == "":
		return hinted(fmt.Errorf("--llama-perplexity: names no program"), probeLine)
	}
	return nil
}

func (c *call) probe(o *probeFlags, operands []string) error {
	if err := o.validate(operands); err != nil {
		return err
	}
	options, err := c.probeOptions(o, operands[0])
	if err != nil {
		return err
	}
	if options.Evidence != nil {
		defer options.Evidence.Close()
	}
	if err := o.refuseInputs(options, operands); err != nil {
		return err
	}
	if o.print || o.write != "" {
		s, err := probe.New(*options)
		if err != nil {
			return err
		}
		if o.print {
			return c.printProbe(o, s, operands[0])
		}
		return c.writeRun(o, s)
	}
	return c.runProbe(o, options, operands[1:])
}

// probeOptions reads what the runs follow from.
func (c *call) probeOptions(o *probeFlags, path string) (*probe.Options, error) {
	part, err := parsePart(o.part)
	if err != nil {
		return nil, err
	}
	types, err := parseTypes("probe-type", []string{o.probeType})
	if err != nil {
		return nil, err
	}
	if f, _ := quant.Lookup(types[0]); !f.Quantized {
		return nil, hinted(fmt.Errorf("--probe-type: %s loses next to nothing", f.Name), "--probe-type Q2_K")
	}
	options := &probe.Options{ProbeType: types[0], Bands: o.bands, ContextTokens: o.context, Chunks: o.chunks, Part: part,
		Generator: manifest.GeneratorName + " " + manifest.GeneratorVersion}
	if options.Model, err = ggufio.Open(path); err != nil {
		return nil, err
	}
	if o.reference != "" {
		if options.Reference, err = ggufio.Open(o.reference); err != nil {
			return nil, err
		}
	}
	if o.text != "" {
		if options.Text, err = digestText(o.text); err != nil {
			return nil, err
		}
	}
	if len(o.imatrix) > 0 {
		if options.Evidence, err = o.evidence.read(c, o.imatrix, options.Model); err != nil {
			return nil, err
		}
	}
	return options, nil
}

// digestText identifies a text.
func digestText(path string) (*measure.ProbeText, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return nil, err
	}
	return &measure.ProbeText{Name: manifest.Printable(filepath.Base(path)), SizeBytes: uint64(n), SHA256: fmt.Sprintf("%x", h.Sum(nil))}, nil
}

// refuseInputs refuses outputs that would overwrite an input.
func (o *probeFlags) refuseInputs(options *probe.Options, operands []string) error {
	if o.out == "" || o.out == "-" {
		return nil
	}
	if info, err := os.Stat(o.out); err == nil && !info.Mode().IsRegular() {
		return hinted(fmt.Errorf("-o: %s is not a regular file", o.out), "-o sensitivity.json")
	}
	inputs := slices.Concat([]string{o.text, o.logits}, o.imatrix, operands[1:])
	for _, m := range []*ggufio.Model{options.Model, options.Reference} {
		if m == nil {
			continue
		}
		for _, f := range m.Files {
			inputs = append(inputs, f.Path)
		}
	}
	return refuseOverwrite(o.out, inputs...)
}

func (c *call) runProbe(o *probeFlags, options *probe.Options, logs []string) error {
	e := probe.Execution{Program: probe.Program{Path: o.program, Args: o.args}, Text: o.text, Logits: o.logits,
		State: o.out + ".partial", Resume: o.resume, Workers: o.workers}
	for _, path := range []string{e.State, e.State + ".errors"} {
		if _, err := os.Stat(path); err == nil && !o.read && !o.resume {
			return explainProbe(e.State, fmt.Errorf("%s: %w", path, probe.ErrStateExists))
		}
	}
	var journal *measure.Journal
	if o.read { // before anything is measured
		s, err := probe.New(*options)
		if err != nil {
			return err
		}
		if _, err := c.readLogs(s, logs); err != nil {
			return err
		}
	} else {
		if s, err := probe.New(*options); err != nil {
			return err
		} else if err := checkProbeSpace(o, &e, s); err != nil {
			return err
		}
		journal = measure.NewJournal(e.State+".errors", o.resume)
		defer journal.Close()
	}
	errorsOf := measure.Options{Types: options.ErrorTypes(), Seed: 1, Workers: o.workers, Quantizable: llamaquantize.Quantizable, Journal: journal, Generator: options.Generator}
	if o.read {
		bar := c.newProgress("measuring errors", weightsText)
		errorsOf.Progress = bar.hook()
		var err error
		options.Errors, err = measure.Run(c.ctx, options.Model, options.Evidence, errorsOf)
		bar.done()
		if err != nil {
			return explainProbe(e.State, err)
		}
	}
	s, err := probe.New(*options)
	if err != nil {
		return err
	}
	if o.read {
		result, err := c.readLogs(s, logs)
		if err != nil {
			return err
		}
		return c.writeSensitivities(o, result)
	}
	e.Errors = func(ctx context.Context, progress func(pace.Progress)) (*measure.Result, error) {
		errorsOf.Progress = progress
		return measure.Run(ctx, options.Model, options.Evidence, errorsOf)
	}
	runs := c.newProgress("", func(n uint64) string { return review.Count(n) + " tokens" })
	if runs.seen() {
		takes, err := measure.Estimate(options.Model, options.Evidence, errorsOf)
		if err != nil {
			return err
		}
		e.ErrorsSeconds = takes.Seconds()
		e.Progress = func(doing string, p pace.Progress) {
			runs.label = doing
			runs.update(p)
		}
	}
	result, err := s.Execute(c.ctx, e)
	runs.done()
	if err != nil {
		return explainProbe(e.State, err)
	}
	if err := c.writeSensitivities(o, result); err != nil {
		return err
	}
	e.Remove(s)
	return journal.Remove()
}

// checkProbeSpace refuses a probe whose files do not fit beside OUT.
func checkProbeSpace(o *probeFlags, e *probe.Execution, s *probe.Setup) error {
	need := s.SpaceBytes(o.logits == "")
	for _, path := range e.Files(s) {
		need -= min(need, allocatedBytes(path))
	}
	if free, ok := freeBytes(filepath.Dir(o.out)); ok && need > free {
		return hinted(fmt.Errorf("%s: a copy of the model and base logits need %s, and %s are free there", filepath.Dir(o.out), review.Size(need), review.Size(free)),
			"fewer --chunks take less, or write to another disk: -o /other/sensitivity.json")
	}
	return nil
}

// explainProbe adds what to do about a probe that did not end.
func explainProbe(state string, err error) error {
	var fault *probe.ContextError
	switch {
	case errors.Is(err, probe.ErrStateExists):
		return hinted(err, fmt.Sprintf("add --resume to go on, or remove %s* to start anew", review.ShellWord(state)))
	case errors.Is(err, measure.ErrJournalInUse):
		return hinted(err, "wait for it, or write to another file: -o other.json")
	case errors.Is(err, probe.ErrStateElsewhere) || errors.Is(err, measure.ErrModelChanged):
		return hinted(err, fmt.Sprintf("remove %s* to start anew", review.ShellWord(state)))
	case errors.As(err, &fault):
		return hinted(err, fmt.Sprintf("--ctx %d", fault.Got))
	}
	for _, path := range []string{state, state + ".errors"} {
		if _, there := os.Stat(path); there != nil {
			continue
		}
		return hinted(err, fmt.Sprintf("what is done is kept in %s: run the same command with --resume", review.ShellWord(state)))
	}
	return err
}

// readLogs takes the outputs of runs that were made elsewhere.
func (c *call) readLogs(s *probe.Setup, paths []string) (*measure.Probe, error) {
	var logs []probe.NamedLog
	for _, path := range paths {
		data, err := c.readWhole(path, maxLogBytes)
		if err != nil {
			return nil, err
		}
		name := filepath.Base(inputName(path))
		logs = append(logs, probe.NamedLog{Name: name, Run: strings.TrimSuffix(name, ".log"), Data: data})
	}
	return s.Read(logs)
}

// maxLogBytes bounds the output of a run: 100 bytes a chunk.
const maxLogBytes = 64 << 20

func (c *call) writeRun(o *probeFlags, s *probe.Setup) error {
	for _, path := range s.RunPaths(o.write, o.out) {
		if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
			return hinted(fmt.Errorf("-o: %s is not a regular file", path), "-o run.gguf")
		}
	}
	bar := c.newProgress("writing "+o.write, review.Size)
	err := s.WriteRun(c.ctx, o.write, o.out, o.workers, bar.update)
	bar.done()
	return err
}

func (c *call) mergeProbes(o *probeFlags, paths []string) error {
	var extra []string
	o.flags.Visit(func(f *pflag.Flag) {
		if !slices.Contains(mergeFlags, f.Name) {
			extra = append(extra, "--"+f.Name)
		}
	})
	if len(extra) > 0 || len(paths) == 0 {
		return hinted(fmt.Errorf("--merge takes parts and -o, and no %s", strings.Join(append(extra, "more"), " or ")), "ggufplan probe --merge part-1.json part-2.json -o sensitivity.json")
	}
	parts := make([]*measure.Probe, len(paths))
	names := make([]string, len(paths))
	for i, path := range paths {
		data, err := c.readWhole(path, maxSensitivityBytes)
		if err != nil {
			return err
		}
		names[i] = filepath.Base(inputName(path))
		if parts[i], err = measure.DecodeProbe(data); err != nil {
			return fmt.Errorf("%s: %w", names[i], err)
		}
	}
	if err := refuseOverwrite(o.out, paths...); err != nil {
		return err
	}
	whole, err := measure.MergeProbes(parts, names)
	if err != nil {
		return err
	}
	return c.writeSensitivities(o, whole)
}

// writeSensitivities writes what was found and sums it up on stderr.
func (c *call) writeSensitivities(o *probeFlags, p *measure.Probe) error {
	data, err := measure.EncodeProbe(p)
	if err != nil {
		return err
	}
	if err := c.writeOutput(o.out, data); err != nil || o.out == "" || o.out == "-" {
		return err
	}
	var loose []string
	for i := range p.Runs {
		if r := &p.Runs[i]; r.Kind == measure.RunGroup && r.StandardError > 0.1*r.Net() {
			loose = append(loose, r.Name)
		}
	}
	if len(loose) > 0 {
		c.warn("the text is too short for a standard error below 10 %% of %d of %d runs, such as %s", len(loose), len(p.Runs), loose[0])
	}
	if f := p.Fit; f != nil && f.Spread != nil && *f.Spread > measure.MaxProbeSpread {
		c.warn("the sensitivities do not hold for this model: mixtures are up to %.2f times off what their sum says; no KL divergences will be predicted", *f.Spread)
	}
	if o.quiet {
		return nil
	}
	fmt.Fprintf(c.stderr, "%s: %d runs, %s\n", filepath.Base(o.out), len(p.Runs), p.ProbeType)
	if f := p.Fit; f != nil && f.K != nil {
		y0 := ""
		if f.Y0 != nil {
			y0 = fmt.Sprintf("%.5f + ", *f.Y0)
		}
		fmt.Fprintf(c.stderr, "a KL divergence is about %s%.2f times the sum of sensitivity times error; mixtures are within %.2f times of that\n", y0, *f.K, *f.Spread)
	}
	return nil
}

// again returns the flags that were given as words, but for some.
func (o *probeFlags) again(skip ...string) (words []string) {
	o.flags.Visit(func(f *pflag.Flag) {
		if slices.Contains(skip, f.Name) {
			return
		}
		if list, ok := f.Value.(pflag.SliceValue); ok {
			for _, v := range list.GetSlice() {
				words = append(words, "--"+f.Name+"="+v)
			}
			return
		}
		words = append(words, "--"+f.Name+"="+f.Value.String())
	})
	return words
}

// printProbe writes the commands of all runs as a shell script.
func (c *call) printProbe(o *probeFlags, s *probe.Setup, model string) error {
	var b strings.Builder
	line := func(words ...string) {
		for i, w := range words {
			if i > 0 {
				b.WriteString(" ")
			}
			b.WriteString(review.ShellWord(w))
		}
	}
	base := o.reference
	if base == "" {
		base = model
	}
	program := probe.Program{Path: o.program, Args: o.args}
	logits := o.logits
	b.WriteString("set -e\n")
	logged := func(name string, args []string) {
		line(append([]string{o.program}, args...)...)
		b.WriteString(" > ")
		line(name + ".log")
		b.WriteString(" 2>&1\n")
	}
	// At times llama-perplexity loses its last lines: see probe.ReadLog.
	scored := func(name string, args []string) {
		b.WriteString("for try in 1 2 3 4 5; do\n\t")
		logged(name, args)
		b.WriteString("\tif grep -q 'Maximum KLD' ")
		line(name + ".log")
		b.WriteString("; then break; fi\ndone\n")
	}
	if logits == "" {
		logits = "base.kld"
		logged("base", program.BaseArgs(base, o.text, logits, uint64(o.context), uint64(o.chunks)))
	}
	logs := []string{probe.ControlRun + ".log"}
	scored(probe.ControlRun, program.RunArgs(base, logits, uint64(o.context)))
	common := append([]string{"ggufplan", "probe", model}, o.again("print", "output", "part")...)
	for _, r := range s.Runs() {
		line(append(common, "--write="+r.Name, "-o", "run.gguf")...)
		b.WriteString("\n")
		scored(r.Name, program.RunArgs(s.RunPaths(r.Name, "run.gguf")[0], logits, uint64(o.context)))
		logs = append(logs, r.Name+".log")
	}
	b.WriteString("rm -f run.gguf run-0*-of-0*.gguf\n")
	out := o.out
	if out == "" {
		out = "sensitivity.json"
	}
	if o.part != "" {
		common = append(common, "--part="+o.part)
	}
	line(append(append(common, "-o", out, "--read"), logs...)...)
	b.WriteString("\n")
	return c.writeProduct([]byte(b.String()))
}
