package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner"
	"github.com/ggufplan/ggufplan/planner/export"
	"github.com/ggufplan/ggufplan/planner/manifest"
	"github.com/ggufplan/ggufplan/planner/review"
)

func planCommand() *command {
	return &command{
		name:     "plan",
		operands: "MODEL",
		short:    "decide which type every tensor and expert gets; the manifest",
		long: `
Decides which quantization type each tensor of a model gets, and writes the
manifest: the types, sizes and reasons for every tensor and every expert, on
standard output or to -o. Any shard of a model stands for the whole set; only
headers are read. Statistics say how often each expert was used; several files
are merged.

Example:

  $ ggufplan plan model-f16.gguf --stats mix.imatrix.gguf -o plan.json
  plan.json: bytemoe-2x8, frequency policy, preset default, base Q4_K_M
  size        1.7 MiB of 7.0 MiB, saves 76.0 %, 3.85 bits per weight, a file of 1,774,880 bytes
  ...
  experts     2 hot, 12 warm, 2 cold
  ...

Gates make a plan fail a pipeline: the manifest is still written, but the exit
status is 1.

  $ ggufplan plan model-f16.gguf --stats mix.imatrix.gguf -q -o plan.json \
      --max-size 3MiB --min-saved 60%

With a target the policy is budget: types are chosen for the least predicted
damage, from the errors that measure found and the traffic.

  $ ggufplan measure model-f16.gguf --stats mix.imatrix.gguf -q -o errors.json
  $ ggufplan plan model-f16.gguf --stats mix.imatrix.gguf --errors errors.json \
      --target-size 1.7MiB -q -o plan.json

With --ctx the plan says what a run in llama.cpp takes, and with --fit-vram and
--fit-ram types and placement are chosen for it: all on the graphics card but
routed experts, which lie in RAM where that does less damage.

  $ ggufplan plan model-f16.gguf --stats mix.imatrix.gguf --ctx 8k --fit-vram 24MiB -q -o fit.json
  $ ggufplan export fit.json --to llama-server
  ...

How damage falls with size, to pick a target by looking, as a table, as JSON or
as a picture:

  $ ggufplan plan model-f16.gguf --stats mix.imatrix.gguf --errors errors.json \
      --frontier 1.2MiB:2.4MiB:13 --svg frontier.svg

exit status: 0 done; 1 a gate is missed or no plan fits the target; 2 trouble`,
		groups: planGroups,
		min:    1, max: 1,
		setup: func(flags *pflag.FlagSet) func(*call, []string) error {
			p := &planFlags{}
			flags.StringArrayVar(&p.stats, "stats", nil, "activation statistics in `FILE`, such as llama-imatrix writes; repeatable; --imatrix is the same")
			flags.StringVarP(&p.output, "output", "o", "", "write the manifest to `FILE`; without it, or with -, to standard output")
			flags.BoolVarP(&p.quiet, "quiet", "q", false, "no summary")
			p.policy = addPolicyFlags(flags)
			p.budget = addBudgetFlags(flags)
			p.machine = addRunFlags(flags, true)
			p.frontier = addFrontierFlags(flags)
			p.evidence = addEvidenceFlags(flags)
			p.gates = addGateFlags(flags)
			p.reports = addReportFlags(flags)
			flags.StringVar(&p.markdown, "markdown", "", "also write a review with the gates to `FILE`, for a pull request")
			flags.StringVar(&p.html, "html", "", "also write a page to `FILE`: maps of types and traffic, with a target the frontier, and the gates")
			return func(c *call, operands []string) error { return p.run(c, operands[0]) }
		},
	}
}

type planFlags struct {
	stats    []string
	output   string
	quiet    bool
	markdown string
	html     string
	policy   *policyFlags
	budget   *budgetFlags
	machine  *runFlags
	frontier *frontierFlags
	evidence *evidenceFlags
	gates    *gateFlags
	reports  *reportFlags
}

func (p *planFlags) run(c *call, model string) error {
	postponeCollection()
	asked := p.output == "-"
	if asked {
		p.output = ""
	}
	problem, err := p.policy.problem(p.budget, p.frontier.asked())
	if err != nil {
		return err
	}
	if problem.Run, err = p.machine.request("ggufplan plan " + shellQuote(model)); err != nil {
		return err
	}
	var sizes []uint64
	if err := p.frontier.validate(); err != nil {
		return err
	}
	if p.frontier.asked() {
		if sizes, err = p.frontier.parse(); err != nil {
			return err
		}
	}
	gates, err := p.gates.gates()
	if err != nil {
		return err
	}
	if err := p.evidence.validate(); err != nil {
		return err
	}
	if err := p.reports.validate(); err != nil {
		return err
	}
	for _, f := range [][2]string{{"markdown", p.markdown}, {"html", p.html}} {
		if err := namesFile(p.reports.flags, f[0], f[1]); err != nil {
			return err
		}
	}
	if problem.Model, err = openModel(model); err != nil {
		return err
	}
	if err := p.readStatistics(c, problem, model); err != nil {
		return err
	}
	if err := p.keepInputs(problem.Model); err != nil {
		return err
	}
	if err := p.budget.read(c, problem, model); err != nil {
		return err
	}
	if p.frontier.asked() {
		front, err := c.solveFrontier(problem, sizes, false)
		if err != nil {
			return hintPlanError(err, model, p.stats)
		}
		return p.frontier.show(c, problem.Model, front)
	}
	plan, err := planner.Solve(problem)
	if err != nil {
		return hintPlanError(err, model, p.stats)
	}
	m := plan.Manifest()
	page := review.Options{}
	if p.html != "" && problem.Policy.Name == planner.PolicyBudget {
		beside := *problem
		for _, b := range plan.Totals.Baselines {
			beside.Baselines = append(beside.Baselines, b.FileType)
		}
		front, err := c.solveFrontier(&beside, nil, true)
		if err != nil {
			return hintPlanError(err, model, p.stats)
		}
		page.Frontier = frontierChart(problem.Model.Name, problem.Model.Parameters(), front)
	}
	var missed []string
	page.Gates, missed = checkGates(gates, m)
	screen := p.output == "" && !asked && isTerminal(c.out)
	if err := p.writeOutputs(c, m, screen, page, missed); err != nil {
		if errors.As(err, new(*manifest.FieldError)) {
			err = fmt.Errorf("%s: %w", filepath.Base(model), err)
		}
		return err
	}
	if p.output != "" && !p.quiet {
		summarise(c.wrapped(c.stderr), p, problem, model, m)
		// A command is left whole, to be copied.
		fmt.Fprintf(c.stderr, "%-12s%s\n", "next", review.Printable(p.next(model, m)))
	}
	p.reports.annotatePlan(c, p.output != "", m, missed)
	answers := c.stdout
	switch {
	case screen:
		review.WritePlan(c.page(), m, listLimit(false))
		if !p.quiet {
			c.say("hint", "to keep it: ggufplan %s -o plan.json", shellQuote(c.args...))
		}
	case p.output == "":
		answers = c.stderr // the manifest has standard output
	}
	return missedGates(answers, missed)
}

// writeOutputs writes the manifest, but on a screen, and the reports, all or none.
func (p *planFlags) writeOutputs(c *call, m *manifest.Manifest, screen bool, page review.Options, missed []string) error {
	files := outputs{c: c}
	defer files.discard()
	if p.output != "" {
		err := files.stream(p.output, func(w io.Writer) error { return manifest.Write(w, m) })
		if err != nil {
			return err
		}
	}
	for _, doc := range []struct {
		path  string
		write func(io.Writer, *manifest.Manifest, review.Options) error
	}{{p.markdown, review.Markdown}, {p.html, review.HTML}} {
		if doc.path == "" {
			continue
		}
		var b bytes.Buffer
		if err := doc.write(&b, m, page); err != nil {
			return err
		}
		if err := files.write(doc.path, b.Bytes()); err != nil {
			return err
		}
	}
	if err := p.reports.writeJUnit(&files, "ggufplan plan", gateCases(page.Gates, missed)); err != nil {
		return err
	}
	if p.output == "" {
		data, err := manifest.Encode(m)
		if err != nil {
			return err
		}
		if screen {
			data = nil // only checked
		}
		if err := c.writeProduct(data); err != nil {
			return err
		}
	}
	return c.commitPrinted(&files)
}

// missedGates says which gates are missed: that is an answer, on w. The error, a
// finding, is nil if none is.
func missedGates(w io.Writer, missed []string) error {
	for _, text := range missed {
		fmt.Fprintf(w, "missed %s\n", review.Printable(text))
	}
	if len(missed) > 0 {
		return errAnswered
	}
	return nil
}

// openModel opens a model for planning.
func openModel(path string) (*ggufio.Model, error) {
	m, err := ggufio.Open(path)
	if errors.Is(err, ggufio.ErrImatrix) {
		return nil, hinted(err, "ggufplan "+shellQuote("plan", "model.gguf", "--stats", path))
	}
	return m, err
}

func (p *planFlags) readStatistics(c *call, problem *planner.Problem, model string) error {
	budget := problem.Policy.Name == planner.PolicyBudget
	if len(problem.Model.MoELayers()) == 0 && !budget {
		return hintPlanError(planner.ErrNoExperts, model, p.stats)
	}
	if len(p.stats) == 0 && budget {
		return nil // the policy says whether it can do without
	}
	if len(p.stats) == 0 {
		return hinted(fmt.Errorf("the frequency policy needs activation statistics"), "ggufplan "+shellQuote("plan", model, "--stats", "imatrix.gguf"))
	}
	var err error
	problem.Evidence, err = p.evidence.read(c, p.stats, problem.Model)
	return err
}

// keepInputs refuses an output that is one of the inputs.
func (p *planFlags) keepInputs(m *ggufio.Model) error {
	inputs := append(p.budget.inputs(), p.stats...)
	for i := range m.Files {
		inputs = append(inputs, m.Files[i].Path)
	}
	for _, out := range []string{p.output, p.frontier.svg, p.markdown, p.html, p.reports.junit} {
		if err := refuseOverwrite(out, append(inputs, p.frontier.mark)...); err != nil {
			return err
		}
	}
	return differentFiles(p.output, p.markdown, p.html, p.reports.junit)
}

// hintPlanError adds what to try instead.
func hintPlanError(err error, model string, statistics []string) error {
	var unfit *planner.UnfitTypeError
	var pin *planner.PinError
	switch {
	case errors.Is(err, ggufio.ErrTierFile):
		return hinted(fmt.Errorf("%s: %w", filepath.Base(model), err), "plan the model that it was made of")
	case errors.Is(err, planner.ErrNoExperts):
		return hinted(fmt.Errorf("%s: %w", filepath.Base(model), err), "ggufplan "+shellQuote("inspect", model)+" shows what each file type of llama-quantize would make of it")
	case errors.Is(err, planner.ErrNoCounts):
		return hinted(err, "count with llama-imatrix of a current llama.cpp, which writes GGUF: ggufplan "+shellQuote("plan", model, "--stats", "imatrix.gguf"))
	case errors.Is(err, planner.ErrRankOnly):
		return hinted(err, "ggufplan "+shellQuote("plan", model)+statsWords(statistics)+" --tiers-by rank")
	case errors.As(err, &unfit):
		return hinted(err, "--pin "+shellQuote("^"+strings.ReplaceAll(unfit.Tensor, ".", `\.`)+"$=Q8_0"))
	case errors.As(err, &pin):
		return hinted(fmt.Errorf("--%w", err), "ggufplan "+shellQuote("inspect", model, "--tensors")+" lists the names")
	}
	return hintBudgetError(err, model, statistics)
}

// summarise says in at most seven lines what was planned.
func summarise(w io.Writer, p *planFlags, problem *planner.Problem, model string, m *manifest.Manifest) {
	policy := m.Policy.Name + " policy"
	if m.Policy.Preset != nil {
		policy += ", preset " + *m.Policy.Preset
	}
	fmt.Fprintf(w, "%s: %s, %s, base %s\n", review.Printable(p.output), review.Printable(m.Model.Name), policy, m.Policy.Base)
	facts := review.Verdict(m)
	for _, f := range facts {
		fmt.Fprintf(w, "%-12s%s\n", f[0], review.Printable(f[1]))
	}
	if text := p.budget.measureTime(problem); text != "" && len(facts) < review.MaxFacts {
		fmt.Fprintf(w, "%-12s%s\n", "better", text)
	}
}

// next is the command that carries the plan out, or what must come before it.
func (p *planFlags) next(model string, m *manifest.Manifest) string {
	if text := p.obstacle(model, m); text != "" {
		return text
	}
	words := []string{"apply", export.Operand(p.output), export.Operand(model)}
	if m.Statistics != nil {
		for i, in := range m.Statistics.Inputs {
			if strings.HasPrefix(in.Format, "imatrix") && len(m.Statistics.Inputs) == len(p.stats) {
				words = append(words, "--imatrix", p.stats[i])
			}
		}
	}
	return "ggufplan " + shellQuote(append(words, "-o", export.PlannedName(m, model))...)
}

// obstacle says what to do about a plan that apply refuses, "" where it does
// not.
func (p *planFlags) obstacle(model string, m *manifest.Manifest) string {
	var declared, bare []*manifest.Tensor
	for i := range m.Tensors {
		t := &m.Tensors[i]
		named := func(d manifest.DefinedType) bool { return d.Name == t.PlannedType }
		found := func(f manifest.Finding) bool { return f.Code == planner.CodeNeedsImatrix && f.Subject == t.Name }
		switch {
		case t.PlannedType == t.SourceType: // copied
		case slices.ContainsFunc(m.Policy.DefinedTypes, named):
			declared = append(declared, t)
		case slices.ContainsFunc(m.Findings, found):
			bare = append(bare, t)
		}
	}
	switch {
	case declared != nil:
		return fmt.Sprintf("for the program that writes %s: ggufplan %s", declared[0].PlannedType, shellQuote("export", export.Operand(p.output), "--to", "csv", "-o", "tensors.csv"))
	case bare != nil:
		return "plan again " + withImatrix(model, bare)
	}
	return ""
}

// withImatrix says how to get the importance matrix that tensors' types need.
func withImatrix(model string, tensors []*manifest.Tensor) string {
	for _, t := range tensors {
		if quant.IsTokenEmbedding(t.Name) {
			return fmt.Sprintf("without %s for %s, of which llama-imatrix records nothing", t.PlannedType, t.Name)
		}
	}
	what, words := tensors[0].Name, []string{"llama-imatrix", "-m", model, "-f", "text.txt", "-o", "imatrix.gguf"}
	if n := len(tensors) - 1; n > 0 {
		what += fmt.Sprintf(" and %d more", n)
	}
	if slices.ContainsFunc(tensors, func(t *manifest.Tensor) bool { return t.Name == quant.OutputTensor }) {
		words = append(words, "--process-output")
	}
	return fmt.Sprintf("without %s, or with an imatrix of %s: %s", tensors[0].PlannedType, what, shellQuote(words...))
}
