package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/quant"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"ggufplan": main})
}

// TestScripts runs the command line's specification. UPDATE=1 rewrites what
// the scripts compare with cmp.
//
// Beside testscript's own commands there are:
//
//	status N PROG ARGS...           PROG must end with exit status N
//	mkmodel FILE KEY=VALUE...       writes a small MoE model, see mkmodel
//	extend FILE                     extends testdata/llama-quantize/FILE to its full, sparse size, here
//
// $TESTDATA is the module's testdata folder.
func TestScripts(t *testing.T) {
	testdata, err := filepath.Abs("../../testdata")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       os.Getenv("UPDATE") != "",
		Setup: func(env *testscript.Env) error {
			env.Setenv("TESTDATA", testdata)
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"status":  status,
			"mkmodel": mkmodel,
			"extend":  extend,
		},
	})
}

// status runs a program that must end with a given exit status: testscript's
// own "!" only knows that it failed.
func status(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N PROG ARGS...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%s: %v", args[1], err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("%s ended with status %d, want %d", args[1], got, want)
	}
}

func extend(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: extend FILE")
	}
	_, err := gguftest.ExtendHeader(ts.MkAbs("."), filepath.Join(ts.Getenv("TESTDATA"), "llama-quantize", args[0]))
	ts.Check(err)
}

// mkmodel writes a model: the fields of gguftest.MoE are keys in lower case,
// and there are also
//
//	shards=N        FILE without .gguf is the prefix of N shards
//	imatrix=FILE    an imatrix of the model as well
//	counts=LIST     its counts: per expert with commas, layers apart by "/", the
//	                last for all further layers, "-" for a layer without entries;
//	                by default expert e has 1000/(e+1) rounded to whole tokens
func mkmodel(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: mkmodel FILE KEY=VALUE...")
	}
	var o gguftest.MoE
	shards, imatrix, counts := 1, "", ""
	for _, arg := range args[1:] {
		key, value, ok := strings.Cut(arg, "=")
		if !ok {
			ts.Fatalf("mkmodel: %q is not KEY=VALUE", arg)
		}
		number := func() int {
			n, err := strconv.Atoi(value)
			ts.Check(err)
			return n
		}
		switch key {
		case "arch":
			o.Arch = value
		case "name":
			o.Name = value
		case "layers":
			o.Layers = number()
		case "dense":
			o.Dense = number()
		case "mtp":
			o.MTP = number()
		case "experts":
			o.Experts = number()
		case "used":
			o.Used = number()
		case "shared":
			o.Shared = number()
		case "embd":
			o.Embd = number()
		case "ff":
			o.FF = number()
		case "vocab":
			o.Vocab = number()
		case "separate":
			o.Separate = number() != 0
		case "gateup":
			o.GateUp = number() != 0
		case "tied":
			o.Tied = number() != 0
		case "sparse":
			o.Sparse = number() != 0
		case "type":
			f, ok := quant.ByName(value)
			if !ok {
				ts.Fatalf("mkmodel: there is no type %s", value)
			}
			o.Type = f.Type
		case "shards":
			shards = number()
		case "imatrix":
			imatrix = value
		case "counts":
			counts = value
		default:
			ts.Fatalf("mkmodel: there is no key %s", key)
		}
	}
	b, path := o.Builder(), ts.MkAbs(args[0])
	if shards > 1 {
		_, err := b.WriteShards(filepath.Dir(path), strings.TrimSuffix(filepath.Base(path), ".gguf"), shards)
		ts.Check(err)
	} else {
		ts.Check(b.WriteFile(path))
	}
	if imatrix != "" {
		perLayer, err := parseCounts(counts, o)
		ts.Check(err)
		ts.Check(o.Imatrix(perLayer).WriteFile(ts.MkAbs(imatrix)))
	}
}

func parseCounts(s string, o gguftest.MoE) (func(layer int) []float32, error) {
	if s == "" {
		experts, used := o.Experts, o.Used
		if experts == 0 {
			experts = 4
		}
		if used == 0 {
			used = min(2, experts)
		}
		counts := make([]float32, experts)
		sum := 0
		for e := range counts {
			counts[e] = float32(1000 / (e + 1))
			sum += 1000 / (e + 1)
		}
		// Every token has "used" experts, so the sum must divide.
		if rest := sum % used; rest != 0 {
			counts[experts-1] += float32(used - rest)
		}
		return func(int) []float32 { return counts }, nil
	}
	var layers [][]float32
	for _, list := range strings.Split(s, "/") {
		if list == "-" {
			layers = append(layers, nil)
			continue
		}
		var counts []float32
		for _, item := range strings.Split(list, ",") {
			n, err := strconv.ParseFloat(item, 32)
			if err != nil {
				return nil, err
			}
			counts = append(counts, float32(n))
		}
		layers = append(layers, counts)
	}
	return func(layer int) []float32 { return layers[min(layer, len(layers)-1)] }, nil
}

// TestHelpExamples runs every "$ ggufplan" line that a command's help shows,
// beside a copy of testdata/bytemoe-2x8, and compares what it prints with the
// lines that follow. A line "..." stands for any lines.
func TestHelpExamples(t *testing.T) {
	dir := t.TempDir()
	files, err := filepath.Glob("../../testdata/bytemoe-2x8/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if err := gguftest.CopyFile(filepath.Join(dir, filepath.Base(file)), file); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	for _, cmd := range commands() {
		t.Run(cmd.name, func(t *testing.T) {
			examples := 0
			lines := strings.Split(cmd.long, "\n")
			for i := 0; i < len(lines); i++ {
				if strings.HasPrefix(lines[i], "  $ ") {
					examples++
				}
				line, ok := strings.CutPrefix(lines[i], "  $ ggufplan ")
				if !ok {
					continue // for a shell
				}
				for strings.HasSuffix(line, " \\") && i+1 < len(lines) {
					i++
					line = strings.TrimSuffix(line, "\\") + lines[i]
				}
				var want []string
				for i+1 < len(lines) && strings.HasPrefix(lines[i+1], "  ") && !strings.HasPrefix(lines[i+1], "  $ ") {
					i++
					want = append(want, lines[i][2:])
				}
				var out, errOut strings.Builder
				code := run(context.Background(), strings.Fields(line), strings.NewReader(""), &out, &errOut)
				if code == exitTrouble {
					t.Errorf("ggufplan %s: status %d: %s", line, code, errOut.String())
					continue
				}
				got := strings.Split(strings.TrimRight(out.String()+errOut.String(), "\n"), "\n")
				if len(want) > 0 && !matchLines(want, got) {
					t.Errorf("ggufplan %s prints\n%s\nhelp says\n%s", line, strings.Join(got, "\n"), strings.Join(want, "\n"))
				}
			}
			if examples == 0 {
				t.Error("the help has no worked example, a line that begins with \"  $ \"")
			}
		})
	}
}

// matchLines reports whether got is want, in which "..." stands for any lines.
func matchLines(want, got []string) bool {
	switch {
	case len(want) == 0:
		return len(got) == 0
	case strings.TrimSpace(want[0]) == "...":
		for i := range len(got) + 1 {
			if matchLines(want[1:], got[i:]) {
				return true
			}
		}
		return false
	case len(got) == 0 || strings.TrimRight(want[0], " ") != got[0]:
		return false
	}
	return matchLines(want[1:], got[1:])
}

func TestMatchLines(t *testing.T) {
	want := []string{"a", "...", "d"}
	if !matchLines(want, []string{"a", "b", "c", "d"}) || !matchLines(want, []string{"a", "d"}) {
		t.Error("dots do not stand for any lines")
	}
	if matchLines(want, []string{"a", "b", "c"}) || matchLines(want, []string{"a", "b", "d", "e"}) {
		t.Error("dots stand for what is not there")
	}
}
