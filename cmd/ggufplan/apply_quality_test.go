package main

import (
	"flag"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"
)

var applyQuality = flag.Bool("apply-quality", false, "compare the KL divergence of every kind of applied file with llama-quantize's, on the whole text")

// TestAppliedQuality has llama.cpp compute what applied files and those that
// llama-quantize writes of the same plans diverge from the source: ours by at
// most two standard errors more.
func TestAppliedQuality(t *testing.T) {
	t.Parallel()
	// output.weight has no importance matrix, which most IQ types need.
	const blocks, all = `(_exps|attn_(q|k|v|output))\.weight$=`, `(_exps|attn_(q|k|v|output)|^output)\.weight$=`
	type kind struct {
		name  string
		flags []string
	}
	var kinds []kind
	types, to := "Q3_K IQ3_XXS", 8<<10
	if *applyQuality {
		types, to = "Q2_K Q3_K Q4_K Q5_K Q6_K IQ2_XXS IQ2_XS IQ2_S IQ3_XXS IQ3_S IQ4_NL IQ4_XS", math.MaxInt
		for _, size := range []string{"1300KiB", "1600KiB", "1900KiB", "2300KiB"} {
			kinds = append(kinds, kind{"budget " + size, []string{"--target-size", size}})
		}
		kinds = append(kinds, kind{"frequency", nil})
	}
	for _, typ := range strings.Fields(types) {
		pin := all
		if strings.HasPrefix(typ, "IQ") {
			pin = blocks
		}
		kinds = append(kinds, kind{typ, []string{"--base", "keep", "--pin", pin + typ}})
	}
	kinds = append(kinds, kind{"budget 1500KiB", []string{"--target-size", "1500KiB", "--types", "k"}})
	e := newEvaluator(t, 0, to)
	if *applyQuality {
		fmt.Println("| plan | applied | standard error | llama-quantize | standard error |\n|---|--:|--:|--:|--:|")
	}
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			dir := t.TempDir()
			plan, applied := planFile(t, dir, "plan", k.flags...), filepath.Join(dir, "applied.gguf")
			ggufplan(t, exitDone, "apply", plan, realModel, "--imatrix", realImatrix, "-q", "-o", applied)
			ours, theirs := e.divergence(applied), e.divergence(quantized(t, plan, realModel, realImatrix))
			line := fmt.Sprintf("| %s | %.6f | %.6f | %.6f | %.6f |", k.name, ours.Mean, ours.StandardError, theirs.Mean, theirs.StandardError)
			if *applyQuality {
				fmt.Println(line)
			}
			if ours.Mean > theirs.Mean+float64(2*theirs.StandardError) || ours.Mean == 0 {
				t.Errorf("over llama-quantize's by more than two standard errors: %s", line)
			}
		})
	}
}
