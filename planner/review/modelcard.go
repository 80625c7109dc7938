package review

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/ggufplan/ggufplan/planner/manifest"
)

// ModelCard writes what a model's page says about its quantization.
func ModelCard(w io.Writer, m *manifest.Manifest) error {
	var b strings.Builder
	r := newReview(m)
	// The card is about the file; what the split plan would be is not in it.
	verdict := slices.DeleteFunc(r.verdict, func(f [2]string) bool { return f[0] == splitFact })
	fmt.Fprintf(&b, "# %s, quantized\n\n", escapeMarkdown(shorten(m.Model.Name, 200)))
	all := room{rows: 400, cell: 300}
	writeMarkdownFacts(&b, verdict, all)
	writeMarkdownFacts(&b, r.facts, all)
	b.WriteString("\n## Types\n\n")
	writeMarkdownTable(&b, mixtureTable(m), all)
	if s := baselineSection(m); len(s.table.rows) > 0 {
		writeMarkdownSection(&b, s, all)
	}
	b.WriteString("\n## Made from\n\n")
	inputs := NewTable("file", ">bytes", "SHA-256", "of")
	for _, f := range m.Model.Files {
		inputs.Add(f.Name, Count(f.SizeBytes), f.HeaderSHA256, "the header")
	}
	if m.Statistics != nil {
		for _, in := range m.Statistics.Inputs {
			inputs.Add(in.Name, Count(in.SizeBytes), in.SHA256, "the file")
		}
	}
	writeMarkdownTable(&b, inputs, all)
	_, err := io.WriteString(w, b.String())
	return err
}

// mixtureTable lists the types of each role with the layers that have them.
func mixtureTable(m *manifest.Manifest) *Table {
	t := NewTable("tensors", "type", "layers", ">size", ">bits per weight")
	for _, g := range groupRoles(m) {
		type kind struct {
			name           string
			bytes, weights uint64
			layers         []int
		}
		var kinds []*kind
		for i := range m.Tensors {
			n := &m.Tensors[i]
			if n.Role != g.role {
				continue
			}
			k := slices.IndexFunc(kinds, func(k *kind) bool { return k.name == n.PlannedType })
			if k < 0 {
				k = len(kinds)
				kinds = append(kinds, &kind{name: n.PlannedType})
			}
			kinds[k].bytes += n.PlannedBytes
			kinds[k].weights += n.Parameters
			if n.Layer != nil {
				kinds[k].layers = append(kinds[k].layers, *n.Layer)
			}
		}
		for _, k := range kinds {
			slices.Sort(k.layers)
			t.Add(strings.ReplaceAll(g.role, "_", " "), k.name, Ranges(slices.Compact(k.layers)), Size(k.bytes), BitsPerWeight(k.bytes, k.weights))
		}
	}
	return t
}
