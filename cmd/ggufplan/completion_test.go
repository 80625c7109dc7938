package main

import (
	"os/exec"
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
	} {
		got := complete(t, script, tt.words...)
		slices.Sort(got)
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s completes to %v, want %v", strings.Join(tt.words, " "), got, tt.want)
		}
	}
}

// Every shell is offered every command and flag.
func TestCompletionIsComplete(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
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
