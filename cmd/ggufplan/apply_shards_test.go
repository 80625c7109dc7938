package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/gguftest/llamacpp"
	"github.com/ggufplan/ggufplan/ggufio/quant"
)

// pairs returns the metadata of a file of a set as it is written.
func pairs(t *testing.T, path string, file int) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m := modelOf(t, path)
	var all []byte
	for i := range m.Metadata.Pairs {
		if p := &m.Metadata.Pairs[i]; p.File == file {
			all = append(all, data[p.OffsetBytes:][:p.SizeBytes]...)
		}
	}
	return all
}

// The metadata of shards is what llama-gguf-split writes: keys, their order,
// types and values.
func TestAppliedShardsHaveGGUFSplitsKeys(t *testing.T) {
	tool := llamacpp.Tool(t, "llama-gguf-split")
	dir := t.TempDir()
	plan := planFile(t, dir, "plan")
	whole := filepath.Join(dir, "whole.gguf")
	ggufplan(t, exitDone, "apply", plan, realModel, "--imatrix", realImatrix, "-o", whole)
	ggufplan(t, exitDone, "apply", plan, realModel, "--imatrix", realImatrix, "-o", filepath.Join(dir, "ours.gguf"), "--shards", "3")
	// 27 tensors
	if log, err := exec.Command(tool, "--split", "--split-max-tensors", "9", whole, filepath.Join(dir, "theirs")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	for i := range 3 {
		ours, theirs := gguftest.ShardPath(dir, "ours", i, 3), gguftest.ShardPath(dir, "theirs", i, 3)
		if a, b := pairs(t, ours, i), pairs(t, theirs, i); !bytes.Equal(a, b) {
			t.Errorf("shard %d has metadata\n%q\nllama-gguf-split writes\n%q", i, a, b)
		}
	}
	// And it joins ours to the file that is written whole.
	joined := filepath.Join(dir, "joined.gguf")
	if log, err := exec.Command(tool, "--merge", gguftest.ShardPath(dir, "ours", 0, 3), joined).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	a, b := contents(t, joined), contents(t, whole)
	if len(a) != len(b) {
		t.Errorf("%d tensors of %d", len(a), len(b))
	}
	for name := range b {
		if !bytes.Equal(a[name], b[name]) {
			t.Errorf("%s differs in the joined file", name)
		}
	}
}

// A set that was interrupted behind a whole file goes on behind it. The run
// that ends it could not make that file's weights: the source has others.
func TestApplyResumesSets(t *testing.T) {
	dir := t.TempDir()
	model, plan, counts := filepath.Join(dir, "model.gguf"), filepath.Join(dir, "plan.json"), filepath.Join(dir, "counts.json")
	if err := (gguftest.MoE{Type: quant.F16}).Builder().WriteFile(model); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(counts, []byte(`{"logical_count":[[90,80,70,60],[40,50,90,80]]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	ggufplan(t, exitDone, "plan", model, "--stats", counts, "-q", "-o", plan)
	args := func(out string, more ...string) []string {
		return append([]string{"apply", plan, model, "--shards", "2", "-q", "-o", filepath.Join(dir, out)}, more...)
	}
	ggufplan(t, exitDone, args("want.gguf")...)
	// A folder in the way of the second file's partial one stops the run there.
	inTheWay := gguftest.ShardPath(dir, "got", 1, 2) + ".partial"
	if err := os.Mkdir(inTheWay, 0o700); err != nil {
		t.Fatal(err)
	}
	ggufplan(t, exitTrouble, args("got.gguf")...)
	if err := os.Remove(inTheWay); err != nil {
		t.Fatal(err)
	}
	first := gguftest.ShardPath(dir, "got", 0, 2)
	if _, err := os.Stat(first); err == nil {
		t.Errorf("a file of a set that is not whole stands under its name")
	}
	m, info := modelOf(t, model), statOf(t, model)
	set := modelOf(t, gguftest.ShardPath(dir, "want", 0, 2))
	for i := range set.Tensors {
		if x := &set.Tensors[i]; x.File == 0 {
			y, _ := m.TensorByName(x.Name)
			if err := gguftest.Patch(model, int64(y.OffsetBytes), make([]byte, y.SizeBytes)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.Chtimes(model, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	ggufplan(t, exitDone, args("got.gguf", "--resume")...)
	for i := range 2 {
		sameBytes(t, gguftest.ShardPath(dir, "got", i, 2), gguftest.ShardPath(dir, "want", i, 2))
	}
}

func statOf(t *testing.T, path string) os.FileInfo {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// With --keep-split each file has the header and size that llama-quantize
// gives it, also a first one without tensors; and llama.cpp runs the set.
func TestAppliedKeepSplitIsLlamaQuantizes(t *testing.T) {
	tool := llamacpp.Tool(t, "llama-quantize")
	for _, emptyFirst := range []bool{false, true} {
		dir := t.TempDir()
		b := gguftest.MoE{Type: quant.F16, Experts: 4}.Builder()
		for i, shard := range b.Shards(3, emptyFirst) {
			if err := shard.WriteFile(gguftest.ShardPath(dir, "model", i, 3)); err != nil {
				t.Fatal(err)
			}
		}
		source, plan, counts := gguftest.ShardPath(dir, "model", 0, 3), filepath.Join(dir, "plan.json"), filepath.Join(dir, "counts.json")
		if err := os.WriteFile(counts, []byte(`{"logical_count":[[90,80,70,60],[40,50,90,80]]}`), 0o600); err != nil {
			t.Fatal(err)
		}
		ggufplan(t, exitDone, "plan", source, "--stats", counts, "-q", "-o", plan)
		ggufplan(t, exitDone, "apply", plan, source, "--keep-split", "-o", filepath.Join(dir, "ours.gguf"))
		ggufplan(t, exitDone, "export", plan, "--to", "llama-quantize", "-o", filepath.Join(dir, "rules.txt"))
		cmd := exec.Command(tool, "--keep-split", "--tensor-type-file", filepath.Join(dir, "rules.txt"), source, filepath.Join(dir, "theirs"), "Q4_K_M")
		if log, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, log)
		}
		for i := range 3 {
			t.Run(fmt.Sprint(emptyFirst, i), func(t *testing.T) {
				sameShardHeader(t, gguftest.ShardPath(dir, "ours", i, 3), gguftest.ShardPath(dir, "theirs", i, 3), i)
			})
		}
		first := gguftest.ShardPath(dir, "ours", 0, 3)
		ggufplan(t, exitDone, "verify", "--data", plan, first)
		logitsOf(t, first)
	}
}

// sameShardHeader compares the heads of two files of sets.
func sameShardHeader(t *testing.T, ours, theirs string, file int) {
	t.Helper()
	a, err := os.ReadFile(ours)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(theirs)
	if err != nil {
		t.Fatal(err)
	}
	end := modelOf(t, ours).Files[file].DataOffsetBytes
	if len(a) != len(b) || !bytes.Equal(a[:end], b[:end]) {
		t.Errorf("%d and %d bytes, and the headers are the same: %v", len(a), len(b), bytes.Equal(a[:end], b[:min(end, uint64(len(b)))]))
	}
}

// logitsOf has llama.cpp run a model without words.
func logitsOf(t *testing.T, path string) []float32 {
	t.Helper()
	model, err := llamacpp.Load(t).LoadModel(path, 16)
	if err != nil {
		t.Fatal(err)
	}
	defer model.Close()
	logits, err := model.Logits([]int32{1, 2, 3})
	if err != nil {
		t.Fatal(err)
	}
	return logits[2]
}
