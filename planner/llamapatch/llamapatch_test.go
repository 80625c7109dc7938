package llamapatch

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio/gguftest/llamacpp"
)

// tree writes a folder that has the words the lines are put beside, and
// nothing else of llama.cpp.
func tree(t *testing.T, change func(files map[string]string)) string {
	t.Helper()
	files := map[string]string{"CMakeLists.txt": "set(LLAMA_VERSION_MAJOR 0)\nset(LLAMA_VERSION_MINOR 5)\nset(LLAMA_VERSION_PATCH 0)\n"}
	for _, x := range insertions {
		if !strings.Contains(files[x.file], x.anchor) {
			files[x.file] += "before\n" + x.within + "\nbetween\n\t" + x.anchor + "\nend\n"
		}
	}
	if change != nil {
		change(files)
	}
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func contents(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		b.WriteString(strings.TrimPrefix(path, dir) + "\n" + string(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestRefused(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		change     func(files map[string]string)
	}{
		{"another version", `is llama.cpp "0.6.0"`, func(f map[string]string) {
			f["CMakeLists.txt"] = strings.Replace(f["CMakeLists.txt"], "MINOR 5", "MINOR 6", 1)
		}},
		{"no version", "names no version", func(f map[string]string) { f["CMakeLists.txt"] = "project(x)\n" }},
		{"an anchor is missing", `no line has "sanity checks"`, func(f map[string]string) {
			f["src/llama-model-loader.cpp"] = strings.Replace(f["src/llama-model-loader.cpp"], "sanity", "other", 1)
		}},
		{"the place is missing", `no line has "void forward_mul_mat_id("`, func(f map[string]string) {
			f["ggml/src/ggml-cpu/repack.cpp"] = strings.Replace(f["ggml/src/ggml-cpu/repack.cpp"], "void", "int", 1)
		}},
		{"a file is missing", "no such file", func(f map[string]string) { delete(f, "src/llama-graph.cpp") }},
		{"some lines are there", "some of the lines", func(f map[string]string) {
			own, _ := lines.ReadFile("lines/loader-op.txt")
			f["src/llama-model-loader.cpp"] = strings.Replace(f["src/llama-model-loader.cpp"], "between\n", "between\n"+string(own), 1)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := tree(t, tt.change)
			before := contents(t, dir)
			if _, err := Prepare(dir); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
			if contents(t, dir) != before {
				t.Error("the tree changed")
			}
		})
	}
}

// Every line of ours is in the patched tree, every other line stays, and a
// second run finds nothing to do.
func TestWrite(t *testing.T) {
	dir := tree(t, nil)
	before := contents(t, dir)
	p, err := Prepare(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Write(); err != nil {
		t.Fatal(err)
	}
	after := contents(t, dir)
	for _, x := range insertions {
		own, err := lines.ReadFile("lines/" + x.lines + ".txt")
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(after, string(own)) {
			t.Errorf("%s: not in %s", x.lines, x.file)
		}
		after = strings.Replace(after, string(own), "", 1)
	}
	if after != before {
		t.Errorf("without our lines the tree is\n%s\nwas\n%s", after, before)
	}
	if _, err := Prepare(dir); !errors.Is(err, ErrPatched) {
		t.Errorf("a second run: %v", err)
	}
}

// The lines fit llama.cpp's own source: what they are put into compiles.
func TestSource(t *testing.T) {
	source := llamacpp.Source(t)
	dir := t.TempDir()
	for _, sub := range []string{"CMakeLists.txt", "src", "include", "ggml/include", "ggml/src"} {
		to := filepath.Join(dir, filepath.FromSlash(sub))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("cp", "-r", filepath.Join(source, filepath.FromSlash(sub)), to).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	p, err := Prepare(dir)
	if errors.Is(err, ErrPatched) {
		t.Fatal("the source of the tests is patched: give it as it was released")
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Write(); err != nil {
		t.Fatal(err)
	}
	compiler, err := exec.LookPath("c++")
	if err != nil {
		if os.Getenv(llamacpp.RequireEnv) != "" {
			t.Fatal("a C++ compiler is required and missing")
		}
		t.Skip("SKIPPED, NOT TESTED: no C++ compiler")
	}
	for _, f := range p.files {
		flags := []string{"-std=c++17"}
		switch {
		case strings.HasSuffix(f.name, ".h"):
			continue
		case strings.HasSuffix(f.name, ".c"):
			flags = []string{"-x", "c", "-std=c11", "-D_GNU_SOURCE"}
		}
		args := append(flags, "-fsyntax-only", "-Iinclude", "-Isrc", "-Iggml/include", "-Iggml/src", "-Iggml/src/ggml-cpu",
			`-DGGML_VERSION="test"`, `-DGGML_COMMIT="test"`, f.name)
		cmd := exec.Command(compiler, args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", f.name, err, out)
		}
	}
}
