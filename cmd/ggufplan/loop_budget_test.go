package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/gguftest/llamacpp"
	"github.com/ggufplan/ggufplan/planner/llamaquantize"
)

// Measure, plan at the size of Q3_K_M, export, quantize with the real
// llama.cpp, verify: the file is within the budget to the byte, and runs.
func TestWholeLoopWithinBudget(t *testing.T) {
	t.Parallel()
	llamacpp.Load(t)
	m, err := ggufio.Open(realModel)
	if err != nil {
		t.Fatal(err)
	}
	ft, _ := llamaquantize.FileTypeByName("Q3_K_M")
	tensors, err := llamaquantize.MixBytes(m, ft)
	if err != nil {
		t.Fatal(err)
	}
	budget := llamaquantize.HeaderBytes(m, nil) + tensors
	dir := t.TempDir()
	errorsPath, planPath, out := filepath.Join(dir, "errors.json"), filepath.Join(dir, "plan.json"), filepath.Join(dir, "out.gguf")
	ggufplan(t, exitDone, "measure", realModel, "--stats", realImatrix, "--types", "Q2_K,IQ3_XXS,Q3_K,IQ4_XS,Q4_K,Q5_K,Q6_K", "-q", "-o", errorsPath)
	ggufplan(t, exitDone, "plan", realModel, "--stats", realImatrix, "--errors", errorsPath, "--target-size", strconv.FormatUint(budget, 10)+"B", "-q", "-o", planPath)
	plan := decodeManifest(t, planPath)
	quantize(t, plan, realModel, ggufplan(t, exitDone, "export", planPath, "--to", "llama-quantize"), out, false)
	if text := ggufplan(t, exitDone, "verify", planPath, out); !strings.HasPrefix(text, "27 of 27 tensors are as planned") {
		t.Errorf("verify says %q", text)
	}
	info, err := os.Stat(out)
	if err != nil {
		t.Fatal(err)
	}
	size := uint64(info.Size())
	if size > budget || size != *plan.Totals.PlannedFileBytes || size < budget-budget/50 {
		t.Errorf("%d bytes written, %d planned, budget %d", size, *plan.Totals.PlannedFileBytes, budget)
	}
	// At most three types a tensor leave the split plan of so few tensors a gap.
	if b := plan.Policy.Budget; b.Gap != 0 || b.SplitGap > 0.01 || b.SplitDamage >= b.Damage {
		t.Errorf("damages %v and %v, gaps %v and %v", b.Damage, b.SplitDamage, b.Gap, b.SplitGap)
	}
	runs(t, out)
}
