package planner

import (
	"strconv"
	"testing"
)

// The runs that tensors of published tables shared, as those who made the
// tables grouped them.
func TestSharedRunsOfPublishedTables(t *testing.T) {
	for model, layers := range map[string]int{"GLM-4.5-Air": 46, "Kimi-K2-Thinking": 61} { // that the forward pass runs
		var names []string
		var values []float64
		want := map[string]string{}
		for _, row := range readRows(t, model) {
			v, err := strconv.ParseFloat(row[5], 64)
			if err != nil || layerOf(row[0]) >= layers {
				continue // not measured, or a prediction layer's
			}
			names, values = append(names, row[0]), append(values, v)
			want[row[0]] = row[4]
		}
		if len(names) < 100 {
			t.Fatalf("%s: %d values", model, len(names))
		}
		wrong := 0
		for _, run := range groupRuns(names, values) {
			for _, name := range run.names {
				if want[name] != strconv.Itoa(len(run.names)) {
					wrong++
					t.Logf("%s: %s: %d tensors in its run, want %s", model, name, len(run.names), want[name])
				}
			}
		}
		if wrong > 0 {
			t.Errorf("%s: the runs of %d of %d tensors", model, wrong, len(names))
		}
	}
}
