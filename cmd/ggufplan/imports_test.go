package main

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const modulePath = "github.com/ggufplan/ggufplan"

// arrows says which packages of the module each may import, the command apart,
// which may import all. ggufio/gguftest is for tests, which may use it anywhere.
var arrows = map[string][]string{
	"ggufio/quant":                  {},
	"ggufio":                        {"ggufio/quant"},
	"ggufio/gguftest":               {"ggufio", "ggufio/quant"},
	"ggufio/gguftest/llamacpp":      {"ggufio", "ggufio/quant"},
	"stats":                         {"ggufio", "ggufio/quant"},
	"stats/read":                    {"stats", "ggufio", "ggufio/quant"},
	"stats/pace":                    {"ggufio/quant"},
	"stats/pace/pacetest":           {"stats/pace"},
	"stats/measure":                 {"stats", "stats/pace", "ggufio", "ggufio/quant"},
	"planner/manifest":              {},
	"planner/manifest/manifesttest": {"planner/manifest"},
	"planner/frequency":             {"ggufio/quant"},
	"planner/llamaquantize":         {"ggufio", "ggufio/quant", "stats", "planner/manifest"},
	"planner/memory":                {"ggufio", "ggufio/quant", "planner/llamaquantize"},
	"planner":                       {"ggufio", "ggufio/quant", "stats", "stats/measure", "planner/frequency", "planner/llamaquantize", "planner/manifest", "planner/memory"},
	"planner/review":                {"planner/manifest", "ggufio/quant"},
	"planner/review/picture":        {"planner/review"},
	"planner/export":                {"planner/llamaquantize", "planner/manifest", "planner/review", "ggufio/quant", "stats"},
	"planner/verify":                {"ggufio", "ggufio/quant", "stats/measure", "planner/llamaquantize", "planner/manifest"},
	"planner/apply":                 {"ggufio", "ggufio/quant", "stats", "stats/measure", "stats/pace", "planner/llamaquantize", "planner/manifest", "planner/verify"},
	"planner/simulate":              {"ggufio", "ggufio/quant", "stats", "planner/apply", "planner/manifest", "planner/verify"},
	"planner/llamapatch":            {},
	"planner/probe":                 {"ggufio", "ggufio/quant", "stats", "stats/measure", "stats/pace", "planner", "planner/apply", "planner/llamaquantize", "planner/manifest"},
}

// foreign says which imports from outside the standard library a package may
// have, where that is limited.
var foreign = map[string][]string{
	"planner/manifest":      {},
	"ggufio/quant":          {"golang.org/x/sys/cpu"}, // which vector instructions there are
	"planner":               {},
	"planner/frequency":     {},
	"planner/llamaquantize": {},
	"planner/export":        {},
	"planner/memory":        {},
	"planner/verify":        {},
	"planner/apply":         {},
	"planner/simulate":      {},
	"planner/llamapatch":    {},
	"planner/probe":         {},
}

// pure packages neither touch files nor know the time.
var pure = map[string][]string{
	"planner/frequency":     {"os", "time", "math/rand", "math/rand/v2", "net", "os/exec", "io/ioutil"},
	"planner/llamaquantize": {"os", "time", "math/rand", "math/rand/v2", "net", "os/exec", "io/ioutil"},
	"planner":               {"os", "time", "math/rand", "math/rand/v2", "net", "os/exec", "io/ioutil"},
	"planner/memory":        {"os", "time", "math/rand", "math/rand/v2", "net", "os/exec", "io/ioutil"},
	"planner/manifest":      {"os", "time", "math/rand", "math/rand/v2", "net", "os/exec", "io/ioutil"},
	"ggufio/quant":          {"os", "time", "math/rand", "math/rand/v2", "net", "os/exec", "io/ioutil"},
}

// TestImports parses every source file: packages depend on each other in one
// direction only.
func TestImports(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	err = filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if file != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "node_modules") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		rel, err := filepath.Rel(root, filepath.Dir(file))
		if err != nil {
			return err
		}
		pkg := owner(filepath.ToSlash(rel))
		seen[pkg] = true
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		if f.Name.Name == "main" && !strings.HasPrefix(pkg, "cmd/") {
			return nil // makes tables for a package and is no part of the program
		}
		for _, spec := range f.Imports {
			target, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if fault := forbidden(pkg, target); fault != "" {
				t.Errorf("%s: imports %s: %s", path.Join(filepath.ToSlash(rel), name), target, fault)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !seen["planner"] || !seen["cmd/ggufplan"] {
		t.Error("the walk missed the module's packages")
	}
}

// TestPackageDocs wants a document of each package, in one file, that a reader
// takes in at a glance.
func TestPackageDocs(t *testing.T) {
	lines := map[string]int{}
	err := filepath.WalkDir("../..", func(file string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && file != "../.." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "node_modules") {
			return fs.SkipDir
		}
		if err != nil || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.PackageClauseOnly|parser.ParseComments)
		if err == nil {
			lines[path.Dir(filepath.ToSlash(file))] += strings.Count(f.Doc.Text(), "\n")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for folder, n := range lines {
		if n < 2 || n >= 30 {
			t.Errorf("%s: the package's document has %d lines, want 2 to 29", folder, n)
		}
	}
}

// owner folds a package's internal folders into it.
func owner(pkg string) string {
	if i := strings.Index(pkg+"/", "/internal/"); i >= 0 {
		return pkg[:i]
	}
	return pkg
}

// forbidden returns why a package may not import another, or "".
func forbidden(pkg, target string) string {
	if slices.Contains(pure[pkg], target) {
		return "the package is a pure function of its input"
	}
	inside, ok := strings.CutPrefix(target, modulePath+"/")
	if !ok {
		if allowed, limited := foreign[pkg]; limited && strings.Contains(strings.Split(target, "/")[0], ".") && !slices.Contains(allowed, target) {
			return "the package has the standard library alone"
		}
		return ""
	}
	if strings.HasPrefix(pkg, "cmd/") {
		if strings.HasPrefix(inside, "ggufio/gguftest") || inside == "planner/manifest/manifesttest" || inside == "stats/pace/pacetest" {
			return "that is for tests"
		}
		return ""
	}
	allowed, known := arrows[pkg]
	if !known {
		return "the package is not in the list of arrows"
	}
	if inside = owner(inside); inside != pkg && !slices.Contains(allowed, inside) {
		return "that arrow does not exist"
	}
	return ""
}

// TestFrequencyClosure keeps everything that a running system does not want in
// its binary out of the allocator's: not only from its own imports.
func TestFrequencyClosure(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", modulePath+"/planner/frequency").Output()
	if err != nil {
		t.Fatal(err)
	}
	packages := strings.Fields(string(out))
	if !slices.Contains(packages, modulePath+"/ggufio/quant") {
		t.Fatalf("its imports are %v", packages)
	}
	for _, p := range packages {
		if p == "net" || strings.HasPrefix(p, "net/") || p == "crypto/tls" || p == "os/exec" {
			t.Errorf("planner/frequency reaches %s", p)
		}
	}
}

func TestForbidden(t *testing.T) {
	for _, tt := range []struct {
		pkg, target string
		want        bool
	}{
		{"planner", modulePath + "/stats", false},
		{"stats", modulePath + "/planner", true},
		{"planner/manifest", modulePath + "/ggufio/quant", true},
		{"planner/manifest", "gonum.org/v1/gonum/stat", true},
		{"planner", "os", true},
		{"ggufio", "os", false},
		{"ggufio/quant", modulePath + "/ggufio/quant/internal/grid", false},
		{"stats", modulePath + "/ggufio/gguftest", true},
		{"cmd/ggufplan", modulePath + "/ggufio/gguftest", true},
		{"cmd/ggufplan", modulePath + "/planner/manifest/manifesttest", true},
		{"cmd/ggufplan", modulePath + "/planner/verify", false},
		{"planner/newcomer", modulePath + "/stats", true},
	} {
		if got := forbidden(tt.pkg, tt.target); (got != "") != tt.want {
			t.Errorf("%s imports %s: %q", tt.pkg, tt.target, got)
		}
	}
}
