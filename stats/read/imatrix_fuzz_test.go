package read

import (
	"context"
	"os"
	"path/filepath"
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
	f.Add(legacyFile([]float32{1038, 492, 756, 0}))
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
