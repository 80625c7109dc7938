//go:build unix

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"golang.org/x/sys/unix"
)

// A pipe that has no other end keeps no command from heeding the first
// interrupt.
func TestInterruptedAtAPipe(t *testing.T) {
	const bundled = "../../testdata/bytemoe-2x8/"
	for _, args := range [][]string{
		{"stats", "PIPE"},
		{"show", "PIPE"},
		{"plan", bundled + "model-f16.gguf", "--stats", "PIPE"},
		{"plan", bundled + "model-f16.gguf", "--stats", bundled + "mix.imatrix.gguf", "-q", "-o", "PIPE"},
	} {
		pipe := filepath.Join(t.TempDir(), "pipe") // each its own: what was interrupted still waits
		if err := unix.Mkfifo(pipe, 0o600); err != nil {
			t.Fatal(err)
		}
		args[len(args)-1] = pipe
		ctx, cancel := context.WithCancel(context.Background())
		var stderr bytes.Buffer
		ended := make(chan int)
		go func() { ended <- run(ctx, args, nil, io.Discard, &stderr) }()
		time.AfterFunc(200*time.Millisecond, cancel)
		select {
		case code := <-ended:
			if code != exitTrouble || !strings.Contains(stderr.String(), "interrupted") {
				t.Errorf("%q ends with %d: %s", args, code, &stderr)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%q does not end", args)
		}
		cancel()
	}
}

// The umask decides about new files, a file that is replaced keeps its mode,
// and what a killed run left is gone.
func TestOutputFiles(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "out")
	c := &call{ctx: context.Background()}
	defer syscall.Umask(syscall.Umask(0o027))
	o := outputs{c: c}
	if err := o.write(target, []byte("a")); err != nil {
		t.Fatal(err)
	}
	left := strings.Replace(o.pending[0].temp.Name(), tempPID(), "-999999999"+tempSuffix, 1)
	if err := os.WriteFile(left, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := o.commit(); err != nil {
		t.Fatal(err)
	}
	wantMode(t, target, 0o640)
	if err := os.Chmod(target, 0o604); err != nil {
		t.Fatal(err)
	}
	if err := c.writeOutput(target, []byte("b")); err != nil {
		t.Fatal(err)
	}
	wantMode(t, target, 0o604)
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("%v %v", entries, err)
	}
}

func tempPID() string { return fmt.Sprintf("-%d%s", os.Getpid(), tempSuffix) }

func wantMode(t *testing.T, path string, want os.FileMode) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != want {
		t.Errorf("mode %v, want %v", info.Mode().Perm(), want)
	}
}

// A program whose standard output is closed has nowhere to put its product.
func TestClosedStandardOutput(t *testing.T) {
	buildsPrograms(t)
	program := builtProgram(t)
	const bundled = "testdata/bytemoe-2x8/"
	for redirection, want := range map[string]int{">&-": exitTrouble, ">/dev/null": exitDone} {
		cmd := exec.Command("sh", "-c", `"$0" "$@" `+redirection, program, "plan", bundled+"model-f16.gguf", "--stats", bundled+"mix.imatrix.gguf")
		cmd.Dir = "../.."
		out, _ := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != want || (want == exitTrouble) != strings.Contains(string(out), "standard output: is closed") {
			t.Errorf("%s ends with %d: %s", redirection, got, out)
		}
	}
}

// A model larger than the address space that the process may have is read: its
// header is all that is needed.
func TestLimitedAddressSpace(t *testing.T) {
	buildsPrograms(t)
	program := builtProgram(t)
	model, err := gguftest.ExtendHeader(t.TempDir(), "../../testdata/llama-quantize/qwen3-30b-a3b-bf16.gguf")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("sh", "-c", `ulimit -v 4000000 && "$0" inspect "$1"`, program, model).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "579 tensors") {
		t.Errorf("%v: %s", err, out)
	}
}

func builtProgram(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "ggufplan")
	build := exec.Command("go", "build", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return program
}
