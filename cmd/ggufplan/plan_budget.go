package main

import (
	"errors"
	"fmt"
	"math/big"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner"
	"github.com/ggufplan/ggufplan/planner/frequency"
	"github.com/ggufplan/ggufplan/planner/llamaquantize"
	"github.com/ggufplan/ggufplan/planner/manifest"
	"github.com/ggufplan/ggufplan/planner/memory"
	"github.com/ggufplan/ggufplan/planner/review"
	"github.com/ggufplan/ggufplan/stats"
	"github.com/ggufplan/ggufplan/stats/measure"
)

// budgetFlags are the flags of the budget policy, as they were typed.
type budgetFlags struct {
	flags *pflag.FlagSet

	size, bpw, expertBPW string
	like                 string
	likeType             llamaquantize.FileType
	objective, scope     string
	seed                 uint64
	types                []string
	minType              string
	maxTypes             int
	tie                  bool
	errors, sensitivity  string
	sensitivityType      string
	measure              bool
}

func addBudgetFlags(flags *pflag.FlagSet) *budgetFlags {
	b := &budgetFlags{flags: flags}
	var objectives []string
	for _, o := range planner.Objectives() {
		objectives = append(objectives, string(o))
	}
	flags.StringVar(&b.size, "target-size", "", "choose types for the least damage in a file of at most `SIZE`, such as 12GiB; implies --policy budget")
	flags.StringVar(&b.like, "like", "", "the same in a file of at most what llama-quantize's `FILETYPE` takes, such as Q4_K_M")
	flags.StringVar(&b.bpw, "target-bpw", "", "the same within `N` bits per weight of the whole model")
	flags.StringVar(&b.expertBPW, "target-expert-bpw", "", "the same within `N` bits per weight of the routed experts")
	flags.StringVar(&b.objective, "objective", objectives[0], "what damage is: `NAME` is "+review.Or(objectives))
	flags.Uint64Var(&b.seed, "seed", 1, "seed `N` of --objective random and of --measure")
	flags.StringSliceVar(&b.types, "types", nil, "candidate types of the budget policy: `LIST` of types and of the sets "+strings.Join(planner.TypeSetNames(), ", ")+"; "+planner.DefaultTypeSet+" if not given")
	flags.StringVar(&b.minType, "min-type", "", "no candidate `TYPE` below this one, by bits per weight and then by name")
	flags.IntVar(&b.maxTypes, "max-types", 0, "at most `N` distinct types among the tensors that the budget policy decides; 0 for no bound")
	flags.BoolVar(&b.tie, "tie-gate-up", false, "gate and up of a layer, and of an expert, get the same type")
	flags.StringVar(&b.scope, "scope-tensors", string(planner.ScopeAll), "what the budget policy decides: `SCOPE` is all, or experts and the base gives the rest")
	flags.StringVar(&b.errors, "errors", "", "errors that measure found, `FILE`; typical ones per type if not given")
	flags.BoolVar(&b.measure, "measure", false, "measure the errors first, as measure does without further flags")
	flags.StringVar(&b.sensitivity, "sensitivity", sensitivityTypical, "how much each tensor matters: `FILE` that probe wrote, or a CSV or JSON of KL divergences by tensor; typical by class of tensor; or none, all alike")
	flags.StringVar(&b.sensitivityType, "sensitivity-type", "", "the `TYPE` that the tensors of --sensitivity were quantized to, such as Q2_K; errors in it are divided out")
	oneOf(flags, "objective", objectives...)
	oneOf(flags, "like", fileTypeNames()...)
	oneOf(flags, "types", typesAndSets()...)
	oneOf(flags, "min-type", plannableTypeNames()...)
	oneOf(flags, "sensitivity-type", plannableTypeNames()...)
	oneOf(flags, "scope-tensors", string(planner.ScopeAll), string(planner.ScopeExperts))
	return b
}

// budgetOnly are the flags that mean nothing to another policy.
var budgetOnly = []string{"target-size", "like", "target-bpw", "target-expert-bpw", "objective", "seed", "types", "min-type", "max-types", "tie-gate-up", "scope-tensors"}

// frequencyOnly are the flags that mean nothing to the budget policy.
var frequencyOnly = []string{"preset", "hot-percentile", "cold-percentile", "warm-type", "cold-type", "tiers-by", "hot-share", "cold-share", "scope", "fuse"}

// targets lists the target flags that were given.
func (b *budgetFlags) targets() []string {
	given := slices.DeleteFunc([]string{"target-size", "like", "target-bpw", "target-expert-bpw", "fit-vram", "fit-ram"}, func(name string) bool { return !b.flags.Changed(name) })
	if n := len(given); n > 1 && given[n-2] == "fit-vram" {
		given = given[:n-1] // they go together
	}
	return given
}

// choosePolicy settles which policy applies and refuses the other's flags.
// A frontier sets its own targets.
func (b *budgetFlags) choosePolicy(typed string, frontier bool) (planner.PolicyName, error) {
	targets := b.targets()
	budget := len(targets) > 0 || frontier
	switch {
	case b.flags.Changed("policy") && typed == string(planner.PolicyBudget):
		budget = true
	case b.flags.Changed("policy") && budget && typed == string(planner.PolicyFrequency):
		what := "--frontier"
		if len(targets) > 0 {
			what = "--" + targets[0]
		}
		return "", hinted(fmt.Errorf("%s is of the budget policy, --policy says frequency", what), "leave --policy out")
	}
	name, others := planner.PolicyFrequency, budgetOnly
	if budget {
		name, others = planner.PolicyBudget, frequencyOnly
	}
	for _, flag := range others {
		if b.flags.Changed(flag) && !(flag == "seed" && b.measure) {
			other := planner.PolicyBudget
			if budget {
				other = planner.PolicyFrequency
			}
			hint := "leave --" + flag + " out"
			if !budget {
				hint = "ggufplan plan model.gguf --stats imatrix.gguf --errors errors.json --target-size 12GiB"
			}
			return "", hinted(fmt.Errorf("--%s is of the %s policy, and this is %s", flag, other, name), hint)
		}
	}
	return name, nil
}

// budget turns the flags into the policy's parameters, the files apart.
func (b *budgetFlags) budget(types *frequency.Types, frontier bool) (planner.Budget, error) {
	out := planner.Budget{Objective: planner.Objective(b.objective), Seed: b.seed, Scope: planner.TensorScope(b.scope), TieGateUp: b.tie, MaxTypes: b.maxTypes}
	targets := b.targets()
	const hint = "ggufplan plan model.gguf --stats imatrix.gguf --errors errors.json --target-size 12GiB"
	switch {
	case frontier && len(targets) > 0:
		return out, hinted(fmt.Errorf("--frontier and --%s exclude each other", targets[0]), "leave --"+targets[0]+" out")
	case len(targets) == 0 && !frontier:
		return out, hinted(fmt.Errorf("the budget policy needs --target-size, --like, --target-bpw, --target-expert-bpw, --fit-vram or --fit-ram"), hint)
	case len(targets) > 1:
		return out, hinted(fmt.Errorf("--%s and --%s exclude each other", targets[0], targets[1]), hint)
	}
	var err error
	switch {
	case frontier:
		out.Target = planner.TargetSize
	case targets[0] == "fit-vram", targets[0] == "fit-ram":
		out.Target = planner.TargetMemory
	case targets[0] == "target-size":
		out.Target = planner.TargetSize
		out.SizeBytes, err = parseSize(b.size)
	case targets[0] == "like":
		out.Target = planner.TargetSize
		b.likeType, err = fileType(b.like)
		out.Like = b.likeType.Name
	case targets[0] == "target-bpw":
		out.Target = planner.TargetBPW
		out.BitsPerWeight, err = parseBits(b.bpw)
	default:
		out.Target = planner.TargetExpertBPW
		if !b.flags.Changed("scope-tensors") {
			out.Scope = planner.ScopeExperts // the target says nothing of the rest
		}
		out.BitsPerWeight, err = parseBits(b.expertBPW)
	}
	if err != nil {
		return out, flagError(targets[0], err)
	}
	for _, f := range []struct{ flag, value string }{{"objective", b.objective}, {"scope-tensors", b.scope}} {
		if err := checkWord(b.flags, f.flag, f.value); err != nil {
			return out, err
		}
	}
	if b.flags.Changed("types") && len(b.types) == 0 {
		return out, hinted(fmt.Errorf("--types: names no type"), "--types Q2_K,Q3_K,Q4_K")
	}
	var inSets []frequency.Type
	for i, name := range b.types {
		if set, ok := planner.TypeSet(strings.ToLower(strings.TrimSpace(name))); ok {
			inSets = append(inSets, set...)
			continue
		}
		t, err := lookupType(types, strings.TrimSpace(name))
		if err != nil {
			return out, flagError("types", err)
		}
		if slices.Contains(out.Types, t) {
			return out, hinted(fmt.Errorf("--types: duplicate type %s", t.Name), "--types "+strings.Join(slices.Delete(slices.Clone(b.types), i, i+1), ","))
		}
		out.Types = append(out.Types, t)
	}
	for _, t := range inSets {
		if !slices.Contains(out.Types, t) {
			out.Types = append(out.Types, t)
		}
	}
	if b.maxTypes < 0 {
		return out, hinted(fmt.Errorf("--max-types: %d is below 0", b.maxTypes), "--max-types 4")
	}
	if b.minType != "" {
		t, err := lookupType(types, b.minType)
		if err != nil {
			return out, flagError("min-type", err)
		}
		out.MinType = &t
	}
	check := out
	if b.errors != "" || b.measure {
		check.Errors = &planner.NamedErrors{} // read later
	}
	if err := check.Validate(); err != nil {
		return out, hintBudgetError(err, "model.gguf", []string{"imatrix.gguf"})
	}
	return out, nil
}

// evidence checks the flags that say what damage is predicted from, whatever
// the policy.
func (b *budgetFlags) evidence(types *frequency.Types) error {
	switch {
	case b.errors != "" && b.measure:
		return hinted(fmt.Errorf("--errors and --measure exclude each other"), "leave --measure out")
	case b.flags.Changed("sensitivity") && b.sensitivity == "":
		return hinted(fmt.Errorf("--sensitivity: names no file"), "--sensitivity kld.csv, --sensitivity typical or --sensitivity none")
	case b.flags.Changed("sensitivity-type") && !b.hasTable():
		return hinted(fmt.Errorf("--sensitivity-type is about a table, and --sensitivity names none"), "--sensitivity kld.csv --sensitivity-type Q2_K")
	case b.flags.Changed("sensitivity-type"):
		typ, err := lookupType(types, b.sensitivityType)
		if err != nil {
			return flagError("sensitivity-type", err)
		}
		b.sensitivityType = typ.Name
	}
	return nil
}

// parseBits reads a number of bits per weight.
func parseBits(s string) (frequency.Fraction, error) {
	f, err := frequency.ParseFraction(s)
	if err != nil {
		return f, hinted(fmt.Errorf("%q is not a number of bits per weight", s), "write a number such as 3.5")
	}
	if f.Rat().Sign() == 0 || f.Rat().Cmp(new(big.Rat).SetInt64(1024)) > 0 {
		return f, hinted(fmt.Errorf("%s bits per weight: want more than 0 and at most 1024", s), "write a number such as 3.5")
	}
	return f, nil
}

// inputs lists the files that the flags name.
func (b *budgetFlags) inputs() []string {
	files := []string{b.errors}
	if b.hasTable() {
		files = append(files, b.sensitivity)
	}
	return slices.DeleteFunc(files, func(s string) bool { return s == "" })
}

// read settles the size of --like, reads or measures errors and reads
// sensitivities.
func (b *budgetFlags) read(c *call, problem *planner.Problem, model string) error {
	budget := &problem.Policy.Budget
	if budget.Like != "" {
		var err error
		if budget.SizeBytes, err = planner.FileTypeBytes(problem.Model, problem.Evidence, b.likeType); err != nil {
			return flagError("like", fmt.Errorf("%s: %w", filepath.Base(model), err))
		}
	}
	switch {
	case b.errors != "":
		e, err := c.readErrors(b.errors)
		if err != nil {
			return err
		}
		var inputs []stats.Input
		if problem.Evidence != nil {
			inputs = problem.Evidence.Inputs
		}
		if err := e.Check(problem.Model, inputs); err != nil {
			return hinted(fmt.Errorf("%s: %w", e.Name, err), "ggufplan "+shellQuote("measure", model)+" --stats imatrix.gguf -o errors.json measures this model")
		}
		budget.Errors = e
	case b.measure:
		var err error
		if budget.Errors, err = b.measureNow(c, problem); err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(model), err)
		}
	}
	if !b.hasTable() {
		budget.Sensitivity = &planner.NamedSensitivity{Kind: planner.SensitivityKind(b.sensitivity)}
		return nil
	}
	name := filepath.Base(inputName(b.sensitivity))
	data, err := c.readWhole(b.sensitivity, maxSensitivityBytes)
	if err != nil {
		return err
	}
	s, err := measure.DecodeSensitivity(data, b.sensitivityType)
	if err != nil {
		err = fmt.Errorf("%s: %w", name, err)
		var rows *measure.RowsError
		if errors.As(err, &rows) && len(rows.Labels) > 0 {
			return hinted(err, "--sensitivity-type "+shellQuote(rows.Keep())+" takes the values of that type")
		}
		return err
	}
	kind := planner.SensitivityTable
	if s.Probe != nil {
		kind = planner.SensitivityProbe
	}
	budget.Sensitivity = &planner.NamedSensitivity{Kind: kind, FileID: stats.Identify(name, data), Sensitivity: s}
	return nil
}

// What --sensitivity takes beside a file.
const (
	sensitivityTypical = string(planner.SensitivityTypical)
	sensitivityNone    = string(planner.SensitivityNone)
)

// hasTable reports whether --sensitivity names a file.
func (b *budgetFlags) hasTable() bool {
	return b.sensitivity != sensitivityTypical && b.sensitivity != sensitivityNone
}

// maxSensitivityBytes bounds a table; 50 thousand tensors take about 3 MB.
const maxSensitivityBytes = 64 << 20

// measureOptions are what --measure measures: the candidates, as measure does,
// and the types of tiers.
func (b *budgetFlags) measureOptions(problem *planner.Problem) measure.Options {
	types := problem.Policy.Budget.Types
	if types == nil {
		types, _ = planner.TypeSet(planner.DefaultTypeSet)
	}
	if fr := &problem.Policy.Frequency; problem.Policy.Name == planner.PolicyFrequency {
		for _, t := range []frequency.Type{fr.HotType, fr.WarmType, fr.ColdType} {
			if f, ok := quant.Lookup(t.GGML); ok && f.Quantized && !t.Declared && !slices.Contains(types, t) {
				types = append(types, t)
			}
		}
	}
	o := measure.Options{Seed: b.seed, Quantizable: llamaquantize.Quantizable,
		Generator: manifest.GeneratorName + " " + manifest.GeneratorVersion}
	for _, t := range types {
		o.Types = append(o.Types, t.GGML)
	}
	return o
}

// measureNow measures the model as measure does.
func (b *budgetFlags) measureNow(c *call, problem *planner.Problem) (*planner.NamedErrors, error) {
	bar := c.newProgress("measuring", weightsText)
	options := b.measureOptions(problem)
	options.Progress = bar.hook()
	e, err := measure.Run(c.ctx, problem.Model, problem.Evidence, options)
	bar.done()
	if err != nil {
		return nil, err
	}
	data, err := measure.Encode(e)
	if err != nil {
		return nil, err
	}
	return &planner.NamedErrors{FileID: stats.Identify("plan --measure", data), Result: e}, nil
}

// machineWords says what a machine lacks.
func machineWords(e *planner.MachineError) string {
	size := func(n uint64) string {
		if n < 1024 {
			return review.Size(n)
		}
		return fmt.Sprintf("%s (%d bytes)", review.Size(n), n)
	}
	text := "no types fit"
	for _, d := range []memory.Device{memory.GPU, memory.CPU} {
		if e.Needs[d] > e.Limit[d] {
			text += fmt.Sprintf("; the %s needs at least %s and has %s: %s too few", d, size(e.Needs[d]), size(e.Limit[d]), size(e.Needs[d]-e.Limit[d]))
		}
	}
	return text
}

// hintBudgetError adds what to try instead, and makes an unreachable budget a
// finding.
func hintBudgetError(err error, model string, statistics []string) error {
	var unreachable *planner.UnreachableError
	var missing *planner.MissingErrorError
	var limit *planner.TypeLimitError
	var machine *planner.MachineError
	var unknown *memory.UnknownError
	switch {
	case errors.As(err, &machine):
		return &findingError{hinted(errors.New(machineWords(machine)), "less context, a smaller cache (--kv-type q8_0) or smaller types (--types all)")}
	case errors.As(err, &unknown):
		return hinted(err, "bound the file instead: --target-size 12GiB")
	case errors.As(err, &unreachable):
		return &findingError{hinted(err, fmt.Sprintf("a target of %d bytes or more, or smaller types: IQ types with an --imatrix, else --types all", unreachable.CheapestBytes))}
	case errors.As(err, &limit):
		return hinted(err, fmt.Sprintf("--max-types %d", limit.Needed))
	case errors.Is(err, planner.ErrNeedsMeasured), errors.As(err, &missing):
		return hinted(err, "ggufplan "+shellQuote("measure", model)+statsWords(statistics)+" -o errors.json, then plan with --errors errors.json")
	case errors.Is(err, planner.ErrNoExpertsToBound):
		return hinted(fmt.Errorf("%s: %w", filepath.Base(model), err), "bound the whole model: --target-bpw 4.5 or --target-size 4GiB")
	case errors.Is(err, planner.ErrNeedsTraffic):
		return hinted(err, "count with llama-imatrix and give --stats imatrix.gguf, or take all experts alike: --objective relative")
	}
	return err
}

// measureTime says how long measuring would take here, "" where the plan has
// measured errors or no use for any.
func (b *budgetFlags) measureTime(problem *planner.Problem) string {
	if problem.Policy.Name != planner.PolicyBudget || problem.Policy.Budget.Errors != nil {
		return ""
	}
	takes, err := measure.Estimate(problem.Model, problem.Evidence, b.measureOptions(problem))
	if err != nil {
		return "" // measuring would say why it cannot
	}
	return fmt.Sprintf("--measure: about %s here for errors of this model instead of typical ones", seconds(takes.Seconds()))
}

// statsWords writes --stats for each file, as a shell reads it.
func statsWords(files []string) string {
	text := ""
	for _, file := range files {
		text += " --stats " + shellQuote(file)
	}
	return text
}
