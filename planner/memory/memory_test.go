package memory

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/gguftest/llamacpp"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner/llamaquantize"
	"golang.org/x/sys/cpu"
)

// unpackHeaders unpacks the header-only models and returns their names.
func unpackHeaders(tb testing.TB) (dir string, names []string) {
	tb.Helper()
	dir = tb.TempDir()
	archive, err := zip.OpenReader(filepath.Join("..", "..", "testdata", "memory", "headers.zip"))
	if err != nil {
		tb.Fatal(err)
	}
	defer archive.Close()
	for _, entry := range archive.File {
		in, err := entry.Open()
		if err != nil {
			tb.Fatal(err)
		}
		data, err := io.ReadAll(in)
		if err != nil {
			tb.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(entry.Name)), data, 0o600); err != nil {
			tb.Fatal(err)
		}
		if strings.HasSuffix(entry.Name, ".gguf") {
			names = append(names, entry.Name)
		}
	}
	return dir, names
}

// extended is a header-only model with a hole for its weights.
func extended(tb testing.TB, dir, name string) (path string, m *ggufio.Model, s *Shape) {
	tb.Helper()
	path, err := gguftest.ExtendHeader(tb.TempDir(), filepath.Join(dir, name))
	if err != nil {
		tb.Fatal(err)
	}
	m, s = open(tb, path)
	return path, m, s
}

func open(tb testing.TB, path string) (*ggufio.Model, *Shape) {
	tb.Helper()
	m, err := ggufio.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	s, err := NewShape(m)
	if err != nil {
		tb.Fatal(err)
	}
	return m, s
}

// logged adds up the buffers of a kind, and says how many lines it rounded.
func logged(log, kind string) (mib float64, lines int) {
	for _, b := range llamacpp.Buffers(log) {
		if b.Kind == kind {
			v, _ := strconv.ParseFloat(b.MiB, 64)
			mib += v
			lines++
		}
	}
	return mib, lines
}

var cacheLine = regexp.MustCompile(`(?m)size = +([0-9.]+) MiB \( *\d+ cells,.*(K|R) \(`)

// loggedSizes adds up caches and states of a dry run, which logs no buffers of
// them.
func loggedSizes(log string) (cache, state float64, lines int) {
	for _, m := range cacheLine.FindAllStringSubmatch(log, -1) {
		v, _ := strconv.ParseFloat(m[1], 64)
		if lines++; m[2] == "K" {
			cache += v
		} else {
			state += v
		}
	}
	return cache, state, lines
}

// wantMiB compares bytes with what was logged, to its two decimals.
func wantMiB(t *testing.T, what string, bytes uint64, mib float64, lines int) {
	t.Helper()
	if d := math.Abs(float64(bytes)/(1<<20) - mib); d > 0.005*float64(max(1, lines))+1e-9 {
		t.Errorf("%s: computed %s MiB, llama.cpp logs %.2f", what, llamacpp.MiB(bytes), mib)
	}
}

// wantCompute holds an estimate of compute buffers to its promise.
func wantCompute(t *testing.T, log string, bytes uint64) {
	t.Helper()
	mib, _ := logged(log, "compute")
	outputs, _ := logged(log, "output")
	mib += outputs
	if ratio := float64(bytes) / (1 << 20) / mib; ratio < 1 || ratio > 2 {
		t.Errorf("compute buffers: estimated %s MiB, llama.cpp logs %.2f: %.2f times", llamacpp.MiB(bytes), mib, ratio)
	}
}

// loadable writes models of several shapes into dir, and returns their paths and
// that of the trained one.
func loadable(t *testing.T, dir string) map[string]string {
	t.Helper()
	models := map[string]string{"bytemoe-2x8": filepath.Join("..", "..", "testdata", "bytemoe-2x8", "model-f16.gguf")}
	for name, o := range map[string]gguftest.MoE{
		"tied":      {Tied: true, Layers: 3, Sparse: true, Type: quant.Q8_0},
		"quantized": {Layers: 4, Experts: 8, Sparse: true, Type: quant.Q4_K, Vocab: 1000},
		"odd":       {Layers: 2, Embd: 96 * 4, FF: 160, Sparse: true, Type: quant.BF16, Vocab: 77},
	} {
		models[name] = filepath.Join(dir, name+".gguf")
		if err := o.Builder().WriteFile(models[name]); err != nil {
			t.Fatal(err)
		}
	}
	return models
}

// Buffers of real loads, with and without mmap, are what llama.cpp logs.
func TestLoadsAsLogged(t *testing.T) {
	lib := llamacpp.Load(t)
	dir := t.TempDir()
	models := loadable(t, dir)
	split, err := gguftest.MoE{Layers: 4, Sparse: true, Type: quant.Q6_K}.Builder().WriteShards(dir, "split", 3)
	if err != nil {
		t.Fatal(err)
	}
	models["split"] = split[0]
	for name, path := range models {
		m, s := open(t, path)
		for _, c := range []struct {
			context, sequences, batch int
			key, value                quant.Type
		}{
			{512, 1, 0, quant.F16, quant.F16}, {1000, 1, 64, quant.F32, quant.BF16}, {3000, 3, 512, quant.Q8_0, quant.Q8_0}, {4096, 4, 0, quant.Q4_0, quant.IQ4_NL},
		} {
			for _, mapped := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%d/%v", name, c.context, mapped), func(t *testing.T) {
					log, err := lib.LoadLog(path, llamacpp.RunOptions{ContextTokens: c.context, Sequences: c.sequences, BatchTokens: c.batch,
						Outputs: c.sequences, KeyType: uint32(c.key), ValueType: uint32(c.value), MapFile: mapped})
					if err != nil {
						t.Fatal(err)
					}
					run, err := s.Estimate(m, SourceWeights(m), Options{ContextTokens: uint64(c.context), Sequences: uint64(c.sequences),
						BatchTokens: uint64(c.batch), KeyType: c.key, ValueType: c.value})
					if err != nil {
						t.Fatal(err)
					}
					weights := run.CPU.Weights
					if mapped {
						weights = run.MappedBytes
					}
					mib, lines := logged(log, "model")
					wantMiB(t, "weights", weights, mib, lines)
					mib, lines = logged(log, "KV")
					wantMiB(t, "cache", run.CPU.Cache, mib, lines)
					wantCompute(t, log, run.CPU.Compute)
				})
			}
		}
	}
}

// Weights, caches, states and compute buffers of every architecture that
// llama.cpp's own test makes a model of.
func TestArchitecturesAsLogged(t *testing.T) {
	lib := llamacpp.Load(t)
	dir, names := unpackHeaders(t)
	unknown := 0
	for _, name := range names {
		if !strings.HasPrefix(name, "arch-") {
			continue
		}
		t.Run(strings.TrimSuffix(name, ".gguf"), func(t *testing.T) {
			path, m, s := extended(t, dir, name)
			if s.CacheUnknown() != nil {
				unknown++
			}
			for _, c := range []struct {
				context, sequences int
				mapped, dry        bool
			}{{1024, 1, false, false}, {4096, 3, true, false}, {32768, 1, false, true}} {
				if c.sequences > 1 && m.Architecture.Name == "kimi-linear" {
					continue // llama.cpp v0.5.0 aborts on it
				}
				log, err := lib.LoadLog(path, llamacpp.RunOptions{ContextTokens: c.context, Sequences: c.sequences, Outputs: c.sequences,
					KeyType: uint32(quant.F16), ValueType: uint32(quant.F16), MapFile: c.mapped, DryRun: c.dry})
				if err != nil {
					t.Fatal(err)
				}
				run, err := s.Estimate(m, SourceWeights(m), Options{ContextTokens: uint64(c.context), Sequences: uint64(c.sequences), KeyType: quant.F16, ValueType: quant.F16})
				if err != nil {
					t.Fatal(err)
				}
				switch mib, lines := logged(log, "model"); {
				case c.dry:
				case c.mapped:
					wantMiB(t, "mapped weights", run.MappedBytes, mib, lines)
				default:
					wantMiB(t, "weights", run.CPU.Weights, mib, lines)
				}
				if s.CacheUnknown() != nil {
					continue
				}
				if c.dry {
					cache, state, lines := loggedSizes(log)
					wantMiB(t, "cache", run.CPU.Cache, cache, lines)
					wantMiB(t, "state", run.CPU.State, state, lines)
				} else {
					cache, lines := logged(log, "KV")
					wantMiB(t, "cache", run.CPU.Cache, cache, lines)
					state, lines := logged(log, "RS")
					wantMiB(t, "state", run.CPU.State, state, lines)
				}
				if !cacheless[m.Architecture.Name] {
					wantCompute(t, log, run.CPU.Compute)
				}
			}
		})
	}
	if unknown > 5 {
		t.Errorf("the cache of %d architectures is unknown", unknown)
	}
}

// Caches, states and compute buffers of models as wide as published ones.
func TestPublishedWidthsAsLogged(t *testing.T) {
	lib := llamacpp.Load(t)
	dir, names := unpackHeaders(t)
	for _, name := range names {
		if strings.HasPrefix(name, "arch-") {
			continue
		}
		t.Run(strings.TrimSuffix(name, ".gguf"), func(t *testing.T) {
			path, m, s := extended(t, dir, name)
			for _, c := range []struct {
				context, sequences, batch int
				key, value                quant.Type
			}{
				{4096, 1, 512, quant.F16, quant.F16}, {32768, 1, 512, quant.Q8_0, quant.Q8_0}, {32768, 8, 2048, quant.F16, quant.F16}, {131072, 2, 512, quant.F16, quant.Q4_0},
				{65536, 256, 512, quant.F16, quant.F16}, {32768, 16, 64, quant.F16, quant.F16}, {8192, 1, 4096, quant.F16, quant.F16},
			} {
				if s.latent {
					c.value = c.key
				}
				if _, recurrent := recurrences[m.Architecture.Name]; recurrent && c.sequences > 2 {
					c.sequences = 2 // states take memory in a dry run too
				}
				log, err := lib.LoadLog(path, llamacpp.RunOptions{ContextTokens: c.context, Sequences: c.sequences, BatchTokens: c.batch, Outputs: c.sequences,
					KeyType: uint32(c.key), ValueType: uint32(c.value), DryRun: true})
				if err != nil {
					t.Fatal(err)
				}
				run, err := s.Estimate(m, SourceWeights(m), Options{ContextTokens: uint64(c.context), Sequences: uint64(c.sequences), BatchTokens: uint64(c.batch), KeyType: c.key, ValueType: c.value})
				if err != nil {
					t.Fatal(err)
				}
				cache, state, lines := loggedSizes(log)
				wantMiB(t, "cache", run.CPU.Cache, cache, lines)
				wantMiB(t, "state", run.CPU.State, state, lines)
				wantCompute(t, log, run.CPU.Compute)
			}
		})
	}
}

// What cannot be known is said, and what is asked for must be possible.
func TestWhatCannotBe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.gguf")
	b := gguftest.MoE{Arch: "neverheard", Sparse: true}.Builder()
	if err := b.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	m, s := open(t, path)
	run, err := s.Estimate(m, SourceWeights(m), Options{ContextTokens: 512, KeyType: quant.F16, ValueType: quant.F16})
	var unknown *UnknownError
	if err != nil || !errors.As(run.CacheUnknown, &unknown) || run.CPU.Cache != 0 || run.CPU.Compute != 0 || run.CPU.Weights == 0 {
		t.Errorf("an unknown architecture: %+v, %v", run, err)
	}

	if err := (gguftest.MoE{Sparse: true}).Builder().WriteFile(path); err != nil {
		t.Fatal(err)
	}
	m, s = open(t, path)
	f16 := Options{ContextTokens: 512, KeyType: quant.F16, ValueType: quant.F16}
	for want, change := range map[string]func(o *Options){
		"a context of 0 tokens":         func(o *Options) { o.ContextTokens = 0 },
		"a context of 1099511627776":    func(o *Options) { o.ContextTokens = 1 << 40 },
		"1000 sequences":                func(o *Options) { o.Sequences = 1000 },
		"heads of 64 values do not":     func(o *Options) { o.KeyType = quant.Q4_K },
		"a compute margin of -1":        func(o *Options) { o.ComputeMargin = -1 },
		"a cache of types F16 and type": func(o *Options) { o.ValueType = 5 },
	} {
		o := f16
		change(&o)
		if _, err := s.Estimate(m, SourceWeights(m), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	wide := filepath.Join(t.TempDir(), "wide.gguf")
	if err := (gguftest.MoE{Sparse: true}).Builder().Set("qwen3moe.attention.head_count", uint32(1<<20)).Set("qwen3moe.attention.key_length", uint32(1<<20)).WriteFile(wide); err != nil {
		t.Fatal(err)
	}
	m, s = open(t, wide)
	for _, p := range []Placement{{}, {GPULayers: 1}, {GPULayers: AllLayers}} {
		o := Options{ContextTokens: MaxContextTokens, BatchTokens: MaxContextTokens, KeyType: quant.F16, ValueType: quant.F16, Placement: p}
		if _, err := s.Estimate(m, SourceWeights(m), o); err == nil || !strings.Contains(err.Error(), "more than 2^60 bytes") {
			t.Errorf("%+v: heads of 2^40 values: %v", p, err)
		}
	}
	for key, value := range map[string]uint32{"qwen3moe.attention.key_length": 1 << 31, "qwen3moe.embedding_length": math.MaxUint32, "qwen3moe.expert_feed_forward_length": 1 << 30} {
		bad := filepath.Join(t.TempDir(), "bad.gguf")
		if err := (gguftest.MoE{Sparse: true}).Builder().Set(key, value).WriteFile(bad); err != nil {
			t.Fatal(err)
		}
		m, err := ggufio.Open(bad)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := NewShape(m); err == nil || !strings.Contains(err.Error(), key) || !strings.Contains(err.Error(), "bad.gguf") {
			t.Errorf("%s = %d: %v", key, value, err)
		}
	}
}

// Where tensors lie with a card follows -ngl and --n-cpu-moe.
func TestPlacement(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.gguf")
	if err := (gguftest.MoE{Layers: 4, Sparse: true, Type: quant.BF16, Vocab: 320}).Builder().WriteFile(path); err != nil {
		t.Fatal(err)
	}
	m, s := open(t, path)
	sum := func(pick func(t *ggufio.Tensor) bool) (n uint64) {
		for i := range m.Tensors {
			if t := &m.Tensors[i]; pick(t) {
				n += t.SizeBytes
			}
		}
		return n
	}
	expert := func(t *ggufio.Tensor) bool { return t.Role.IsExpert() }
	for _, c := range []struct {
		name string
		Placement
		gpu func(t *ggufio.Tensor) bool
	}{
		{"no card", Placement{}, func(*ggufio.Tensor) bool { return false }},
		{"output alone", Placement{GPULayers: 1}, func(t *ggufio.Tensor) bool { return strings.HasPrefix(t.Name, "output") }},
		{"last two blocks", Placement{GPULayers: 3}, func(t *ggufio.Tensor) bool { return t.Layer >= 2 || strings.HasPrefix(t.Name, "output") }},
		{"all", Placement{GPULayers: AllLayers}, func(t *ggufio.Tensor) bool { return t.Name != "token_embd.weight" }},
		{"experts on the CPU", Placement{GPULayers: AllLayers, CPUExpertLayers: 4}, func(t *ggufio.Tensor) bool { return t.Name != "token_embd.weight" && !expert(t) }},
		{"first experts on the CPU", Placement{GPULayers: AllLayers, CPUExpertLayers: 3}, func(t *ggufio.Tensor) bool {
			return t.Name != "token_embd.weight" && (!expert(t) || t.Layer == 3)
		}},
	} {
		w, err := s.weightBytes(m, SourceWeights(m), c.Placement, RepackNone)
		if err != nil {
			t.Fatal(err)
		}
		gpu := sum(c.gpu)
		if all := sum(func(*ggufio.Tensor) bool { return true }); w.GPU != gpu || w.CPU != all-gpu {
			t.Errorf("%s: %d bytes on the card and %d in RAM, want %d and %d", c.name, w.GPU, w.CPU, gpu, all-gpu)
		}
	}
	run, err := s.Estimate(m, SourceWeights(m), Options{ContextTokens: 1024, KeyType: quant.F16, ValueType: quant.F16, Placement: Placement{GPULayers: 3}})
	if err != nil {
		t.Fatal(err)
	}
	if run.GPU.Cache != run.CPU.Cache || run.GPU.Cache == 0 {
		t.Errorf("of 4 blocks' cache the card holds %d bytes and the RAM %d, want half each", run.GPU.Cache, run.CPU.Cache)
	}
}

// processor is what this machine's processor makes the loaded library lay out
// anew: AMX is not used.
func processor() Repack {
	switch {
	case cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512VL && cpu.X86.HasAVX512DQ && cpu.X86.HasAVX512CD:
		return RepackAVX512
	case cpu.X86.HasAVX2 && cpu.X86.HasFMA:
		return RepackAVX2
	}
	return RepackNone
}

// Weights that llama.cpp lays out anew for the processor are a buffer of their
// own.
func TestRepackedAsLogged(t *testing.T) {
	lib := llamacpp.Load(t)
	repack := processor()
	for _, typ := range []quant.Type{quant.Q4_K, quant.Q4_0, quant.Q2_K, quant.IQ4_NL, quant.MXFP4, quant.Q6_K, quant.Q8_0, quant.F16} {
		for _, tied := range []bool{false, true} {
			path := filepath.Join(t.TempDir(), "m.gguf")
			if err := (gguftest.MoE{Layers: 3, FF: 512, Vocab: 1001, Tied: tied, Sparse: true, Type: typ}).Builder().WriteFile(path); err != nil {
				t.Fatal(err)
			}
			m, s := open(t, path)
			w, err := s.Repacked(m, SourceWeights(m), repack)
			if err != nil {
				t.Fatal(err)
			}
			for _, mapped := range []bool{false, true} {
				log, err := lib.LoadLog(path, llamacpp.RunOptions{ContextTokens: 256, KeyType: uint32(quant.F16), ValueType: uint32(quant.F16), MapFile: mapped, Repack: true})
				if err != nil {
					t.Fatal(err)
				}
				got := map[string]string{}
				for _, b := range llamacpp.Buffers(log) {
					if b.Kind == "model" {
						got[b.Device] = b.MiB
					}
				}
				want := map[string]string{"CPU": llamacpp.MiB(w.CPU)}
				if mapped {
					want = map[string]string{"CPU_Mapped": llamacpp.MiB(w.Mapped)}
				}
				if w.Repacked > 0 {
					want["CPU_REPACK"] = llamacpp.MiB(w.Repacked)
				}
				if !maps.Equal(got, want) {
					t.Errorf("%s, tied %v, %s, mapped %v: computed %v, llama.cpp logs %v", typ, tied, repack, mapped, want, got)
				}
			}
		}
	}
}

// Weights of a file that llama-quantize has yet to write are what llama.cpp
// logs of that file.
func TestQuantizedAsLogged(t *testing.T) {
	lib := llamacpp.Load(t)
	source := filepath.Join("..", "..", "testdata", "bytemoe-2x8", "model-f16.gguf")
	m, s := open(t, source)
	for _, name := range []string{"Q4_K_M", "Q3_K_M", "Q6_K"} {
		ft, ok := llamaquantize.FileTypeByName(name)
		if !ok {
			t.Fatal(name)
		}
		types, err := llamaquantize.MixWith(m, ft, false)
		if err != nil {
			t.Fatal(err)
		}
		sizes := make([]uint64, len(types))
		for i, typ := range types {
			if sizes[i], err = llamaquantize.TensorBytes(&m.Tensors[i], typ); err != nil {
				t.Fatal(err)
			}
		}
		out := filepath.Join(t.TempDir(), "q.gguf")
		if _, err := lib.Quantize(source, out, llamacpp.QuantizeOptions{FileType: int32(ft.Number), Threads: 1}); err != nil {
			t.Fatal(err)
		}
		run, err := s.Estimate(m, QuantizedWeights(m, types, sizes), Options{ContextTokens: 512, KeyType: quant.F16, ValueType: quant.F16})
		if err != nil {
			t.Fatal(err)
		}
		for mapped, bytes := range map[bool]uint64{false: run.CPU.Weights, true: run.MappedBytes} {
			log, err := lib.LoadLog(out, llamacpp.RunOptions{ContextTokens: 512, Outputs: 1, KeyType: uint32(quant.F16), ValueType: uint32(quant.F16), MapFile: mapped})
			if err != nil {
				t.Fatal(err)
			}
			mib, lines := logged(log, "model")
			wantMiB(t, name, bytes, mib, lines)
		}
	}
}
