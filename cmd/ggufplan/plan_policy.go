package main

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner"
	"github.com/ggufplan/ggufplan/planner/frequency"
	"github.com/ggufplan/ggufplan/planner/llamaquantize"
	"github.com/ggufplan/ggufplan/planner/review"
)

// policyFlags are the flags that shape a plan, as they were typed.
type policyFlags struct {
	flags *pflag.FlagSet

	policy, preset         string
	hot, cold              string
	hotType, warmType      string
	coldType               string
	tiersBy, scope, fuse   string
	hotShare, coldShare    string
	base                   string
	maxTiers               int
	pins, defined, compare []string
}

func addPolicyFlags(flags *pflag.FlagSet) *policyFlags {
	p := &policyFlags{flags: flags}
	flags.StringVar(&p.policy, "policy", string(planner.PolicyFrequency), "how types are chosen: `NAME` is frequency or budget")
	flags.StringVar(&p.preset, "preset", frequency.PresetDefault, "tiers of the frequency policy: `NAME` is "+review.Or(frequency.PresetNames()))
	flags.StringVar(&p.hot, "hot-percentile", "", "an expert is hot from `FRACTION` of the largest count on")
	flags.StringVar(&p.cold, "cold-percentile", "", "an expert is cold below `FRACTION` of the largest count")
	flags.StringVar(&p.hotType, "hot-type", "", "`TYPE` of hot experts, and of layers without statistics")
	flags.StringVar(&p.warmType, "warm-type", "", "`TYPE` of warm experts")
	flags.StringVar(&p.coldType, "cold-type", "", "`TYPE` of cold experts")
	flags.StringVar(&p.tiersBy, "tiers-by", string(planner.TiersByMax), "percentiles are fractions of the largest count (max) or of the ranks (rank); or go by shares of the traffic (traffic): `WHAT`")
	flags.StringVar(&p.hotShare, "hot-share", frequency.DefaultShares().Hot.String(), "with --tiers-by traffic, the busiest experts that carry `FRACTION` of it are hot")
	flags.StringVar(&p.coldShare, "cold-share", frequency.DefaultShares().Cold.String(), "with --tiers-by traffic, the idlest experts that carry at most `FRACTION` of it are cold")
	flags.StringVar(&p.scope, "scope", string(planner.ScopeLayer), "compare experts within their layer or over the model: `SCOPE` is layer or model")
	flags.StringVar(&p.fuse, "fuse", string(planner.FuseActivations), "how a fused tensor's one type follows from its experts' tiers: `RULE` is activations, hottest or bytes")
	flags.StringVar(&p.base, "base", "Q4_K_M", "what all other tensors get: `FILETYPE` of llama-quantize, or keep")
	flags.IntVar(&p.maxTiers, "max-tiers", planner.DefaultMaxTiers, "in the split plan, at most `K` types among the experts of a tensor; 0 for no limit")
	flags.StringArrayVar(&p.pins, "pin", nil, "give tensors whose name matches a type, above policy and base: `REGEX=TYPE`, repeatable, the first match wins")
	flags.StringArrayVar(&p.defined, "define-type", nil, "declare a type that GGML does not have: `NAME=WEIGHTS:BYTES` per block, repeatable")
	flags.StringArrayVar(&p.compare, "baseline", nil, "compare with one more `FILETYPE`, repeatable")
	oneOf(flags, "policy", string(planner.PolicyFrequency), string(planner.PolicyBudget))
	oneOf(flags, "preset", frequency.PresetNames()...)
	oneOf(flags, "tiers-by", string(planner.TiersByMax), string(planner.TiersByRank), string(planner.TiersByTraffic))
	oneOf(flags, "scope", string(planner.ScopeLayer), string(planner.ScopeModel))
	oneOf(flags, "fuse", string(planner.FuseActivations), string(planner.FuseHottest), string(planner.FuseBytes))
	oneOf(flags, "base", append(fileTypeNames(), planner.BaseKeep)...)
	oneOf(flags, "baseline", fileTypeNames()...)
	for _, flag := range []string{"hot-type", "warm-type", "cold-type"} {
		oneOf(flags, flag, plannableTypeNames()...)
	}
	return p
}

// flagError places an error at a flag.
func flagError(flag string, err error) error {
	var h *hintError
	var unitless *unitlessError
	switch {
	case errors.As(err, &h):
		return hinted(fmt.Errorf("--%s: %w", flag, err), h.hint)
	case errors.As(err, &unitless):
		hint := "--" + flag + " " + unitless.text + "GiB"
		if flag == "min-saved" {
			percent := unitless.text
			if v, err := strconv.ParseFloat(percent, 64); err == nil && v < 1 { // a share
				percent = strconv.FormatFloat(100*v, 'g', 6, 64)
			}
			hint = "--" + flag + " " + percent + "%\n" + hint
		} else if v, err := strconv.ParseFloat(unitless.text, 64); err == nil && v >= 4096 {
			hint = "--" + flag + " " + unitless.text + "B"
		}
		return hinted(fmt.Errorf("--%s: %w", flag, err), hint)
	}
	return fmt.Errorf("--%s: %w", flag, err)
}

// problem turns the flags into a problem that lacks only the model and what is
// known about it.
func (p *policyFlags) problem(budget *budgetFlags, frontier bool) (*planner.Problem, error) {
	problem := &planner.Problem{Types: &frequency.Types{}}
	for _, text := range p.defined {
		if err := defineType(problem.Types, text); err != nil {
			return nil, flagError("define-type", hinted(err, "ggufplan plan model.gguf --stats imatrix.gguf --define-type PiQ3=8:3 --warm-type PiQ3"))
		}
	}
	pol := &problem.Policy
	if err := p.frequency(&pol.Frequency, problem.Types); err != nil {
		return nil, err
	}
	var err error
	if pol.Name, err = budget.choosePolicy(p.policy, frontier); err != nil {
		return nil, err
	}
	if err := budget.evidence(problem.Types); err != nil {
		return nil, err
	}
	if pol.Name == planner.PolicyBudget {
		if pol.Budget, err = budget.budget(problem.Types, frontier); err != nil {
			return nil, err
		}
	}
	if p.maxTiers < 0 {
		return nil, flagError("max-tiers", hinted(fmt.Errorf("%d is below 0", p.maxTiers), "--max-tiers 3, or 0 for no limit"))
	}
	pol.MaxTiers = p.maxTiers
	pol.Base = p.base
	if strings.EqualFold(p.base, planner.BaseKeep) {
		pol.Base = planner.BaseKeep
	} else if _, err := fileType(p.base); err != nil {
		return nil, flagError("base", err)
	}
	for _, text := range p.pins {
		pin, err := parsePin(text, problem.Types)
		if err != nil {
			return nil, flagError("pin", hinted(err, `ggufplan plan model.gguf --stats imatrix.gguf --pin 'attn_v\.weight$=Q8_0'`))
		}
		pol.Pins = append(pol.Pins, pin)
	}
	for _, name := range p.compare {
		ft, err := fileType(name)
		if err != nil {
			return nil, flagError("baseline", err)
		}
		problem.Baselines = append(problem.Baselines, ft)
	}
	return problem, nil
}

// fileType looks up a file type of llama-quantize.
func fileType(name string) (llamaquantize.FileType, error) {
	ft, ok := llamaquantize.FileTypeByName(name)
	if !ok {
		return ft, didYouMean(fmt.Errorf("%q is not a file type of llama-quantize", name), name, fileTypeNames(), "use ", "use one of "+strings.Join(fileTypeNames(), ", "))
	}
	return ft, nil
}

func (p *policyFlags) frequency(fr *planner.Frequency, types *frequency.Types) error {
	switch planner.PolicyName(p.policy) {
	case planner.PolicyFrequency, planner.PolicyBudget:
	default:
		return flagError("policy", didYouMean(fmt.Errorf("%q is not a policy", p.policy), p.policy, []string{"frequency", "budget"}, "--policy ", "--policy frequency, or --target-size 12GiB for the budget policy"))
	}
	tiers, ok := frequency.Preset(p.preset)
	if !ok {
		return flagError("preset", didYouMean(fmt.Errorf("%q is not a preset", p.preset), p.preset, frequency.PresetNames(), "--preset ", "--preset "+frequency.PresetDefault+"; there are "+review.Or(frequency.PresetNames())))
	}
	fr.Preset, fr.Tiers = p.preset, tiers
	for _, f := range []struct {
		flag, text string
		dst        *frequency.Fraction
	}{{"hot-percentile", p.hot, &fr.HotPercentile}, {"cold-percentile", p.cold, &fr.ColdPercentile}} {
		if !p.flags.Changed(f.flag) {
			continue
		}
		v, err := frequency.ParseFraction(f.text)
		if err != nil {
			return flagError(f.flag, hinted(err, "--"+f.flag+" "+f.dst.String()))
		}
		*f.dst, fr.Preset = v, "custom"
	}
	for _, f := range []struct {
		flag, text string
		dst        *frequency.Type
	}{{"hot-type", p.hotType, &fr.HotType}, {"warm-type", p.warmType, &fr.WarmType}, {"cold-type", p.coldType, &fr.ColdType}} {
		if !p.flags.Changed(f.flag) {
			continue
		}
		v, err := lookupType(types, f.text)
		if err != nil {
			return flagError(f.flag, err)
		}
		*f.dst, fr.Preset = v, "custom"
	}
	for _, f := range []struct{ flag, value string }{{"tiers-by", p.tiersBy}, {"scope", p.scope}, {"fuse", p.fuse}} {
		if err := checkWord(p.flags, f.flag, f.value); err != nil {
			return err
		}
	}
	byTraffic := p.tiersBy == string(planner.TiersByTraffic)
	for _, f := range []struct {
		flag    string
		traffic bool
	}{{"hot-percentile", false}, {"cold-percentile", false}, {"hot-share", true}, {"cold-share", true}} {
		if p.flags.Changed(f.flag) && f.traffic != byTraffic {
			if byTraffic {
				return hinted(fmt.Errorf("--%s is not for --tiers-by traffic", f.flag), "--hot-share 0.5 --cold-share 0.1")
			}
			return hinted(fmt.Errorf("--%s is for --tiers-by traffic", f.flag), "--tiers-by traffic --"+f.flag+" "+p.flags.Lookup(f.flag).Value.String())
		}
	}
	for _, f := range []struct {
		flag, text string
		dst        *frequency.Fraction
	}{{"hot-share", p.hotShare, &fr.Shares.Hot}, {"cold-share", p.coldShare, &fr.Shares.Cold}} {
		v, err := frequency.ParseFraction(f.text)
		if err != nil {
			return flagError(f.flag, hinted(err, "--"+f.flag+" "+p.flags.Lookup(f.flag).DefValue))
		}
		*f.dst = v
	}
	fr.TiersBy, fr.Scope, fr.Fuse = planner.TiersBy(p.tiersBy), planner.Scope(p.scope), planner.Fuse(p.fuse)
	if err := fr.Validate(); err != nil {
		return hinted(err, "ggufplan plan --help")
	}
	return nil
}

// lookupType returns a type that a plan can name.
func lookupType(types *frequency.Types, name string) (frequency.Type, error) {
	t, err := types.Lookup(name)
	if err != nil {
		if same, ok := sameName(name, plannableTypeNames()); ok {
			return types.Lookup(same)
		}
		if ft, ok := llamaquantize.FileTypeByName(name); ok {
			return t, mixError(ft)
		}
		return t, didYouMean(err, name, plannableTypeNames(), "use ", "use a GGML type such as Q4_K, or declare it: --define-type "+declarable(name)+"=256:144")
	}
	if err := planner.Plannable(t); err != nil {
		return t, hinted(err, "use a type such as Q4_K, Q3_K or Q2_K")
	}
	return t, nil
}

// mixError says that a file type is not a type.
func mixError(ft llamaquantize.FileType) error {
	return hinted(fmt.Errorf("%s is a mix, the type is %s", ft.Name, ft.Default), "use "+ft.Default.String())
}

// declarable returns the name if a type could be declared under it, for a
// hint that works.
func declarable(name string) string {
	var ts frequency.Types
	if _, err := ts.Declare(name, 1, 1); err != nil {
		return "PiQ3"
	}
	return name
}

// defineType reads NAME=WEIGHTS:BYTES.
func defineType(types *frequency.Types, text string) error {
	name, block, ok := strings.Cut(text, "=")
	weights, bytes, ok2 := strings.Cut(block, ":")
	if !ok || !ok2 {
		return fmt.Errorf("%q is not NAME=WEIGHTS:BYTES", text)
	}
	w, err := strconv.ParseUint(weights, 10, 64)
	if err != nil {
		return fmt.Errorf("%q: %q is not a number of weights", text, weights)
	}
	b, err := strconv.ParseUint(bytes, 10, 64)
	if err != nil {
		return fmt.Errorf("%q: %q is not a number of bytes", text, bytes)
	}
	_, err = types.Declare(name, w, b)
	return err
}

// parsePin reads REGEX=TYPE. No type holds "=", so the last one divides.
func parsePin(text string, types *frequency.Types) (planner.Pin, error) {
	i := strings.LastIndexByte(text, '=')
	if i <= 0 || i == len(text)-1 {
		return planner.Pin{}, fmt.Errorf("%q is not REGEX=TYPE", text)
	}
	re, err := regexp.Compile(text[:i])
	if err != nil {
		return planner.Pin{}, fmt.Errorf("%q: %w", text, err)
	}
	t, err := lookupType(types, text[i+1:])
	if err != nil {
		return planner.Pin{}, fmt.Errorf("%q: %w", text, err)
	}
	return planner.Pin{Pattern: re, Type: t}, nil
}

// fileTypeNames lists llama-quantize's file types.
func fileTypeNames() []string {
	var names []string
	for _, ft := range llamaquantize.FileTypes() {
		names = append(names, ft.Name)
	}
	return names
}

// typesAndSets lists what --types takes.
func typesAndSets() []string { return append(planner.TypeSetNames(), plannableTypeNames()...) }

// plannableTypeNames lists the types that llama-quantize writes.
func plannableTypeNames() []string {
	var names []string
	for _, f := range quant.Formats() {
		if f.Writable && f.Engine == quant.LlamaCpp {
			names = append(names, f.Name)
		}
	}
	return names
}
