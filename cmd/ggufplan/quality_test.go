package main

import (
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio/gguftest/llamacpp"
)

var qualityTable = flag.Bool("quality-table", false, "print the README's table of measured plans")

// evaluator measures models against the real one with the real llama.cpp, on
// bytes from to of the held-out text in windows of 128 tokens, as
// llama-perplexity -c 128 --kl-divergence does.
type evaluator struct {
	t         *testing.T
	lib       *llamacpp.Library
	reference *llamacpp.Predictions
}

func newEvaluator(t *testing.T, from, to int) *evaluator {
	t.Helper()
	lib := llamacpp.Load(t)
	source, err := lib.LoadModel(realModel, 128)
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	text, err := os.ReadFile("../../testdata/bytemoe-2x8/eval.txt")
	if err != nil {
		t.Fatal(err)
	}
	reference, err := source.Predict(string(text[from:min(to, len(text))]))
	if err != nil {
		t.Fatal(err)
	}
	return &evaluator{t, lib, reference}
}

func (e *evaluator) divergence(path string) llamacpp.Divergence {
	e.t.Helper()
	model, err := e.lib.LoadModel(path, 128)
	if err != nil {
		e.t.Fatal(err)
	}
	defer model.Close()
	d, err := model.KLDivergence(e.reference)
	if err != nil {
		e.t.Fatal(err)
	}
	return d
}

// planFile writes a plan with the given flags and returns its path.
func planFile(t *testing.T, dir, name string, flags ...string) string {
	t.Helper()
	path := filepath.Join(dir, name+".json")
	ggufplan(t, exitDone, append([]string{"plan", realModel, "--stats", realImatrix, "-q", "-o", path}, flags...)...)
	return path
}

// simulated writes the copy of the real model that carries a plan.
func simulated(t *testing.T, plan string, flags ...string) string {
	t.Helper()
	path := plan + ".gguf"
	ggufplan(t, exitDone, append([]string{"simulate", plan, realModel, "--stats", realImatrix, "-q", "-o", path}, flags...)...)
	return path
}

// uniform is every expert in one type and all else as it is.
func uniform(typ string) []string {
	return []string{"--base", "keep", "--hot-type", typ, "--warm-type", typ, "--cold-type", typ}
}

// budget is the routed experts at a number of bits, K types alone.
func budget(errors, bits, objective string) []string {
	return []string{"--target-expert-bpw", bits, "--errors", errors, "--sensitivity", "none", "--types", "Q2_K,Q3_K,Q4_K,Q5_K,Q6_K",
		"--base", "keep", "--scope-tensors", "experts", "--objective", objective}
}

// measured writes the errors of K types by a full measurement.
func measured(t *testing.T, dir, types string) string {
	t.Helper()
	path := filepath.Join(dir, "errors.json")
	args := []string{"measure", realModel, "--stats", realImatrix, "--full", "-q", "-o", path}
	if types != "" {
		args = append(args, "--types", types)
	}
	ggufplan(t, exitDone, args...)
	return path
}

// llama.cpp runs every kind of copy: in the source's type, as F32, and the
// shards of a sharded model.
func TestSimulatedModelsRun(t *testing.T) {
	llamacpp.Load(t)
	dir := t.TempDir()
	plan := planFile(t, dir, "plan")
	runs(t, simulated(t, plan))
	runs(t, simulated(t, plan, "--store", "f32"))

	source, sharded := shardRealModel(t, dir), filepath.Join(dir, "sharded.json")
	ggufplan(t, exitDone, "plan", source, "--stats", realImatrix, "-q", "-o", sharded)
	for _, store := range []string{"source", "f32"} {
		ggufplan(t, exitDone, "simulate", sharded, source, "--stats", realImatrix, "--store", store, "-q", "-o", filepath.Join(dir, store+".gguf"))
		runs(t, filepath.Join(dir, store+"-00001-of-00003.gguf"))
	}
}

// Simulated plans rank as they should, by what the real llama.cpp computes
// from them.
func TestSimulatedPlansRank(t *testing.T) {
	t.Parallel()
	e := newEvaluator(t, 0, 10<<10)
	dir := t.TempDir()
	errors := measured(t, dir, "Q2_K,Q3_K,Q4_K,Q5_K,Q6_K")
	kld := func(name string, flags ...string) llamacpp.Divergence {
		d := e.divergence(simulated(t, planFile(t, dir, name, flags...)))
		t.Logf("%s: %.5f +- %.5f", name, d.Mean, d.StandardError)
		return d
	}
	ranked := []llamacpp.Divergence{
		kld("uniform Q4_K", uniform("Q4_K")...),
		kld("default preset", "--base", "keep"),
		kld("uniform Q3_K", uniform("Q3_K")...),
		kld("inverse traffic at the size of Q3_K", budget(errors, "3.4375", "inverse-traffic")...),
	}
	for i := 1; i < len(ranked); i++ {
		if ranked[i].Mean <= ranked[i-1].Mean {
			t.Errorf("plan %d is no worse than the one before: %v, %v", i, ranked[i], ranked[i-1])
		}
	}
}

// A fused plan that the real llama-quantize carried out and our decoders read
// back costs what its simulation does.
func TestSimulationAgreesWithLlamaQuantize(t *testing.T) {
	t.Parallel()
	e := newEvaluator(t, 0, 16<<10)
	for _, typ := range []string{"Q2_K", "Q3_K", "IQ2_XXS", "IQ3_S"} {
		dir := t.TempDir()
		plan := planFile(t, dir, typ, uniform(typ)...)
		ours := e.divergence(simulated(t, plan, "--fused"))

		quantized := filepath.Join(dir, "quantized.gguf")
		quantize(t, decodeManifest(t, plan), realModel, ggufplan(t, exitDone, "export", plan, "--to", "llama-quantize"), quantized, false)
		decoded := filepath.Join(dir, "decoded.gguf")
		decodeToF16(t, quantized, decoded)
		theirs := e.divergence(decoded)
		direct := e.divergence(quantized)
		t.Logf("%s: simulated %.5f, quantized and decoded %.5f, quantized %.5f", typ, ours.Mean, theirs.Mean, direct.Mean)
		if math.Abs(ours.Mean-theirs.Mean) > 0.05*theirs.Mean {
			t.Errorf("%s: simulated %.5f, llama-quantize's decoded %.5f: over 5 %% apart", typ, ours.Mean, theirs.Mean)
		}
		if math.Abs(ours.Mean-direct.Mean) > 0.08*direct.Mean {
			t.Errorf("%s: simulated %.5f, llama-quantize's %.5f: over 8 %% apart", typ, ours.Mean, direct.Mean)
		}
	}
}

// TestQualityTable prints the table of the README, with the whole text. The
// rows' order and what they hold are those of testdata/bytemoe-2x8/table.sh.
func TestQualityTable(t *testing.T) {
	if !*qualityTable {
		return // TestSimulatedPlansRank checks what can fail
	}
	e := newEvaluator(t, 0, math.MaxInt)
	dir := t.TempDir()
	errors := measured(t, dir, "Q2_K,Q3_K,Q4_K,Q5_K,Q6_K")
	type row struct {
		name  string
		flags []string
	}
	rows := []row{
		{"uniform Q2_K", uniform("Q2_K")}, {"uniform Q3_K", uniform("Q3_K")}, {"uniform Q4_K", uniform("Q4_K")},
		{"frequency, memory-constrained", []string{"--base", "keep", "--preset", "memory-constrained"}},
		{"frequency, default", []string{"--base", "keep"}},
		{"frequency, quality-focused", []string{"--base", "keep", "--preset", "quality-focused"}},
	}
	for _, bits := range []string{"3.0", "3.438"} {
		for _, objective := range []string{"output-share", "traffic", "relative", "mse", "uniform", "random", "inverse-traffic"} {
			rows = append(rows, row{fmt.Sprintf("budget %s, %s", bits, objective), budget(errors, bits, objective)})
		}
	}
	fmt.Println("| plan | bits per expert weight | KL divergence | standard error |\n|---|---|---|---|")
	for i, r := range rows {
		plan := planFile(t, dir, fmt.Sprint(i), r.flags...)
		m := decodeManifest(t, plan)
		weights := uint64(0)
		for _, x := range m.Tensors {
			if x.ExpertTypes != nil {
				weights += x.Parameters
			}
		}
		d := e.divergence(simulated(t, plan))
		fmt.Printf("| %s | %.3f | %.5f | %.5f |\n", r.name, 8*float64(m.Totals.RoutedExperts.SplitPlannedBytes)/float64(weights), d.Mean, d.StandardError)
	}
}
