package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/ggufplan/ggufplan/planner/review"
)

// helpWidth is the widest that help is.
const helpWidth = 100

// A flagGroup is what help shows together.
type flagGroup struct {
	title string
	flags []string
}

// statisticsGroup is what says how statistics are to be read.
var statisticsGroup = flagGroup{"how to read statistics", []string{"stats-format", "count-column", "top-k", "layers", "experts", "layer-offset"}}

// planGroups are the groups of plan's flags.
var planGroups = []flagGroup{
	{"common flags", []string{"stats", "output", "like", "target-size", "errors", "frontier", "max-size", "quiet"}},
	{"other targets: the least damage within a size", []string{"target-bpw", "target-expert-bpw"}},
	{"what a plan for a target may use", []string{"types", "min-type", "max-types", "max-tiers", "tie-gate-up", "scope-tensors"}},
	{"how damage is predicted", []string{"measure", "sensitivity", "sensitivity-type", "objective", "seed"}},
	{"tiers by traffic, without a target", []string{"policy", "preset", "tiers-by", "hot-percentile", "cold-percentile", "hot-share", "cold-share", "hot-type", "warm-type", "cold-type", "scope", "fuse"}},
	{"tensors that the policy leaves alone, and comparisons", []string{"base", "pin", "define-type", "baseline"}},
	{"with --frontier", []string{"svg", "mark", "json"}},
	{"gates: exit 1 where a plan does not keep them", []string{"max-bpw", "min-saved", "min-coverage", "fail-on"}},
	{"reports", []string{"markdown", "html", "junit", "annotations"}},
	statisticsGroup,
}

func (cmd *command) writeHelp(w io.Writer, flags *pflag.FlagSet) {
	fmt.Fprintf(w, "usage: ggufplan %s %s [flags]\n\n%s\n", cmd.name, cmd.operands, strings.TrimSpace(cmd.long))
	width := helpWidth
	if s, ok := w.(interface{ Width() int }); ok && s.Width() > 0 {
		width = min(width, s.Width())
	}
	left := map[string]bool{}
	flags.VisitAll(func(f *pflag.Flag) { left[f.Name] = !f.Hidden })
	show := func(title string, list []*pflag.Flag) {
		if len(list) > 0 {
			fmt.Fprintf(w, "\n%s:\n", title)
			writeFlags(w, list, width)
		}
	}
	for _, group := range cmd.groups {
		var list []*pflag.Flag
		for _, name := range group.flags {
			if f := flags.Lookup(name); f != nil && left[name] {
				list, left[name] = append(list, f), false
			}
		}
		show(group.title, list)
	}
	var rest []*pflag.Flag
	flags.VisitAll(func(f *pflag.Flag) {
		if left[f.Name] {
			rest = append(rest, f)
		}
	})
	title := "flags"
	if len(cmd.groups) > 0 {
		title = "other flags"
	}
	show(title, rest)
}

// writeFlags prints flags in two columns: how each is written, and what it says.
func writeFlags(w io.Writer, list []*pflag.Flag, width int) {
	const most = 26
	left := 0
	for _, f := range list {
		if n := len(flagSyntax(f)); n <= most {
			left = max(left, n)
		}
	}
	indent := strings.Repeat(" ", left+4)
	for _, f := range list {
		syntax := flagSyntax(f)
		fmt.Fprintf(w, "  %-*s", left, syntax)
		if len(syntax) > left {
			fmt.Fprintf(w, "\n%s", indent[:left+2])
		}
		for i, line := range review.Fold(flagUsage(f), max(20, width-len(indent))) {
			if i > 0 {
				fmt.Fprint(w, indent)
			} else {
				fmt.Fprint(w, "  ")
			}
			fmt.Fprintln(w, line)
		}
	}
}

func flagSyntax(f *pflag.Flag) string {
	name, _ := pflag.UnquoteUsage(f)
	s := "    --" + f.Name
	if f.Shorthand != "" {
		s = "-" + f.Shorthand + ", --" + f.Name
	}
	switch {
	case f.NoOptDefVal == "":
		s += " " + name
	case f.Value.Type() != "bool":
		s += " [" + name + "]"
	}
	return s
}

func flagUsage(f *pflag.Flag) string {
	_, usage := pflag.UnquoteUsage(f)
	if !slices.Contains([]string{"", "false", "0", "[]"}, f.DefValue) {
		usage += " (default " + f.DefValue + ")"
	}
	return usage
}

func writeUsage(w io.Writer) {
	fmt.Fprint(w, "usage: ggufplan COMMAND [operands] [flags]\n\ncommands:\n")
	for _, cmd := range commands() {
		fmt.Fprintf(w, "  %-14s %s\n", cmd.name, cmd.short)
	}
	fmt.Fprint(w, `
'ggufplan COMMAND --help' shows a command's flags and an example,
'ggufplan help words' what fused, split, damage and other words mean.
`)
}

// wordsTopic is the name under which help explains words.
const wordsTopic = "words"

// glossary explains the words that output, flags and the manifest use.
var glossary = [][2]string{
	{"activation", "one use of an expert by a token; a token has as many as experts are used per token"},
	{"traffic", "how a layer's activations spread over its experts"},
	{"fused plan", "one type per tensor, as stock llama.cpp runs it: models fuse the experts of a layer into one tensor"},
	{"split plan", "a type for each expert, for runtimes that have tensors per tier; apply --split writes it"},
	{"tier", "experts that share a type: hot, warm and cold by traffic, or the parts of a split tensor"},
	{"base", "the file type of llama-quantize that decides what the policy leaves alone"},
	{"file type", "what llama-quantize calls Q4_K_M: a mix of types over the tensors of a file"},
	{"damage", "the predicted loss of a plan: each tensor's relative error times how much the tensor matters; comparable between files of one model"},
	{"sensitivity", "how much a tensor matters: typical of its class, or measured"},
	{"price", "the damage that one more byte would save where the budget was cut"},
	{"bound, gap", "no plan within the budget has less damage than the bound; the gap is how far above it a plan is"},
	{"imatrix", "the statistics that llama-imatrix writes: how often experts were used, and weights for the encoders' columns"},
	{"effective", "of experts: as many as would show the same spread if all were used alike; the fewer, the more uneven the traffic"},
	{"deff", "design effect: how many times as many tokens the data need as independent draws would, since neighbouring tokens choose alike"},
	{"scarce, unseen", "an expert whose count is too low to be trusted, and one that was never used"},
	{"super expert", "an expert whose output is out of all proportion: it gets no smaller type than others of its layer"},
	{"pin", "a type given by hand to the tensors that a pattern matches"},
	{"gate (of a pipeline)", "a condition such as --max-size that makes plan end with status 1"},
}

func writeGlossary(w io.Writer) {
	t := review.NewTable("word", "meaning")
	for _, entry := range glossary {
		t.Add(entry[0], entry[1])
	}
	if _, ok := w.(interface{ Width() int }); !ok {
		w = &screen{Writer: w, width: helpWidth}
	}
	t.WriteRows(w, "  ")
}
