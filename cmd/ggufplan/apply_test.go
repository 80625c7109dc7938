package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/gguftest/llamacpp"
	"github.com/ggufplan/ggufplan/planner/llamaquantize"
)

// quantized carries a plan out by the commands that export prints, with
// llama.cpp's programs, and returns the file.
func quantized(t *testing.T, plan, model string, imatrix ...string) string {
	t.Helper()
	tools := filepath.Dir(llamacpp.Tool(t, "llama-quantize"))
	dir := t.TempDir()
	// The path as typed goes into the file.
	for _, path := range append([]string{model}, imatrix...) {
		if err := os.Symlink(abs(t, path), filepath.Join(dir, filepath.Base(path))); err != nil {
			t.Fatal(err)
		}
	}
	script := ggufplan(t, exitDone, "export", plan, "--to", "llama-quantize", "-o", filepath.Join(dir, "rules.txt"),
		"--command", "--model", filepath.Base(model), "--out", "theirs.gguf")
	script = strings.ReplaceAll(script, filepath.Join(dir, "rules.txt"), "rules.txt")
	cmd := exec.Command("sh", "-e", "-c", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+tools+":"+os.Getenv("PATH"))
	if log, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, log)
	}
	return filepath.Join(dir, "theirs.gguf")
}

func abs(t *testing.T, path string) string {
	t.Helper()
	full, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return full
}

func modelOf(t *testing.T, path string) *ggufio.Model {
	t.Helper()
	m, err := ggufio.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// header returns the bytes before tensor data.
func header(t *testing.T, path string) []byte {
	t.Helper()
	m := modelOf(t, path)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data[:m.Files[0].DataOffsetBytes]
}

// The applied file has llama-quantize's header and size, whatever the base.
func TestAppliedHeadersAreLlamaQuantizes(t *testing.T) {
	t.Parallel()
	llamacpp.Tool(t, "llama-quantize")
	for _, ft := range llamaquantize.FileTypes() {
		t.Run(ft.Name, func(t *testing.T) {
			dir := t.TempDir()
			plan := planFile(t, dir, "plan", "--base", ft.Name)
			ours := filepath.Join(dir, "ours.gguf")
			ggufplan(t, exitDone, "apply", plan, realModel, "--imatrix", realImatrix, "-o", ours)
			sameHeader(t, ours, quantized(t, plan, realModel, realImatrix))
			ggufplan(t, exitDone, "verify", plan, ours)
		})
	}
}

func sameHeader(t *testing.T, ours, theirs string) {
	t.Helper()
	a, b := header(t, ours), header(t, theirs)
	if !bytes.Equal(a, b) {
		i := 0
		for i < min(len(a), len(b)) && a[i] == b[i] {
			i++
		}
		t.Errorf("the header differs from llama-quantize's at byte %d of %d and %d", i, len(a), len(b))
	}
	x, err := os.Stat(ours)
	if err != nil {
		t.Fatal(err)
	}
	y, err := os.Stat(theirs)
	if err != nil {
		t.Fatal(err)
	}
	if x.Size() != y.Size() {
		t.Errorf("%d bytes, llama-quantize wrote %d", x.Size(), y.Size())
	}
}

// Shards, one by one or together, hold what the single file does, and
// llama.cpp runs them.
func TestAppliedShards(t *testing.T) {
	dir := t.TempDir()
	plan := planFile(t, dir, "plan")
	whole := filepath.Join(dir, "whole.gguf")
	ggufplan(t, exitDone, "apply", plan, realModel, "--imatrix", realImatrix, "-o", whole)
	printed := ggufplan(t, exitDone, "apply", plan, realModel, "--imatrix", realImatrix, "-o", whole, "--sha256", "--no-check")
	if want := fmt.Sprintf("%x  %s\n", sha256.Sum256(bytesOf(t, whole)), whole); printed != want {
		t.Errorf("--sha256 prints %q, want %q", printed, want)
	}
	set, one := filepath.Join(dir, "set.gguf"), filepath.Join(dir, "one.gguf")
	ggufplan(t, exitDone, "apply", plan, realModel, "--imatrix", realImatrix, "-o", set, "--shards", "3")
	for i := 3; i > 0; i-- {
		ggufplan(t, exitDone, "apply", plan, realModel, "--imatrix", realImatrix, "-o", one, "--shards", "3", "--shard", fmt.Sprint(i), "--threads", "1")
		name := fmt.Sprintf("-%05d-of-00003.gguf", i)
		sameBytes(t, filepath.Join(dir, "set"+name), filepath.Join(dir, "one"+name))
	}
	first := filepath.Join(dir, "set-00001-of-00003.gguf")
	got, want := contents(t, first), contents(t, whole)
	if len(got) != len(want) {
		t.Fatalf("%d tensors in shards, %d in one file", len(got), len(want))
	}
	for name := range want {
		if !bytes.Equal(got[name], want[name]) {
			t.Errorf("tensor %s differs", name)
		}
	}
	ggufplan(t, exitDone, "verify", plan, first)
	llamacpp.Load(t)
	runs(t, first)
}

// contents returns every tensor's bytes.
func contents(t *testing.T, path string) map[string][]byte {
	t.Helper()
	m := modelOf(t, path)
	data, err := m.OpenData()
	if err != nil {
		t.Fatal(err)
	}
	defer data.Close()
	all := map[string][]byte{}
	for i := range m.Tensors {
		b := make([]byte, m.Tensors[i].SizeBytes)
		if err := data.ReadRange(&m.Tensors[i], 0, b); err != nil {
			t.Fatal(err)
		}
		all[m.Tensors[i].Name] = b
	}
	return all
}

func bytesOf(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func sameBytes(t *testing.T, a, b string) {
	t.Helper()
	if !bytes.Equal(bytesOf(t, a), bytesOf(t, b)) {
		t.Errorf("%s and %s differ", a, b)
	}
}

// applyRefused runs an apply that is refused, and says so without writing.
func applyRefused(t *testing.T, dir, want string, args ...string) {
	t.Helper()
	var out, errOut bytes.Buffer
	before, _ := filepath.Glob(filepath.Join(dir, "*"))
	if code := run(context.Background(), append([]string{"apply"}, args...), strings.NewReader(""), &out, &errOut); code != exitTrouble {
		t.Errorf("apply %v: status %d", args, code)
	}
	if !strings.Contains(errOut.String(), want) {
		t.Errorf("apply %v: said %q, want %q", args, errOut.String(), want)
	}
	if after, _ := filepath.Glob(filepath.Join(dir, "*")); len(after) != len(before) {
		t.Errorf("apply %v left %v", args, after)
	}
}

func TestApplyRefuses(t *testing.T) {
	dir := t.TempDir()
	plan := planFile(t, dir, "plan")
	out := filepath.Join(dir, "out.gguf")
	other := filepath.Join(dir, "other.gguf")
	data, err := os.ReadFile(realModel)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(other, append(data, make([]byte, 32)...), 0o644); err != nil {
		t.Fatal(err)
	}
	code := filepath.Join(filepath.Dir(realImatrix), "code.imatrix.gguf")
	applyRefused(t, dir, "another model", plan, other, "--imatrix", realImatrix, "-o", out)
	applyRefused(t, dir, "is not of the plan's statistics", plan, realModel, "--imatrix", code, "-o", out)
	applyRefused(t, dir, "which is not given", plan, realModel, "-o", out)
	applyRefused(t, dir, "is an input", plan, realModel, "--imatrix", realImatrix, "-o", plan)
	applyRefused(t, dir, "is an input", plan, realModel, "--imatrix", realImatrix, "-o", realModel)
	applyRefused(t, dir, "not a regular file", plan, realModel, "--imatrix", realImatrix, "-o", dir)
	applyRefused(t, dir, "no file 3 of 2", plan, realModel, "--imatrix", realImatrix, "-o", out, "--shards", "2", "--shard", "3")
	applyRefused(t, dir, "shards for 27 tensors", plan, realModel, "--imatrix", realImatrix, "-o", out, "--shards", "28")
}
