package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// verify looks at the importance matrix that a file names, and with --data at
// its blocks.
func TestVerifyLooksFurther(t *testing.T) {
	dir := t.TempDir()
	plan := planFile(t, dir, "plan")
	out := filepath.Join(dir, "out.gguf")
	ggufplan(t, exitDone, "apply", plan, realModel, "--imatrix", realImatrix, "-q", "-o", out)
	if got := ggufplan(t, exitDone, "verify", plan, out, "--data"); !strings.Contains(got, "every block was read") {
		t.Errorf("verify --data prints %q", got)
	}
	recorded := filepath.Join(dir, "recorded.gguf")
	ggufplan(t, exitDone, "apply", plan, realModel, "--imatrix", realImatrix, "-q", "--record", "-o", recorded)
	if got := ggufplan(t, exitDone, "verify", plan, recorded); !strings.Contains(got, "ggufplan.plan_sha256") {
		t.Errorf("verify of a recorded plan prints %q", got)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	head := len(header(t, out))
	zeroed := filepath.Join(dir, "zeroed.gguf")
	if err := os.WriteFile(zeroed, append(data[:head:head], make([]byte, len(data)-head)...), 0o644); err != nil {
		t.Fatal(err)
	}
	ggufplan(t, exitDone, "verify", plan, zeroed)
	if got := ggufplan(t, exitFinding, "verify", plan, zeroed, "--data"); !strings.Contains(got, "is all zero bytes") {
		t.Errorf("verify --data of zeros prints %q", got)
	}
}
