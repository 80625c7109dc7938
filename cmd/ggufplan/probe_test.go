package main

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio/gguftest/llamacpp"
	"github.com/ggufplan/ggufplan/stats/measure"
)

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
	llamacpp.Tool(t, "llama-perplexity")
	_, p := probed(t, t.TempDir(), "--chunks", "64")
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
}
