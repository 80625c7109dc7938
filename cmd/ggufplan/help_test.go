package main

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func helpOf(t *testing.T, args ...string) string {
	t.Helper()
	var out, errOut strings.Builder
	if code := run(context.Background(), args, strings.NewReader(""), &out, &errOut); code != exitDone {
		t.Fatalf("%v: status %d: %s", args, code, errOut.String())
	}
	return out.String()
}

// Every line of help fits 100 columns, every flag is there once, groups name
// flags that there are, and no value goes by the name of a Go type.
func TestHelp(t *testing.T) {
	pages := map[string]string{"": helpOf(t, "--help"), "words": helpOf(t, "help", "words")}
	for _, cmd := range commands() {
		page := helpOf(t, cmd.name, "--help")
		pages[cmd.name] = page
		flags, _ := cmd.flagSet()
		_, list, _ := strings.Cut(page, "flags:\n")
		flags.VisitAll(func(f *pflag.Flag) {
			if got := len(regexp.MustCompile(`(?m)^  (-\w, |    )--`+f.Name+`\b[^-]`).FindAllString(list, -1)); got != 1 && !f.Hidden {
				t.Errorf("%s: --%s is there %d times", cmd.name, f.Name, got)
			}
			if name, _ := pflag.UnquoteUsage(f); slices.Contains([]string{"string", "strings", "stringArray", "int", "uint", "float"}, name) {
				t.Errorf("%s: --%s %s says nothing of its value", cmd.name, f.Name, name)
			}
		})
		for _, group := range cmd.groups {
			for _, name := range group.flags {
				if flags.Lookup(name) == nil {
					t.Errorf("%s: the group %q names --%s, which it has not", cmd.name, group.title, name)
				}
			}
		}
		if len(cmd.groups) > 0 && !strings.Contains(page, "\ncommon flags:\n") {
			t.Errorf("%s: help has groups and no common flags", cmd.name)
		}
	}
	for name, page := range pages {
		for _, line := range strings.Split(page, "\n") {
			if len([]rune(line)) > helpWidth {
				t.Errorf("%s: %d columns: %s", name, len([]rune(line)), line)
			}
		}
	}
	for _, word := range []string{"fused plan", "split plan", "base", "activation", "damage", "bound, gap", "deff"} {
		if !strings.Contains(pages["words"], "  "+word) {
			t.Errorf("help words does not explain %q", word)
		}
	}
}

func TestColour(t *testing.T) {
	plain := helpOf(t, "inspect", realModel)
	if strings.Contains(plain, "\x1b") || strings.Contains(helpOf(t, "inspect", realModel, "--color", "never"), "\x1b") {
		t.Error("colour where nobody reads")
	}
	t.Setenv("NO_COLOR", "1")
	coloured := helpOf(t, "inspect", realModel, "--color=always")
	if n := strings.Count(coloured, "\x1b[1m"); n < 4 || n != strings.Count(coloured, "\x1b[0m") {
		t.Errorf("%d headings stand out", n)
	}
	if regexp.MustCompile("\x1b\\[[0-9]*m").ReplaceAllString(coloured, "") != plain {
		t.Error("colour changes the text")
	}
	var out, errOut strings.Builder
	if code := run(context.Background(), []string{"inspect", "no-such.gguf", "--color", "always"}, strings.NewReader(""), &out, &errOut); code != exitTrouble || !strings.HasPrefix(errOut.String(), "ggufplan: \x1b[31merror\x1b[0m: ") {
		t.Errorf("status %d: %q", code, errOut.String())
	}
	errOut.Reset()
	if code := run(context.Background(), []string{"inspect", realModel, "--color", "sometimes"}, strings.NewReader(""), &out, &errOut); code != exitTrouble || !strings.Contains(errOut.String(), "not one of auto, always, never") {
		t.Errorf("status %d: %q", code, errOut.String())
	}
}
