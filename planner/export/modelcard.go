package export

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/ggufplan/ggufplan/planner/llamaquantize"
	"github.com/ggufplan/ggufplan/planner/manifest"
	"github.com/ggufplan/ggufplan/planner/review"
)

// ModelCard writes the README of a model's repository on Hugging Face: the
// front matter that the site reads, the mixture of types, sizes, digests, and
// the command lines that made the file. A plan does not know the repository of
// the model it was made from, baseModel; without it the model's name stands
// there, to be completed.
func ModelCard(w io.Writer, m *manifest.Manifest, baseModel string) error {
	var b strings.Builder
	base := yamlString(baseModel)
	if baseModel == "" {
		base = yamlString(m.Model.Name) + " # to be completed: ORGANIZATION/NAME"
	}
	front := [][2]string{{"base_model", base}, {"base_model_relation", "quantized"}, {"library_name", "gguf"}, {"pipeline_tag", "text-generation"}}
	b.WriteString("---\n")
	for _, f := range front {
		fmt.Fprintf(&b, "%s: %s\n", f[0], f[1])
	}
	b.WriteString("tags:\n")
	for _, tag := range []string{"gguf", "quantized", "moe", "llama.cpp", m.Generator.Name, m.Model.Architecture} {
		if tag == "moe" && m.Model.MoELayerCount == 0 {
			continue
		}
		fmt.Fprintf(&b, "  - %s\n", yamlString(tag))
	}
	b.WriteString("---\n\n")
	if err := review.ModelCard(&b, m); err != nil {
		return err
	}
	writeCommands(&b, m)
	_, err := io.WriteString(w, b.String())
	return err
}

// yamlString writes text as YAML's double-quoted string.
func yamlString(s string) string {
	if s == "" {
		s = "unknown"
	}
	return strconv.QuoteToASCII(review.Printable(s))
}

// writeCommands adds how the file is made, by apply or by llama-quantize, where
// that can make it.
func writeCommands(b *strings.Builder, m *manifest.Manifest) {
	q, err := LlamaQuantize(m, Paths{Rules: "tensor-types.txt"})
	if err != nil {
		return
	}
	source, output, err := sourceAndOutput(m, "")
	if err != nil {
		return
	}
	apply := []string{"ggufplan", "apply", "plan.json", source}
	for _, in := range inputs(m) {
		if llamaquantize.IsImatrix(in.Format) {
			apply = append(apply, "--imatrix", in.Name)
		}
	}
	lines := []string{review.CommandLine(append(apply, "-o", output)...), "# the same with llama.cpp's program", "ggufplan export plan.json --to llama-quantize -o tensor-types.txt"}
	lines = append(lines, q.Commands...)
	fence := "```"
	for slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, fence) }) {
		fence += "`"
	}
	b.WriteString("\n<details>\n<summary>How the file was made</summary>\n\n" + fence + "sh\n")
	for _, l := range lines {
		b.WriteString(review.Printable(l) + "\n")
	}
	b.WriteString(fence + "\n\n</details>\n")
}
