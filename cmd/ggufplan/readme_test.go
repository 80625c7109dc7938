package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio/gguftest"
)

// TestReadme runs every "$ ggufplan" line of the README's console blocks and
// compares what it prints with the lines that follow. A line "..." stands for
// any lines.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	repository, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join(repository, "testdata"), filepath.Join(dir, "testdata")); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("../../testdata/bytemoe-2x8/*.gguf")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if err := gguftest.CopyFile(filepath.Join(dir, filepath.Base(file)), file); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	ran := 0
	blocks := strings.Split(string(readme), "```console\n")
	for _, block := range blocks[1:] {
		block, _, _ = strings.Cut(block, "```")
		lines := strings.Split(strings.TrimRight(block, "\n"), "\n")
		line := strings.Replace(lines[0], "$ go run ./cmd/ggufplan ", "$ ggufplan ", 1)
		args, ok := strings.CutPrefix(line, "$ ggufplan ")
		if !ok {
			continue // for another program
		}
		ran++
		var out, errOut strings.Builder
		if code := run(context.Background(), strings.Fields(args), strings.NewReader(""), &out, &errOut); code != exitDone {
			t.Errorf("%s: status %d: %s", line, code, errOut.String())
			continue
		}
		got := strings.Split(strings.TrimRight(out.String()+errOut.String(), "\n"), "\n")
		if !matchLines(lines[1:], got) {
			t.Errorf("%s prints\n%s\nthe README says\n%s", line, strings.Join(got, "\n"), strings.Join(lines[1:], "\n"))
		}
	}
	if ran < 3 {
		t.Errorf("only %d of the README's commands ran", ran)
	}
}
