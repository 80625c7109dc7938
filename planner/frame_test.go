package planner

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner/frequency"
	"github.com/ggufplan/ggufplan/planner/manifest"
	"github.com/ggufplan/ggufplan/stats"
)

// codesOf writes a plan's findings as "code subject".
func codesOf(p *Plan) string {
	var parts []string
	for _, f := range p.Findings {
		parts = append(parts, f.Code+" "+f.Subject)
	}
	return strings.Join(parts, ", ")
}

func encodePlan(p *Plan) ([]byte, error) { return manifest.Encode(p.Manifest()) }

func pin(pattern string, t quant.Type) Pin {
	return Pin{regexp.MustCompile(pattern), frequency.GGML(t)}
}

func TestPins(t *testing.T) {
	m := openModel(t, gguftest.MoE{Layers: 2, Type: quant.F16}.Builder())
	policy := keepPolicy()
	policy.Pins = []Pin{pin(`attn_q\.`, quant.F32), pin("attn", quant.Q8_0), pin(`blk\.1\.ffn_up_exps`, quant.Q6_K), pin("ffn_down_exps|_norm", quant.Q4_K)}
	plan := solve(t, &Problem{Model: m, Evidence: counted([]uint64{9, 5, 2, 1}, []uint64{9, 5, 2, 1}), Policy: policy})
	for name, want := range map[string]string{
		"blk.0.attn_q.weight":        "F32",  // the first match wins, and it may enlarge
		"blk.0.attn_k.weight":        "Q8_0", // the second pin
		"blk.0.attn_norm.weight":     "F32",  // cannot be quantized: the pin passes it by
		"blk.1.ffn_up_exps.weight":   "Q6_K",
		"blk.0.ffn_up_exps.weight":   "Q4_K", // not pinned; 9 of 17 activations are hot
		"blk.0.ffn_down_exps.weight": "Q4_K",
	} {
		if x := plan.planOf(t, name); x.Type.Name != want {
			t.Errorf("%s: %s (%s), want %s", name, x.Type, x.Reason, want)
		}
	}
	up := plan.planOf(t, "blk.1.ffn_up_exps.weight")
	if fmt.Sprint(up.ExpertTypes) != "[Q6_K Q6_K Q6_K Q6_K]" || up.SplitSizeBytes != up.SizeBytes {
		t.Errorf("a pinned fused tensor's experts: %v", up.ExpertTypes)
	}
	if *plan.Layers[1].Experts[3].Tier != frequency.Cold || plan.Layers[1].Experts[3].Type.Name != "Q2_K" {
		t.Error("a pin changes what the policy gives an expert")
	}
	if codes := codesOf(plan); !strings.Contains(codes, "enlarges blk.0.attn_q.weight, enlarges blk.1.attn_q.weight") {
		t.Errorf("findings %s", codes)
	}
}

func TestPinsRefused(t *testing.T) {
	m := openModel(t, gguftest.MoE{Layers: 1}.Builder())
	for _, tt := range []struct {
		pin  Pin
		want string
	}{
		{pin("nothing", quant.Q8_0), `pin "nothing": matches no tensor`},
		{pin("norm|gate_inp", quant.Q8_0), "matches only tensors that llama-quantize does not quantize, such as output_norm.weight"},
		{pin("attn", quant.Q8_1), "llama-quantize cannot write type Q8_1"},
		{pin("attn", quant.I32), "llama-quantize cannot write type I32"},
	} {
		policy := keepPolicy()
		policy.Pins = []Pin{tt.pin}
		_, err := Solve(&Problem{Model: m, Evidence: counted([]uint64{4, 3, 2, 1}), Policy: policy})
		var pe *PinError
		if !errors.As(err, &pe) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("error %v, want %s", err, tt.want)
		}
	}
}

// TestNothingGrows plans a model that is small already.
func TestNothingGrows(t *testing.T) {
	m := openModel(t, gguftest.MoE{Layers: 1, Type: quant.Q3_K}.Builder())
	policy := keepPolicy()
	policy.Base = "Q8_0"
	policy.Frequency.Fuse = FuseHottest
	plan := solve(t, &Problem{Model: m, Evidence: counted([]uint64{9, 5, 2, 1}), Policy: policy})
	up := plan.planOf(t, "blk.0.ffn_up_exps.weight")
	if up.Type.Name != "Q3_K" || fmt.Sprint(up.ExpertTypes) != "[Q3_K Q3_K Q3_K Q2_K]" {
		t.Errorf("%s, %v", up.Type, up.ExpertTypes)
	}
	if want := "its hottest expert is hot; that would save no bytes over the source's Q3_K, which stays"; up.Reason != want {
		t.Errorf("reason %q", up.Reason)
	}
	if want := uint64(256 * (110 + 110 + 110 + 84)); up.SplitSizeBytes != want {
		t.Errorf("split plan of %d bytes, want %d", up.SplitSizeBytes, want)
	}
	if q := plan.planOf(t, "blk.0.attn_q.weight"); q.Type.Name != "Q3_K" {
		t.Errorf("attention grows to %s", q.Type)
	}
	if plan.Totals.PlannedBytes > plan.Totals.SourceBytes || codesOf(plan) != "scarce-experts blk.0, typical-errors model.gguf" {
		t.Errorf("findings %s", codesOf(plan))
	}
}

func TestShapeFallback(t *testing.T) {
	// Rows of 96 divide into blocks of 32, not of 256.
	m := openModel(t, gguftest.MoE{Layers: 1, Embd: 96, FF: 256, Type: quant.F16}.Builder())
	policy := keepPolicy()
	policy.Base = "Q4_K_M"
	plan := solve(t, &Problem{Model: m, Evidence: counted([]uint64{100, 75, 25, 5}), Policy: policy})
	up := plan.planOf(t, "blk.0.ffn_up_exps.weight")
	if up.Type.Name != "Q5_0" || fmt.Sprint(up.ExpertTypes) != "[Q5_0 Q4_0 Q4_0 Q4_0]" {
		t.Errorf("%s, %v", up.Type, up.ExpertTypes)
	}
	if want := "most activations are in hot experts; rows of 96 do not divide into blocks of Q4_K, so its fallback Q5_0"; up.Reason != want {
		t.Errorf("reason %q", up.Reason)
	}
	if *plan.Layers[0].Experts[1].Type != frequency.GGML(quant.Q3_K) {
		t.Errorf("the policy's own type is %s", plan.Layers[0].Experts[1].Type)
	}
	if down := plan.planOf(t, "blk.0.ffn_down_exps.weight"); down.Type.Name != "Q4_K" {
		t.Errorf("down: %s", down.Type)
	}
	var message string
	for _, f := range plan.Findings {
		if f.Code == CodeShapeFallback && f.Subject == "blk.0.ffn_up_exps.weight" {
			message = f.Message
		}
	}
	if want := "rows of 96 weights do not divide into blocks: Q4_K becomes Q5_0, Q3_K becomes Q4_0, Q2_K becomes Q4_0"; message != want {
		t.Errorf("finding %q", message)
	}
	if codes := codesOf(plan); !strings.Contains(codes, "shape-fallback blk.0.attn_q.weight") {
		t.Errorf("no finding for what the base wanted: %s", codes)
	}
}

func TestDeclaredTypes(t *testing.T) {
	m := openModel(t, gguftest.MoE{Layers: 1, Embd: 96, Type: quant.F16}.Builder())
	var types frequency.Types
	pi, err := types.Declare("PiQ3", 8, 3)
	if err != nil {
		t.Fatal(err)
	}
	odd, err := types.Declare("Odd", 10, 3)
	if err != nil {
		t.Fatal(err)
	}
	problem := &Problem{Model: m, Evidence: counted([]uint64{100, 75, 25, 5}), Types: &types, Policy: keepPolicy()}
	problem.Policy.Frequency.ColdType = pi
	plan := solve(t, problem)
	up := plan.planOf(t, "blk.0.ffn_up_exps.weight")
	// Rows of 96: three blocks of 22 bytes in Q5_0, three of 18 in Q4_0, twelve of 3 in PiQ3.
	if want := uint64(256 * (66 + 54 + 36 + 36)); up.SplitSizeBytes != want || fmt.Sprint(up.ExpertTypes) != "[Q5_0 Q4_0 PiQ3 PiQ3]" {
		t.Errorf("%d bytes, want %d; %v", up.SplitSizeBytes, want, up.ExpertTypes)
	}
	if _, err := encodePlan(plan); err != nil {
		t.Error(err)
	}
	problem.Policy.Frequency.ColdType = odd
	_, err = Solve(problem)
	var unfit *UnfitTypeError
	if !errors.As(err, &unfit) || unfit.Tensor != "blk.0.ffn_gate_exps.weight" || unfit.Type != "Odd" {
		t.Errorf("error %v", err)
	}
}

func TestDeclareRefuses(t *testing.T) {
	var types frequency.Types
	if _, err := types.Declare("PiQ3", 8, 3); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name           string
		weights, bytes uint64
		want           string
	}{
		{"Q4_K", 8, 3, "is taken by Q4_K"}, {"q4_k", 8, 3, "is taken by Q4_K"}, {"f16", 1, 2, "is taken by F16"},
		{"piq3", 8, 3, "duplicate type name"}, {"", 8, 3, "want a letter"}, {"3Q", 8, 3, "want a letter"}, {"a=b", 8, 3, "want a letter"},
		{"x", 0, 3, "0 weights per block"}, {"x", 8, 0, "0 bytes per block"}, {"x", 1 << 40, 3, "weights per block"}, {"x", 1, 1 << 40, "bytes per block"},
	} {
		if _, err := types.Declare(tt.name, tt.weights, tt.bytes); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: error %v, want %s", tt.name, err, tt.want)
		}
	}
	if got, err := types.Lookup("PIQ3"); err != nil || got.Name != "PiQ3" || len(types.Declared()) != 1 {
		t.Errorf("lookup: %v, %v", got, err)
	}
}

// columns knows of importance matrices for some tensors.
type columns map[string]uint64

func (c columns) MeanSquares(string, int, []float64) (bool, error) { return false, nil }

func (c columns) Complete(tensor string, columns, matrices uint64) bool {
	return c[tensor] == columns*matrices
}

func TestNeedsImatrix(t *testing.T) {
	m := openModel(t, gguftest.MoE{Layers: 1, Type: quant.F16}.Builder())
	policy := keepPolicy()
	policy.Frequency.HotType = frequency.GGML(quant.IQ2_XS)
	policy.Pins = []Pin{pin("token_embd", quant.IQ2_XS), pin("attn_q", quant.IQ1_S)}
	ev := counted([]uint64{100, 5, 5, 5})
	ev.Columns = columns{"blk.0.ffn_up_exps.weight": 4 * 256, "blk.0.ffn_gate_exps.weight": 256}
	plan := solve(t, &Problem{Model: m, Evidence: ev, Policy: policy})
	want := "needs-imatrix token_embd.weight, needs-imatrix blk.0.attn_q.weight, needs-imatrix blk.0.ffn_gate_exps.weight, needs-imatrix blk.0.ffn_down_exps.weight"
	var got []string
	for _, f := range plan.Findings {
		if f.Code == CodeNeedsImatrix {
			got = append(got, f.Code+" "+f.Subject)
		}
	}
	if strings.Join(got, ", ") != want {
		t.Errorf("findings %v, want %s", got, want)
	}
}

func TestRequantize(t *testing.T) {
	m := openModel(t, gguftest.MoE{Layers: 1, Type: quant.Q8_0}.Builder())
	plan := solve(t, &Problem{Model: m, Evidence: counted([]uint64{100, 5, 5, 5}), Policy: keepPolicy()})
	if codes := codesOf(plan); !strings.Contains(codes, "requantize model.gguf") {
		t.Errorf("findings %s", codes)
	}
	f16 := openModel(t, gguftest.MoE{Layers: 1, Type: quant.F16}.Builder())
	plan = solve(t, &Problem{Model: f16, Evidence: counted([]uint64{100, 5, 5, 5}), Policy: keepPolicy()})
	if codes := codesOf(plan); strings.Contains(codes, "requantize") {
		t.Errorf("findings %s", codes)
	}
}

// What llama-quantize would need an importance matrix for, it asks for also
// where the source's type stays.
func TestNeedsImatrixOfKeptTypes(t *testing.T) {
	b := gguftest.MoE{Layers: 1}.Builder()
	for name, shape := range map[string][]uint64{"odd.weight": {256, 2}, "odd_norm.weight": {256, 2}, "row.weight": {256}} {
		b.Add(name, quant.IQ2_XS, shape, nil)
	}
	plan := solve(t, &Problem{Model: openModel(t, b), Evidence: counted([]uint64{100, 5, 5, 5}), Policy: keepPolicy()})
	if codes := codesOf(plan); !strings.Contains(codes, "needs-imatrix odd.weight") || strings.Count(codes, "needs-imatrix") != 1 {
		t.Errorf("findings %s", codes)
	}
}

// Types that llama-quantize cannot read stay, whatever the base says.
func TestTypesThatCannotBeConverted(t *testing.T) {
	b := gguftest.MoE{Layers: 1, Type: quant.F16}.Builder()
	for _, typ := range []quant.Type{quant.I8, quant.I16, quant.I32, quant.I64, quant.F64} {
		b.Add(typ.String()+".weight", typ, []uint64{256, 2}, nil)
	}
	policy := keepPolicy()
	policy.Base = "Q4_K_M"
	plan := solve(t, &Problem{Model: openModel(t, b), Evidence: counted([]uint64{100, 5, 5, 5}), Policy: policy})
	for i := len(plan.Tensors) - 5; i < len(plan.Tensors); i++ {
		if x := plan.Tensors[i]; x.Type.GGML != x.Tensor.Type || x.Reason != "llama-quantize cannot convert "+x.Tensor.Type.String() {
			t.Errorf("%s becomes %s: %s", x.Tensor.Name, x.Type.Name, x.Reason)
		}
	}
}

func TestAlignment(t *testing.T) {
	for _, tt := range []struct {
		align uint64
		want  bool
	}{{32, false}, {8, true}, {64, true}, {4096, true}} {
		b := gguftest.MoE{Layers: 1, Type: quant.F16}.Builder()
		b.Alignment = tt.align
		b.Set("general.alignment", uint32(tt.align))
		plan := solve(t, &Problem{Model: openModel(t, b), Evidence: counted([]uint64{100, 5, 5, 5}), Policy: keepPolicy()})
		if got := strings.Contains(codesOf(plan), "alignment model.gguf"); got != tt.want {
			t.Errorf("alignment %d: findings %s", tt.align, codesOf(plan))
		}
	}
}

func TestEvidenceFindingsPass(t *testing.T) {
	m := openModel(t, gguftest.MoE{Layers: 1}.Builder())
	ev := counted([]uint64{1000, 1000, 1000, 1000})
	ev.Findings = []stats.Finding{{Code: "rounded-counts", Subject: "blk.0", Message: "m"}, {Code: "unseen-experts", Subject: "blk.0", Message: "the planner says this itself"}}
	plan := solve(t, &Problem{Model: m, Evidence: ev, Policy: keepPolicy()})
	if got := codesOf(plan); got != "rounded-counts blk.0, typical-errors model.gguf" {
		t.Errorf("findings %s", got)
	}
}

func TestSeparateAndFusedGateUp(t *testing.T) {
	apart := openModel(t, gguftest.MoE{Layers: 1, Separate: true}.Builder())
	plan := solve(t, &Problem{Model: apart, Evidence: counted([]uint64{100, 75, 25, 5}), Policy: keepPolicy()})
	for e, want := range []string{"Q4_K", "Q3_K", "Q2_K", "Q2_K"} {
		x := plan.planOf(t, fmt.Sprintf("blk.0.ffn_down.%d.weight", e))
		if x.Type.Name != want || fmt.Sprint(x.ExpertTypes) != "["+want+"]" || x.SizeBytes != x.SplitSizeBytes {
			t.Errorf("expert %d: %s, %v", e, x.Type, x.ExpertTypes)
		}
	}
	if plan.Totals.PlannedBytes != plan.Totals.SplitBytes {
		t.Error("the two plans differ")
	}
	if _, err := encodePlan(plan); err != nil {
		t.Error(err)
	}
	together := openModel(t, gguftest.MoE{Layers: 1, GateUp: true}.Builder())
	plan = solve(t, &Problem{Model: together, Evidence: counted([]uint64{100, 75, 25, 5}), Policy: keepPolicy()})
	x := plan.planOf(t, "blk.0.ffn_gate_up_exps.weight")
	if x.Type.Name != "Q4_K" || len(x.ExpertTypes) != 4 {
		t.Errorf("%s, %v", x.Type, x.ExpertTypes)
	}
}

// TestCheck breaks plans in ways that each must be noticed.
func TestCheck(t *testing.T) {
	m := openModel(t, gguftest.MoE{Layers: 1, Type: quant.F16}.Builder())
	for name, spoil := range map[string]func(p *Plan){
		"a size": func(p *Plan) { p.planOf(t, "blk.0.attn_q.weight").SizeBytes++ },
		"a type": func(p *Plan) { p.planOf(t, "blk.0.ffn_up_exps.weight").Type = frequency.GGML(quant.Q8_0) },
		"growth": func(p *Plan) {
			x := p.planOf(t, "blk.0.attn_q.weight")
			x.Type, x.SizeBytes = frequency.GGML(quant.F32), 4*x.Tensor.Parameters
		},
		"an expert's type":  func(p *Plan) { p.planOf(t, "blk.0.ffn_up_exps.weight").ExpertTypes[0] = frequency.GGML(quant.Q8_0) },
		"experts":           func(p *Plan) { x := p.planOf(t, "blk.0.ffn_up_exps.weight"); x.ExpertTypes = x.ExpertTypes[1:] },
		"a split size":      func(p *Plan) { p.planOf(t, "blk.0.attn_q.weight").SplitSizeBytes-- },
		"a total":           func(p *Plan) { p.Totals.SplitBytes++ },
		"a tier's total":    func(p *Plan) { p.Totals.Tiers[1].SplitBytes++ },
		"a tensor left out": func(p *Plan) { p.Tensors = p.Tensors[1:] },
		"no reason":         func(p *Plan) { p.Tensors[0].Reason = "" },
		"a norm's type": func(p *Plan) {
			x := p.planOf(t, "blk.0.attn_norm.weight")
			x.Type, x.SizeBytes, x.SplitSizeBytes = frequency.GGML(quant.F16), x.SizeBytes/2, x.SizeBytes/2
		},
	} {
		plan := solve(t, &Problem{Model: m, Evidence: counted([]uint64{100, 75, 25, 5}), Policy: keepPolicy()})
		spoil(plan)
		if plan.Check() == nil {
			t.Errorf("%s: not noticed", name)
		}
	}
}
