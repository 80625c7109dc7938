package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// complete asks the generated bash script what may follow the words; the last
// is the one being typed.
func complete(t *testing.T, script string, words ...string) []string {
	t.Helper()
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bash, "-c", script+`
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _ggufplan; printf '%s\n' "${COMPREPLY[@]}"`, "bash")
	cmd.Args = append(cmd.Args, words...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.Fields(string(out))
}

func TestBashCompletion(t *testing.T) {
	script := ggufplan(t, exitDone, "completion", "bash")
	plan := planFile(t, t.TempDir(), "plan")
	dir, bin := t.TempDir(), t.TempDir()
	data, err := os.ReadFile(plan)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"m.gguf": nil, "p.json": data, "notes.txt": nil} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o777); err != nil {
		t.Fatal(err)
	}
	// This very test runs as ggufplan under that name.
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(bin, "ggufplan")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	t.Chdir(dir)
	for _, tt := range []struct {
		words []string
		want  []string
	}{
		{[]string{"ggufplan", "si"}, []string{"simulate"}},
		{[]string{"ggufplan", "plan", "--preset", "q"}, []string{"quality-focused"}},
		{[]string{"ggufplan", "plan", "--base", "Q4_K_"}, []string{"Q4_K_M", "Q4_K_S"}},
		{[]string{"ggufplan", "export", "--to", "ik"}, []string{"ik-llama"}},
		{[]string{"ggufplan", "verify", "--dry"}, []string{"--dry-run-log"}},
		{[]string{"ggufplan", "completion", "z"}, []string{"zsh"}},
		{[]string{"ggufplan", "completion", "p"}, []string{"powershell"}},
		{[]string{"ggufplan", "plan", "--fail-on", "unseen-experts,sca"}, []string{"unseen-experts,scarce-experts"}},
		{[]string{"ggufplan", "plan", "--types", "k,IQ4"}, []string{"k,IQ4_NL", "k,IQ4_XS"}},
		{[]string{"ggufplan", "plan", "--im"}, []string{"--imatrix"}},
		{[]string{"ggufplan", "inspect", "m"}, []string{"m.gguf"}},
		{[]string{"ggufplan", "plan", "--errors", ""}, []string{"folder", "p.json"}},
		{[]string{"ggufplan", "verify", ""}, []string{"folder", "m.gguf", "p.json"}},
		{[]string{"ggufplan", "show", "p.json", "--tensor", "blk.1.attn_q"}, []string{"blk.1.attn_q.weight", "blk.1.attn_q_norm.weight"}},
		{[]string{"ggufplan", "plan", "-o", "no"}, []string{"notes.txt"}},
	} {
		got := complete(t, script, tt.words...)
		slices.Sort(got)
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s completes to %v, want %v", strings.Join(tt.words, " "), got, tt.want)
		}
	}
}

// Fish offers a list's values alone and after a comma.
func TestFishCompletion(t *testing.T) {
	fish, err := exec.LookPath("fish")
	if err != nil && os.Getenv("GGUFPLAN_REQUIRE_FISH") != "" {
		t.Fatal("GGUFPLAN_REQUIRE_FISH is set, and there is no fish")
	}
	if err != nil {
		t.Skip("SKIPPED, NOT TESTED: no fish, which .ci/run installs")
	}
	script := ggufplan(t, exitDone, "completion", "fish")
	for typed, want := range map[string]string{
		"plan m.gguf --fail-on uns":                "unseen-experts",
		"plan m.gguf --fail-on unseen-experts,mos": "unseen-experts,mostly-cold",
		"plan m.gguf --types k,IQ4_X":              "k,IQ4_XS",
		"plan m.gguf --im":                         "--imatrix",
	} {
		out, err := exec.Command(fish, "-c", script+"\ncomplete -C 'ggufplan "+typed+"'").CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		got, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\t")
		if got != want {
			t.Errorf("%s completes to %q, want %s", typed, out, want)
		}
	}
}

// Every shell is offered every command and flag.
func TestCompletionIsComplete(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		script := ggufplan(t, exitDone, "completion", shell)
		for _, cmd := range commands() {
			if !strings.Contains(script, cmd.name) {
				t.Errorf("%s: no %s", shell, cmd.name)
			}
			flags, _ := cmd.flagSet()
			flags.VisitAll(func(f *pflag.Flag) {
				name := "--" + f.Name
				if shell == "fish" {
					name = "-l " + f.Name
				}
				if !strings.Contains(script, name) {
					t.Errorf("%s: no %s of %s", shell, name, cmd.name)
				}
			})
		}
	}
	ggufplan(t, exitTrouble, "completion", "tcsh")
}
