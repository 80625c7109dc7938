package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Every command that reads a plan refuses one whose types are none, and writes
// nothing.
func TestPlansAreCheckedAgainstTheTypeTable(t *testing.T) {
	dir := t.TempDir()
	plan := planFile(t, dir, "plan")
	data, err := os.ReadFile(plan)
	if err != nil {
		t.Fatal(err)
	}
	broken, out := filepath.Join(dir, "broken.json"), filepath.Join(dir, "out")
	if err := os.WriteFile(broken, bytes.Replace(data, []byte(`"source_type": "F16"`), []byte(`"source_type": "F61"`), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"show", broken}, {"diff", plan, broken}, {"diff", broken, plan}, {"verify", broken, realModel},
		{"export", broken, "--to", "llama-quantize", "-o", out}, {"export", broken, "--to", "html", "-o", out},
		{"simulate", broken, realModel, "-o", out}, {"apply", broken, realModel, "--imatrix", realImatrix, "-o", out},
	} {
		var stdout, stderr bytes.Buffer
		code := run(context.Background(), args, strings.NewReader(""), &stdout, &stderr)
		if code != exitTrouble || stdout.Len() > 0 || !strings.Contains(stderr.String(), `broken.json: tensors[0].source_type: "F61" is not a type`) {
			t.Errorf("%v: status %d\n%s%s", args, code, stdout.String(), stderr.String())
		}
		if _, err := os.Stat(out); err == nil {
			t.Fatalf("%v wrote %s", args, out)
		}
	}
}
