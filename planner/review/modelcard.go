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
	t := &m.Totals
	fmt.Fprintf(&b, "# %s, quantized\n\n%s\n\n", escapeMarkdown(shorten(m.Model.Name, 200)), escapeMarkdown(headline(m)))
	facts := NewTable("", "")
	fact := func(name, format string, args ...any) { facts.Add(name, fmt.Sprintf(format, args...)) }
	if t.PlannedFileBytes != nil {
		fact("size of the file", "%s (%s bytes)", Size(*t.PlannedFileBytes), Count(*t.PlannedFileBytes))
	}
	fact("size of the tensors", "%s, from %s", Size(t.PlannedBytes), Size(t.SourceBytes))
	fact("bits per weight", "%s", decimals(t.PlannedBitsPerWeight, 3))
	fact("weights", "%s", Count(m.Model.Parameters))
	if m.Model.ExpertCount > 0 {
		used := ""
		if m.Model.ExpertUsedCount != nil {
			used = fmt.Sprintf(", %d used per token", *m.Model.ExpertUsedCount)
		}
		fact("experts", "%d in each of %d layers%s", m.Model.ExpertCount, m.Model.MoELayerCount, used)
	}
	fact("made for", "%s v%s and newer", m.Target.Engine, m.Target.Version)
	fact("policy", "%s, base %s", policyInWords(&m.Policy), m.Policy.Base)
	fact("statistics", "%s", statisticsInWords(m.Statistics))
	writeMarkdownTable(&b, facts, len(facts.rows))

	b.WriteString("\n## Types\n\n")
	mixture := mixtureTable(m)
	writeMarkdownTable(&b, mixture, 400)

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
	writeMarkdownTable(&b, inputs, 400)
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
