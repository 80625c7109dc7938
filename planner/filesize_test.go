package planner

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/gguftest/llamacpp"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner/llamaquantize"
	"github.com/ggufplan/ggufplan/stats"
)

// TestFileBytesAgainstLlamaCpp has the real library write planned files and
// compares sizes to the byte.
func TestFileBytesAgainstLlamaCpp(t *testing.T) {
	lib := llamacpp.Load(t)
	long := strings.Repeat("calibration-", 14) + ".gguf" // 173 bytes
	imatrix := func(name string, datasets []string, chunks uint64) *stats.Evidence {
		return &stats.Evidence{Inputs: []stats.Input{{FileID: stats.FileID{Name: name}, Format: "imatrix-gguf",
			Imatrix: &stats.Imatrix{Datasets: datasets, Entries: 3, Chunks: chunks}}}}
	}
	small := gguftest.MoE{Type: quant.F16, Embd: 64, FF: 96, Vocab: 33, Shared: 1}
	for _, tt := range []struct {
		name     string
		model    gguftest.MoE
		change   func(*gguftest.Builder)
		shards   int
		base     string
		evidence *stats.Evidence
	}{
		{name: "no imatrix", model: small, base: "Q4_K_M"},
		{name: "wide rows", model: gguftest.MoE{Type: quant.BF16}, base: "Q3_K_M"},
		{name: "quantized source", model: gguftest.MoE{Type: quant.Q8_0}, base: "Q4_K_M"},
		{name: "kept", model: small, base: BaseKeep},
		{name: "shards", model: small, base: "Q4_0", shards: 3},
		{name: "imatrix", model: small, base: "Q4_K_M", evidence: imatrix("i.gguf", []string{"wiki.txt", "code.txt"}, 7)},
		{name: "imatrix of a long name", model: small, base: "Q4_K_M", evidence: imatrix(long, []string{long + long}, 7)},
		{name: "imatrix without datasets and chunks", model: small, base: "Q4_K_M", evidence: imatrix("i.gguf", nil, 0)},
		{name: "statistics that are no imatrix", model: small, base: "Q4_K_M",
			evidence: &stats.Evidence{Inputs: []stats.Input{{FileID: stats.FileID{Name: "counts.json"}, Format: "canonical-json"}}}},
		{name: "keys written anew", model: small, base: "Q5_K_M", evidence: imatrix("i.gguf", []string{"d"}, 1), change: func(b *gguftest.Builder) {
			b.Set("general.file_type", uint32(1)).Set("general.quantization_version", uint64(2))
			b.Set("quantize.imatrix.file", "another one").Set("quantize.imatrix.chunks_count", int32(5))
			b.Set("tokenizer.ggml.tokens", []string{"a", "", "longer", "é"}).Set("some.flags", []bool{true, false, true})
		}},
		{name: "alignment", model: small, base: "Q4_K_M", change: func(b *gguftest.Builder) {
			b.Alignment = 64
			b.Set("general.alignment", uint32(64))
		}},
		{name: "experts with a fourth axis", model: small, base: "Q4_K_M", change: func(b *gguftest.Builder) {
			for i := range b.Tensors {
				for len(b.Tensors[i].Shape) < 4 {
					b.Tensors[i].Shape = append(b.Tensors[i].Shape, 1)
				}
			}
		}},
		{name: "zero bytes in strings", model: small, base: "Q4_K_M", change: func(b *gguftest.Builder) {
			b.Set("tokenizer.ggml.tokens", []string{"a\x00b", "\x00", "whole"}).Set("general.description", "cut\x00 here and there, with more behind it than a padding of 32 bytes hides")
		}},
		{name: "an axis of one", model: small, base: "Q4_K_M", change: func(b *gguftest.Builder) {
			n := b.Tensor("output_norm.weight")
			n.Shape = append(n.Shape, 1, 1)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			b := tt.model.Builder()
			if tt.change != nil {
				tt.change(b)
			}
			path := filepath.Join(dir, "model.gguf")
			if tt.shards > 0 {
				paths, err := b.WriteShards(dir, "model", tt.shards)
				if err != nil {
					t.Fatal(err)
				}
				path = paths[0]
			} else if err := b.WriteFile(path); err != nil {
				t.Fatal(err)
			}
			m, err := ggufio.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			plan := planBase(t, m, tt.base, tt.evidence)

			o := llamacpp.QuantizeOptions{FileType: 15, Threads: 1, AllowRequantize: true}
			for i := range plan.Tensors {
				x := &plan.Tensors[i]
				if llamaquantize.Quantizable(x.Tensor) {
					o.Rules = append(o.Rules, llamacpp.Rule{Pattern: "^" + regexp.QuoteMeta(x.Tensor.Name) + "$", Type: uint32(x.Type.GGML)})
				}
			}
			if tt.evidence != nil && tt.evidence.Inputs[0].Imatrix != nil {
				in := tt.evidence.Inputs[0]
				add := func(key string, value any) {
					o.Overrides = append(o.Overrides, llamacpp.Override{Key: key, Value: value})
				}
				add("quantize.imatrix.file", in.Name)
				if len(in.Imatrix.Datasets) > 0 {
					add("quantize.imatrix.dataset", in.Imatrix.Datasets[0])
				}
				add("quantize.imatrix.entries_count", int64(in.Imatrix.Entries))
				if in.Imatrix.Chunks > 0 {
					add("quantize.imatrix.chunks_count", int64(in.Imatrix.Chunks))
				}
			}
			out := filepath.Join(dir, "out.gguf")
			if log, err := lib.Quantize(path, out, o); err != nil {
				t.Fatalf("%v\n%s", err, log)
			}
			info, err := os.Stat(out)
			if err != nil {
				t.Fatal(err)
			}
			if plan.Totals.FileBytes != uint64(info.Size()) {
				t.Errorf("planned %d bytes, llama.cpp wrote %d", plan.Totals.FileBytes, info.Size())
			}
		})
	}
}

// planBase plans a model of which nothing is known with the default preset:
// all experts at the hot type, Q4_K.
func planBase(t *testing.T, m *ggufio.Model, base string, ev *stats.Evidence) *Plan {
	t.Helper()
	p := &Problem{Model: m, Evidence: counted(), Policy: keepPolicy()}
	if ev != nil {
		p.Evidence.Inputs = ev.Inputs
	}
	p.Policy.Base = base
	return solve(t, p)
}

// TestHeaderBytes builds the header that llama-quantize would write and takes
// its length: what holds without the library.
func TestHeaderBytes(t *testing.T) {
	source := gguftest.MoE{Type: quant.F16}.Builder()
	many := make([]string, 70000) // more than are kept in memory
	cut := make([]string, len(many))
	for i := range many {
		many[i], cut[i] = "token\x00 and more", "token"
	}
	source.Set("general.file_type", uint32(1)).Set("tokenizer.ggml.tokens", many).Set("some.text", strings.Repeat("x", 1<<20)+"\x00behind")
	dir := t.TempDir()
	paths, err := source.WriteShards(dir, "model", 3)
	if err != nil {
		t.Fatal(err)
	}
	m, err := ggufio.Open(paths[1])
	if err != nil {
		t.Fatal(err)
	}
	gguf := func(name string, datasets ...string) stats.Input {
		return stats.Input{FileID: stats.FileID{Name: name}, Format: "imatrix-gguf", Imatrix: &stats.Imatrix{Datasets: datasets, Entries: 9, Chunks: 3, Rows: 2*512 - 256}}
	}
	for _, tt := range []struct {
		name   string
		inputs []stats.Input
		want   map[string]any
	}{
		{"none", nil, nil},
		{"another format", []stats.Input{{FileID: stats.FileID{Name: "x.json"}, Format: "canonical-json"}}, nil},
		{"one", []stats.Input{gguf("mix.gguf", "wiki", "code")},
			map[string]any{"quantize.imatrix.file": "mix.gguf", "quantize.imatrix.dataset": "wiki"}},
		{"one among others", []stats.Input{{FileID: stats.FileID{Name: "x.json"}, Format: "canonical-json"}, gguf("mix.gguf", "wiki")},
			map[string]any{"quantize.imatrix.file": "mix.gguf", "quantize.imatrix.dataset": "wiki"}},
		{"compressed", []stats.Input{gguf("mix.gguf.gz")}, map[string]any{"quantize.imatrix.file": "mix.gguf"}},
		{"merged", []stats.Input{gguf("a.gguf"), gguf("b.gguf", "the second's")},
			map[string]any{"quantize.imatrix.file": "merged.imatrix.gguf", "quantize.imatrix.dataset": "the second's"}},
		{"merged, less than a chunk", []stats.Input{{FileID: stats.FileID{Name: "a"}, Format: "imatrix-gguf", Imatrix: &stats.Imatrix{Entries: 9, Chunks: 1, Rows: 255}}, {FileID: stats.FileID{Name: "b"}, Format: "imatrix-gguf", Imatrix: &stats.Imatrix{Entries: 9, Chunks: 1, Rows: 256}}},
			map[string]any{"quantize.imatrix.file": "merged.imatrix.gguf"}},
		{"at the limit of the buffer", []stats.Input{gguf(strings.Repeat("n", 128), strings.Repeat("d", 200))},
			map[string]any{"quantize.imatrix.file": strings.Repeat("n", 127), "quantize.imatrix.dataset": strings.Repeat("d", 127)}},
		{"a zero byte", []stats.Input{gguf("n", "da\x00ta")}, map[string]any{"quantize.imatrix.file": "n", "quantize.imatrix.dataset": "da"}},
	} {
		want := *source
		want.Pairs = append([]gguftest.Pair(nil), source.Pairs...)
		want.Set("general.quantization_version", uint32(2))
		want.Set("tokenizer.ggml.tokens", cut).Set("some.text", strings.Repeat("x", 1<<20))
		if tt.want != nil {
			want.Set("quantize.imatrix.entries_count", uint32(9))
			if tt.name != "merged, less than a chunk" {
				want.Set("quantize.imatrix.chunks_count", uint32(3)) // merged: 2 x 768 rows
			}
		}
		for key, value := range tt.want {
			want.Set(key, value)
		}
		if got := llamaquantize.HeaderBytes(m, &stats.Evidence{Inputs: tt.inputs}); got != uint64(len(want.Header())) {
			t.Errorf("%s: %d bytes, want %d", tt.name, got, len(want.Header()))
		}
	}
}

// TestFileTypeBytes: a plan like a file type keeps within that type's file, and
// an importance matrix changes a few file types.
func TestFileTypeBytes(t *testing.T) {
	m := tinyMoE(t, gguftest.MoE{Layers: 8, Experts: 4})
	for _, name := range []string{"Q3_K_M", "Q4_K_M", "Q8_0"} {
		ft, _ := llamaquantize.FileTypeByName(name)
		p := budgetProblem(m, 1, 0)
		size, err := FileTypeBytes(m, p.Evidence, ft)
		if err != nil {
			t.Fatal(err)
		}
		p.Policy.Budget.SizeBytes, p.Policy.Budget.Like = size, name
		plan := solve(t, p)
		if plan.Totals.FileBytes > size || plan.Budget.Like == nil || *plan.Budget.Like != name {
			t.Errorf("%s: %d bytes of %d, like %v", name, plan.Totals.FileBytes, size, plan.Budget.Like)
		}
	}
	for _, tt := range []struct{ name, tensor, without, with string }{
		{"IQ3_XXS", "blk.7.ffn_down_exps.weight", "Q3_K", "IQ3_XXS"},
		{"IQ3_XXS", "blk.0.ffn_down_exps.weight", "Q4_K", "IQ3_XXS"},
		{"IQ4_XS", "blk.0.ffn_down_exps.weight", "Q5_K", "IQ4_XS"},
		{"Q4_0", "blk.0.ffn_down_exps.weight", "Q4_0", "Q4_1"},
		{"Q5_0", "blk.0.ffn_down_exps.weight", "Q5_0", "Q5_1"},
		{"Q4_K_M", "blk.0.ffn_down_exps.weight", "Q6_K", "Q6_K"},
	} {
		ft, _ := llamaquantize.FileTypeByName(tt.name)
		without, err1 := llamaquantize.MixWith(m, ft, false)
		with, err2 := llamaquantize.MixWith(m, ft, true)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		for i := range m.Tensors {
			if m.Tensors[i].Name == tt.tensor && (without[i].String() != tt.without || with[i].String() != tt.with) {
				t.Errorf("%s: %s is %s without an imatrix and %s with, want %s and %s", tt.name, tt.tensor, without[i], with[i], tt.without, tt.with)
			}
		}
	}
}
