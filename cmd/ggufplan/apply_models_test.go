package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/gguftest/llamacpp"
	"github.com/ggufplan/ggufplan/ggufio/quant"
)

// sameAsQuantized applies a plan and has llama-quantize carry it out: header
// and size are the same, and so are the tensors that keep their type.
func sameAsQuantized(t *testing.T, plan, model string, imatrix ...string) {
	t.Helper()
	ours := filepath.Join(t.TempDir(), "ours.gguf")
	args := []string{"apply", plan, model, "-o", ours}
	for _, path := range imatrix {
		args = append(args, "--imatrix", path)
	}
	ggufplan(t, exitDone, args...)
	theirs := quantized(t, plan, model, imatrix...)
	sameHeader(t, ours, theirs)
	ggufplan(t, exitDone, "verify", "--data", plan, ours)
	ggufplan(t, exitDone, "verify", "--data", plan, theirs)
	a, b := contents(t, ours), contents(t, theirs)
	m := decodeManifest(t, plan)
	for i := range m.Tensors {
		x := &m.Tensors[i]
		if x.PlannedType == x.SourceType && !bytes.Equal(a[x.Name], b[x.Name]) {
			t.Errorf("%s is kept, and its bytes differ", x.Name)
		}
	}
}

// A source whose alignment llama-quantize would break is padded as its key
// says, and llama.cpp runs it.
func TestAppliedAlignment(t *testing.T) {
	llamacpp.Load(t)
	dir := t.TempDir()
	model, plan, out := filepath.Join(dir, "model.gguf"), filepath.Join(dir, "plan.json"), filepath.Join(dir, "out.gguf")
	moe := gguftest.MoE{Type: quant.F16, FF: 288}
	b := moe.Builder()
	b.Alignment = 128
	b.Set("general.alignment", uint32(128))
	if err := b.WriteFile(model); err != nil {
		t.Fatal(err)
	}
	counts := filepath.Join(dir, "counts.json")
	if err := os.WriteFile(counts, []byte(`{"logical_count":[[90,80,70,60],[40,50,90,80]]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	ggufplan(t, exitDone, "plan", model, "--stats", counts, "-q", "-o", plan)
	ggufplan(t, exitDone, "apply", plan, model, "-o", out)
	ggufplan(t, exitDone, "apply", plan, model, "-o", out, "--shards", "2")
	want := logitsOf(t, out)
	for first, aligned := range map[string]uint64{out: 128, gguftest.ShardPath(dir, "out", 0, 2): 32} {
		m := modelOf(t, first)
		for i := range m.Tensors {
			// Files behind the first have no key, and llama.cpp takes 32.
			if x := &m.Tensors[i]; x.OffsetBytes%aligned != 0 || x.File == 0 && x.OffsetBytes%128 != 0 {
				t.Errorf("%s lies at %d", x.Name, x.OffsetBytes)
			}
		}
		ggufplan(t, exitDone, "verify", "--data", plan, first)
		if got := logitsOf(t, first); !slices.Equal(got, want) {
			t.Error("llama.cpp computes something else from the shards")
		}
	}
}

func TestAppliedBudgetPlans(t *testing.T) {
	t.Parallel()
	llamacpp.Tool(t, "llama-quantize")
	dir := t.TempDir()
	for _, flags := range [][]string{
		{"--target-size", "1600KiB"},
		{"--target-size", "2300KiB", "--types", "legacy"},
		{"--target-size", "1100KiB", "--types", "all"},
		{"--target-expert-bpw", "3.2", "--base", "Q5_K_S", "--scope-tensors", "experts", "--types", "k"},
		{"--target-size", "3MiB", "--base", "keep"},
		{"--target-size", "1700KiB", "--sensitivity", "none", "--types", "k"},
	} {
		t.Run(fmt.Sprint(flags), func(t *testing.T) {
			sameAsQuantized(t, planFile(t, dir, "plan", flags...), realModel, realImatrix)
		})
	}
}

// Several importance matrices, of both formats, are merged as the exported
// commands do.
func TestAppliedMergedImatrix(t *testing.T) {
	t.Parallel()
	llamacpp.Tool(t, "llama-imatrix")
	dir := t.TempDir()
	of := func(name string) string { return filepath.Join(filepath.Dir(realModel), name) }
	for _, imatrix := range [][]string{
		{of("code.imatrix.gguf"), of("prose.imatrix.gguf")},
		{of("prose.imatrix.gguf"), of("mix.imatrix.dat"), of("code.imatrix.gguf")},
		{of("mix.imatrix.dat")}, // counts nothing: a budget plan
	} {
		t.Run(fmt.Sprint(len(imatrix)), func(t *testing.T) {
			plan := filepath.Join(dir, "plan.json")
			args := []string{"plan", realModel, "-q", "-o", plan, "--base", "IQ3_S", "--hot-type", "IQ4_XS", "--warm-type", "IQ3_S", "--cold-type", "IQ2_XS"}
			if len(imatrix) == 1 {
				args = []string{"plan", realModel, "-q", "-o", plan, "--target-size", "1500KiB", "--objective", "relative"}
			}
			for _, path := range imatrix {
				args = append(args, "--stats", path)
			}
			ggufplan(t, exitDone, args...)
			sameAsQuantized(t, plan, realModel, imatrix...)
		})
	}
}

// A plan from a trace needs no importance matrix, and records none.
func TestAppliedFromTrace(t *testing.T) {
	llamacpp.Tool(t, "llama-quantize")
	dir := t.TempDir()
	counts, plan := filepath.Join(dir, "counts.json"), filepath.Join(dir, "plan.json")
	if err := os.WriteFile(counts, []byte(`{"logical_count":[[9000,8000,7000,6000,5000,4500,500,400],[400,500,9000,8000,7000,6000,5000,4500]]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	ggufplan(t, exitDone, "plan", realModel, "--stats", counts, "-q", "-o", plan)
	sameAsQuantized(t, plan, realModel)
}

// Models of other shapes and architectures, with an importance matrix that
// lacks some of their tensors.
func TestAppliedModels(t *testing.T) {
	t.Parallel()
	llamacpp.Tool(t, "llama-quantize")
	counts := func(n int) func(int) []float32 {
		return func(layer int) []float32 {
			out := make([]float32, n)
			for e := range out {
				out[e] = float32((e*7+layer*3)%11) * 40
			}
			return out
		}
	}
	for _, x := range []struct {
		name   string
		moe    gguftest.MoE
		change func(b *gguftest.Builder)
		flags  []string
	}{
		{name: "tied", moe: gguftest.MoE{Tied: true, Experts: 8, Layers: 3}},
		{name: "tied, a budget", moe: gguftest.MoE{Tied: true, Experts: 3, Used: 1}, flags: []string{"--target-size", "1500KiB"}},
		{name: "dense layers, shared experts, MTP", moe: gguftest.MoE{Dense: 1, Layers: 3, MTP: 1, Shared: 1, Experts: 5}},
		{name: "one tensor per expert", moe: gguftest.MoE{Arch: "llama", Separate: true, Experts: 6}},
		{name: "gate and up in one", moe: gguftest.MoE{GateUp: true, Experts: 4, Type: quant.F16}},
		{name: "rows that types of 256 do not divide", moe: gguftest.MoE{Embd: 320, FF: 96, Experts: 4, Type: quant.F16},
			flags: []string{"--base", "IQ4_XS"}},
		{name: "odd rows", moe: gguftest.MoE{FF: 56, Experts: 4}, flags: []string{"--target-size", "1MiB", "--types", "all"}},
		{name: "one expert's worth", moe: gguftest.MoE{Experts: 2, Used: 1, Layers: 1, Vocab: 33}, flags: []string{"--base", "Q2_K"}},
		{name: "words and arrays", moe: gguftest.MoE{Experts: 4}, change: func(b *gguftest.Builder) {
			words := make([]string, 64)
			for i := range words {
				words[i] = fmt.Sprintf("w%d\x00cut", i)
			}
			b.Set("tokenizer.ggml.tokens", words).Set("some.floats", []float32{1, 2.5}).Set("some.flag", true).
				Set("general.quantization_version", uint32(1)).Set("quantize.imatrix.file", "an older one")
		}},
	} {
		t.Run(x.name, func(t *testing.T) {
			dir := t.TempDir()
			if x.moe.Type == quant.F32 {
				x.moe.Type = quant.BF16
			}
			b := x.moe.Builder()
			if x.change != nil {
				x.change(b)
			}
			model, imatrix, plan := filepath.Join(dir, "model.gguf"), filepath.Join(dir, "im.gguf"), filepath.Join(dir, "plan.json")
			if err := b.WriteFile(model); err != nil {
				t.Fatal(err)
			}
			if err := x.moe.Imatrix(counts(x.moe.Experts)).WriteFile(imatrix); err != nil {
				t.Fatal(err)
			}
			ggufplan(t, exitDone, append([]string{"plan", model, "--stats", imatrix, "-q", "-o", plan}, x.flags...)...)
			sameAsQuantized(t, plan, model, imatrix)
		})
	}
}
