package planner_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner"
	"github.com/ggufplan/ggufplan/planner/frequency"
	"github.com/ggufplan/ggufplan/stats"
	"github.com/ggufplan/ggufplan/stats/read"
)

var trafficTable = flag.Bool("traffic-table", false, "print the README's table of what splitting gains")

// TestTrafficTable computes what splitting gains by published traffic, typical
// errors and at most three types to a tensor: how many times the split plan's
// predicted damage the fused plan of as many bytes has. The README has the
// table; testdata/traffic/table.sh prints it.
func TestTrafficTable(t *testing.T) {
	files, err := filepath.Glob("../testdata/traffic/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	heading := "| counts | layers x experts, used | 3.0 bits | 3.5 bits | 4.0 bits |\n|---|---|---|---|---|"
	if *trafficTable {
		fmt.Println(heading)
	} else if !strings.Contains(string(readme), heading) {
		t.Error("the README has no table of traffic")
	}
	for i, path := range files {
		if !*trafficTable && i%5 != 0 {
			continue // some of them show that the table is today's
		}
		evidence, err := read.File(t.Context(), path, read.Options{})
		if err != nil {
			t.Fatal(err)
		}
		used := evidence.Layers[0].TopK
		name := strings.TrimSuffix(filepath.Base(path), ".json")
		row := fmt.Sprintf("| %s | %d x %d, %d |%s", name, len(evidence.Layers), len(evidence.Layers[0].Counts), used, gains(t, evidence, used))
		evidence.Close()
		if *trafficTable {
			fmt.Println(row)
		} else if !strings.Contains(string(readme), row+"\n") {
			t.Errorf("the README's table of traffic does not have %q: testdata/traffic/table.sh prints it", row)
		}
	}
}

// everyColumn is an importance matrix that covers every tensor, so that all types
// are candidates.
type everyColumn struct{}

func (everyColumn) MeanSquares(string, int, []float64) (bool, error) { return false, nil }
func (everyColumn) Complete(string, uint64, uint64) bool             { return true }

// gains returns the ratios at three sizes, of a model that has just the layers
// that were counted.
func gains(t *testing.T, evidence *stats.Evidence, used int) string {
	t.Helper()
	layers := &stats.Evidence{Kind: evidence.Kind, Columns: everyColumn{}}
	for i, l := range evidence.Layers {
		layers.Layers = append(layers.Layers, stats.Layer{Index: i, Kind: stats.LayerRouted, Counts: l.Counts})
	}
	path := filepath.Join(t.TempDir(), "model.gguf")
	shape := gguftest.MoE{Layers: len(layers.Layers), Experts: len(layers.Layers[0].Counts), Used: used, Type: quant.F16, Sparse: true}
	if err := shape.Builder().WriteFile(path); err != nil {
		t.Fatal(err)
	}
	m, err := ggufio.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	var row strings.Builder
	for _, bits := range []string{"3.0", "3.5", "4.0"} {
		p := &planner.Problem{Model: m, Evidence: layers, Policy: planner.DefaultPolicy()}
		p.Policy.Name, p.Policy.Base = planner.PolicyBudget, planner.BaseKeep // damage is the experts' alone
		p.Policy.Budget = planner.Budget{Target: planner.TargetExpertBPW, Objective: planner.ObjectiveOutputShare, Scope: planner.ScopeExperts}
		if p.Policy.Budget.BitsPerWeight, err = frequency.ParseFraction(bits); err != nil {
			t.Fatal(err)
		}
		plan, err := planner.Solve(p)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&row, " %.2f |", *plan.Totals.SplitRatio)
	}
	return row.String()
}
