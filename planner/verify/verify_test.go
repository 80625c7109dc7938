package verify

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner/manifest"
)

// planned is a plan of three tensors, and the model that carries it out.
func planned() (*manifest.Manifest, *ggufio.Model) {
	plan, model := manifest.New(), &ggufio.Model{}
	plan.Model.Architecture, model.Architecture.Name = "qwen3moe", "qwen3moe"
	for _, t := range []struct {
		name  string
		shape []uint64
		typ   quant.Type
		bytes uint64
	}{
		{"token_embd.weight", []uint64{256, 512}, quant.Q6_K, 512 * 210},
		{"blk.0.attn_norm.weight", []uint64{256}, quant.F32, 1024},
		{"blk.0.ffn_up_exps.weight", []uint64{256, 64, 8}, quant.Q4_K, 8 * 64 * 144},
	} {
		plan.Tensors = append(plan.Tensors, manifest.Tensor{Name: t.name, Shape: t.shape, PlannedType: t.typ.String(), PlannedBytes: t.bytes})
		plan.Totals.PlannedBytes += t.bytes
		model.Tensors = append(model.Tensors, ggufio.Tensor{Name: t.name, Shape: slices.Clone(t.shape), Type: t.typ, SizeBytes: t.bytes})
	}
	return plan, model
}

func TestModel(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(m *ggufio.Model)
		want   []string
	}{
		{"as planned", func(m *ggufio.Model) {}, nil},
		// Writers drop trailing axes of 1.
		{"axis of 1", func(m *ggufio.Model) { m.Tensors[1].Shape = []uint64{256, 1} }, nil},
		{"type and size", func(m *ggufio.Model) { m.Tensors[2].Type, m.Tensors[2].SizeBytes = quant.Q5_K, 8*64*176 }, []string{
			"blk.0.ffn_up_exps.weight: bytes is 90112, planned 73728",
			"blk.0.ffn_up_exps.weight: type is Q5_K, planned Q4_K",
			"total: total is 198656, planned 182272",
		}},
		{"shape", func(m *ggufio.Model) { m.Tensors[0].Shape[1] = 513 }, []string{
			"token_embd.weight: shape is [256, 513], planned [256, 512]"}},
		{"another name", func(m *ggufio.Model) { m.Tensors[1].Name = "blk.0.attn_form.weight" }, []string{
			"blk.0.attn_form.weight: not in the plan, found as F32 [256]",
			"blk.0.attn_norm.weight: missing, planned as F32 [256]",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			plan, model := planned()
			tt.change(model)
			report, err := Model(plan, model, Options{})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, d := range report.Differences {
				got = append(got, d.String())
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("differences\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
			if tt.want == nil && report.Matching != report.Tensors {
				t.Errorf("%d of %d match", report.Matching, report.Tensors)
			}
		})
	}
}

// A model that the plan was never for is refused, not listed tensor by tensor.
func TestModelOfAnother(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(m *ggufio.Model)
		want   string
	}{
		{"architecture", func(m *ggufio.Model) { m.Architecture.Name = "llama" }, `architecture is "llama"`},
		{"names", func(m *ggufio.Model) { m.Tensors = m.Tensors[:1] }, "1 names agree; the first that is missing is blk.0.attn_norm.weight"},
		{"shapes", func(m *ggufio.Model) { m.Tensors[0].Shape[0], m.Tensors[1].Shape[0] = 128, 128 }, "2 of 3 have another shape; token_embd.weight is [128, 512]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			plan, model := planned()
			tt.change(model)
			if _, err := Model(plan, model, Options{}); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q in it", err, tt.want)
			}
		})
	}
}

// dryRun is what llama-quantize --dry-run prints of a model, the time before
// some lines included.
func dryRun(m *ggufio.Model) string {
	var b strings.Builder
	total := uint64(0)
	for i, t := range m.Tensors {
		shape := append(slices.Clone(t.Shape), 1, 1, 1)[:4]
		size := fmt.Sprintf("size = %8.3f MiB", float64(t.SizeBytes)/(1<<20))
		if t.Type != quant.F32 {
			size = fmt.Sprintf("size = %8.2f MiB -> %8.2f MiB (%s)", 1.0, float64(t.SizeBytes)/(1<<20), strings.ToLower(t.Type.String()))
		}
		fmt.Fprintf(&b, "0.00.%d I [%4d/%4d] %36s - [%5d, %5d, %5d, %5d], type = %6s, %s\n", i, i+1, len(m.Tensors), t.Name,
			shape[0], shape[1], shape[2], shape[3], "f32", size)
		total += t.SizeBytes
	}
	fmt.Fprintf(&b, "llama_model_quantize_impl: quant size  = %8.2f MiB (4.50 BPW)\n", float64(total)/(1<<20))
	return b.String()
}

func TestDryRunLog(t *testing.T) {
	for _, tt := range []struct {
		name        string
		from, to    string // replaced in the log
		differences string
		err         string
	}{
		{name: "as planned"},
		{name: "type", from: "(q4_k)", to: "(q5_k)", differences: "blk.0.ffn_up_exps.weight: type is Q5_K, planned Q4_K"},
		{name: "size", from: "0.07 MiB (", to: "0.08 MiB (", differences: "blk.0.ffn_up_exps.weight: bytes is 0.08 MiB, planned 73728"},
		{name: "total", from: "0.17 MiB (4", to: "0.18 MiB (4", differences: "total: total is 0.18 MiB, planned 0.17 MiB"},
		{name: "cut", from: "quant size", to: "", err: "log: ends before the quant size: 3 of 3 tensors are listed"},
		{name: "twice", from: "[   2/   3]               blk.0.attn_norm.weight", to: "[   2/   3] token_embd.weight", err: "log:2: tensor token_embd.weight a second time"},
		{name: "dimension", from: "  512", to: "9999999999999999999", err: `log:1: tensor token_embd.weight: shape: "9999999999999999999" is not a size`},
		{name: "no number", from: "0.07 MiB (", to: "0.0.7 MiB (", err: `log:3: tensor blk.0.ffn_up_exps.weight: size: "0.0.7" is not a number`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			plan, model := planned()
			log := dryRun(model)
			if tt.from != "" && !strings.Contains(log, tt.from) {
				t.Fatalf("%q is not in the log:\n%s", tt.from, log)
			}
			report, err := DryRunLog(plan, "log", strings.NewReader(strings.Replace(log, tt.from, tt.to, 1)))
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want %q in it", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, d := range report.Differences {
				got = append(got, d.String())
			}
			if text := strings.Join(got, "\n"); text != tt.differences {
				t.Errorf("differences %q, want %q", text, tt.differences)
			}
		})
	}
}

// FuzzDryRunLog: no log makes the comparison panic, and every planned tensor
// either matches or is listed.
func FuzzDryRunLog(f *testing.F) {
	plan, model := planned()
	f.Add(dryRun(model))
	f.Add("quant size = 1.0 MiB")
	f.Add("[1/1] x - [ 1, 1, 1, 1], type = f32, size = 1. MiB")
	f.Fuzz(func(t *testing.T, log string) {
		report, err := DryRunLog(plan, "log", strings.NewReader(log))
		if err != nil {
			return
		}
		listed := 0
		for _, want := range plan.Tensors {
			if slices.ContainsFunc(report.Differences, func(d Difference) bool { return d.Subject == want.Name }) {
				listed++
			}
		}
		if report.Matching+listed != len(plan.Tensors) {
			t.Errorf("%d of %d match, with differences %v", report.Matching, report.Tensors, report.Differences)
		}
	})
}
