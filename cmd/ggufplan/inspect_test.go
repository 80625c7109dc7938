package main

import (
	"bytes"
	"context"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner/review"
)

func inspectFile(t *testing.T, b *gguftest.Builder, flags ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "m.gguf")
	if err := b.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	var out, errOut bytes.Buffer
	args := append([]string{"inspect", path}, flags...)
	if code := run(context.Background(), args, strings.NewReader(""), &out, &errOut); code != exitDone || errOut.Len() > 0 {
		t.Fatalf("status %d: %s", code, errOut.String())
	}
	return out.String()
}

// The sums that JSON shows are those of what it lists.
func TestInspectSums(t *testing.T) {
	b := gguftest.MoE{Layers: 3, Dense: 1, Shared: 1, Embd: 64, FF: 32, Sparse: true, Type: quant.F16}.Builder()
	b.Tensor("blk.2.ffn_up_exps.weight").Type = quant.Q8_0
	var r inspection
	if err := json.Unmarshal([]byte(inspectFile(t, b, "--json", "--tensors")), &r); err != nil {
		t.Fatal(err)
	}
	var bytes, weights, experts, byType, byRole, byLayer, tensors uint64
	for _, x := range *r.Tensors {
		bytes += x.SizeBytes
		weights += x.Parameters
		if x.ExpertBytes != nil {
			experts += x.SizeBytes
			if *x.ExpertBytes*4 != x.SizeBytes {
				t.Errorf("%s: an expert of %d bytes in %d", x.Name, *x.ExpertBytes, x.SizeBytes)
			}
		}
		if last := b.Tensors[len(b.Tensors)-1]; x.OffsetBytes+x.SizeBytes > r.FileBytes && x.Name != last.Name {
			t.Errorf("%s ends behind the file", x.Name)
		}
	}
	for _, g := range r.Types {
		byType += g.SizeBytes
		tensors += uint64(g.Tensors)
	}
	for _, g := range r.Roles {
		byRole += g.SizeBytes
	}
	for _, l := range r.Layers {
		byLayer += l.SizeBytes
	}
	for what, pair := range map[string][2]uint64{
		"tensor_bytes": {r.TensorBytes, bytes}, "parameters": {r.Parameters, weights}, "types": {byType, bytes}, "roles": {byRole, bytes},
		"layers": {byLayer, experts}, "routed_expert_bytes": {r.RoutedExpertBytes, experts}, "tensor_count": {uint64(r.TensorCount), tensors},
	} {
		if pair[0] != pair[1] || pair[0] == 0 {
			t.Errorf("%s: %d against %d", what, pair[0], pair[1])
		}
	}
	if len(r.DenseLayers) != 1 || r.DenseLayers[0] != 0 || r.MoELayerCount != 2 {
		t.Errorf("dense layers %v, %d MoE layers", r.DenseLayers, r.MoELayerCount)
	}
}

// Layers that differ in a type are shown apart, and so are the experts of a
// layer.
func TestInspectGroups(t *testing.T) {
	b := gguftest.MoE{Layers: 4, Embd: 64, FF: 32, Sparse: true, Type: quant.F16}.Builder()
	b.Tensor("blk.1.ffn_up_exps.weight").Type = quant.Q8_0
	out := inspectFile(t, b)
	for _, want := range []string{"\n0       ffn_gate_exps.weight", "\n1       ffn_gate_exps.weight", "\n2-3     ffn_gate_exps.weight", "ffn_up_exps.weight    Q8_0  64 x 32 x 4"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	b = gguftest.MoE{Layers: 1, Embd: 64, FF: 32, Sparse: true, Separate: true}.Builder()
	b.Tensor("blk.0.ffn_up.2.weight").Type = quant.Q8_0
	out = inspectFile(t, b)
	for _, want := range []string{"ffn_up.E.weight    F32   64 x 32        3", "ffn_up.E.weight    Q8_0  64 x 32        1"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
}

// Models without experts, without weights and without metadata facts.
func TestInspectPlainModels(t *testing.T) {
	dense := gguftest.MoE{Layers: 2, Dense: 2, Embd: 64, FF: 32, Sparse: true}.Builder().Unset("qwen3moe.expert_used_count")
	out := inspectFile(t, dense)
	if !strings.Contains(out, "blocks        2, 0 with experts\n") || strings.Contains(out, "expert tensor") {
		t.Errorf("a dense model:\n%s", out)
	}
	if out := inspectFile(t, dense, "--json"); !strings.Contains(out, `"expert_used_count": null`) || !strings.Contains(out, `"layers": []`) {
		t.Errorf("a dense model:\n%s", out)
	}
	words := (&gguftest.Builder{}).Set("general.architecture", "llama").Set("general.name", "\x1b[31mred\n")
	if out := inspectFile(t, words); !strings.HasPrefix(out, "model         \uFFFD[31mred\uFFFD\n") || !strings.Contains(out, "0 in 0 tensors, 0 B, 0 bits per weight") {
		t.Errorf("a model without weights:\n%q", out)
	}
}

func TestFormatRanges(t *testing.T) {
	for want, numbers := range map[string][]int{"": nil, "3": {3}, "0-2": {0, 1, 2}, "0, 2-3, 7": {0, 2, 3, 7}} {
		if got := review.Ranges(numbers); got != want {
			t.Errorf("%v: %q, want %q", numbers, got, want)
		}
	}
}

func TestFormatCount(t *testing.T) {
	for want, n := range map[string]uint64{"0": 0, "999": 999, "1,000": 1000, "30,532,122,624": 30532122624} {
		if got := review.Count(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}
