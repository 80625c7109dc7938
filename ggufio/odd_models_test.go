package ggufio_test

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/gguftest/llamacpp"
	"github.com/ggufplan/ggufplan/ggufio/quant"
)

// An oddModel is a file that no usual writer makes.
type oddModel struct {
	name string
	// make returns the path of the model, a file or a shard, in an empty folder.
	make func(dir string) (path string, err error)
}

// oddBase is a model that llama.cpp loads.
func oddBase() *gguftest.Builder {
	return gguftest.MoE{Embd: 64, FF: 32, Vocab: 32, Sparse: true}.Builder()
}

func write(b *gguftest.Builder, dir, name string) (string, error) {
	path := filepath.Join(dir, name)
	return path, b.WriteFile(path)
}

// change is an odd model that differs from the base.
func change(name string, f func(b *gguftest.Builder)) oddModel {
	return oddModel{name, func(dir string) (string, error) {
		b := oddBase()
		f(b)
		return write(b, dir, "model.gguf")
	}}
}

// bytesOf is an odd model whose bytes are changed.
func bytesOf(name string, f func(b *gguftest.Builder) []byte) oddModel {
	return oddModel{name, func(dir string) (string, error) {
		path := filepath.Join(dir, "model.gguf")
		return path, os.WriteFile(path, f(oddBase()), 0o644)
	}}
}

// arrayValue is the encoded form of an array.
func arrayValue(typ uint32, n uint64, items []byte) gguftest.Raw {
	le := binary.LittleEndian
	raw := le.AppendUint32(nil, uint32(ggufio.ValueArray))
	raw = le.AppendUint32(raw, typ)
	return append(le.AppendUint64(raw, n), items...)
}

func oddModels() []oddModel {
	type builder = gguftest.Builder
	set := func(key string, value any) func(b *builder) {
		return func(b *builder) { b.Set(key, value) }
	}
	extra := func(name string, typ quant.Type, shape ...uint64) func(b *builder) {
		return func(b *builder) { b.Add(name, typ, shape, nil) }
	}
	models := []oddModel{
		change("base", func(*builder) {}),
		change("version 2", func(b *builder) { b.Version = 2 }),
		change("version 4", func(b *builder) { b.Version = 4 }),
		bytesOf("trailing bytes", func(b *builder) []byte { return append(b.Bytes(), "trailing"...) }),
		bytesOf("no padding at the end", func(b *builder) []byte {
			b.Add("odd.weight", quant.F32, []uint64{1}, nil)
			all := b.Bytes()
			return all[:len(all)-28]
		}),
		bytesOf("a byte too few", func(b *builder) []byte { all := b.Bytes(); return all[:len(all)-1] }),
		change("no tensors", func(b *builder) { b.Tensors = nil }),
		bytesOf("no tensors, no padding", func(b *builder) []byte {
			b.Tensors = nil
			all := b.Header()
			for all[len(all)-1] == 0 {
				all = all[:len(all)-1]
			}
			return all
		}),
		change("tensors in another order", func(b *builder) {
			for i, j := 0, len(b.Tensors)-1; i < j; i, j = i+1, j-1 {
				b.Tensors[i], b.Tensors[j] = b.Tensors[j], b.Tensors[i]
			}
		}),
		change("5000 keys", func(b *builder) {
			for i := range 5000 {
				b.Set(fmt.Sprintf("general.extra.%d", i), uint32(i))
			}
		}),
		change("no name", func(b *builder) { b.Unset("general.name") }),
		change("no type, no file type", func(b *builder) { b.Unset("general.type"); b.Unset("general.file_type") }),
		change("no head counts", func(b *builder) {
			b.Unset("qwen3moe.attention.head_count")
			b.Unset("qwen3moe.attention.head_count_kv")
		}),
		change("no head count kv", func(b *builder) { b.Unset("qwen3moe.attention.head_count_kv") }),
		change("no expert counts", func(b *builder) { b.Unset("qwen3moe.expert_count"); b.Unset("qwen3moe.expert_used_count") }),
		change("no experts per token", func(b *builder) { b.Unset("qwen3moe.expert_used_count") }),
		change("no architecture", func(b *builder) { b.Unset("general.architecture") }),
		change("no block count", func(b *builder) { b.Unset("qwen3moe.block_count") }),
		change("an architecture of its own", func(b *builder) {
			*b = *gguftest.MoE{Arch: "nobodysmoe", Embd: 64, FF: 32, Vocab: 32, Sparse: true}.Builder()
		}),
		change("key twice", func(b *builder) {
			b.Pairs = append(b.Pairs, gguftest.Pair{Key: "general.name", Value: "another"})
		}),
		change("tensor twice", extra("output.weight", quant.F32, 64, 32)),
		change("expert tensor cut to one dimension less", func(b *builder) { b.Tensor("blk.0.ffn_up_exps.weight").Shape = []uint64{64, 128} }),
		change("expert tensor with a fourth dimension", func(b *builder) { b.Tensor("blk.0.ffn_up_exps.weight").Shape = []uint64{64, 32, 4, 1} }),
		change("all tensors with four dimensions", func(b *builder) {
			for i := range b.Tensors {
				for len(b.Tensors[i].Shape) < 4 {
					b.Tensors[i].Shape = append(b.Tensors[i].Shape, 1)
				}
			}
		}),
		change("norms with a second dimension", func(b *builder) { b.Tensor("output_norm.weight").Shape = []uint64{64, 1} }),
		{"one expert", func(dir string) (string, error) {
			return write(gguftest.MoE{Experts: 1, Used: 1, Embd: 64, FF: 32, Vocab: 32, Sparse: true}.Builder(), dir, "model.gguf")
		}},
		{"one expert, without its dimension", func(dir string) (string, error) {
			b := gguftest.MoE{Experts: 1, Used: 1, Embd: 64, FF: 32, Vocab: 32, Sparse: true}.Builder()
			for i := range b.Tensors {
				if s := b.Tensors[i].Shape; len(s) == 3 {
					b.Tensors[i].Shape = s[:2]
				}
			}
			return write(b, dir, "model.gguf")
		}},
		{"1024 experts", func(dir string) (string, error) {
			return write(gguftest.MoE{Experts: 1024, Used: 1024, Embd: 32, FF: 32, Vocab: 32, Sparse: true}.Builder(), dir, "model.gguf")
		}},
		{"512 blocks", func(dir string) (string, error) {
			return write(gguftest.MoE{Layers: 512, Embd: 32, FF: 32, Vocab: 32, Sparse: true}.Builder(), dir, "model.gguf")
		}},
		{"separate experts", func(dir string) (string, error) {
			return write(gguftest.MoE{Separate: true, Embd: 64, FF: 32, Vocab: 32, Sparse: true}.Builder(), dir, "model.gguf")
		}},
		{"blocks with experts and an MTP block", func(dir string) (string, error) {
			return write(gguftest.MoE{MTP: 1, Dense: 1, Shared: 1, Embd: 64, FF: 32, Vocab: 32, Sparse: true}.Builder(), dir, "model.gguf")
		}},
	}
	for _, n := range []uint64{1, 2, 4, 8, 16, 64, 128, 1024, 4096, 65536, 1 << 20, 1 << 21, 48, 0} {
		models = append(models, change(fmt.Sprintf("alignment %d", n), func(b *builder) {
			b.Alignment = max(n, 1)
			b.Set("general.alignment", uint32(n))
		}))
	}
	models = append(models,
		change("alignment uint64", func(b *builder) { b.Set("general.alignment", uint64(32)) }),
		change("alignment of another model", func(b *builder) { b.Alignment = 64; b.Set("general.alignment", uint32(32)) }),
	)
	for name, value := range map[string]any{
		"uint8": uint8(200), "int8": int8(-3), "uint16": uint16(65535), "int16": int16(-5), "uint32": uint32(1 << 31), "int32": int32(-1 << 31),
		"uint64": uint64(math.MaxUint64), "int64": int64(math.MinInt64), "float32 NaN": float32(math.NaN()), "float64 Inf": math.Inf(1), "bool": true,
		"empty string": "", "string with a NUL": "a\x00b", "string of bytes": "\xff\xfe", "string of escapes": "\x1b[31m", "string of 2 MiB": strings.Repeat("x", 2<<20),
		"bool of 2": gguftest.Raw{7, 0, 0, 0, 2}, "bool of 255": gguftest.Raw{7, 0, 0, 0, 255},
		"uint8s": []uint8{1, 2}, "int8s": []int8{-1}, "uint16s": []uint16{1}, "int16s": []int16{-1}, "uint32s": []uint32{1}, "int32s": []int32{-1},
		"uint64s": []uint64{1}, "int64s": []int64{-1}, "float32s": []float32{1}, "float64s": []float64{1}, "bools": []bool{true, false}, "strings": []string{"a", "", "\xff", "\x00"},
		"no uint8s": []uint8{}, "no uint32s": []uint32{}, "no strings": []string{}, "no bools": []bool{}, "no float64s": []float64{},
		"bools of 2":          arrayValue(7, 3, []byte{2, 0, 255}),
		"no arrays":           arrayValue(9, 0, nil),
		"arrays":              arrayValue(9, 1, arrayValue(4, 1, []byte{1, 0, 0, 0})[4:]),
		"no items of type 13": arrayValue(13, 0, nil),
		"type 13":             gguftest.Raw{13, 0, 0, 0, 0},
		"a million uint8s":    make([]uint8, 1<<20),
		"a million uint64s":   make([]uint64, 1<<20),
		"100000 strings":      make([]string, 100000),
	} {
		models = append(models, change("value: "+name, set("general.extra", value)), change("name: "+name, set("general.name", value)))
	}
	for _, key := range []string{"", "k", " ", " leading", "trailing ", "in side", "\xff\xfe", "\x1b[31m", "a\x00b", "a\x00c", "Ünïcode", strings.Repeat("k", 64), strings.Repeat("k", 256), strings.Repeat("k", 65535), strings.Repeat("k", 65536),
		"split.no", "split.count", "split.tensors.count", "general.quantization_version", "qwen3moe.", "general.source.url"} {
		models = append(models, change(fmt.Sprintf("key %.20q of %d", key, len(key)), set(key, uint32(1))))
	}
	for _, value := range []any{uint8(1), uint16(0), uint16(1), uint16(2), int32(-1), int32(1), uint32(math.MaxUint32), uint64(1), int64(-1), "a string", float32(1), true, []uint16{1, 2}} {
		for _, key := range []string{"split.no", "split.count", "split.tensors.count"} {
			models = append(models, change(fmt.Sprintf("%s: %T %v", key, value, value), set(key, value)))
		}
	}
	for _, name := range []string{"", " ", "odd", "odd.weight", " leading", "trailing ", "in side", "\xff\xfe", "\x1b[31m", "a\x00b", "Ünïcode", strings.Repeat("n", 63), strings.Repeat("n", 64),
		"blk.512.odd.weight", "blk.99999999999999999999.odd.weight", "blk.-1.odd.weight", "blk.2.odd.weight", "blk.01.odd.weight", "blk..weight", "blk.0.ffn_gate_exps.bias", "blk.0.ffn_up_chexps.weight",
		"blk.1.ffn_gate_up_exps.weight", "blk.7.ffn_up_exps.weight", "blk.0.ffn_up.0.weight", "blk.0.ffn_up.70000.weight", "v.blk.0.ffn_up.weight", "rope_freqs.weight", "blk.0.attn_q.bias"} {
		models = append(models, change(fmt.Sprintf("tensor %.20q of %d", name, len(name)), extra(name, quant.F32, 64)))
	}
	for _, shape := range [][]uint64{{}, {0}, {1}, {0, 5}, {5, 0}, {1, 1, 1, 1}, {2, 3, 4, 5}, {1, 1, 1, 1, 1}, {7}, {3, 0, 1, 1}} {
		models = append(models, change(fmt.Sprintf("shape %v", shape), extra("odd.weight", quant.F32, shape...)))
	}
	models = append(models,
		change("shape [0] in the middle", func(b *builder) {
			extra("odd.weight", quant.F32, 0)(b)
			extra("even.weight", quant.F32, 64)(b)
		}),
		change("shape [0 4] of Q4_K", extra("odd.weight", quant.Q4_K, 0, 4)),
		change("empty expert tensor", extra("blk.0.ffn_gate_up_exps.weight", quant.F32, 0, 4, 4)),
		change("nothing but empty tensors", func(b *builder) {
			b.Tensors = nil
			extra("odd.weight", quant.F32, 0)(b)
		}),
	)
	for typ := quant.Type(0); typ < 45; typ++ {
		models = append(models, change(fmt.Sprintf("type %d", typ), func(b *builder) {
			data := []byte(nil)
			if f, ok := quant.Lookup(typ); !ok || f.Engine != quant.LlamaCpp {
				data = make([]byte, 4096)
			}
			b.Add("odd.weight", typ, []uint64{256, 2}, data)
		}))
	}
	arch := func(key string) string { return "qwen3moe." + key }
	for key, values := range map[string][]any{
		"leading_dense_block_count": {uint32(0), uint32(2), uint32(3), uint32(1000), "x", int32(-1), []uint32{1, 1}},
		"nextn_predict_layers":      {uint32(0), uint32(2), uint32(3)},
		"expert_shared_count":       {uint32(0), uint32(100000), int32(-1), "x", float32(2), true, []uint32{1}},
		"expert_count":              {uint32(0), uint32(8), uint32(1024), uint32(1025), uint64(4), uint16(4), []uint32{4, 4}},
		"expert_used_count":         {uint32(0), uint32(1), uint32(4), uint32(5), []uint32{2, 2}, []uint32{2, 1}, []int32{2, 0}, []uint32{2}, []uint32{2, 2, 2}, uint64(2)},
		"attention.head_count":      {[]uint32{4, 4}, []uint32{4, 0}, []uint32{4}, uint32(0), []int32{4, -1}, int32(4), []bool{true, true}, []float32{4, 4}, uint32(1 << 31)},
		"attention.head_count_kv":   {[]uint32{2, 2}, []uint32{2, 0}, []int32{2, 2}, []uint32{2, 2, 2}, uint32(0), []uint8{2, 2}, uint32(math.MaxUint32), []uint32{2, math.MaxUint32}},
		"block_count":               {uint32(1), uint32(3), uint32(512), uint32(513), uint64(2), int32(2), []uint32{2}},
		"feed_forward_length":       {[]uint32{128, 128}, float64(128)},
		"expert_weights_scale":      {float64(1), float32(1)},
		"context_length":            {float64(4096), uint64(4096)},
		"vocab_size":                {uint64(32), "x"},
		"expert_group_count":        {uint32(2), uint32(9)},
	} {
		for _, value := range values {
			models = append(models, change(fmt.Sprintf("%s: %T %v", key, value, value), set(arch(key), value)))
		}
	}
	for key, values := range map[string][]any{
		"general.file_type":    {uint32(9999), int32(-1), uint64(1), "x"},
		"general.type":         {"adapter", "imatrix", "", uint32(1)},
		"general.architecture": {"", "x", uint32(1), "qwen3moe\x00", " qwen3moe"},
		"general.alignment":    {"x", int32(32), []uint32{32}},
	} {
		for _, value := range values {
			models = append(models, change(fmt.Sprintf("%s: %T %.20q", key, value, fmt.Sprint(value)), set(key, value)))
		}
	}
	for _, name := range []string{"model", "model.bin", "model.GGUF", "a b.gguf", "a\nb.gguf", "ünï.gguf", "m-00001-of-00001.gguf", "m-00001-of-00003.gguf", "m-00002-of-00003.gguf", "m-00004-of-00003.gguf", "m-00000-of-00000.gguf", "m-00001-of-00003",
		"-00001-of-00002.gguf", "~", "\x1b[31m.gguf"} {
		models = append(models, oddModel{fmt.Sprintf("file %q", name), func(dir string) (string, error) { return write(oddBase(), dir, name) }})
	}
	shards := func(name string, count int, emptyFirst bool, f func(shards []*builder)) oddModel {
		return oddModel{"shards: " + name, func(dir string) (string, error) {
			set := oddBase().Shards(count, emptyFirst)
			f(set)
			for i, b := range set {
				if err := b.WriteFile(gguftest.ShardPath(dir, "m", i, count)); err != nil {
					return "", err
				}
			}
			return gguftest.ShardPath(dir, "m", 0, count), nil
		}}
	}
	setAll := func(shards []*builder, key string, value any) {
		for _, b := range shards {
			b.Set(key, value)
		}
	}
	models = append(models,
		shards("plain", 3, false, func([]*builder) {}),
		shards("first empty", 3, true, func([]*builder) {}),
		shards("last empty", 3, false, func(s []*builder) { s[1].Tensors = append(s[1].Tensors, s[2].Tensors...); s[2].Tensors = nil }),
		shards("middle empty", 3, false, func(s []*builder) { s[0].Tensors = append(s[0].Tensors, s[1].Tensors...); s[1].Tensors = nil }),
		shards("architecture in all", 2, false, func(s []*builder) { setAll(s, "general.architecture", "qwen3moe") }),
		shards("another architecture in the second", 2, false, func(s []*builder) { s[1].Set("general.architecture", "llama") }),
		shards("all metadata in all", 2, false, func(s []*builder) {
			pairs := s[0].Pairs
			for _, p := range pairs {
				if p.Key != "split.no" {
					s[1].Set(p.Key, p.Value)
				}
			}
		}),
		shards("versions 3 and 2", 2, false, func(s []*builder) { s[1].Version = 2 }),
		shards("alignment 64 in all", 2, false, func(s []*builder) {
			setAll(s, "general.alignment", uint32(64))
			for _, b := range s {
				b.Alignment = 64
			}
		}),
		shards("alignment 64 in the first", 2, false, func(s []*builder) {
			s[0].Set("general.alignment", uint32(64))
			s[0].Alignment = 64
		}),
		shards("alignment 16 in the second", 2, false, func(s []*builder) {
			s[1].Set("general.alignment", uint32(16))
			s[1].Alignment = 16
		}),
		shards("no number in the first", 2, false, func(s []*builder) { s[0].Unset("split.no") }),
		shards("no number in the second", 2, false, func(s []*builder) { s[1].Unset("split.no") }),
		shards("no count in the second", 2, false, func(s []*builder) { s[1].Unset("split.count") }),
		shards("another count in the second", 2, false, func(s []*builder) { s[1].Set("split.count", uint16(7)) }),
		shards("count of another type in the second", 2, false, func(s []*builder) { s[1].Set("split.count", "two") }),
		shards("no tensor count in the second", 2, false, func(s []*builder) { s[1].Unset("split.tensors.count") }),
		shards("no tensor count in the first", 2, false, func(s []*builder) { s[0].Unset("split.tensors.count") }),
		shards("another tensor count in the second", 2, false, func(s []*builder) { s[1].Set("split.tensors.count", int32(1)) }),
		shards("another tensor count in the first", 2, false, func(s []*builder) { s[0].Set("split.tensors.count", int32(1)) }),
		shards("tensor count uint32", 2, false, func(s []*builder) { setAll(s, "split.tensors.count", uint32(len(oddBase().Tensors))) }),
		shards("tensor count of another type in the second", 2, false, func(s []*builder) { s[1].Set("split.tensors.count", "x") }),
		shards("count uint32", 2, false, func(s []*builder) { setAll(s, "split.count", uint32(2)) }),
		shards("count uint32 in the second", 2, false, func(s []*builder) { s[1].Set("split.count", uint32(2)) }),
		shards("a tensor in two", 2, false, func(s []*builder) { s[1].Tensors = append(s[1].Tensors, s[0].Tensors[0]) }),
		shards("trailing key", 2, false, func(s []*builder) { s[1].Set(" odd ", "x") }),
	)
	return models
}

const oddModelsChild = "GGUFPLAN_TEST_ODD_MODELS"

// TestOddModelsChild loads the models that standard input names, and says of
// each whether llama.cpp could: some end the process.
func TestOddModelsChild(t *testing.T) {
	if os.Getenv(oddModelsChild) == "" {
		t.Skip("a helper of another test")
	}
	lib, err := llamacpp.Open()
	if err != nil {
		t.Fatal(err)
	}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		m, err := lib.LoadModel(strings.ReplaceAll(in.Text(), "\\n", "\n"), 32)
		if err == nil {
			m.Close()
			fmt.Println("\nODD yes")
			continue
		}
		fmt.Printf("\nODD no %q\n", err)
	}
}

// loader asks llama.cpp in a process of its own, again and again.
type loader struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

// loads reports whether llama.cpp loads a model.
func (l *loader) loads(t *testing.T, path string) (ok bool, why string) {
	t.Helper()
	if l.cmd == nil {
		l.cmd = exec.Command(os.Args[0], "-test.run", "^TestOddModelsChild$")
		l.cmd.Env = append(os.Environ(), oddModelsChild+"=1", "GGML_NO_BACKTRACE=1")
		var err error
		if l.in, err = l.cmd.StdinPipe(); err != nil {
			t.Fatal(err)
		}
		out, err := l.cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := l.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		l.out = bufio.NewScanner(out)
		l.out.Buffer(nil, 1<<20)
	}
	fmt.Fprintln(l.in, strings.ReplaceAll(path, "\n", "\\n"))
	for l.out.Scan() {
		if answer, found := strings.CutPrefix(l.out.Text(), "ODD "); found {
			return answer == "yes", answer
		}
	}
	err := l.cmd.Wait()
	l.cmd = nil
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Fatalf("the helper ended: %v", err)
	}
	return false, exit.String()
}

func (l *loader) close() {
	if l.cmd != nil {
		l.in.Close()
		l.cmd.Wait()
	}
}

// What llama.cpp loads is read, whatever no usual writer would make of it.
func TestOddModels(t *testing.T) {
	llamacpp.Load(t)
	// Beyond the limits that the README states.
	beyond := []string{"alignment 2097152"}
	var l loader
	defer l.close()
	loaded := 0
	for _, odd := range oddModels() {
		path, err := odd.make(t.TempDir())
		if err != nil {
			t.Fatalf("%s: %v", odd.name, err)
		}
		_, err = ggufio.Open(path)
		ok, why := l.loads(t, path)
		if ok {
			loaded++
		}
		if testing.Verbose() {
			t.Logf("%s: loads %t (%.80s), read: %v", odd.name, ok, why, err)
		}
		if limit := slices.Contains(beyond, odd.name); ok && limit != (err != nil) {
			t.Errorf("%s: llama.cpp loads it, and reading gives %v", odd.name, err)
		}
	}
	if loaded < 170 {
		t.Errorf("llama.cpp loads %d models only", loaded)
	}
}
