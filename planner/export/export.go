package export

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner/llamaquantize"
	"github.com/ggufplan/ggufplan/planner/manifest"
	"github.com/ggufplan/ggufplan/planner/review"
)

// An UnfitError reports that a target cannot carry out a plan.
type UnfitError struct {
	Target string // the program
	Tensor string // the first tensor in the way
	Reason string
	More   int // further tensors in the way
}

func (e *UnfitError) Error() string {
	s := fmt.Sprintf("%s cannot carry out the plan: %s: %s", e.Target, e.Tensor, e.Reason)
	if e.More > 0 {
		s += fmt.Sprintf(" (and %d more)", e.More)
	}
	return s
}

// A rule gives one tensor its type.
type rule struct {
	tensor *manifest.Tensor
	format quant.Format
}

// A target is a llama-quantize.
type target struct {
	name   string
	engine quant.Engine
	// fit returns why the target cannot give a tensor its planned type, ""
	// where it can; the caller has checked that it knows the type.
	fit func(t *manifest.Tensor, f quant.Format) string
}

// rules returns a rule for every tensor that llama-quantize may change, in the
// manifest's order, or what is in the way.
func (g *target) rules(m *manifest.Manifest) ([]rule, error) {
	var rules []rule
	var unfit *UnfitError
	for i := range m.Tensors {
		t := &m.Tensors[i]
		f, reason := g.check(t)
		switch {
		case reason != "" && unfit == nil:
			unfit = &UnfitError{Target: g.name, Tensor: t.Name, Reason: reason}
		case reason != "":
			unfit.More++
		case quant.Quantizable(t.Name, t.Shape):
			rules = append(rules, rule{t, f})
		}
	}
	if unfit != nil {
		return nil, unfit
	}
	return rules, nil
}

// check returns the format of a tensor's planned type, or why the target
// cannot give it.
func (g *target) check(t *manifest.Tensor) (f quant.Format, reason string) {
	if len(t.Shape) == 0 {
		return f, "has no shape"
	}
	f, ok := quant.ByName(t.PlannedType)
	switch {
	case !ok:
		return f, fmt.Sprintf("%s is not one of %s's types", t.PlannedType, g.engine)
	case t.PlannedType == t.SourceType && g.engine == quant.LlamaCpp && f.Engine != quant.LlamaCpp:
		return f, fmt.Sprintf("%s is %s's own type, which %s cannot open", t.PlannedType, f.Engine, g.engine)
	case t.PlannedType == t.SourceType && !(quant.Quantizable(t.Name, t.Shape) && quant.NeedsImatrix(t.Name, f.Type)):
		return f, "" // copied
	case !quant.Quantizable(t.Name, t.Shape):
		return f, fmt.Sprintf("planned as %s, but llama-quantize never changes such a tensor's type (%s)", t.PlannedType, t.SourceType)
	case !f.WritableBy(g.engine):
		return f, fmt.Sprintf("%s's llama-quantize cannot write %s", g.engine, t.PlannedType)
	}
	return f, g.fit(t, f)
}

// changesQuantized reports whether the plan changes the type of a tensor that
// is quantized already, which llama-quantize does only when told to.
func changesQuantized(m *manifest.Manifest) bool {
	return slices.ContainsFunc(m.Tensors, func(t manifest.Tensor) bool {
		f, ok := quant.ByName(t.SourceType)
		return ok && f.Quantized && t.PlannedType != t.SourceType
	})
}

// quantizeLine returns the command line of a llama-quantize that takes rules by
// an option.
func quantizeLine(m *manifest.Manifest, paths Paths, imatrix, option, rules string) (string, error) {
	source, out, err := sourceAndOutput(m, paths.Out)
	if err != nil {
		return "", err
	}
	words := []string{"llama-quantize"}
	if changesQuantized(m) {
		words = append(words, "--allow-requantize")
	}
	if imatrix != "" {
		words = append(words, "--imatrix", imatrix)
	}
	words = append(words, option, rules, source, out, llamaquantize.Carrier(m))
	return review.CommandLine(words...), nil
}

// sourceAndOutput returns the model's first file and out, or a name after the
// model's where that is "", as words of a command line.
func sourceAndOutput(m *manifest.Manifest, out string) (source, output string, err error) {
	if len(m.Model.Files) == 0 || m.Model.Files[0].Name == "" {
		return "", "", fmt.Errorf("the plan names no model file")
	}
	source = m.Model.Files[0].Name
	if out == "" {
		out = PlannedName(m, source)
	}
	return Operand(source), Operand(out), nil
}

// PlannedName returns a name for a plan's file beside its model's, of which path
// may be any shard.
func PlannedName(m *manifest.Manifest, path string) string {
	path = strings.TrimSuffix(path, ".gguf")
	if n := len(m.Model.Files); n > 1 {
		if i := strings.LastIndex(path, "-of-"); i >= 6 && path[i:] == fmt.Sprintf("-of-%05d", n) {
			path = path[:i-6]
		}
	}
	return path + "-planned.gguf"
}

// Operand keeps a name from being taken for an option.
func Operand(name string) string {
	if strings.HasPrefix(name, "-") {
		return "./" + name
	}
	return name
}
