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
