package export

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner/llamaquantize"
	"github.com/ggufplan/ggufplan/planner/manifest"
	"github.com/ggufplan/ggufplan/planner/review"
	"github.com/ggufplan/ggufplan/stats"
)

// A Quantization is a plan as a llama-quantize takes it.
type Quantization struct {
	// Rules is the content of llama-quantize's --tensor-type-file, a line per
	// tensor; for ik_llama.cpp the argument of --custom-q.
	Rules []byte

	// Commands are the shell's command lines, in order; the last runs
	// llama-quantize.
	Commands []string

	Losses []review.Loss // of the split plan
	Notes  []string      // what else the user should know
}

// Paths are names in a command line that a manifest does not hold.
type Paths struct {
	Rules string // the file that the rules are in; ik_llama.cpp takes none
	Out   string // the quantized file; after the model's name if ""
}

// LlamaQuantize returns the plan as rules for llama-quantize v0.5.0. The
// command line names the model and the statistics as the manifest does.
//
// Every tensor that llama-quantize may change has a rule: one without would be
// left to the mix of the file type, whose choices depend on what it has seen.
func LlamaQuantize(m *manifest.Manifest, paths Paths) (*Quantization, error) {
	imatrix, merge := llamaquantize.Imatrix(inputs(m))
	g := &target{name: "llama-quantize", engine: quant.LlamaCpp, fit: func(t *manifest.Tensor, f quant.Format) string {
		if quant.ShapeFallback(f.Type, t.Shape[0]) != f.Type {
			return fmt.Sprintf("rows of %d weights do not divide into blocks of %s", t.Shape[0], f.Name)
		}
		if imatrix != "" && hasFinding(m, stats.CodeImatrixSize, t.Name) {
			return fmt.Sprintf("its entry in %s has a size at which llama-quantize stops; ggufplan apply goes without it", imatrix)
		}
		asserts := t.PlannedType != t.SourceType && quant.AssertsImatrix(f.Type)
		if !asserts && !quant.NeedsImatrix(t.Name, f.Type) {
			return ""
		}
		if imatrix == "" {
			return fmt.Sprintf("%s needs an importance matrix, and the plan's statistics are not one", f.Name)
		}
		if hasFinding(m, "needs-imatrix", t.Name) {
			return fmt.Sprintf("%s needs an importance matrix, and %s has none under the tensor's own name", f.Name, imatrix)
		}
		return ""
	}}
	rules, err := g.rules(m)
	if err != nil {
		return nil, err
	}
	if i := slices.IndexFunc(m.Findings, func(f manifest.Finding) bool { return f.Code == "alignment" }); i >= 0 {
		return nil, fmt.Errorf("%s cannot carry out the plan: %s: %s", g.name, m.Findings[i].Subject, m.Findings[i].Message)
	}
	line, err := quantizeLine(m, paths, imatrix, "--tensor-type-file", paths.Rules)
	if err != nil {
		return nil, err
	}
	q := &Quantization{Losses: review.Losses(m)}
	var b bytes.Buffer
	for _, r := range rules {
		fmt.Fprintf(&b, "%s=%s\n", pattern(r.tensor.Name), r.format.Spelling())
	}
	q.Rules = b.Bytes()

	for _, in := range inputs(m) {
		if !llamaquantize.IsImatrix(in.Format) || llamaquantize.Unpacked(in.Name) == in.Name {
			continue
		}
		unpack := "gzip"
		if strings.HasSuffix(in.Name, ".zst") {
			unpack = "zstd"
		}
		q.Commands = append(q.Commands, review.CommandLine(unpack, "-dk", Operand(in.Name)))
	}
	if len(merge) > 1 {
		words := []string{"llama-imatrix", "-m", Operand(m.Model.Files[0].Name)} // asked for, not read
		for _, name := range merge {
			words = append(words, "--in-file", name)
		}
		q.Commands = append(q.Commands, review.CommandLine(append(words, "-o", imatrix)...))
	}
	q.Commands = append(q.Commands, line)

	if separateExperts(m) {
		q.Notes = append(q.Notes, "the model has one tensor per expert: llama.cpp v0.5.0 quantizes such files but no longer loads them")
	}
	return q, nil
}

func inputs(m *manifest.Manifest) []manifest.Input {
	if m.Statistics == nil {
		return nil
	}
	return m.Statistics.Inputs
}

func hasFinding(m *manifest.Manifest, code, subject string) bool {
	return slices.Contains(findingSubjects(m, code), subject)
}

func findingSubjects(m *manifest.Manifest, code string) []string {
	var subjects []string
	for _, f := range m.Findings {
		if f.Code == code {
			subjects = append(subjects, f.Subject)
		}
	}
	return subjects
}

func separateExperts(m *manifest.Manifest) bool {
	return slices.ContainsFunc(m.Tensors, func(t manifest.Tensor) bool { return t.Expert != nil })
}
