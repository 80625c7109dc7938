package measure

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/stats"
)

func pointer[T any](v T) *T { return &v }

// testErrors returns the errors of a model of two tensors and the model.
func testErrors() (*Result, *ggufio.Model) {
	digest := strings.Repeat("0123456789abcdef", 4)
	expert := func(n int, count uint64) ExpertLoss {
		return ExpertLoss{Expert: n, Rows: 3, RowsTotal: 4, Count: &count, Weighted: count > 0,
			WeightedNorm: 8, PlainNorm: 2, OutputEnergy: pointer(8 * (float64(count) + 0.5)),
			Types: []TypeLoss{{0.1, 0.09, 0.11, 0.8, 0.2}, {0.01, 0.009, 0.011, 0.08, 0.02}}}
	}
	attention := expert(0, 5)
	attention.OutputEnergy, attention.Count, attention.Types = nil, nil, attention.Types[:1]
	e := &Result{
		Schema: ErrorsSchemaName, FormatVersion: ErrorsFormatVersion, Generator: "ggufplan 0.1.0",
		Model:      Model{"tiny <moe>", "qwen3moe", []ggufio.FileID{{Name: "tiny.gguf", SizeBytes: 4096, HeaderSHA256: digest}}},
		Statistics: []Input{{"a.gguf", digest}},
		Weights:    "imatrix",
		Sampling:   Sampling{"sample", 1, 0.95, 0.02},
		Types:      []string{"Q2_K", "Q4_K"},
		Tensors: []TensorLoss{
			{"blk.0.attn_v.weight", pointer(0), "attention", []uint64{256, 4}, "F16", []string{"Q4_K"}, []ExpertLoss{attention}},
			{"blk.0.ffn_down_exps.weight", pointer(0), "expert_down", []uint64{256, 4, 2}, "F16", []string{"Q2_K", "Q4_K"}, []ExpertLoss{expert(0, 9), expert(1, 0)}},
		},
	}
	m := &ggufio.Model{
		Files: []ggufio.File{{FileID: ggufio.FileID{Name: "renamed.gguf", SizeBytes: 4096, HeaderSHA256: digest}}},
		Tensors: []ggufio.Tensor{
			{Name: "blk.0.attn_v.weight", Type: quant.F16, Shape: []uint64{256, 4}, Role: ggufio.RoleAttention, Expert: -1},
			{Name: "blk.0.ffn_down_exps.weight", Type: quant.F16, Shape: []uint64{256, 4, 2}, Role: ggufio.RoleExpertDown, Expert: -1},
		},
	}
	return e, m
}

func mustEncode(t *testing.T, e *Result) []byte {
	t.Helper()
	b, err := Encode(e)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestErrorsRoundTrip(t *testing.T) {
	whole, _ := testErrors()
	part, _ := testErrors()
	part.Part, part.Statistics, part.Weights = &Part{2, 3}, nil, "none"
	part.Tensors = part.Tensors[1:]
	part.Tensors[0].Experts = part.Tensors[0].Experts[1:]
	for _, e := range []*Result{whole, part} {
		b := mustEncode(t, e)
		got, err := Decode(b)
		if err != nil {
			t.Fatal(err)
		}
		if again := mustEncode(t, got); !bytes.Equal(again, b) {
			t.Errorf("encoding what was decoded gives\n%s\nwant\n%s", again, b)
		}
		if err := validateSchema(t, b); err != nil {
			t.Errorf("schema: %v", err)
		}
	}
	b := mustEncode(t, whole)
	// One line per expert and the rest: 10 fields, 2 tensors, 3 experts, 2 braces.
	if n := bytes.Count(b, []byte("\n")); n != 17 {
		t.Errorf("%d lines, want 17:\n%s", n, b)
	}
	if !bytes.Contains(b, []byte("tiny <moe>")) {
		t.Errorf("the model's name is escaped for HTML:\n%s", b)
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, b, "", "\t"); err != nil {
		t.Fatal(err)
	}
	if _, err := Decode(indented.Bytes()); err != nil {
		t.Errorf("white space matters: %v", err)
	}
}

func validateSchema(t *testing.T, data []byte) error {
	t.Helper()
	return validateWith(t, Schema, data)
}

func TestDecodeErrorsRefuses(t *testing.T) {
	e, _ := testErrors()
	good := string(mustEncode(t, e))
	for _, tt := range []struct {
		name, old, new, want string
		schema               bool // the schema refuses it too
	}{
		{"another record", `"ggufplan.errors"`, `"ggufplan.expert_stats"`, `schema: "ggufplan.expert_stats" is not "ggufplan.errors"`, true},
		{"major version", `"1.1"`, `"2.0"`, "unknown major version", true},
		{"spelt version", `"1.1"`, `"1.01"`, "is not MAJOR.MINOR", true},
		{"unknown field", `"weights":`, `"extra": 1, "weights":`, "extra: unknown field", true},
		{"case of a key", `"plain_norm":2,`, `"Plain_norm":2,`, "tensors[0].experts[0].Plain_norm: unknown field", true},
		{"missing field", `"rows_total":4,`, ``, "tensors[0].experts[0].rows_total: the field is missing", true},
		{"repeated field", `"rows_total":4,`, `"rows_total":4,"rows_total":4,`, "rows_total: duplicate key", false},
		{"null for a number", `"plain_norm":2,`, `"plain_norm":null,`, "plain_norm: is null", true},
		{"text for a number", `"plain_norm":2,`, `"plain_norm":"2",`, "a JSON string does not fit", true},
		{"trailing text", "\n}\n", "\n}\n{}\n", "line 18: invalid character", false},
		{"cut", "\n}\n", "", "line 16: unexpected end", false},
		{"negative", `"relative":0.1,`, `"relative":-0.1,`, "errors[0]: -0.1 is negative", true},
		{"outside its interval", `"low":0.09,`, `"low":0.12,`, "relative 0.1 lies outside 0.12 to 0.11", false},
		{"rows", `"rows":3,`, `"rows":5,`, "rows: 5 of 4", false},
		{"unknown type", `"types":["Q4_K"]`, `"types":["Q4_X"]`, `tensor blk.0.attn_v.weight: types: "Q4_X" is not a GGML type`, false},
		{"lower-case type", `"types":["Q4_K"]`, `"types":["q4_K"]`, `"q4_K" is not a GGML type`, true},
		{"entries per type", `"types":["Q4_K"]`, `"types":["Q4_K","Q5_K"]`, "errors: 1 entries for 2 types", false},
		{"type twice", `"types":["Q2_K","Q4_K"],"experts"`, `"types":["Q4_K","Q4_K"],"experts"`, "duplicate type Q4_K", true},
		{"weights", `"weights": "imatrix"`, `"weights": "some"`, "neither imatrix nor none", true},
		{"mode", `"sample"`, `"half"`, "neither sample nor full", true},
		{"part", `"part": null`, `"part": {"index": 4, "of": 3}`, "part: 4 of 3", false},
		{"digest", `"sha256":"0123`, `"sha256":"X123`, "is not a sha256", true},
		{"expert order", `"expert":1,`, `"expert":0,`, "expert 0 is out of order", false},
		{"expert count", `"shape":[256,4,2]`, `"shape":[256,4,3]`, "experts: 2 listed, the shape has 3", false},
		{"same tensor", "blk.0.attn_v.weight", "blk.0.ffn_down_exps.weight", "duplicate tensor", false},
		{"no files", `"files":[{"name":"tiny.gguf","size_bytes":4096,"header_sha256":"` + strings.Repeat("0123456789abcdef", 4) + `"}]`, `"files":[]`, "model.files: is empty", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bad := strings.Replace(good, tt.old, tt.new, 1)
			if bad == good {
				t.Fatalf("%q is not in the file", tt.old)
			}
			_, err := Decode([]byte(bad))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			if tt.schema {
				if err := validateSchema(t, []byte(bad)); err == nil {
					t.Error("the schema accepts it")
				}
			}
		})
	}
}

func TestDecodeErrorsOfOtherMinors(t *testing.T) {
	e, _ := testErrors()
	want := mustEncode(t, e)
	older := strings.Replace(string(want), `"1.1"`, `"1.0"`, 1)
	got, err := Decode([]byte(older))
	if err != nil {
		t.Fatal(err)
	}
	if b := mustEncode(t, got); !bytes.Equal(b, want) {
		t.Errorf("of 1.0 is written back:\n%s", b)
	}
	if _, err := Decode([]byte(strings.Replace(older, `"rows":3,`, `"rows":3,"blocks":1,`, 1))); err == nil {
		t.Error("1.0 with an unknown field is accepted")
	}
	newer := strings.Replace(string(want), `"1.1"`, `"1.7"`, 1)
	newer = strings.Replace(newer, `"rows":3,`, `"rows":3,"blocks":[{"a":null}],`, 1)
	got, err = Decode([]byte(newer))
	if err != nil {
		t.Fatal(err)
	}
	if b := mustEncode(t, got); !bytes.Equal(b, want) {
		t.Errorf("unknown fields are written back:\n%s", b)
	}
	if _, err := Decode([]byte(strings.Replace(newer, `"rows_total":4,`, "", 1))); err == nil {
		t.Error("a missing field is accepted")
	}
}

func TestErrorsCheck(t *testing.T) {
	same := func(*Result, *ggufio.Model) {}
	digest := strings.Repeat("0123456789abcdef", 4)
	other := strings.Repeat("f", 64)
	inputs := []stats.Input{{FileID: stats.FileID{Name: "moved.gguf", SHA256: digest}}}
	for _, tt := range []struct {
		name   string
		change func(*Result, *ggufio.Model)
		inputs []stats.Input
		want   string
	}{
		{"same", same, inputs, ""},
		{"no statistics", same, nil, ""},
		{"measured without", func(e *Result, _ *ggufio.Model) { e.Statistics = nil }, inputs, ""},
		{"other statistics", same, []stats.Input{{FileID: stats.FileID{Name: "b.gguf", SHA256: other}}}, "measured with other statistics: a.gguf (sha256 0123456789ab), the plan has b.gguf (sha256 ffffffffffff)"},
		{"more statistics", same, append(inputs, stats.Input{FileID: stats.FileID{Name: "b.gguf", SHA256: other}}), "measured with other statistics"},
		{"part", func(e *Result, _ *ggufio.Model) { e.Part = &Part{1, 2} }, inputs, "part 1 of 2: merge the parts first"},
		{"size", func(_ *Result, m *ggufio.Model) { m.Files[0].SizeBytes++ }, inputs, "measured on another model: tiny.gguf has 4096 bytes, want those of renamed.gguf, 4097"},
		{"header", func(_ *Result, m *ggufio.Model) { m.Files[0].HeaderSHA256 = other }, inputs, "measured on another model"},
		{"shards", func(_ *Result, m *ggufio.Model) { m.Files = append(m.Files, m.Files[0]) }, inputs, "measured on another model: 1 files"},
		{"tensor", func(_ *Result, m *ggufio.Model) { m.Tensors = m.Tensors[:1] }, inputs, "tensor blk.0.ffn_down_exps.weight: is not in the model"},
		{"shape", func(_ *Result, m *ggufio.Model) { m.Tensors[0].Shape = []uint64{4, 256} }, inputs, "measured as attention F16 of [256 4]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e, m := testErrors()
			tt.change(e, m)
			err := e.Check(m, tt.inputs)
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func FuzzDecodeErrors(f *testing.F) {
	e, _ := testErrors()
	b, err := Encode(e)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"schema":"ggufplan.errors","format_version":"1.0"`))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := Decode(data)
		if err != nil {
			return
		}
		first := mustEncode(t, e)
		again, err := Decode(first)
		if err != nil {
			t.Fatalf("own encoding is refused: %v", err)
		}
		if second := mustEncode(t, again); !bytes.Equal(first, second) {
			t.Errorf("two spellings:\n%s\n%s", first, second)
		}
	})
}
