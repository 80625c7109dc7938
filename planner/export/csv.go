package export

import (
	"encoding/csv"
	"io"
	"strconv"
	"strings"

	"github.com/ggufplan/ggufplan/planner/manifest"
)

var csvHeader = []string{
	"name", "role", "layer", "expert", "shape", "parameters", "source_type", "source_bytes",
	"planned_type", "planned_bytes", "saved_bytes", "split_planned_bytes", "expert_types", "reason",
}

// CSV writes a line per tensor, in the manifest's order, below a line of
// column names, as RFC 4180 has it. Columns are the manifest's fields; shape is
// joined by "x", expert_types by spaces; unknown is empty. Text
// that a spreadsheet would run begins with an apostrophe.
func CSV(w io.Writer, m *manifest.Manifest) error {
	out := csv.NewWriter(w)
	if err := out.Write(csvHeader); err != nil {
		return err
	}
	number := func(n *int) string {
		if n == nil {
			return ""
		}
		return strconv.Itoa(*n)
	}
	for i := range m.Tensors {
		t := &m.Tensors[i]
		err := out.Write([]string{
			cell(t.Name), t.Role, number(t.Layer), number(t.Expert), joinNumbers(t.Shape, "x"), strconv.FormatUint(t.Parameters, 10),
			t.SourceType, strconv.FormatUint(t.SourceBytes, 10), t.PlannedType, strconv.FormatUint(t.PlannedBytes, 10),
			strconv.FormatInt(t.SavedBytes, 10), strconv.FormatUint(t.SplitPlannedBytes, 10), strings.Join(t.ExpertTypes, " "), cell(t.Reason),
		})
		if err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

// cell keeps a spreadsheet from running text as a formula.
func cell(text string) string {
	if text != "" && strings.ContainsRune("=+-@", rune(text[0])) {
		return "'" + text
	}
	return text
}

func joinNumbers(numbers []uint64, sep string) string {
	parts := make([]string, len(numbers))
	for i, n := range numbers {
		parts[i] = strconv.FormatUint(n, 10)
	}
	return strings.Join(parts, sep)
}
