package main

import (
	"bytes"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio/gguftest/llamacpp"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner/manifest"
)

// A model quantized in any type is a source like another: what changes its
// type is encoded from what its blocks decode to, as simulate has it, what
// keeps it is copied, and the plan says what that costs.
func TestRequantizing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tried := 0
	for n := range quant.Type(64) {
		f, ok := quant.Lookup(n)
		if !ok || !f.Quantized || !quant.CanDecode(n) || !quant.CanEncode(n) {
			continue
		}
		tried++
		t.Run(f.Name, func(t *testing.T) {
			source := filepath.Join(dir, f.Name+".gguf")
			first := planFile(t, dir, "first", "--base", "keep", "--pin", "_exps="+f.Name)
			ggufplan(t, exitDone, "apply", first, realModel, "--imatrix", realImatrix, "-o", source, "-q")
			to := "Q4_K"
			if f.Name == to {
				to = "Q3_K"
			}
			plan, out, simulated := filepath.Join(dir, "plan.json"), filepath.Join(dir, "out.gguf"), filepath.Join(dir, "simulated.gguf")
			ggufplan(t, exitDone, "plan", source, "--stats", realImatrix, "-q", "-o", plan,
				"--base", "keep", "--pin", "down_exps="+to, "--pin", "_exps="+f.Name)
			p := decodeManifest(t, plan)
			if i := slices.IndexFunc(p.Findings, func(x manifest.Finding) bool { return x.Code == "requantize" }); i < 0 {
				t.Errorf("no finding says that it is requantized: %v", p.Findings)
			} else if s := p.Findings[i].Message; !strings.Contains(s, "what the source lost before") {
				t.Errorf("the finding does not say what is known of the cost: %s", s)
			}
			ggufplan(t, exitDone, "apply", plan, source, "--imatrix", realImatrix, "-o", out, "-q")
			ggufplan(t, exitDone, "verify", "--data", plan, out)
			ggufplan(t, exitDone, "simulate", plan, source, "--stats", realImatrix, "-o", simulated, "-q")
			before, after, exact := contents(t, source), contents(t, out), contents(t, simulated)
			for i := range p.Tensors {
				x := &p.Tensors[i]
				if x.SourceType == x.PlannedType {
					if !bytes.Equal(before[x.Name], after[x.Name]) || !bytes.Equal(before[x.Name], exact[x.Name]) {
						t.Errorf("%s is kept, and its bytes differ", x.Name)
					}
					continue
				}
				target, _ := quant.ByName(x.PlannedType)
				if got := decoded(t, target.Type, after[x.Name], x.Parameters); !bytes.Equal(got, exact[x.Name]) {
					t.Errorf("%s: the applied weights are not the simulated ones", x.Name)
				}
			}
			if f.Name == "Q8_0" || f.Name == "MXFP4" || f.Name == "NVFP4" || f.Name == "Q4_0" {
				sameHeader(t, out, quantized(t, plan, source, realImatrix))
				llamacpp.Load(t)
				runs(t, out)
				runs(t, simulated)
			}
		})
	}
	if tried < 20 {
		t.Errorf("%d types", tried)
	}
}

// decoded returns weights as the bytes of an F32 tensor.
func decoded(t *testing.T, typ quant.Type, data []byte, n uint64) []byte {
	t.Helper()
	rows, out := make([]float32, n), make([]byte, 4*n)
	if err := quant.Decode(typ, rows, data); err != nil {
		t.Fatal(err)
	}
	f32, err := quant.NewEncoder(quant.F32)
	if err != nil {
		t.Fatal(err)
	}
	if err := f32.EncodeRow(out, rows, nil); err != nil {
		t.Fatal(err)
	}
	return out
}
