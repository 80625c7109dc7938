package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio/gguftest/llamacpp"
)

// A shellLine is a command of a document and what the document says it prints.
type shellLine struct {
	command string
	want    []string
}

// consoleBlocks returns the commands of each console block, in order.
func consoleBlocks(document string) [][]shellLine {
	var list [][]shellLine
	for _, block := range strings.Split(document, "```console\n")[1:] {
		block, _, _ = strings.Cut(block, "```")
		var lines []shellLine
		for _, line := range strings.Split(strings.TrimRight(block, "\n"), "\n") {
			if command, ok := strings.CutPrefix(line, "$ "); ok {
				lines = append(lines, shellLine{command: command})
			} else if n := len(lines); n > 0 {
				lines[n-1].want = append(lines[n-1].want, line)
			}
		}
		list = append(list, lines)
	}
	return list
}

// TestReadme runs every command of the README's console blocks in one shell
// that begins where the README does, and compares what each prints with the
// lines that follow it. A line "..." stands for any lines. Blocks that need
// llama.cpp's programs are left out where there are none.
func TestReadme(t *testing.T) {
	buildsPrograms(t)
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	repository, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	clone, bin := t.TempDir(), t.TempDir()
	if err := os.Symlink(filepath.Join(repository, "testdata"), filepath.Join(clone, "testdata")); err != nil {
		t.Fatal(err)
	}
	blocks := consoleBlocks(string(readme))
	usesLlama := regexp.MustCompile(`\bllama-(imatrix|perplexity|quantize) |run\.sh`)
	programs := ""
	t.Run("llama.cpp", func(t *testing.T) { programs = filepath.Dir(llamacpp.Tool(t, "llama-quantize")) })
	// The clone's modules are the repository's: go runs there.
	script := "go() { (cd '" + repository + "' && command go \"$@\"); }\n"
	var lines []shellLine
	for _, block := range blocks {
		text := ""
		for _, line := range block {
			text += line.command + "\n"
		}
		if programs == "" && usesLlama.MatchString(text) {
			continue
		}
		lines = append(lines, block...)
	}
	if len(lines) < 15 {
		t.Errorf("only %d of the README's commands ran", len(lines))
	}
	const mark = "\x01"
	for _, line := range lines {
		script += line.command + "\nprintf '" + mark + "%d\\n' $?\n"
	}
	cmd := exec.Command("bash", "-c", script)
	cmd.Dir = clone
	cmd.Env = append(os.Environ(), "GOBIN="+bin, "GOFLAGS=-buildvcs=false", "PATH="+strings.Join([]string{bin, programs, os.Getenv("PATH")}, ":"))
	printed, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("bash: %v\n%s", err, printed)
	}
	outputs := strings.Split(string(printed), mark)
	for i, line := range lines {
		if i+1 >= len(outputs) {
			t.Fatalf("the shell ended before %s", line.command)
		}
		status, _, _ := strings.Cut(outputs[i+1], "\n")
		_, printed, _ := strings.Cut(fmt.Sprint("\n", outputs[i]), "\n")
		if i > 0 {
			_, printed, _ = strings.Cut(outputs[i], "\n")
		}
		if status != "0" {
			t.Errorf("%s: status %s:\n%s", line.command, status, printed)
			continue
		}
		if got := strings.Split(strings.TrimRight(printed, "\n"), "\n"); len(line.want) > 0 && !matchLines(line.want, got) {
			t.Errorf("%s prints\n%s\nthe README says\n%s", line.command, strings.Join(got, "\n"), strings.Join(line.want, "\n"))
		}
	}
	// The picture in the README is the one that its command draws.
	drawn, err := os.ReadFile(filepath.Join(clone, "try", "frontier.svg"))
	if err != nil {
		t.Fatal(err)
	}
	const picture = "../../testdata/bytemoe-2x8/frontier.svg"
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(picture, drawn, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if kept, _ := os.ReadFile(picture); string(kept) != string(drawn) {
		t.Errorf("%s is not what the README's command draws; UPDATE=1 rewrites it", picture)
	}
}
