package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/quant"
)

// Space is looked at before the first byte: a plan of 6 TB is refused, and a dry
// run says so.
func TestApplyNeedsSpace(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	o := gguftest.MoE{Layers: 60, Experts: 384, Embd: 7168, FF: 12288, Sparse: true, Type: quant.BF16}
	if err := o.Builder().WriteFile(at("m.gguf")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at("counts.csv"), []byte("layer,expert,count\n0,0,1\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	ggufplan(t, exitDone, "plan", at("m.gguf"), "--stats", at("counts.csv"), "--experts", "384", "--hot-type", "Q8_0", "--warm-type", "Q8_0", "--cold-type", "Q8_0",
		"-q", "-o", at("p.json"))
	args := []string{"apply", at("p.json"), at("m.gguf"), "-o", at("out.gguf")}
	if got := ggufplan(t, exitDone, append(args, "--dry-run")...); !strings.Contains(got, "free there: too little\n") {
		t.Errorf("dry run: %s", got)
	}
	var errOut bytes.Buffer
	if code := run(context.Background(), args, strings.NewReader(""), &errOut, &errOut); code != exitTrouble || !strings.Contains(errOut.String(), "free there") {
		t.Errorf("status %d: %s", code, errOut.String())
	}
	if left, _ := filepath.Glob(at("out.gguf*")); left != nil {
		t.Errorf("left %v", left)
	}
}
