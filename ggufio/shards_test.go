package ggufio_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/gguftest"
)

// Any member opens the set, and the set holds what the one file held.
func TestShards(t *testing.T) {
	b := gguftest.MoE{Embd: 64, FF: 32}.Builder()
	whole := openBuilt(t, b)
	for _, tt := range []struct {
		name       string
		count      int
		emptyFirst bool
	}{{"two", 2, false}, {"one of one", 1, false}, {"metadata alone in the first", 4, true}, {"a tensor each", len(b.Tensors), false}} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for i, s := range b.Shards(tt.count, tt.emptyFirst) {
				if err := s.WriteFile(gguftest.ShardPath(dir, "m", i, tt.count)); err != nil {
					t.Fatal(err)
				}
			}
			first, err := ggufio.Open(gguftest.ShardPath(dir, "m", 0, tt.count))
			if err != nil {
				t.Fatal(err)
			}
			last, err := ggufio.Open(gguftest.ShardPath(dir, "m", tt.count-1, tt.count))
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(first, last) {
				t.Error("the last shard opens another model than the first")
			}
			if len(first.Files) != tt.count || len(first.Tensors) != len(whole.Tensors) {
				t.Fatalf("%d files with %d tensors, want %d with %d", len(first.Files), len(first.Tensors), tt.count, len(whole.Tensors))
			}
			perFile := make([]int, tt.count)
			for i := range first.Tensors {
				a, w := &first.Tensors[i], &whole.Tensors[i]
				perFile[a.File]++
				if a.Name != w.Name || a.SizeBytes != w.SizeBytes || a.Role != w.Role || a.Layer != w.Layer {
					t.Errorf("tensor %d is %+v, want %+v", i, a, w)
				}
			}
			for i, f := range first.Files {
				if f.TensorCount != perFile[i] {
					t.Errorf("file %d: %d tensors, but %d lie in it", i, f.TensorCount, perFile[i])
				}
			}
			if first.Name != whole.Name || !reflect.DeepEqual(first.Architecture, whole.Architecture) {
				t.Error("the name or the architecture differs")
			}
		})
	}
}

func TestShardRules(t *testing.T) {
	const count = 3
	path := func(dir string, i int) string { return gguftest.ShardPath(dir, "m", i, count) }
	for _, tt := range []struct {
		name   string
		change func(dir string, shards []*gguftest.Builder) error // before they are written
		after  func(dir string) error
		want   string
	}{
		{"missing", nil, func(dir string) error { return os.Remove(path(dir, 1)) },
			"shard 2 of 3 is missing: there is no m-00002-of-00003.gguf"},
		{"swapped", nil, func(dir string) error {
			return errors.Join(os.Rename(path(dir, 1), dir+"/x"), os.Rename(path(dir, 2), path(dir, 1)), os.Rename(dir+"/x", path(dir, 2)))
		}, "m-00002-of-00003.gguf: byte 24: metadata split.no: 2 (counted from 0) does not fit file 2 of 3"},
		{"doubled", nil, func(dir string) error { return gguftest.CopyFile(path(dir, 2), path(dir, 1)) },
			"metadata split.no: 1 (counted from 0) does not fit file 3 of 3"},
		{"doubled tensors", func(_ string, s []*gguftest.Builder) error {
			s[2].Tensors[0] = s[1].Tensors[0]
			return nil
		}, nil, "is in m-00002-of-00003.gguf too"},
		{"cut", nil, func(dir string) error { return os.Truncate(path(dir, 2), 2000) }, "m-00003-of-00003.gguf: tensor "},
		{"wrong count", func(_ string, s []*gguftest.Builder) error { s[0].Set("split.count", uint16(2)); return nil }, nil,
			"metadata split.count: 2 against the 3 of the file name"},
		{"no number", func(_ string, s []*gguftest.Builder) error { s[1].Unset("split.no"); return nil }, nil,
			"metadata split.no: is absent in shard 2 of 3"},
		{"number a string", func(_ string, s []*gguftest.Builder) error { s[1].Set("split.no", "1"); return nil }, nil,
			"metadata split.no: is string, not an integer"},
		{"wrong total", func(_ string, s []*gguftest.Builder) error {
			s[0].Set("split.tensors.count", int32(7))
			return nil
		}, nil, "metadata split.tensors.count: 7 against the"},
		{"no total", func(_ string, s []*gguftest.Builder) error { s[0].Unset("split.tensors.count"); return nil }, nil,
			"metadata split.tensors.count: is absent in shard 1 of 3"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			shards := gguftest.MoE{Embd: 64, FF: 32}.Builder().Shards(count, false)
			if tt.change != nil {
				if err := tt.change(dir, shards); err != nil {
					t.Fatal(err)
				}
			}
			for i, s := range shards {
				if err := s.WriteFile(path(dir, i)); err != nil {
					t.Fatal(err)
				}
			}
			if tt.after != nil {
				if err := tt.after(dir); err != nil {
					t.Fatal(err)
				}
			}
			_, err := ggufio.Open(path(dir, 0))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v does not say %q", err, tt.want)
			}
		})
	}
}

// A shard under another name would pass for a whole model.
func TestShardUnderAnotherName(t *testing.T) {
	dir := t.TempDir()
	shards := gguftest.MoE{Embd: 64, FF: 32}.Builder().Shards(2, false)
	for _, tt := range []struct{ file, want string }{
		{"blob", "metadata split.count: this is a shard of 2 files, but its name does not say so"},
		{"m-00001-of-00002", "give it the ending .gguf"},
		{"m-00001-of-00002.GGUF", "give it its NAME-0000I-of-00002.gguf name"},
		{"m-00000-of-00002.gguf", "there is no shard 0 of 2"},
		{"m-00003-of-00002.gguf", "there is no shard 3 of 2"},
		{"m-00001-of-00001.gguf", "this is a shard of 2 files"},
	} {
		path := filepath.Join(dir, tt.file)
		if err := shards[0].WriteFile(path); err != nil {
			t.Fatal(err)
		}
		if _, err := ggufio.Open(path); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v does not say %q", tt.file, err, tt.want)
		}
	}
}

// A name alone makes no shard, and of later shards only the number counts.
func TestShardsAsLlamaCppReadsThem(t *testing.T) {
	dir := t.TempDir()
	whole := gguftest.MoE{Embd: 64, FF: 32}.Builder()
	path := filepath.Join(dir, "w-00002-of-00003.gguf")
	if err := whole.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	if m, err := ggufio.Open(path); err != nil || len(m.Files) != 1 || len(m.Tensors) != len(whole.Tensors) {
		t.Errorf("a whole model under a shard's name: %v", err)
	}
	shards := whole.Shards(2, false)
	for _, s := range shards {
		s.Alignment = 64
		s.Set("general.alignment", uint32(64))
	}
	shards[1].Set("split.count", "seven").Set("split.tensors.count", int32(-1)).Set("general.architecture", "llama").Set(" ", uint32(1))
	for i, s := range shards {
		if err := s.WriteFile(gguftest.ShardPath(dir, "m", i, 2)); err != nil {
			t.Fatal(err)
		}
	}
	m, err := ggufio.Open(gguftest.ShardPath(dir, "m", 0, 2))
	if err != nil {
		t.Fatal(err)
	}
	if m.Architecture.Name != "qwen3moe" || len(m.Tensors) != len(whole.Tensors) {
		t.Errorf("architecture %s, %d tensors", m.Architecture.Name, len(m.Tensors))
	}
	for _, x := range m.Tensors {
		if x.OffsetBytes%64 != 0 {
			t.Errorf("%s starts at byte %d", x.Name, x.OffsetBytes)
		}
	}
}

// Shards reached through links, as download caches keep them, open by the
// links' names.
func TestShardLinks(t *testing.T) {
	blobs, dir := t.TempDir(), t.TempDir()
	for i, s := range (gguftest.MoE{Embd: 64, FF: 32}).Builder().Shards(2, false) {
		blob := filepath.Join(blobs, string(rune('a'+i)))
		if err := s.WriteFile(blob); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(blob, gguftest.ShardPath(dir, "m", i, 2)); err != nil {
			t.Fatal(err)
		}
	}
	m, err := ggufio.Open(gguftest.ShardPath(dir, "m", 1, 2))
	if err != nil {
		t.Fatal(err)
	}
	if m.Files[1].Name != "m-00002-of-00002.gguf" {
		t.Errorf("the second file is named %s", m.Files[1].Name)
	}
}

// A merged file keeps the keys of the split it came from, with a count of 0.
func TestMergedShards(t *testing.T) {
	b := gguftest.MoE{Embd: 64, FF: 32}.Builder()
	b.Set("split.no", uint16(0)).Set("split.count", uint16(0)).Set("split.tensors.count", int32(len(b.Tensors)))
	if m := openBuilt(t, b); len(m.Files) != 1 || len(m.Tensors) != len(b.Tensors) {
		t.Errorf("%d files, %d tensors", len(m.Files), len(m.Tensors))
	}
	// What else such a file says of its past is of no account to llama.cpp.
	openBuilt(t, b.Set("split.tensors.count", int32(1)))
	openBuilt(t, b.Unset("split.count"))
	openBuilt(t, b.Set("split.count", uint16(1)))
	openBuilt(t, b.Set("split.no", uint16(7)))
}
