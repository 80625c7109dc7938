package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A fullDisk takes nothing.
type fullDisk struct{}

func (fullDisk) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	return 0, errors.New("no space left on device")
}

// TestFullStandardOutput wants a run that could not print what it had to print
// to leave no file.
func TestFullStandardOutput(t *testing.T) {
	const bundled = "../../testdata/bytemoe-2x8/"
	dir := t.TempDir()
	plan := filepath.Join(dir, "plan.json")
	if code := run(context.Background(), []string{"plan", bundled + "model-f16.gguf", "--stats", bundled + "mix.imatrix.gguf", "-q", "-o", plan}, nil, fullDisk{}, os.Stderr); code != exitDone {
		t.Fatalf("plan ends with %d", code)
	}
	out := filepath.Join(dir, "out")
	for _, args := range [][]string{
		{"stats", bundled + "mix.imatrix.gguf", "-o", out},
		{"stats", bundled + "mix.imatrix.gguf", "--json", "-o", out},
		{"export", plan, "--to", "llama-quantize", "--command", "-o", out},
	} {
		var stderr bytes.Buffer
		code := run(context.Background(), args, nil, fullDisk{}, &stderr)
		if code != exitTrouble || strings.Count(stderr.String(), "no space left on device") != 1 {
			t.Errorf("%q ends with %d, %q", args, code, stderr.String())
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "*out*")); left != nil {
			t.Errorf("%q leaves %q", args, left)
		}
	}
}
