package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
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

// TestOutputThroughLink: a link stays one, and what it leads to is replaced; an
// open file of a process is written to.
func TestOutputThroughLink(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := os.WriteFile(file, []byte("before"), 0o644); err != nil {
		t.Fatal(err)
	}
	switch err := os.Symlink("file", link); {
	case err != nil && runtime.GOOS == "windows":
		t.Skip(err) // which asks for a privilege
	case err != nil:
		t.Fatal(err)
	}
	write := func(target, content string) {
		t.Helper()
		o := outputs{c: &call{ctx: t.Context()}}
		defer o.discard()
		if err := o.write(target, []byte(content)); err != nil {
			t.Fatal(err)
		}
		if err := o.commit(); err != nil {
			t.Fatal(err)
		}
	}
	write(link, "after")
	info, err := os.Lstat(link)
	if got, _ := os.ReadFile(file); err != nil || info.Mode()&os.ModeSymlink == 0 || string(got) != "after" {
		t.Errorf("%v, mode %v, the file holds %q", err, info.Mode(), got)
	}
	dangling, circle := filepath.Join(dir, "dangling"), filepath.Join(dir, "circle")
	for link, to := range map[string]string{dangling: "new", circle: "circle"} {
		if err := os.Symlink(to, link); err != nil {
			t.Fatal(err)
		}
	}
	write(dangling, "new")
	if got, err := os.ReadFile(filepath.Join(dir, "new")); string(got) != "new" {
		t.Errorf("what a link led to, and was not there, holds %q, %v", got, err)
	}
	if _, err := (&outputs{c: &call{ctx: t.Context()}}).create(circle); err == nil || !strings.HasPrefix(err.Error(), circle+": ") {
		t.Errorf("links in a circle: %v", err)
	}
	if runtime.GOOS != "linux" {
		return
	}
	open, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	for _, folder := range []string{"/proc/self/fd", "/dev/fd"} {
		write(fmt.Sprintf("%s/%d", folder, open.Fd()), "wards")
	}
	opened, err := open.Stat()
	if now, _ := os.Stat(file); err != nil || !os.SameFile(opened, now) {
		t.Errorf("%v, or the open file was replaced", err)
	}
	if got, _ := os.ReadFile(file); string(got) != "afterwardswards" {
		t.Errorf("the open file holds %q", got)
	}
	if _, open, err := follow("/dev/stdout"); !open {
		t.Errorf("/dev/stdout is an ordinary link, %v", err)
	}
}
