package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio/gguftest/llamacpp"
	"github.com/ggufplan/ggufplan/planner/manifest"
)

// TestLegacyImatrix has llama-quantize carry out a plan made with an imatrix of
// the old format: the command line names it, types that need one are written,
// and the file has the planned size.
func TestLegacyImatrix(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, content string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	legacy, err := os.ReadFile("../../testdata/bytemoe-2x8/mix.imatrix.dat")
	if err != nil {
		t.Fatal(err)
	}
	write("mix.dat", string(legacy))
	write("counts.json", `{"logical_count":[[9000,8000,7000,6000,5000,4500,500,400],[400,500,9000,8000,7000,6000,5000,4500]]}`)
	planPath, rulesPath := filepath.Join(dir, "plan.json"), filepath.Join(dir, "rules.txt")
	ggufplan(t, exitDone, "plan", realModel, "--stats", filepath.Join(dir, "counts.json"), "--stats", filepath.Join(dir, "mix.dat"),
		"--hot-type", "IQ2_XS", "--warm-type", "IQ2_XS", "--cold-type", "IQ2_XS", "-q", "-o", planPath)
	command := ggufplan(t, exitDone, "export", planPath, "--to", "llama-quantize", "--command", "-o", rulesPath)
	if !strings.Contains(command, " --imatrix mix.dat ") {
		t.Fatalf("the command line does not name the imatrix: %s", command)
	}
	content, err := os.ReadFile(planPath)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := manifest.Decode(content)
	if err != nil {
		t.Fatal(err)
	}
	tool := llamacpp.Tool(t, "llama-quantize")
	model, err := filepath.Abs(realModel)
	if err != nil {
		t.Fatal(err)
	}
	run := exec.Command(tool, "--imatrix", "mix.dat", "--tensor-type-file", "rules.txt", model, "out.gguf", "Q2_K")
	run.Dir = dir
	if log, err := run.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	out := filepath.Join(dir, "out.gguf")
	info, err := os.Stat(out)
	if err != nil {
		t.Fatal(err)
	}
	if uint64(info.Size()) != *plan.Totals.PlannedFileBytes {
		t.Errorf("llama-quantize wrote %d bytes, planned were %d", info.Size(), *plan.Totals.PlannedFileBytes)
	}
	ggufplan(t, exitDone, "verify", planPath, out)
}
