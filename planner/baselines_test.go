package planner

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner/llamaquantize"
)

func TestBaselines(t *testing.T) {
	m := gguftest.OpenHeader(t, filepath.Join(recorded, "olmoe-1b-7b"+"-bf16.gguf"))
	named := func(names ...string) (list []llamaquantize.FileType) {
		for _, n := range names {
			ft, ok := llamaquantize.FileTypeByName(n)
			if !ok {
				t.Fatalf("%s is not a file type", n)
			}
			list = append(list, ft)
		}
		return list
	}
	// IQ1_M needs an importance matrix to be made, not to be compared with;
	// q4_k is an alias of a usual one.
	list, err := baselines(&Problem{Model: m, Baselines: named("IQ1_M", "q4_k", "F16", "IQ1_M")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, b := range list {
		got = append(got, b.FileType.Name)
	}
	if want := "Q2_K Q3_K_M Q4_K_M Q5_K_M Q6_K Q8_0 IQ1_M F16"; strings.Join(got, " ") != want {
		t.Errorf("baselines %s, want %s", got, want)
	}
	if list[0].TensorBytes != 2560980992 { // recorded
		t.Errorf("Q2_K takes %d bytes", list[0].TensorBytes)
	}

	// The nearest of K and IQ types comes last, the smaller of two as near.
	for _, tt := range []struct {
		planned uint64
		want    string
	}{{list[0].TensorBytes - 1, "Q2_K"}, {list[7].TensorBytes, "Q6_K"}, {1, "IQ1_S"}} {
		b, ok := nearest(llamaquantize.NewMixer(m), tt.planned)
		if !ok || b.FileType.Name != tt.want {
			t.Errorf("%s is nearest to %d bytes, want %s", b.FileType.Name, tt.planned, tt.want)
		}
	}
	one, err := baselines(&Problem{Model: m}, new(uint64(1)))
	if err != nil || len(one) != 7 || one[6].FileType.Name != "IQ1_S" {
		t.Errorf("the nearest file type is not among %v: %v", one, err)
	}

	// What llama-quantize stops at is left out, unless it was asked for.
	b := gguftest.MoE{Type: quant.F16}.Builder()
	b.Add("ffn_up.weight", quant.F16, []uint64{256, 2}, nil)
	m = openModel(t, b)
	if list, err := baselines(&Problem{Model: m}, nil); err != nil || len(list) != 0 {
		t.Errorf("%d baselines of a model that cannot be quantized: %v", len(list), err)
	}
	_, err = baselines(&Problem{Model: m, Baselines: named("Q4_K_M")}, nil)
	if want := "baseline Q4_K_M: tensor ffn_up.weight: llama-quantize refuses a model of 2 blocks and 4 experts with such a tensor"; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

func TestBaseThatNeedsAnImatrix(t *testing.T) {
	m := openModel(t, gguftest.MoE{Type: quant.F16, Layers: 1}.Builder())
	plan := planBase(t, m, "IQ2_XXS", nil)
	var subjects []string
	for _, f := range plan.Findings {
		if f.Code == CodeNeedsImatrix {
			subjects = append(subjects, f.Subject)
		}
	}
	// attn_v is Q4_K (four experts), the token embedding and the output are
	// exempt, the experts are planned by policy.
	if got := strings.Join(subjects, " "); got != "blk.0.attn_q.weight blk.0.attn_k.weight blk.0.attn_output.weight" {
		t.Errorf("needs-imatrix on %s", got)
	}
}

func TestFileTypes(t *testing.T) {
	numbers, names := map[uint32]bool{}, map[string]bool{}
	for _, ft := range llamaquantize.FileTypes() {
		if numbers[ft.Number] || names[ft.Name] {
			t.Errorf("%s (%d) is listed twice", ft.Name, ft.Number)
		}
		numbers[ft.Number], names[ft.Name] = true, true
		if got, ok := llamaquantize.FileTypeByName(strings.ToLower(ft.Name)); !ok || got != ft {
			t.Errorf("%s reads back as %v", ft.Name, got)
		}
	}
	for alias, want := range map[string]string{"Q3_K": "Q3_K_M", "q4_k": "Q4_K_M", "Q5_K": "Q5_K_M"} {
		if ft, ok := llamaquantize.FileTypeByName(alias); !ok || ft.Name != want {
			t.Errorf("%s is %s, want %s", alias, ft.Name, want)
		}
	}
	for _, name := range []string{"", "keep", "COPY", "NVFP4", "Q9"} {
		if _, ok := llamaquantize.FileTypeByName(name); ok {
			t.Errorf("%q is a file type", name)
		}
	}
}
