package measure

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// testProbe is a probe of two groups and a mixture, worked out by hand.
func testProbe() *Probe {
	const digest = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
	p := &Probe{Generator: "test", Model: Model{"m", "qwen3moe", []ggufio.FileID{{Name: "m.gguf", SizeBytes: 1, HeaderSHA256: digest}}}, Statistics: []Input{{"i.gguf", digest}},
		Text: &ProbeText{"t.txt", 5, digest}, ContextTokens: 512, Chunks: 64, Copies: CopiesSimulated, ProbeType: "Q2_K", WholeType: "Q6_K",
		Bands: "4", Types: []string{"Q2_K", "Q6_K"},
		Tensors: []ProbeTensor{
			{"blk.0.ffn_up_exps.weight", "experts.0", 0.2, []float64{0.05, 0.001}, []string{"Q2_K"}},
			{"blk.0.ffn_down_exps.weight", "experts.0", 0.1, []float64{0.1, 0.002}, []string{"Q6_K"}},
			{"output.weight", "output", 0.3, []float64{0.1, 0.001}, []string{"Q2_K"}},
		},
		Runs: []ProbeRun{
			{"experts.0", RunGroup, 0.041, 0.001, 16320, 0.001},
			{"output", RunGroup, 0.031, 0.001, 16320, 0.001},
			{"mixture.1", RunMixture, 0.04, 0.001, 16320, 0.001},
			{"whole", RunWhole, 0.004, 0.0001, 16320, 0.001},
		}}
	p.SetFit()
	return p
}

func TestProbeFit(t *testing.T) {
	p := testProbe()
	// Net 0.04 over 0.2·0.05 + 0.1·0.1 is 2: alphas 0.4 and 0.2; 0.03 / (0.3·0.1) · 0.3 = 0.3.
	alphas := p.Alphas(func(i int) float64 { return p.Tensors[i].Errors[0] })
	for name, want := range map[string]float64{"blk.0.ffn_up_exps.weight": 0.4, "blk.0.ffn_down_exps.weight": 0.2, "output.weight": 0.3} {
		if math.Abs(alphas[name]-want) > 1e-12 {
			t.Errorf("%s: %v, want %v", name, alphas[name], want)
		}
	}
	// The mixture's sum is 0.4·0.05 + 0.2·0.002 + 0.3·0.1 = 0.0504, the whole's 0.4·0.001 + 0.2·0.002 + 0.3·0.001 = 0.0011.
	k := 0.039 / 0.0504
	if f := p.Fit; math.Abs(*f.K-k) > 1e-12 || *f.Spread != 1 || math.Abs(*f.Y0-(0.003-k*0.0011)) > 1e-12 || len(f.Ratios) != 1 {
		t.Errorf("fit %v %v %v %v", *f.K, *f.Spread, *f.Y0, f.Ratios)
	}
	// A role without any effect was not measured; less than a twentieth of the median is that.
	p.Runs[1].KLD = 0.001
	if net := p.NetByGroup(); len(net) != 1 || net["experts.0"] == 0 {
		t.Errorf("an output without effect: %v", net)
	}
	p.Tensors = append(p.Tensors, ProbeTensor{"blk.1.ffn_up_exps.weight", "experts.1", 0.2, []float64{0.05, 0.001}, []string{"Q2_K"}})
	p.Runs = append(p.Runs, ProbeRun{"experts.1", RunGroup, 0, 0, 1, 0.001})
	if net := p.NetByGroup(); math.Abs(net["experts.1"]-0.05*0.04) > 1e-12 {
		t.Errorf("a group without effect beside one of its role: %v", net)
	}
	// Of a quantized reference the mixtures have y0 too.
	q := testProbe()
	q.Copies = CopiesQuantized
	q.SetFit()
	y0 := 0.003 - k*0.0011
	k2 := (0.039 - y0) / 0.0504
	if math.Abs(*q.Fit.K-k2) > 1e-12 || math.Abs(*q.Fit.Y0-(0.003-k2*0.0011)) > 1e-12 {
		t.Errorf("fit of quantized copies: %v %v", *q.Fit.K, *q.Fit.Y0)
	}
}

func encodeProbe(t testing.TB, p *Probe) []byte {
	t.Helper()
	data, err := EncodeProbe(p)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func validateProbe(t *testing.T, data []byte) error {
	t.Helper()
	return validateWith(t, ProbeSchema, data)
}

func validateWith(t *testing.T, text, data []byte) error {
	t.Helper()
	var doc any
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("schema.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	instance, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return schema.Validate(instance)
}

func TestProbeRoundTrip(t *testing.T) {
	part := testProbe()
	part.Part, part.Fit, part.Runs, part.Text = &Part{1, 2}, nil, part.Runs[:1], nil
	other := part.Model
	part.Reference = &other
	bare := testProbe()
	bare.Statistics, bare.Fit = []Input{}, &ProbeFit{Ratios: []float64{}}
	for _, p := range []*Probe{testProbe(), part, bare} {
		data := encodeProbe(t, p)
		if err := validateProbe(t, data); err != nil {
			t.Errorf("the schema refuses it: %v", err)
		}
		again, err := DecodeProbe(data)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(encodeProbe(t, again), data) {
			t.Error("it does not come back as it was")
		}
	}
	s, err := DecodeSensitivity(encodeProbe(t, testProbe()), "")
	if err != nil || s.Probe == nil || s.DropType != "Q2_K" || len(s.Names) != 3 {
		t.Errorf("as sensitivities: %+v, %v", s, err)
	}
}

func TestDecodeProbeRefuses(t *testing.T) {
	good := string(encodeProbe(t, testProbe()))
	for _, tt := range []struct {
		old, new, want string
		schema         bool // refuses it too
	}{
		{`"ggufplan.sensitivity"`, `"ggufplan.errors"`, "not sensitivities of probe", true},
		{`"1.0"`, `"2.0"`, "unknown major version", true},
		{`"copies": "simulated"`, `"copies": "x"`, "copies:", true},
		{`"bands": "4"`, `"bands": "0"`, "bands:", true},
		{`"bands": "4"`, `"bands": "9999"`, "bands:", false},
		{`"probe_type": "Q2_K"`, `"probe_type": "Q3_K"`, `"Q3_K" is not among them`, false},
		{`"context_tokens": 512`, `"context_tokens": 2`, "context_tokens", true},
		{`"typical":0.2`, `"typical":0`, "typical: 0", true},
		{`"errors":[0.05,0.001]`, `"errors":[0.05]`, "1 errors for 2 types", false},
		{`"errors":[0.05,0.001]`, `"errors":[-1,0.001]`, "errors: -1", true},
		{`"mixtures":["Q6_K"]`, `"mixtures":["Q5_K"]`, `"Q5_K" is not among the types`, false},
		{`"mixtures":["Q6_K"]`, `"mixtures":[]`, "is in 0 mixtures", false},
		{`"blk.0.ffn_down_exps.weight"`, `"blk.0.ffn_up_exps.weight"`, "duplicate tensor", false},
		{`"kind":"group","kld":0.041`, `"kind":"mixture","kld":0.041`, "want group", false},
		{`"kld":0.041`, `"kld":-0.041`, "is not a divergence", true},
		{`"scored_tokens":16320`, `"scored_tokens":0`, "scored_tokens: 0", true},
		{`{"name":"experts.0","kind":"group"`, `{"name":"output","kind":"group"`, "is no run of the tensors' groups", false},
		{`"fit": {"k":`, `"fit": {"k":-`, "fit: -", true},
		{`"spread":1,`, `"spread":0.5,`, "do not go together", true},
		{`"spread":1,`, `"spread":null,`, "do not go together", false},
		{`"part": null`, `"part": {"index":3,"of":2}`, "part: 3 of 2", false},
		{`"chunks": 64`, `"chunks": 64, "extra": 1`, "extra: unknown field", true},
	} {
		bad := strings.Replace(good, tt.old, tt.new, 1)
		if bad == good {
			t.Fatalf("%q is not in it", tt.old)
		}
		if _, err := DecodeProbe([]byte(bad)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.new, err, tt.want)
		}
		if err := validateProbe(t, []byte(bad)); (err != nil) != tt.schema {
			t.Errorf("%s: the schema says %v", tt.new, err)
		}
	}
	for text, want := range map[string]string{
		strings.Replace(good, `"part": null`, `"part": {"index":1,"of":2}`, 1): "merge the parts first",
		`{"schema": "ggufplan.errors", "format_version": "1.0"}`:               "not sensitivities of probe",
	} {
		if _, err := DecodeSensitivity([]byte(text), ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("as sensitivities: %v, want %q", err, want)
		}
	}
	if _, err := DecodeSensitivity([]byte(good), "IQ1_M"); err == nil || !strings.Contains(err.Error(), "was measured at Q2_K, not IQ1_M") {
		t.Errorf("of another type: %v", err)
	}
}

func FuzzDecodeProbe(f *testing.F) {
	f.Add(encodeProbe(f, testProbe()))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := DecodeProbe(data)
		if err != nil {
			return
		}
		again, err := DecodeProbe(encodeProbe(t, p))
		if err != nil || !bytes.Equal(encodeProbe(t, again), encodeProbe(t, p)) {
			t.Errorf("it does not come back: %v", err)
		}
		for name, v := range p.Alphas(func(i int) float64 { return p.Tensors[i].Errors[p.typeIndex(p.ProbeType)] }) {
			if !(v > 0 && v <= maxSensitivity) {
				t.Errorf("%s: %v", name, v)
			}
		}
		p.SetFit()
	})
}
