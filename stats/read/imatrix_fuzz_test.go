package read

import (
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// fuzzRead feeds content to Read as one format. Whatever is read must be
// sound: lengths agree, and it has a canonical form that reads back.
func fuzzRead(f *testing.F, format string) {
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, content []byte) {
		path := filepath.Join(dir, "input")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		ev, err := File(context.Background(), path, Options{Format: format})
		if err != nil {
			return
		}
		for i := range ev.Layers {
			l := &ev.Layers[i]
			experts := l.Experts()
			for _, s := range l.Signals() {
				if *s.Values != nil && len(*s.Values) != experts {
					t.Fatalf("%s: %d %s of %d experts", l.Name(ev.LayerAxis), len(*s.Values), s.Name, experts)
				}
			}
			l.Summarize(ev.Kind)
			l.Stability()
		}
		text, err := MarshalCanonical(ev)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := File(context.Background(), path, Options{}); err != nil {
			t.Fatalf("the canonical form is not read back: %v\n%s", err, text)
		}
	})
}

func addFiles(f *testing.F, pattern string) {
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		f.Fatalf("%s: %v", pattern, err)
	}
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content)
	}
}

func FuzzImatrixGGUF(f *testing.F) {
	addFiles(f, "../../testdata/imatrix/*.gguf")
	fuzzRead(f, "imatrix-gguf")
}

func FuzzImatrixDat(f *testing.F) {
	addFiles(f, "../../testdata/imatrix/*.dat")
	file := legacyFile([]float32{1038, 492, 756, 0})
	f.Add(file)
	// A dataset's name is a path: it may hold what does not print, or no UTF-8.
	for _, dataset := range []string{"c\x12.txt", "\x1b[2J\xff"} {
		end := binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, 7), uint32(len(dataset)))
		f.Add(append(append(slices.Clone(file), end...), dataset...))
	}
	fuzzRead(f, "imatrix-dat")
}

func FuzzCanonical(f *testing.F) {
	text, err := MarshalCanonical(full())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	fuzzRead(f, "canonical-json")
}
