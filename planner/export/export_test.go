package export

import (
	"encoding/csv"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/planner/manifest"
	"github.com/ggufplan/ggufplan/planner/manifest/manifesttest"
)

func TestLlamaQuantize(t *testing.T) {
	m := manifesttest.TwoExperts()
	m.Statistics = &manifest.Statistics{Inputs: []manifest.Input{{Name: "im.gguf", Format: "imatrix-gguf"}, {Name: "more.json", Format: "canonical-json"}}}
	q, err := LlamaQuantize(m, Paths{Rules: "my rules.txt"})
	if err != nil {
		t.Fatal(err)
	}
	want := `^token_embd\.weight$=q4_K
^blk\.0\.ffn_up_exps\.weight$=q3_K
^blk\.0\.ffn_down_exps\.weight$=iq4_xs
`
	if string(q.Rules) != want {
		t.Errorf("rules\n%swant\n%s", q.Rules, want)
	}
	wantLine := "llama-quantize --imatrix im.gguf --tensor-type-file 'my rules.txt' model-f16.gguf model-f16-planned.gguf Q4_K_M"
	if got := strings.Join(q.Commands, "\n"); got != wantLine {
		t.Errorf("command %q, want %q", got, wantLine)
	}
	if got := fmt.Sprint(q.Losses); got != "[blk.0.ffn_up_exps.weight: all experts get Q3_K; the split plan gives 1 Q3_K, 1 Q4_K]" {
		t.Errorf("losses %s", got)
	}
	if len(q.Notes) != 0 {
		t.Errorf("notes %q", q.Notes)
	}
}

func TestCommandLine(t *testing.T) {
	gguf := func(names ...string) *manifest.Statistics {
		s := &manifest.Statistics{}
		for _, n := range names {
			s.Inputs = append(s.Inputs, manifest.Input{Name: n, Format: "imatrix-gguf"})
		}
		return s
	}
	for _, tt := range []struct {
		name   string
		change func(m *manifest.Manifest)
		want   string
	}{
		{"nothing", func(m *manifest.Manifest) {}, "llama-quantize --tensor-type-file r model-f16.gguf model-f16-planned.gguf Q4_K_M"},
		{"kept base", func(m *manifest.Manifest) { m.Policy.Base = "keep" }, "llama-quantize --tensor-type-file r model-f16.gguf model-f16-planned.gguf Q4_K_M"},
		{"base without rules", func(m *manifest.Manifest) { m.Policy.Base = "F16" }, "llama-quantize --tensor-type-file r model-f16.gguf model-f16-planned.gguf Q4_K_M"},
		{"base that wants an imatrix", func(m *manifest.Manifest) { m.Policy.Base = "IQ2_XS" }, "llama-quantize --tensor-type-file r model-f16.gguf model-f16-planned.gguf Q2_K"},
		{"strange base", func(m *manifest.Manifest) { m.Policy.Base = "Q4_K_M; rm -rf ." }, "llama-quantize --tensor-type-file r model-f16.gguf model-f16-planned.gguf Q4_K_M"},
		{"quantized source", func(m *manifest.Manifest) { m.Tensors[3].SourceType = "Q8_0" },
			"llama-quantize --allow-requantize --tensor-type-file r model-f16.gguf model-f16-planned.gguf Q4_K_M"},
		{"quantized source that stays", func(m *manifest.Manifest) { m.Tensors[3].SourceType = "Q3_K" },
			"llama-quantize --tensor-type-file r model-f16.gguf model-f16-planned.gguf Q4_K_M"},
		{"two imatrix files", func(m *manifest.Manifest) { m.Statistics = gguf("a.gguf", "b c.gguf") },
			"llama-imatrix -m model-f16.gguf --in-file a.gguf --in-file 'b c.gguf' -o merged.imatrix.gguf\n" +
				"llama-quantize --imatrix merged.imatrix.gguf --tensor-type-file r model-f16.gguf model-f16-planned.gguf Q4_K_M"},
		{"compressed imatrix", func(m *manifest.Manifest) { m.Statistics = gguf("a.gguf.zst") },
			"zstd -dk a.gguf.zst\nllama-quantize --imatrix a.gguf --tensor-type-file r model-f16.gguf model-f16-planned.gguf Q4_K_M"},
		{"shards", func(m *manifest.Manifest) {
			m.Model.Files = []manifest.File{{Name: "m-00001-of-00002.gguf"}, {Name: "m-00002-of-00002.gguf"}}
		}, "llama-quantize --tensor-type-file r m-00001-of-00002.gguf m-planned.gguf Q4_K_M"},
		{"names for a shell", func(m *manifest.Manifest) {
			m.Model.Files[0].Name = "-it's $(x).gguf"
			m.Statistics = gguf("a;b")
		}, `llama-quantize --imatrix 'a;b' --tensor-type-file r './-it'\''s $(x).gguf' './-it'\''s $(x)-planned.gguf' Q4_K_M`},
	} {
		m := manifesttest.TwoExperts()
		tt.change(m)
		q, err := LlamaQuantize(m, Paths{Rules: "r"})
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if got := strings.Join(q.Commands, "\n"); got != tt.want {
			t.Errorf("%s:\n%s\nwant\n%s", tt.name, got, tt.want)
		}
	}
}

func TestRefusals(t *testing.T) {
	const ik = "ik_llama.cpp's llama-quantize cannot carry out the plan: "
	expert := func(e int) *int { return &e }
	for _, tt := range []struct {
		name              string
		change            func(m *manifest.Manifest)
		wantLlama, wantIK string // "" where the plan is fit
	}{
		{"declared type", func(m *manifest.Manifest) { m.Tensors[3].PlannedType = "PiQ3"; m.Tensors[4].PlannedType = "PiQ2" },
			"llama-quantize cannot carry out the plan: blk.0.ffn_up_exps.weight: PiQ3 is not one of llama.cpp's types (and 1 more)",
			ik + "blk.0.ffn_up_exps.weight: PiQ3 is not one of ik_llama.cpp's types (and 1 more)"},
		{"type of the other engine", func(m *manifest.Manifest) { m.Tensors[3].PlannedType = "IQ3_K" },
			"llama-quantize cannot carry out the plan: blk.0.ffn_up_exps.weight: llama.cpp's llama-quantize cannot write IQ3_K", ""},
		{"type that ik lacks", func(m *manifest.Manifest) { m.Tensors[3].PlannedType = "TQ1_0" },
			"", ik + "blk.0.ffn_up_exps.weight: ik_llama.cpp's llama-quantize cannot write TQ1_0"},
		{"activation type", func(m *manifest.Manifest) { m.Tensors[3].PlannedType = "Q8_K" },
			"llama-quantize cannot carry out the plan: blk.0.ffn_up_exps.weight: llama.cpp's llama-quantize cannot write Q8_K",
			ik + "blk.0.ffn_up_exps.weight: ik_llama.cpp's llama-quantize cannot write Q8_K"},
		{"tensor that is never changed", func(m *manifest.Manifest) { m.Tensors[2].PlannedType = "Q8_0" },
			"llama-quantize cannot carry out the plan: blk.0.ffn_gate_inp.weight: planned as Q8_0, but llama-quantize never changes such a tensor's type (F32)",
			ik + "blk.0.ffn_gate_inp.weight: planned as Q8_0, but llama-quantize never changes such a tensor's type (F32)"},
		{"rows that do not divide", func(m *manifest.Manifest) { m.Tensors[3].Shape[0] = 96 },
			"llama-quantize cannot carry out the plan: blk.0.ffn_up_exps.weight: rows of 96 weights do not divide into blocks of Q3_K",
			ik + "blk.0.ffn_up_exps.weight: rows of 96 weights do not divide into blocks of Q3_K: ik_llama.cpp would write IQ4_NL"},
		{"no imatrix", func(m *manifest.Manifest) { m.Tensors[3].PlannedType = "IQ2_S" },
			"llama-quantize cannot carry out the plan: blk.0.ffn_up_exps.weight: IQ2_S needs an importance matrix, and the plan's statistics are not one",
			ik + "blk.0.ffn_up_exps.weight: IQ2_S needs an importance matrix, and the plan's statistics are not an imatrix of the old .dat format"},
		{"imatrix that leaves it out", func(m *manifest.Manifest) {
			m.Tensors[3].PlannedType = "IQ2_S"
			m.Statistics = &manifest.Statistics{Inputs: []manifest.Input{{Name: "im.gguf", Format: "imatrix-gguf"}, {Name: "im.dat", Format: "imatrix-dat"}}}
			m.Findings = []manifest.Finding{{Code: "needs-imatrix", Subject: "blk.0.ffn_up_exps.weight"}}
		}, "llama-quantize cannot carry out the plan: blk.0.ffn_up_exps.weight: IQ2_S needs an importance matrix, and merged.imatrix.gguf has none under the tensor's own name", ""},
		{"imatrix of another size", func(m *manifest.Manifest) {
			m.Statistics = &manifest.Statistics{Inputs: []manifest.Input{{Name: "im.gguf", Format: "imatrix-gguf"}}}
			m.Findings = []manifest.Finding{{Code: "imatrix-size", Subject: "blk.0.ffn_up_exps.weight"}}
		}, "llama-quantize cannot carry out the plan: blk.0.ffn_up_exps.weight: its entry in im.gguf has a size at which llama-quantize stops; ggufplan apply goes without it", ""},
		{"embedding without imatrix", func(m *manifest.Manifest) { m.Tensors[0].PlannedType = "IQ2_S" }, "", ""},
		{"alignment", func(m *manifest.Manifest) {
			m.Findings = []manifest.Finding{{Code: "alignment", Subject: "model-f16.gguf", Message: "unreadable, at x first"}}
		}, "llama-quantize cannot carry out the plan: model-f16.gguf: unreadable, at x first", ""},
		{"interleaved rows", func(m *manifest.Manifest) { m.Tensors[3].PlannedType = "Q4_K_R4"; m.Tensors[3].Shape[1] = 6 },
			"llama-quantize cannot carry out the plan: blk.0.ffn_up_exps.weight: llama.cpp's llama-quantize cannot write Q4_K_R4",
			ik + "blk.0.ffn_up_exps.weight: Q4_K_R4 interleaves 4 rows, which 6 do not divide into"},
		{"interleaved embedding", func(m *manifest.Manifest) { m.Tensors[0].PlannedType = "Q4_0_R8" },
			"llama-quantize cannot carry out the plan: token_embd.weight: llama.cpp's llama-quantize cannot write Q4_0_R8",
			ik + "token_embd.weight: token embeddings cannot have Q4_0_R8, which interleaves rows"},
		{"experts apart", func(m *manifest.Manifest) {
			m.Tensors[3].Expert, m.Tensors[4].Expert, m.Tensors[4].Role = expert(0), expert(1), "expert_up"
		}, "", "ik_llama.cpp cannot carry out the plan: blk.0.ffn_down_exps.weight: planned as IQ4_XS, but it loads a layer's experts as one type, and blk.0.ffn_up_exps.weight is Q3_K"},
		{"no file", func(m *manifest.Manifest) { m.Model.Files = nil }, "the plan names no model file", "the plan names no model file"},
		{"no shape", func(m *manifest.Manifest) { m.Tensors[0].Shape = nil },
			"llama-quantize cannot carry out the plan: token_embd.weight: has no shape", ik + "token_embd.weight: has no shape"},
	} {
		for _, target := range []struct {
			name string
			run  func(*manifest.Manifest) (*Quantization, error)
			want string
		}{
			{"llama-quantize", func(m *manifest.Manifest) (*Quantization, error) { return LlamaQuantize(m, Paths{Rules: "r"}) }, tt.wantLlama},
			{"ik-llama", func(m *manifest.Manifest) (*Quantization, error) { return IKLlama(m, Paths{}) }, tt.wantIK},
		} {
			m := manifesttest.TwoExperts()
			tt.change(m)
			q, err := target.run(m)
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != target.want || (q == nil) != (err != nil) {
				t.Errorf("%s, %s:\n%q\nwant\n%q", tt.name, target.name, got, target.want)
			}
		}
	}
	m := manifesttest.TwoExperts()
	m.Tensors[3].PlannedType = "PiQ3"
	_, err := IKLlama(m, Paths{})
	var unfit *UnfitError
	if !errors.As(err, &unfit) || unfit.Tensor != "blk.0.ffn_up_exps.weight" {
		t.Errorf("%v does not name its tensor", err)
	}
}

func TestIKLlama(t *testing.T) {
	m := manifesttest.TwoExperts()
	m.Tensors[3].PlannedType = "IQ3_KS"
	m.Statistics = &manifest.Statistics{Inputs: []manifest.Input{{Name: "im.dat", Format: "imatrix-dat"}}}
	q, err := IKLlama(m, Paths{})
	if err != nil {
		t.Fatal(err)
	}
	want := `^token_embd\.weight$=q4_K,^blk\.0\.ffn_up_exps\.weight$=iq3_ks,^blk\.0\.ffn_down_exps\.weight$=iq4_xs`
	if string(q.Rules) != want+"\n" {
		t.Errorf("rules\n%swant\n%s", q.Rules, want)
	}
	if got := q.Commands[0]; got != "llama-quantize --imatrix im.dat --custom-q '"+want+"' model-f16.gguf model-f16-planned.gguf Q4_K_M" {
		t.Errorf("command %s", got)
	}

	// Too many tensors for one argument are joined; too many that cannot be
	// are refused.
	layers := func(name string) *manifest.Manifest {
		m := manifesttest.TwoExperts()
		var tensors []manifest.Tensor
		for i := range 4000 {
			x := m.Tensors[3]
			x.Name = fmt.Sprintf(name, i)
			tensors = append(tensors, x)
		}
		m.Tensors = tensors
		return m
	}
	q, err = IKLlama(layers("blk.%d.ffn_up_exps.weight"), Paths{})
	if err != nil {
		t.Fatal(err)
	}
	if got := string(q.Rules); !strings.HasPrefix(got, `^blk\.(0|1|2|`) || !strings.HasSuffix(got, "|3999)\\.ffn_up_exps\\.weight$=q3_K\n") || strings.Contains(got, ",") {
		t.Errorf("joined to %.60s...", got)
	}
	if _, err = IKLlama(layers("x%d.a_long_name_that_fills_an_argument.weight"), Paths{}); err == nil || !strings.Contains(err.Error(), "takes its rules as one argument: ") {
		t.Errorf("an argument that is too long: %v", err)
	}
}

func TestPattern(t *testing.T) {
	for name, want := range map[string]string{
		"blk.0.ffn_up.weight": `^blk\.0\.ffn_up\.weight$`,
		"Model.A=b,c weight":  `^\x4dodel\.\x41\x3db\x2cc\x20weight$`,
		"a-b\\d(e)*'\"é":      `^a-b\x5cd\x28e\x29\x2a\x27\x22é$`,
	} {
		got := pattern(name)
		if got != want {
			t.Errorf("pattern(%q) = %s, want %s", name, got, want)
		}
		if strings.ToLower(got) != got {
			t.Errorf("pattern(%q) = %s changes in lower case", name, got)
		}
	}
}

func TestCSV(t *testing.T) {
	m := manifesttest.TwoExperts()
	m.Tensors[1].Name = "a,\"b\"\nc"
	var b strings.Builder
	if err := CSV(&b, m); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(strings.NewReader(b.String())).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != 6 || rows[2][0] != "a,\"b\"\nc" {
		t.Errorf("rows %q", rows)
	}
	if got := strings.Join(rows[4], ";"); got != "blk.0.ffn_up_exps.weight;expert_up;0;;256x256x2;0;F16;0;Q3_K;0;0;0;Q4_K Q3_K;a reason" {
		t.Errorf("row %s", got)
	}
}

// A spreadsheet runs what begins like a formula.
func TestCSVCellsAreText(t *testing.T) {
	m := manifesttest.TwoExperts()
	for i, name := range []string{"=1+1", "+1", "-1", "@SUM(A1)", "plain"} {
		m.Tensors[i].Name, m.Tensors[i].Reason = name, name
	}
	var b strings.Builder
	if err := CSV(&b, m); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(strings.NewReader(b.String())).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"'=1+1", "'+1", "'-1", "'@SUM(A1)", "plain"} {
		if row := rows[i+1]; row[0] != want || row[len(row)-1] != want {
			t.Errorf("row %q, want %q", row, want)
		}
	}
}
