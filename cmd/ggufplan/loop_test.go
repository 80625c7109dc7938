package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/gguftest/llamacpp"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner/llamaquantize"
	"github.com/ggufplan/ggufplan/planner/manifest"
	"github.com/ggufplan/ggufplan/stats/read"
)

const (
	realModel   = "../../testdata/bytemoe-2x8/model-f16.gguf"
	realImatrix = "../../testdata/bytemoe-2x8/mix.imatrix.gguf"
)

// ggufplan runs a command line and returns its standard output; any status
// but want fails the test.
func ggufplan(t *testing.T, want int, args ...string) string {
	t.Helper()
	var out, errOut bytes.Buffer
	if code := run(context.Background(), args, strings.NewReader(""), &out, &errOut); code != want {
		t.Fatalf("ggufplan %s: status %d, want %d\n%s%s", strings.Join(args, " "), code, want, out.String(), errOut.String())
	}
	return out.String()
}

// imatrixEntries gives llama.cpp an imatrix as llama-quantize does: means per
// column, ones where an expert was never reached.
func imatrixEntries(t *testing.T, m *ggufio.Model, path string) []llamacpp.ImatrixEntry {
	t.Helper()
	e, err := read.File(context.Background(), path, read.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var entries []llamacpp.ImatrixEntry
	for i := range m.Tensors {
		tensor := &m.Tensors[i]
		matrices := max(1, tensor.Experts())
		if !e.Columns.Complete(tensor.Name, tensor.Shape[0], uint64(matrices)) {
			continue
		}
		entry := llamacpp.ImatrixEntry{Name: tensor.Name}
		row := make([]float64, tensor.Shape[0])
		for k := range matrices {
			ok, err := e.Columns.MeanSquares(tensor.Name, k, row)
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range row {
				if !ok {
					v = 1
				}
				entry.Data = append(entry.Data, float32(v))
			}
		}
		entries = append(entries, entry)
	}
	return entries
}

// quantize carries an exported plan out with the real llama.cpp, as its
// llama-quantize would on the exported command line.
func quantize(t *testing.T, plan *manifest.Manifest, source, rules, out string, keepSplit bool) {
	t.Helper()
	lib := llamacpp.Load(t)
	m, err := ggufio.Open(source)
	if err != nil {
		t.Fatal(err)
	}
	o := llamacpp.QuantizeOptions{FileType: 15, Threads: 2, KeepSplit: keepSplit}
	for _, item := range strings.Fields(rules) {
		// The tool splits an item at its first "=" and lower-cases the pattern.
		pattern, name, _ := strings.Cut(item, "=")
		f, ok := quant.ByName(name)
		if !ok {
			t.Fatalf("rule %q names no type", item)
		}
		o.Rules = append(o.Rules, llamacpp.Rule{Pattern: strings.ToLower(pattern), Type: uint32(f.Type)})
	}
	if path, _ := llamaquantize.Imatrix(plan.Statistics.Inputs); path != "" {
		imatrix, err := ggufio.OpenAny(realImatrix)
		if err != nil {
			t.Fatal(err)
		}
		datasets, _, _ := imatrix.Metadata.Strings("imatrix.datasets")
		chunks, _, _ := imatrix.Metadata.Uint64("imatrix.chunk_count")
		o.Imatrix = imatrixEntries(t, m, realImatrix)
		o.Overrides = []llamacpp.Override{
			{Key: "quantize.imatrix.file", Value: path},
			{Key: "quantize.imatrix.dataset", Value: datasets[0]},
			{Key: "quantize.imatrix.entries_count", Value: int64(len(imatrix.Tensors) / 2)},
			{Key: "quantize.imatrix.chunks_count", Value: int64(chunks)},
		}
	}
	if log, err := lib.Quantize(source, out, o); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
}

func decodeManifest(t *testing.T, path string) *manifest.Manifest {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m, err := manifest.Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// runs checks that llama.cpp loads a model and decodes a few tokens.
func runs(t *testing.T, path string) {
	t.Helper()
	model, err := llamacpp.Load(t).LoadModel(path, 32)
	if err != nil {
		t.Fatal(err)
	}
	defer model.Close()
	logits, err := model.Logits(model.Tokenize("In the beginning"))
	if err != nil {
		t.Fatal(err)
	}
	last := logits[len(logits)-1]
	best := 0
	for i, v := range last {
		if v != v {
			t.Fatalf("logit %d is not a number", i)
		}
		if v > last[best] {
			best = i
		}
	}
	if last[best] == last[(best+1)%len(last)] {
		t.Error("the model prefers no token")
	}
}

// Plan, export, quantize with the real llama.cpp, verify: every tensor and the
// file's size are as planned, and the result runs.
func TestWholeLoopWithLlamaCpp(t *testing.T) {
	t.Parallel()
	llamacpp.Load(t)
	for name, flags := range map[string][]string{
		"default":            nil,
		"memory-constrained": {"--preset", "memory-constrained"},
		"quality-focused":    {"--preset", "quality-focused"},
		"base keep":          {"--base", "keep"},
		"pinned":             {"--pin", "attn_v=Q8_0", "--pin", `blk\.1\.ffn_down_exps=Q6_K`, "--pin", "token_embd=Q5_0"},
		"low base":           {"--base", "Q2_K", "--cold-type", "IQ2_XXS", "--warm-type", "IQ3_S"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			planPath, out := filepath.Join(dir, "plan.json"), filepath.Join(dir, "out.gguf")
			ggufplan(t, exitDone, append([]string{"plan", realModel, "--stats", realImatrix, "-q", "-o", planPath}, flags...)...)
			rules := ggufplan(t, exitDone, "export", planPath, "--to", "llama-quantize")
			plan := decodeManifest(t, planPath)
			quantize(t, plan, realModel, rules, out, false)
			if text := ggufplan(t, exitDone, "verify", planPath, out); !strings.HasPrefix(text, "27 of 27 tensors are as planned") {
				t.Errorf("verify says %q", text)
			}
			info, err := os.Stat(out)
			if err != nil {
				t.Fatal(err)
			}
			if planned := plan.Totals.PlannedFileBytes; planned == nil || *planned != uint64(info.Size()) {
				t.Errorf("planned_file_bytes is %v, llama.cpp wrote %d", planned, info.Size())
			}
			runs(t, out)
		})
	}
}

// A sharded source quantized shard by shard has every tensor as planned.
func TestWholeLoopOnShards(t *testing.T) {
	llamacpp.Load(t)
	dir := t.TempDir()
	source := shardRealModel(t, dir)
	planPath := filepath.Join(dir, "plan.json")
	ggufplan(t, exitDone, "plan", source, "--stats", realImatrix, "-q", "-o", planPath)
	rules := ggufplan(t, exitDone, "export", planPath, "--to", "llama-quantize")
	quantize(t, decodeManifest(t, planPath), source, rules, filepath.Join(dir, "out"), true)
	written, err := filepath.Glob(filepath.Join(dir, "out*.gguf"))
	if err != nil || len(written) != 3 {
		t.Fatalf("llama.cpp wrote %v: %v", written, err)
	}
	ggufplan(t, exitDone, "verify", planPath, written[1])
	runs(t, written[0])
}

// shardRealModel writes the real model as three shards and returns the first.
func shardRealModel(t *testing.T, dir string) string {
	t.Helper()
	m, err := ggufio.Open(realModel)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(realModel)
	if err != nil {
		t.Fatal(err)
	}
	b := &gguftest.Builder{}
	for _, p := range m.Metadata.Pairs {
		pair := raw[p.OffsetBytes:][:p.SizeBytes]
		b.Set(p.Key, gguftest.Raw(pair[8+len(p.Key):]))
	}
	for i := range m.Tensors {
		tensor := &m.Tensors[i]
		b.Add(tensor.Name, tensor.Type, tensor.Shape, raw[tensor.OffsetBytes:][:tensor.SizeBytes])
	}
	paths, err := b.WriteShards(dir, "model", 3)
	if err != nil {
		t.Fatal(err)
	}
	return paths[0]
}

// verify finds each kind of tampering, and nothing in a clean file.
func TestVerifyFindsTampering(t *testing.T) {
	dir := t.TempDir()
	planPath := filepath.Join(dir, "plan.json")
	ggufplan(t, exitDone, "plan", realModel, "--stats", realImatrix, "-q", "-o", planPath)
	plan := decodeManifest(t, planPath)
	build := func() *gguftest.Builder {
		b := &gguftest.Builder{}
		b.Set("general.architecture", plan.Model.Architecture)
		for _, x := range plan.Tensors {
			f, _ := quant.ByName(x.PlannedType)
			b.Add(x.Name, f.Type, append([]uint64{}, x.Shape...), nil)
		}
		return b
	}
	const down = "blk.0.ffn_down_exps.weight"
	for _, tt := range []struct {
		name   string
		tamper func(b *gguftest.Builder)
		status int
		want   string // in the output, "" for none
	}{
		{"clean", func(b *gguftest.Builder) {}, exitDone, "27 of 27"},
		{"order", func(b *gguftest.Builder) {
			b.Tensors[0], b.Tensors[5] = b.Tensors[5], b.Tensors[0]
		}, exitDone, "27 of 27"},
		{"type of an expert tensor", func(b *gguftest.Builder) { b.Tensor(down).Type = quant.Q6_K }, exitFinding, down + ": type is Q6_K"},
		{"type of the same size", func(b *gguftest.Builder) { b.Tensor(down).Type = quant.IQ3_S }, exitFinding, down + ": type is IQ3_S"},
		{"type of attention", func(b *gguftest.Builder) { b.Tensor("blk.1.attn_k.weight").Type = quant.F16 }, exitFinding, "blk.1.attn_k.weight: type is F16"},
		{"type of a norm", func(b *gguftest.Builder) { b.Tensor("output_norm.weight").Type = quant.F16 }, exitFinding, "output_norm.weight: type"},
		{"router", func(b *gguftest.Builder) { b.Tensor("blk.0.ffn_gate_inp.weight").Type = quant.F16 }, exitFinding, "blk.0.ffn_gate_inp.weight: type"},
		{"experts gone from one projection", func(b *gguftest.Builder) { b.Tensor(down).Shape[2] = 7 }, exitTrouble, ""},
		{"attention heads gone", func(b *gguftest.Builder) { b.Tensor("blk.1.attn_q.weight").Shape[1] = 128 }, exitFinding, "blk.1.attn_q.weight: shape is [256, 128]"},
		{"shape transposed", func(b *gguftest.Builder) { b.Tensor("output.weight").Shape = []uint64{512, 256} }, exitFinding, "output.weight: shape"},
		{"missing", func(b *gguftest.Builder) { b.Tensors = append(b.Tensors[:3], b.Tensors[4:]...) }, exitFinding, "missing, planned as"},
		{"extra", func(b *gguftest.Builder) { b.Add("blk.0.extra.weight", quant.F32, []uint64{8}, nil) }, exitFinding, "blk.0.extra.weight: not in the plan"},
		{"renamed", func(b *gguftest.Builder) { b.Tensor(down).Name = "blk.0.ffn_down_exps.bias" }, exitFinding, down + ": missing"},
		{"two at once", func(b *gguftest.Builder) {
			b.Tensor("output.weight").Type = quant.Q4_0
			b.Tensor("token_embd.weight").Type = quant.Q4_0
		}, exitFinding, "25 of 27"},
		{"another architecture", func(b *gguftest.Builder) { b.Set("general.architecture", "llama") }, exitTrouble, ""},
		{"another tensor set", func(b *gguftest.Builder) {
			for i := range b.Tensors {
				b.Tensors[i].Name = "x" + b.Tensors[i].Name
			}
		}, exitTrouble, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := build()
			tt.tamper(b)
			path := filepath.Join(dir, "q.gguf")
			if err := b.WriteFile(path); err != nil {
				t.Fatal(err)
			}
			if got := ggufplan(t, tt.status, "verify", "--allow-no-imatrix", planPath, path); !strings.Contains(got, tt.want) || tt.want == "" && got != "" {
				t.Errorf("verify prints %q, want %q in it", got, tt.want)
			}
			if tt.status == exitTrouble {
				return
			}
			var report struct {
				Matching    int
				Differences []struct{ Kind, Subject string }
			}
			if err := json.Unmarshal([]byte(ggufplan(t, tt.status, "verify", "--allow-no-imatrix", "--json", planPath, path)), &report); err != nil {
				t.Fatal(err)
			}
			if (len(report.Differences) > 0) != (tt.status == exitFinding) {
				t.Errorf("JSON lists %d differences", len(report.Differences))
			}
		})
	}
}

// verify reads what llama-quantize --dry-run really prints.
func TestVerifyDryRunLog(t *testing.T) {
	lib := llamacpp.Load(t)
	dir := t.TempDir()
	planPath := filepath.Join(dir, "plan.json")
	ggufplan(t, exitDone, "plan", realModel, "--stats", realImatrix, "-q", "-o", planPath)
	plan := decodeManifest(t, planPath)
	o := llamacpp.QuantizeOptions{FileType: 15, Threads: 1, DryRun: true}
	for _, item := range strings.Fields(ggufplan(t, exitDone, "export", planPath, "--to", "llama-quantize")) {
		pattern, name, _ := strings.Cut(item, "=")
		f, _ := quant.ByName(name)
		o.Rules = append(o.Rules, llamacpp.Rule{Pattern: strings.ToLower(pattern), Type: uint32(f.Type)})
	}
	log, err := lib.Quantize(realModel, filepath.Join(dir, "none.gguf"), o)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "dry-run.log")
	check := func(status int, log, want string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(log), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := ggufplan(t, status, "verify", planPath, "--dry-run-log", path); !strings.Contains(got, want) {
			t.Errorf("verify prints %q, want %q in it", got, want)
		}
	}
	check(exitDone, log, strconv.Itoa(len(plan.Tensors))+" of 27 tensors are as planned")
	check(exitFinding, strings.Replace(log, "(q4_K)", "(q5_K)", 1), "type is Q5_K")
	check(exitFinding, strings.Replace(log, "blk.1.attn_norm.weight ", "blk.1.attn_form.weight ", 1), "missing")
	check(exitFinding, strings.Replace(log, "quant size  =     ", "quant size  =     9", 1), "total")
	check(exitTrouble, strings.Split(log, "quant size")[0], "")
	check(exitTrouble, log+log, "")
	check(exitTrouble, "no log at all\n", "")
}
