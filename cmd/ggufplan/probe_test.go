package main

import (
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio/gguftest/llamacpp"
	"github.com/ggufplan/ggufplan/planner/manifest"
	"github.com/ggufplan/ggufplan/planner/review"
	"github.com/ggufplan/ggufplan/stats/measure"
)

var probeTable = flag.Bool("probe-table", false, "measure what plans from probes reach, at every size of the README's table")

// textPart writes bytes from to of the held-out text into dir.
func textPart(t *testing.T, dir string, from, to int) string {
	t.Helper()
	text, err := os.ReadFile("../../testdata/bytemoe-2x8/eval.txt")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "text.txt")
	if err := os.WriteFile(path, text[from:min(to, len(text))], 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// probed runs probe on the real model with the real llama-perplexity, on the
// first half of the text.
func probed(t *testing.T, dir string, flags ...string) (path string, p *measure.Probe) {
	t.Helper()
	path = filepath.Join(dir, "sensitivity.json")
	args := append([]string{"probe", realModel, "--imatrix", realImatrix, "--text", textPart(t, dir, 0, sensitivityBytes),
		"--llama-perplexity", llamacpp.Tool(t, "llama-perplexity"), "--ctx", "128", "-o", path, "-q"}, flags...)
	// On some processors it crashes in code that repacks weights.
	ggufplan(t, exitDone, append(args, "--", "--no-repack", "-t", "1")...)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if p, err = measure.DecodeProbe(data); err != nil {
		t.Fatal(err)
	}
	return path, p
}

// The real llama-perplexity tells groups apart, shows nothing where nothing
// changed, and what mixtures and a whole file show follows from the groups.
func TestProbeWithLlamaPerplexity(t *testing.T) {
	t.Parallel()
	llamacpp.Tool(t, "llama-perplexity")
	dir := t.TempDir()
	path, p := probed(t, dir, "--chunks", "64")
	if len(p.Runs) != 10 {
		t.Fatalf("%d runs", len(p.Runs))
	}
	for _, r := range p.Runs {
		t.Logf("%s: %.6f +- %.6f over %d tokens", r.Name, r.KLD, r.StandardError, r.ScoredTokens)
		if r.Control != 0 || r.KLD <= 0 || r.KLD > 0.1 || r.StandardError > 0.15*r.KLD {
			t.Errorf("%+v", r)
		}
	}
	// The six projections of experts alone, of the table that another program
	// measured on the same text, against the two groups of this.
	experts := p.Run("experts.0").KLD + p.Run("experts.2").KLD
	if table := 0.001828 + 0.001146 + 0.002973 + 0.005655 + 0.002680 + 0.002712; math.Abs(experts/table-1) > 0.25 {
		t.Errorf("experts: %.6f, the table's tensors add up to %.6f", experts, table)
	}
	if f := p.Fit; f.K == nil || *f.K < 0.5 || *f.K > 1.2 || *f.Spread > 1.3 || f.Y0 == nil || *f.Y0 > 0.002 {
		t.Errorf("fit: %+v", f)
	}
	// A plan from it: what it shows on the text of the probe was predicted, and
	// on another text it is near what the table of single runs reached.
	errors := filepath.Join(dir, "errors.json")
	ggufplan(t, exitDone, "measure", realModel, "--stats", realImatrix, "--quick", "-q", "-o", errors)
	unseen, seen := newEvaluator(t, sensitivityBytes, math.MaxInt), newEvaluator(t, 0, sensitivityBytes)
	const bytes, table = 1725408, 0.00624
	d, predicted := probedPlan(t, unseen, dir, "plan", errors, path, bytes)
	if d.Mean > 1.15*table+2*d.StandardError {
		t.Errorf("%d bytes: KL divergence %.5f, the table's plan has %.5f", bytes, d.Mean, table)
	}
	if d := seen.divergence(filepath.Join(dir, "plan.gguf")); predicted == nil || !holdsOnOwnText(predicted, d) {
		t.Errorf("%d bytes: KL divergence %.5f, predicted %+v", bytes, d.Mean, predicted)
	}
}

// probedPlan is a plan of a size from sensitivities, carried out and run on the
// half of the text that no probe saw, and what it was predicted to show.
func probedPlan(t *testing.T, e *evaluator, dir, name, errors, sensitivity string, bytes int64) (llamacpp.Divergence, *manifest.PredictedKLD) {
	t.Helper()
	d, written := quantizedPlan(t, e, dir, name, "--target-size", fmt.Sprint(bytes)+"B", "--errors", errors, "--scope-tensors", "experts", "--sensitivity", sensitivity)
	if written > bytes {
		t.Errorf("%s: the file has %d bytes", name, written)
	}
	return d, decodeManifest(t, filepath.Join(dir, name+".json")).Totals.PredictedKLD
}

// ownTextBand is the factor either side of a prediction that holds on the text
// of the probe. The printed band is wider: it speaks for other texts too.
const ownTextBand = 1.35

func holdsOnOwnText(p *manifest.PredictedKLD, d llamacpp.Divergence) bool {
	return math.Abs(math.Log(p.KLD/d.Mean)) <= math.Log(ownTextBand)
}

// With -probe-table plans from a probe by tensor, from one of four bands and
// from the table of single runs are made at every size of the README's table and
// run on text that none of them saw, prose where the probe's is code, and which
// is easier by a quarter: at all sizes but one the band must hold there, and on the
// text of the probe a narrower one.
func TestProbeTable(t *testing.T) {
	if !*probeTable {
		t.Skip("takes minutes: testdata/bytemoe-2x8/probe.sh")
	}
	e, seen := newEvaluator(t, sensitivityBytes, math.MaxInt), newEvaluator(t, 0, sensitivityBytes)
	dir := t.TempDir()
	errors := filepath.Join(dir, "errors.json")
	ggufplan(t, exitDone, "measure", realModel, "--stats", realImatrix, "-q", "-o", errors)
	files := map[string]string{}
	for _, bands := range []string{"tensor", "4"} {
		own := filepath.Join(dir, bands)
		if err := os.Mkdir(own, 0o777); err != nil {
			t.Fatal(err)
		}
		path, p := probed(t, own, "--bands", bands, "--chunks", "48")
		files[bands] = path
		t.Logf("%s: k %.3f, spread %.3f, y0 %.5f, %d runs", bands, *p.Fit.K, *p.Fit.Spread, *p.Fit.Y0, len(p.Runs))
	}
	log, n, predictions := 0.0, 0, 0
	own, other := 0, 0 // predictions that held on the probe's text and on the other
	for _, tt := range append(reached, struct {
		bytes             int64
		divergence, alone float64
	}{2500000, 0, 0}) {
		table, _ := probedPlan(t, e, dir, fmt.Sprintf("table-%d", tt.bytes), errors, sensitivityTable, tt.bytes)
		tensor, predicted := probedPlan(t, e, dir, fmt.Sprintf("tensor-%d", tt.bytes), errors, files["tensor"], tt.bytes)
		bands, predicted4 := probedPlan(t, e, dir, fmt.Sprintf("bands-%d", tt.bytes), errors, files["4"], tt.bytes)
		t.Logf("%d: table %.5f, by tensor %.5f (predicted %.5f), 4 bands %.5f (predicted %.5f), +- %.5f", tt.bytes, table.Mean, tensor.Mean, predicted.KLD, bands.Mean, predicted4.KLD, table.StandardError)
		if tt.divergence > 0 && tensor.Mean > table.Mean+2*math.Hypot(table.StandardError, tensor.StandardError) {
			t.Errorf("%d: by tensor %.5f, the table %.5f +- %.5f", tt.bytes, tensor.Mean, table.Mean, table.StandardError)
		}
		if tt.divergence > 0 {
			log += math.Log(bands.Mean / table.Mean)
			n++
		}
		predictions++
		here := seen.divergence(filepath.Join(dir, fmt.Sprintf("tensor-%d.gguf", tt.bytes)))
		t.Logf("%d: predicted by tensor %s, %.3f times that of the text of the probe, %.5f, and %.3f times that of the other", tt.bytes,
			review.PredictedKLD(predicted), predicted.KLD/here.Mean, here.Mean, predicted.KLD/tensor.Mean)
		if holdsOnOwnText(predicted, here) {
			own++
		}
		if tensor.Mean >= predicted.Low && tensor.Mean <= predicted.High {
			other++
		}
	}
	mean := math.Exp(log / float64(n))
	t.Logf("4 bands over the table %.3f in the geometric mean; of %d predictions %d within %v on the text of the probe, %d within their bands on the other", mean, predictions, own, ownTextBand, other)
	if mean > 1.15 {
		t.Errorf("4 bands: %.3f times the table", mean)
	}
	if least := predictions - 1; own < least || other < least {
		t.Errorf("of %d predictions %d hold on the text of the probe, %d on the other", predictions, own, other)
	}
}
