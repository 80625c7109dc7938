package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/ggufplan/ggufplan/ggufio/gguftest"
)

// terminal opens a terminal of some columns: its keyboard's end and its
// screen's.
func terminal(t *testing.T, columns uint16) (keyboard, screen *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil && os.Getenv("CI") != "" {
		t.Fatalf("a terminal is required: %v", err)
	}
	if err != nil {
		t.Skipf("SKIPPED, NOT TESTED: no terminal: %v", err)
	}
	t.Cleanup(func() { keyboard.Close() })
	fd := int(keyboard.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns}); err != nil {
		t.Fatal(err)
	}
	screen, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return keyboard, screen
}

// onTerminal returns what a command shows on a terminal, and its exit status.
func onTerminal(t *testing.T, columns uint16, env []string, args ...string) (string, int) {
	t.Helper()
	keyboard, screen := terminal(t, columns)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Args[0] = "ggufplan" // TestMain runs the program under this name
	cmd.Env = append(append(os.Environ(), "TERM=xterm"), env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = screen, screen, screen
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	screen.Close()
	var shown bytes.Buffer
	shown.ReadFrom(keyboard) // ends with an error when the last of the screen is closed
	_ = cmd.Wait()
	return strings.ReplaceAll(shown.String(), "\r\n", "\n"), cmd.ProcessState.ExitCode()
}

var escapes = regexp.MustCompile("\x1b\\[[0-9;]*[A-Za-z]")

// Every screen fits terminals of 80 and 200 columns, with colour, and without
// where NO_COLOR is set; hints, which are commands to copy, apart.
func TestScreensFitTheTerminal(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"model-f16.gguf", "mix.imatrix.gguf", "code.imatrix.gguf"} {
		if err := gguftest.CopyFile(filepath.Join(dir, name), filepath.Join("../../testdata/bytemoe-2x8", name)); err != nil {
			t.Fatal(err)
		}
	}
	deepseek, err := gguftest.ExtendHeader(dir, "../../testdata/llama-quantize/deepseek-v3-bf16.gguf")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	plan := func(name string, flags ...string) {
		ggufplan(t, exitDone, append([]string{"plan", "model-f16.gguf", "--imatrix", "mix.imatrix.gguf", "-q", "-o", name}, flags...)...)
	}
	plan("plan.json", "--like", "Q4_K_M")
	plan("old.json", "--like", "Q3_K_M")
	plan("tiers.json")
	ggufplan(t, exitDone, "plan", deepseek, "--target-bpw", "3", "--objective", "relative", "-q", "-o", "large.json")
	for _, line := range []string{
		"inspect model-f16.gguf", "inspect model-f16.gguf --tensors", "inspect " + deepseek,
		"stats mix.imatrix.gguf", "stats mix.imatrix.gguf --diff code.imatrix.gguf",
		"plan model-f16.gguf --imatrix mix.imatrix.gguf --like Q4_K_M", "plan model-f16.gguf --imatrix mix.imatrix.gguf --frontier",
		"show plan.json", "show plan.json --layer 0", "show plan.json --tensor blk.0.ffn_up_exps.weight", "show tiers.json", "show large.json",
		"diff old.json plan.json", "verify plan.json model-f16.gguf", "verify large.json " + deepseek,
		"simulate plan.json model-f16.gguf --stats mix.imatrix.gguf -o sim.gguf",
		"apply plan.json model-f16.gguf --imatrix mix.imatrix.gguf --dry-run -o planned.gguf",
		"--help", "plan --help", "help words", "plan no-such-model.gguf", "plan model-f16.gguf --target-size 12",
	} {
		for _, columns := range []int{80, 200} {
			os.Remove("sim.gguf")
			shown, _ := onTerminal(t, uint16(columns), []string{"NO_COLOR="}, strings.Fields(line)...)
			if len(shown) < 20 {
				t.Errorf("%s: shows %q", line, shown)
			}
			for _, row := range strings.Split(escapes.ReplaceAllString(shown, ""), "\n") {
				row = row[strings.LastIndex(row, "\r")+1:]
				if n := utf8.RuneCountInString(row); n > columns && !strings.HasPrefix(row, "ggufplan: hint: ") {
					t.Errorf("%s: %d columns where there are %d: %s", line, n, columns, row)
				}
			}
		}
	}
	coloured, _ := onTerminal(t, 80, []string{"NO_COLOR="}, "show", "plan.json")
	if !strings.Contains(coloured, "\x1b[1m") {
		t.Error("no heading stands out on a terminal")
	}
	if plain, _ := onTerminal(t, 80, []string{"NO_COLOR=1"}, "show", "plan.json"); escapes.MatchString(plain) {
		t.Error("colour in spite of NO_COLOR")
	}
	if shown, _ := onTerminal(t, 80, nil, "show", "plan.json", "--color", "never"); escapes.MatchString(shown) {
		t.Error("colour in spite of --color never")
	}
}

// On a terminal a plan is shown, with how to keep it, not poured out as JSON;
// progress says what is done and leaves nothing behind.
func TestTerminalManners(t *testing.T) {
	models, err := filepath.Abs("../../testdata/bytemoe-2x8")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	for _, name := range []string{"model-f16.gguf", "mix.imatrix.gguf"} {
		if err := gguftest.CopyFile(name, filepath.Join(models, name)); err != nil {
			t.Fatal(err)
		}
	}
	shown, code := onTerminal(t, 200, []string{"NO_COLOR=1"}, "plan", "model-f16.gguf", "--imatrix", "mix.imatrix.gguf", "--like", "Q4_K_M")
	if code != exitDone || !strings.Contains(shown, "hint: to keep it: ggufplan plan model-f16.gguf --imatrix mix.imatrix.gguf --like Q4_K_M -o plan.json") || strings.Contains(shown, "format_version") {
		t.Errorf("status %d: %s", code, shown)
	}
	shown, code = onTerminal(t, 80, []string{"NO_COLOR=1"}, "measure", "model-f16.gguf", "--imatrix", "mix.imatrix.gguf", "-o", "errors.json")
	if code != exitDone || !regexp.MustCompile(`measuring: [0-9.]+ % of [0-9.]+ M weights`).MatchString(shown) {
		t.Errorf("status %d: no progress in %q", code, shown)
	}
	rest := shown[strings.LastIndex(shown, "\x1b[K")+len("\x1b[K"):]
	if !strings.HasPrefix(rest, "errors.json: ") || strings.Count(rest, "\n") != 2 {
		t.Errorf("progress leaves %q", rest)
	}
	shown, code = onTerminal(t, 80, []string{"NO_COLOR=1"}, "plan", "model-f16.gguf", "--imatrix", "mix.imatrix.gguf", "--frontier")
	if code != exitDone || !strings.Contains(shown, "ggufplan: frontier: 0.0 % of 17 sizes") {
		t.Errorf("status %d: no progress in %q", code, shown)
	}
	if rest = shown[strings.LastIndex(shown, "\x1b[K")+len("\x1b[K"):]; !strings.Contains(rest, "budget ") || strings.Contains(rest, "frontier: ") {
		t.Errorf("progress leaves %q", rest)
	}
	// What comes next is a command to copy: one line, however long.
	shown, _ = onTerminal(t, 80, []string{"NO_COLOR=1"}, "plan", "model-f16.gguf", "--imatrix", "mix.imatrix.gguf", "-o", "plan.json")
	if want := "\nnext        ggufplan apply plan.json model-f16.gguf --imatrix mix.imatrix.gguf -o model-f16-planned.gguf\n"; !strings.Contains(shown, want) {
		t.Errorf("the next command is not on one line: %q", shown)
	}
}
