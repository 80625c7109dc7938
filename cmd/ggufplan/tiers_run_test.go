package main

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/gguftest/llamacpp"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner/apply"
	"github.com/ggufplan/ggufplan/stats/read"
)

// tierFile writes a model with the experts of every fused tensor in n tiers of a
// type, to files of the given names.
func tierFile(t *testing.T, source, imatrix string, typ quant.Type, n int, names ...string) string {
	t.Helper()
	group := func(x *ggufio.Tensor) []apply.Tier {
		if x.Layer < 0 || x.Experts() < n || !strings.HasSuffix(x.Name, "_exps.weight") {
			return nil
		}
		tiers := make([]apply.Tier, n)
		for e := range x.Experts() {
			k := (e + e/n) % n
			tiers[k].Type = typ
			tiers[k].Experts = append(tiers[k].Experts, e)
		}
		return tiers
	}
	return writtenTiers(t, source, imatrix, func(x *ggufio.Tensor) quant.Type { return x.Type }, group, names...)
}

func writtenTiers(t *testing.T, source, imatrix string, types func(*ggufio.Tensor) quant.Type, group func(*ggufio.Tensor) []apply.Tier, names ...string) string {
	t.Helper()
	model := modelOf(t, source)
	o := apply.Options{Names: names, Tiers: group}
	if imatrix != "" {
		evidence, err := read.File(t.Context(), imatrix, read.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer evidence.Close()
		o.Columns = evidence.Columns
	}
	layout, err := apply.Typed(model, types, o)
	if err != nil {
		t.Fatal(err)
	}
	for i := range layout.Files {
		if _, err := layout.Write(context.Background(), i, apply.WriteOptions{Path: names[i] + ".partial"}); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(names[i]+".partial", names[i]); err != nil {
			t.Fatal(err)
		}
	}
	return names[0]
}

// sameLogits holds two models' logits against each other, over sequences so
// short that every expert takes the kernel for few rows: of IQ types it differs
// in the last digits from the one for many.
func sameLogits(t *testing.T, a, b string) {
	t.Helper()
	text, err := os.ReadFile("../../testdata/bytemoe-2x8/eval.txt")
	if err != nil {
		t.Fatal(err)
	}
	var all [2][][]float32
	for i, path := range []string{a, b} {
		m, err := llamacpp.Load(t).LoadModel(path, 64)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		tokens := m.Tokenize(string(text[:64]))
		for at := 0; at+2 <= len(tokens); at += 2 {
			rows, err := m.Logits(tokens[at : at+2])
			if err != nil {
				t.Fatal(err)
			}
			all[i] = append(all[i], rows...)
		}
	}
	for i := range all[0] {
		for k, v := range all[0][i] {
			if v != all[1][i][k] || v != v {
				t.Fatalf("%s: position %d, token %d: logit %v, %s has %v", filepath.Base(a), i, k, v, filepath.Base(b), all[1][i][k])
			}
		}
	}
}

// Tiers of the source's type are the source: in any number, as shards, and with
// gate and up in one tensor.
func TestTiersRunAsTheSource(t *testing.T) {
	t.Parallel()
	if !llamacpp.WithTiers(t) {
		return
	}
	dir := t.TempDir()
	e := newEvaluator(t, 0, 2<<10)
	for n := 2; n <= 8; n++ {
		path := tierFile(t, realModel, "", quant.F16, n, filepath.Join(dir, "tiers.gguf"))
		sameLogits(t, path, realModel)
		if n != 3 {
			continue
		}
		if d := e.divergence(path); math.Abs(d.Mean) > 1e-9 {
			t.Errorf("%d tiers: divergence %v from the source", n, d)
		}
	}
	var names []string
	for _, i := range []string{"1", "2", "3"} {
		names = append(names, filepath.Join(dir, "set-0000"+i+"-of-00003.gguf"))
	}
	sameLogits(t, tierFile(t, realModel, "", quant.F16, 3, names...), realModel)

	merged := mergedModel(t, dir)
	sameLogits(t, tierFile(t, merged, "", quant.F16, 3, filepath.Join(dir, "merged-tiers.gguf")), merged)
}

// mergedModel makes the real model one whose gate and up are one tensor, of an
// architecture that has those. What it predicts is nothing.
func mergedModel(t *testing.T, dir string) string {
	t.Helper()
	m := modelOf(t, realModel)
	raw, err := os.ReadFile(realModel)
	if err != nil {
		t.Fatal(err)
	}
	b := &gguftest.Builder{}
	for _, p := range m.Metadata.Pairs {
		pair := raw[p.OffsetBytes:][:p.SizeBytes]
		b.Set(strings.Replace(p.Key, "qwen3moe.", "cohere2moe.", 1), gguftest.Raw(pair[8+len(p.Key):]))
	}
	b.Set("general.architecture", "cohere2moe")
	b.Set("cohere2moe.attention.layer_norm_epsilon", float32(1e-5))
	b.Set("cohere2moe.attention.sliding_window", uint32(4096))
	b.Set("cohere2moe.logit_scale", float32(1))
	b.Set("cohere2moe.leading_dense_block_count", uint32(0))
	data := func(x *ggufio.Tensor) []byte { return raw[x.OffsetBytes:][:x.SizeBytes] }
	for i := range m.Tensors {
		x := &m.Tensors[i]
		switch {
		case strings.Contains(x.Name, "_q_norm") || strings.Contains(x.Name, "_k_norm") || strings.Contains(x.Name, "ffn_norm") || strings.Contains(x.Name, "ffn_up_exps"):
		case strings.Contains(x.Name, "ffn_gate_exps"):
			up := slices.IndexFunc(m.Tensors, func(y ggufio.Tensor) bool { return y.Name == strings.Replace(x.Name, "gate", "up", 1) })
			gates, ups := data(x), data(&m.Tensors[up])
			var both []byte
			for n := x.ExpertBytes(); len(gates) > 0; gates, ups = gates[n:], ups[n:] {
				both = append(append(both, gates[:n]...), ups[:n]...)
			}
			b.Add(strings.Replace(x.Name, "gate", "gate_up", 1), x.Type, []uint64{x.Shape[0], 2 * x.Shape[1], x.Shape[2]}, both)
		default:
			b.Add(x.Name, x.Type, x.Shape, data(x))
		}
	}
	path := filepath.Join(dir, "merged.gguf")
	if err := b.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// Tiers of one type are the fused tensor of that type, for every K and IQ type
// that llama-quantize writes.
func TestTiersRunInEveryType(t *testing.T) {
	t.Parallel()
	if !llamacpp.WithTiers(t) {
		return
	}
	dir := t.TempDir()
	types := []quant.Type{quant.Q2_K, quant.Q3_K, quant.Q4_K, quant.Q5_K, quant.Q6_K, quant.IQ1_S, quant.IQ1_M, quant.IQ2_XXS, quant.IQ2_XS,
		quant.IQ2_S, quant.IQ3_XXS, quant.IQ3_S, quant.IQ4_XS, quant.IQ4_NL, quant.Q8_0}
	for i, typ := range types {
		fused := writtenTiers(t, realModel, realImatrix, func(x *ggufio.Tensor) quant.Type {
			if strings.HasSuffix(x.Name, "_exps.weight") {
				return typ
			}
			return x.Type
		}, nil, filepath.Join(dir, typ.String()+".gguf"))
		sameLogits(t, tierFile(t, realModel, realImatrix, typ, 2+i%7, filepath.Join(dir, typ.String()+"-tiers.gguf")), fused)
	}
}

// A split plan that runs costs what its simulation says.
func TestTiersRunAsSimulated(t *testing.T) {
	t.Parallel()
	if !llamacpp.WithTiers(t) {
		return
	}
	dir := t.TempDir()
	e := newEvaluator(t, 0, 10<<10)
	errors := measured(t, dir, "Q2_K,Q3_K,Q4_K,Q5_K,Q6_K")
	for name, flags := range map[string][]string{
		"frequency":   {"--base", "keep"},
		"3.0 bits":    {"--errors", errors, "--target-expert-bpw", "3.0", "--base", "keep", "--scope-tensors", "experts"},
		"whole model": {"--errors", errors, "--target-size", "1800KB"},
	} {
		plan := planFile(t, dir, name, flags...)
		out := filepath.Join(dir, name+".gguf")
		ggufplan(t, exitDone, "apply", plan, realModel, "--imatrix", realImatrix, "--split", "-q", "-o", out)
		if size := decodeManifest(t, plan).Totals.SplitFileBytes; size == nil || uint64(len(fileBytes(t, out))) != *size {
			t.Errorf("%s: the file has %d bytes, the plan says %v", name, len(fileBytes(t, out)), size)
		}
		ran, simulation := e.divergence(out), e.divergence(simulated(t, plan))
		t.Logf("%s: divergence %.5f (%.5f), simulated %.5f", name, ran.Mean, ran.StandardError, simulation.Mean)
		if math.Abs(ran.Mean-simulation.Mean) > 0.15*simulation.Mean {
			t.Errorf("%s: divergence %v, simulated %v", name, ran, simulation)
		}
	}
}

func fileBytes(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// The loader refuses broken tier files, by one line that names the table and
// what is wrong; and stock llama.cpp refuses every one.
func TestTiersRefusedByTheLoader(t *testing.T) {
	dir := t.TempDir()
	good := tierFile(t, realModel, "", quant.F16, 3, filepath.Join(dir, "tiers.gguf"))
	if os.Getenv("LD_PRELOAD") == "" {
		_, err := llamacpp.Load(t).LoadModel(good, 16)
		if err == nil {
			t.Error("stock llama.cpp takes a tier file")
		}
	}
	if !llamacpp.WithTiers(t) {
		return
	}
	m := modelOf(t, good)
	table := slices.IndexFunc(m.Tensors, func(x ggufio.Tensor) bool { return x.Name == "blk.0.ffn_up_exps.tiers" })
	at := int64(m.Tensors[table].OffsetBytes)
	for name, tt := range map[string]struct {
		value int32
		want  string
	}{"an index twice": {1, "bad index"}, "an index too large": {9, "bad index"}, "below -1": {-2, "bad index"}, "nowhere": {-1, "does not name"}} {
		raw := fileBytes(t, good)
		for e := range int64(8) { // the first entry of the first tier that is an index
			if int32(binary.LittleEndian.Uint32(raw[at+4*e:])) == 0 {
				binary.LittleEndian.PutUint32(raw[at+4*e:], uint32(tt.value))
				break
			}
		}
		path := filepath.Join(dir, "bad.gguf")
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := llamacpp.Load(t).LoadModel(path, 16); err == nil || !strings.Contains(err.Error(), "blk.0.ffn_up_exps.tiers: ") || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, tt.want)
		}
	}
}

var tierTable = flag.Bool("tier-table", false, "print the README's table of split plans that ran")

// TestTierTable measures the files of fused and of split plans of the same size,
// as they run: testdata/bytemoe-2x8/tiers.sh prints the table.
func TestTierTable(t *testing.T) {
	if !*tierTable {
		return // TestTiersRunAsSimulated checks what can fail
	}
	if os.Getenv("LD_PRELOAD") == "" {
		t.Fatal("preload libtiers.so, as tiers.sh does")
	}
	e := newEvaluator(t, 0, math.MaxInt)
	dir := t.TempDir()
	errors := measured(t, dir, "")
	fmt.Println("| bits per expert weight | predicted ratio | fused | 2 types | 3 types | no limit |\n|---|---|---|---|---|---|")
	for _, bits := range []string{"2.5", "3.0", "3.5", "4.0"} {
		var cells []string
		ratio := 0.0
		for _, k := range []string{"", "2", "3", "0"} {
			flags := []string{"--errors", errors, "--target-expert-bpw", bits, "--base", "Q8_0", "--scope-tensors", "experts"}
			out := filepath.Join(dir, bits+k+".gguf")
			apply := []string{"apply", "", realModel, "--imatrix", realImatrix, "-q", "-o", out}
			if k != "" {
				flags = append(flags, "--max-tiers", k)
				apply = append(apply, "--split")
			}
			apply[1] = planFile(t, dir, bits+k, flags...)
			if k == "3" {
				ratio = *decodeManifest(t, apply[1]).Totals.SplitRatio
			}
			ggufplan(t, exitDone, apply...)
			d := e.divergence(out)
			cells = append(cells, fmt.Sprintf("%.5f (%.5f)", d.Mean, d.StandardError))
		}
		fmt.Printf("| %s | %.2f | %s |\n", bits, ratio, strings.Join(cells, " | "))
	}
}
