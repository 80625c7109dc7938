// Package llamapatch inserts the lines that let llama.cpp v0.5.0 run models
// whose experts lie in tiers: several tensors per projection and a table that
// says where each expert is.
//
// Every insertion has a place: a line that holds a few words, the first after
// a line that holds others. [Prepare] finds all places and changes nothing; a
// [Patch] shows itself as a diff without context, which holds none of
// llama.cpp's own lines, or writes the files. No line is removed.
package llamapatch

import (
	"embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Version is the llama.cpp whose source the lines belong in.
const Version = "0.5.0"

// maxFileBytes bounds a source file. The largest of them has 0.3 MB.
const maxFileBytes = 16 << 20

//go:embed lines/*.txt
var lines embed.FS

// An insertion puts the lines of a file of ours into a file of llama.cpp's.
type insertion struct {
	file   string
	within string // on a line before the place; "" for none
	anchor string // on the line beside which ours go
	after  bool
	lines  string // in the folder lines
}

// insertions lists them by file, and in a file's own order.
var insertions = []insertion{
	{"src/llama-hparams.h", "", "struct llama_hparams {", false, "hparams-types"},
	{"src/llama-hparams.h", "", "struct llama_hparams {", true, "hparams-field"},
	{"src/llama-model.h", "struct llama_model {", "llama_hparams hparams", true, "model-field"},
	{"src/llama-model.cpp", "llama_model_base::create_tensor(llama_model_loader", "buft_list_layer", true, "model-hook"},
	{"src/llama-model-loader.cpp", "llama_model_loader::create_tensor(", "sanity checks", false, "loader-op"},
	{"src/llama-graph.cpp", "llm_graph_context::build_lora_mm_id(", "ggml_mul_mat_id", true, "graph-product"},
	{"ggml/src/ggml-cpu/ggml-cpu.c", "static void ggml_compute_forward_mul_mat_id(", "i02 >= 0", false, "cpu-empty-slot"},
	{"ggml/src/ggml-cpu/repack.cpp", "void forward_mul_mat_id(", "i02 >= 0", false, "repack-empty-slot"},
}

// Reasons not to patch a tree.
var (
	ErrPatched = errors.New("the tree has the lines already")
	ErrPartly  = errors.New("has some of the lines already, and others not: start from a fresh tree")
)

// A Patch is a set of changed files that can be shown or written.
type Patch struct {
	dir   string
	files []changed
}

type changed struct {
	name    string // within the tree, with slashes
	content string
	diff    string
	lines   int
}

// Lines returns how many lines are inserted, and into how many files.
func (p *Patch) Lines() (lines, files int) {
	for i := range p.files {
		lines += p.files[i].lines
	}
	return lines, len(p.files)
}

// Prepare finds where the lines go in the source tree dir. Its error is
// ErrPatched where all are there already.
func Prepare(dir string) (*Patch, error) {
	if err := checkVersion(dir); err != nil {
		return nil, err
	}
	p := &Patch{dir: dir}
	present := 0
	var first error
	for i := 0; i < len(insertions); {
		name := insertions[i].file
		text, err := read(dir, name)
		if err != nil {
			return nil, err
		}
		f := changed{name: name}
		at, old := 0, 0 // what is done of text: bytes, lines
		var out strings.Builder
		for ; i < len(insertions) && insertions[i].file == name; i++ {
			x := &insertions[i]
			block, err := lines.ReadFile("lines/" + x.lines + ".txt")
			if err != nil {
				return nil, err
			}
			own := string(block)
			if strings.Contains(text, "\r\n") {
				own = strings.ReplaceAll(own, "\n", "\r\n")
			}
			if strings.Contains(text, own) {
				present++
				continue
			}
			place, err := x.find(text)
			if err != nil {
				if first == nil {
					first = fmt.Errorf("%s: %w", filepath.Join(dir, filepath.FromSlash(name)), err)
				}
				continue
			}
			out.WriteString(text[at:place])
			out.WriteString(own)
			old += strings.Count(text[at:place], "\n")
			n := strings.Count(own, "\n")
			f.diff += fmt.Sprintf("@@ -%d,0 +%d,%d @@\n+%s\n", old, old+f.lines+1, n, strings.ReplaceAll(strings.TrimSuffix(own, "\n"), "\n", "\n+"))
			f.lines += n
			at = place
		}
		out.WriteString(text[at:])
		f.content = out.String()
		p.files = append(p.files, f)
	}
	switch {
	case present == len(insertions):
		return nil, ErrPatched
	case present > 0:
		return nil, fmt.Errorf("%s %w", dir, ErrPartly)
	case first != nil:
		return nil, first
	}
	return p, nil
}

// find returns where in text the insertion goes, in bytes.
func (x *insertion) find(text string) (int, error) {
	from := strings.Index(text, x.within)
	if from < 0 {
		return 0, fmt.Errorf("no line has %q, so this is not llama.cpp v%s as it was released", x.within, Version)
	}
	from += len(x.within)
	at := strings.Index(text[from:], x.anchor)
	if at < 0 {
		return 0, fmt.Errorf("no line has %q where it is expected, so this is not llama.cpp v%s as it was released", x.anchor, Version)
	}
	at += from
	if !x.after {
		return strings.LastIndexByte(text[:at], '\n') + 1, nil
	}
	end := strings.IndexByte(text[at:], '\n')
	if end < 0 {
		return 0, fmt.Errorf("the line with %q has no end", x.anchor)
	}
	return at + end + 1, nil
}

// checkVersion reads the version that a tree says it is.
func checkVersion(dir string) error {
	const name = "CMakeLists.txt"
	text, err := read(dir, name)
	if err != nil {
		return fmt.Errorf("%w: want the folder of a llama.cpp v%s source tree", err, Version)
	}
	var got []string
	for _, part := range []string{"MAJOR", "MINOR", "PATCH"} {
		_, rest, ok := strings.Cut(text, "set(LLAMA_VERSION_"+part+" ")
		value, _, closed := strings.Cut(rest, ")")
		if !ok || !closed || len(value) > 10 {
			return fmt.Errorf("%s: names no version of llama.cpp: want a v%s source tree", filepath.Join(dir, name), Version)
		}
		got = append(got, value)
	}
	if v := strings.Join(got, "."); v != Version {
		return fmt.Errorf("%s: is llama.cpp %q: the lines are for v%s", filepath.Join(dir, name), v, Version)
	}
	return nil
}

func read(dir, name string) (string, error) {
	path := filepath.Join(dir, filepath.FromSlash(name))
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() || info.Size() > maxFileBytes {
		return "", fmt.Errorf("%s: is not a source file of llama.cpp's", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFileBytes))
	return string(b), err
}

// Diff writes the patch as a unified diff without context, which
// `git apply --unidiff-zero` and `patch -p1` take.
func (p *Patch) Diff(w io.Writer) error {
	for i := range p.files {
		f := &p.files[i]
		if _, err := fmt.Fprintf(w, "--- a/%s\n+++ b/%s\n%s", f.name, f.name, f.diff); err != nil {
			return err
		}
	}
	return nil
}

// Write changes the tree's files. All are written beside their targets before
// the first is renamed.
func (p *Patch) Write() error {
	temps := make([]string, 0, len(p.files))
	defer func() {
		for _, t := range temps {
			os.Remove(t) // what is left of a failed run; a renamed one is gone
		}
	}()
	targets := make([]string, len(p.files))
	for i := range p.files {
		target, err := filepath.EvalSymlinks(filepath.Join(p.dir, filepath.FromSlash(p.files[i].name)))
		if err != nil {
			return err
		}
		targets[i] = target
		info, err := os.Stat(target)
		if err != nil {
			return err
		}
		f, err := os.CreateTemp(filepath.Dir(target), ".ggufplan.*.tmp")
		if err != nil {
			return err
		}
		temps = append(temps, f.Name())
		_, err = f.WriteString(p.files[i].content)
		if err = errors.Join(err, f.Chmod(info.Mode().Perm()), f.Close()); err != nil {
			return err
		}
	}
	for i, t := range temps {
		if err := os.Rename(t, targets[i]); err != nil {
			return err
		}
	}
	return nil
}
