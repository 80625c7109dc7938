package main

import (
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/gguftest/llamacpp"
)

// sensitivityTable holds the divergence that each expert tensor of the real
// model causes alone: a drop-one benchmark on the first half of the text.
const sensitivityTable = "../../testdata/bytemoe-2x8/sensitivity.csv"

// sensitivityBytes is how much of the text the table was measured on; what
// uses it is judged on the rest.
const sensitivityBytes = 18 << 10

var updateSensitivity = flag.Bool("update-sensitivity", false, "measure testdata/bytemoe-2x8/sensitivity.csv anew")

// TestSensitivityTable measures the table anew with -update-sensitivity:
// everything but one tensor as it is, that one at Q2_K. Without, it checks that
// the table names what it should.
func TestSensitivityTable(t *testing.T) {
	m, err := ggufio.Open(realModel)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, layer := range m.MoELayers() {
		for _, tensor := range m.ExpertTensors(layer) {
			names = append(names, tensor.Name)
		}
	}
	if *updateSensitivity {
		e := newEvaluator(t, 0, sensitivityBytes)
		dir := t.TempDir()
		var values []string
		for _, name := range names {
			plan := planFile(t, dir, name, append(uniform("F16"), "--pin", "^"+regexp.QuoteMeta(name)+"$=Q2_K")...)
			values = append(values, fmt.Sprintf("%.6f", e.divergence(simulated(t, plan, "--fused")).Mean))
		}
		table := strings.Join(names, ",") + "\n" + strings.Join(values, ",") + "\n"
		if err := os.WriteFile(sensitivityTable, []byte(table), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	table, err := os.ReadFile(sensitivityTable)
	if err != nil {
		t.Fatal(err)
	}
	if header, _, _ := strings.Cut(string(table), "\n"); header != strings.Join(names, ",") {
		t.Errorf("the table is of %s", header)
	}
}

// What fused plans with every type have reached in llama.cpp, by another
// allocator, all but experts at Q8_0, on the whole text; there uniform Q3_K has
// 0.0049.
var reached = []struct {
	bytes      int64
	divergence float64
	alone      float64 // what measured errors alone reach, where that is more
}{
	{1725408, 0.0085, 0}, {1832000, 0.0056, 0.0064}, {1938400, 0.0044, 0}, {2147000, 0.0025, 0},
}

// quantizedPlan is a plan of the real model, all but experts at Q8_0, carried
// out and run by the real llama.cpp.
func quantizedPlan(t *testing.T, e *evaluator, dir, name string, flags ...string) (llamacpp.Divergence, int64) {
	t.Helper()
	plan := planFile(t, dir, name, append(flags, "--base", "Q8_0")...)
	out := filepath.Join(dir, name+".gguf")
	quantize(t, decodeManifest(t, plan), realModel, ggufplan(t, exitDone, "export", plan, "--to", "llama-quantize"), out, false)
	info, err := os.Stat(out)
	if err != nil {
		t.Fatal(err)
	}
	d := e.divergence(out)
	t.Logf("%s: %d bytes, %.5f +- %.5f", name, info.Size(), d.Mean, d.StandardError)
	return d, info.Size()
}

// Measured errors alone take a fused budget plan to what has been reached,
// within two standard errors, but not at 1.832 MB: there this model's first down
// projection matters more than its error says.
func TestFusedBudgetWithEveryType(t *testing.T) {
	t.Parallel()
	e := newEvaluator(t, 0, math.MaxInt)
	dir := t.TempDir()
	errors := filepath.Join(dir, "errors.json")
	ggufplan(t, exitDone, "measure", realModel, "--stats", realImatrix, "-q", "-o", errors)
	for _, tt := range reached {
		size := fmt.Sprint(tt.bytes)
		d, written := quantizedPlan(t, e, dir, size, "--target-size", size+"B", "--errors", errors, "--scope-tensors", "experts", "--sensitivity", "none")
		if written > tt.bytes {
			t.Errorf("%s: the file has %d bytes", size, written)
		}
		if d.Mean > max(tt.divergence, tt.alone)+2*d.StandardError {
			t.Errorf("%s: KL divergence %.5f +- %.5f, over %.4f", size, d.Mean, d.StandardError, max(tt.divergence, tt.alone))
		}
	}
}

// With measured sensitivities it is no worse at any size, on text that the
// sensitivities were not measured on. Beside it runs uniform Q3_K, which anchors
// this part of the text.
func TestFusedBudgetWithSensitivities(t *testing.T) {
	t.Parallel()
	e := newEvaluator(t, sensitivityBytes, math.MaxInt)
	dir := t.TempDir()
	errors := filepath.Join(dir, "errors.json")
	ggufplan(t, exitDone, "measure", realModel, "--stats", realImatrix, "-q", "-o", errors)
	anchor, _ := quantizedPlan(t, e, dir, "uniform Q3_K", "--hot-type", "Q3_K", "--warm-type", "Q3_K", "--cold-type", "Q3_K")
	for _, tt := range reached {
		size := fmt.Sprint(tt.bytes)
		d, written := quantizedPlan(t, e, dir, size, "--target-size", size+"B", "--errors", errors, "--scope-tensors", "experts", "--sensitivity", sensitivityTable)
		if written > tt.bytes {
			t.Errorf("%s: the file has %d bytes", size, written)
		}
		if d.Mean > tt.divergence*anchor.Mean/0.0049+2*d.StandardError {
			t.Errorf("%s: KL divergence %.5f +- %.5f, %.4f has been reached where uniform Q3_K had 0.0049 and has %.5f here", size, d.Mean, d.StandardError, tt.divergence, anchor.Mean)
		}
	}
}
