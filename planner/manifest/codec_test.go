package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// twoLayers is a manifest that agrees with itself: two tensors of experts, one
// with statistics and one without, and a router.
func twoLayers() *Manifest {
	m := New()
	sum := strings.Repeat("0a", 32)
	m.Model = Model{Name: "a <small> & \"quoted\" model", Architecture: "qwen3moe", Files: []File{{"m.gguf", 5000, sum}},
		TensorCount: 3, Parameters: 2*512 + 4, TensorBytes: 2*1024 + 16, FileBytes: 5000,
		BlockCount: 2, MoELayerCount: 2, ExpertCount: 2, ExpertUsedCount: ptr(uint64(1))}
	m.Statistics = &Statistics{Inputs: []Input{{"s.gguf", "imatrix-gguf", 100, sum}}, CountsKind: "exact",
		Tokens: ptr(uint64(3000)), Activations: ptr(uint64(3000)), Deff: ptr(10.0),
		LayersWithCounts: 1, LayersWithoutCounts: []int{1}, ScarceExperts: 0}
	m.Policy = Policy{Name: "frequency", Preset: ptr("custom"), TiersBy: ptr("max"), Scope: ptr("layer"), Fuse: ptr("hottest"),
		HotPercentile: ptr(0.9), ColdPercentile: ptr(0.3), HotType: "Q8_0", WarmType: ptr("PiQ3"), ColdType: ptr("Q4_0"),
		Base: "keep", Pins: []Pin{{"a|b", "Q8_0"}}, DefinedTypes: []DefinedType{{"PiQ3", 8, 3}}}
	m.Layers = []Layer{
		{Layer: 0, Activations: ptr(uint64(3000)), HotThreshold: ptr(uint64(1800)), ColdThreshold: ptr(uint64(600)), Experts: []Expert{
			{0, ptr(uint64(1000)), ptr(1000.0 / 3000), ptr(0.5), ptr("warm"), ptr("PiQ3"), ptr("ok")},
			{1, ptr(uint64(2000)), ptr(2000.0 / 3000), ptr(1.0), ptr("hot"), ptr("Q8_0"), ptr("ok")},
		}},
		{Layer: 1, Experts: []Expert{{Expert: 0, Type: ptr("Q8_0")}, {Expert: 1, Type: ptr("Q8_0")}}},
	}
	m.Tensors = []Tensor{
		{"blk.0.ffn_up_exps.weight", "expert_up", ptr(0), nil, []uint64{32, 8, 2}, 512, "BF16", 1024, "Q8_0", 544, 480,
			"its hottest expert is hot", []string{"PiQ3", "Q8_0"}, 96 + 272, nil, nil, nil, nil},
		{"blk.0.ffn_gate_inp.weight", "router", ptr(0), nil, []uint64{2, 2}, 4, "F32", 16, "F32", 16, 0,
			"llama-quantize does not quantize it", nil, 16, nil, nil, nil, nil},
		{"blk.1.ffn_up_exps.weight", "expert_up", ptr(1), nil, []uint64{32, 8, 2}, 512, "BF16", 1024, "Q8_0", 544, 480,
			"no statistics for its layer: hot type", []string{"Q8_0", "Q8_0"}, 544, nil, nil, nil, nil},
	}
	source, planned, split := uint64(2064), uint64(1104), uint64(368+16+544)
	m.Totals = Totals{SourceBytes: source, PlannedBytes: planned, SavedBytes: 960, SavedFraction: 960.0 / 2064,
		PlannedBitsPerWeight: 8 * 1104.0 / 1028, PlannedFileBytes: ptr(uint64(2000)),
		SplitPlannedBytes: split, SplitSavedBytes: int64(source - split), SplitBitsPerWeight: 8 * float64(split) / 1028,
		RoutedExperts: ExpertTotals{2048, 1088, 912},
		Tiers:         []TierTotal{{"hot", 1, ptr(2.0 / 3), 272}, {"warm", 1, ptr(1.0 / 3), 96}, {"cold", 0, ptr(0.0), 0}},
		Baselines:     []Baseline{{"Q8_0", 1104, 960, ptr(0.25), nil}}}
	m.Findings = []Finding{{"layer-without-statistics", "blk.1", "no statistics for its 2 experts"}}
	return m
}

func encode(t testing.TB, m *Manifest) []byte {
	t.Helper()
	b, err := Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestEncodeIsOneSpelling(t *testing.T) {
	b := encode(t, twoLayers())
	if !bytes.HasPrefix(b, []byte("{\n  \"format_version\": \"1.1\",\n  \"generator\": {\n")) || !bytes.HasSuffix(b, []byte("}\n")) {
		t.Errorf("layout: %.60q ... %q", b, b[len(b)-5:])
	}
	if !bytes.Contains(b, []byte(`"a <small> & \"quoted\" model"`)) {
		t.Error("HTML characters are escaped")
	}
	m, err := Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(m, twoLayers()) {
		t.Error("decoding changes the contents")
	}
	if again := encode(t, m); !bytes.Equal(again, b) {
		t.Error("encoding again changes the bytes")
	}
}

func TestDecodeTakesOtherSpacingAndOrder(t *testing.T) {
	var tree map[string]any
	b := encode(t, twoLayers())
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(&tree); err != nil {
		t.Fatal(err)
	}
	compact, err := json.Marshal(tree) // keys in alphabetical order, no spaces
	if err != nil {
		t.Fatal(err)
	}
	m, err := Decode(compact)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(encode(t, m), b) {
		t.Error("another spelling of one manifest decodes to another manifest")
	}
}

// indented spells every value of the manifest on a line of its own.
func indented(t *testing.T, manifest []byte) string {
	t.Helper()
	var buf bytes.Buffer
	if err := json.Indent(&buf, manifest, "", "  "); err != nil {
		t.Fatal(err)
	}
	return buf.String()
}

// TestEncodeIsJSON compares the contents with those that encoding/json writes:
// strings, numbers and the fields of every row.
func TestEncodeIsJSON(t *testing.T) {
	m := twoLayers()
	m.Tensors[0].Reason = "<&> \"\\/ é 𝄞"
	for _, f := range []float64{1e-7, 1e-6, 1e20, 1e21, 1.5e-300, 0.1, 1.0 / 3, 123456789, 5e-324, 1.7976931348623157e308} {
		m.Statistics.Deff = &f
		got := encode(t, m)
		var want, spaced bytes.Buffer
		enc := json.NewEncoder(&want)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(m); err != nil {
			t.Fatal(err)
		}
		if err := json.Compact(&spaced, got); err != nil {
			t.Fatal(err)
		}
		if spaced.String()+"\n" != want.String() {
			t.Fatalf("got  %s\nwant %s", spaced.Bytes(), want.Bytes())
		}
		if again, err := Decode(got); err != nil || !reflect.DeepEqual(again, m) {
			t.Fatalf("decoding changes the contents: %v", err)
		}
	}
}

// TestRowsNameEveryField holds the lists of fields to the structs.
func TestRowsNameEveryField(t *testing.T) {
	for _, r := range []row{new(Expert), new(Tensor)} {
		v := reflect.ValueOf(r).Elem()
		fields := r.fields(nil)
		if len(fields) != v.NumField() {
			t.Errorf("%s has %d fields, its row lists %d", v.Type(), v.NumField(), len(fields))
			continue
		}
		for i, p := range fields {
			if p != v.Field(i).Addr().Interface() {
				t.Errorf("%s: field %s is not number %d of its row", v.Type(), v.Type().Field(i).Name, i)
			}
		}
	}
}

// A pieceWriter keeps what it is given, and fails from the write numbered fails
// on, if that is not 0.
type pieceWriter struct {
	bytes.Buffer
	writes, fails, largest int
}

var errPiece = errors.New("no room")

func (w *pieceWriter) Write(b []byte) (int, error) {
	w.writes++
	w.largest = max(w.largest, len(b))
	if w.fails != 0 && w.writes >= w.fails {
		return 0, errPiece
	}
	return w.Buffer.Write(b)
}

// TestWriteInPieces writes a long manifest as Encode spells it, never much of it
// at once, and stops where the writer fails.
func TestWriteInPieces(t *testing.T) {
	m := twoLayers()
	for i := range 4000 {
		m.Findings = append(m.Findings, Finding{"scarce-experts", "blk.1", fmt.Sprintf("finding %d", i)})
	}
	want := encode(t, m)
	var all pieceWriter
	if err := Write(&all, m); err != nil || !bytes.Equal(all.Bytes(), want) {
		t.Fatalf("%v, or other bytes than Encode's", err)
	}
	if all.largest > len(want)/8 {
		t.Errorf("%d of %d bytes at once", all.largest, len(want))
	}
	if text := "finding 3999\"}\n  ]\n}\n"; !strings.HasSuffix(string(want), text) || !json.Valid(want) {
		t.Errorf("ends with %q, want %q", want[len(want)-len(text):], text)
	}
	for _, fails := range []int{1, 2, 7, all.writes} {
		w := pieceWriter{fails: fails}
		if err := Write(&w, m); err != errPiece {
			t.Errorf("write %d fails: %v", fails, err)
		}
		if !bytes.HasPrefix(want, w.Bytes()) {
			t.Errorf("write %d fails: what came before is no beginning", fails)
		}
	}
	m.Totals.PlannedBytes++
	if err := Write(new(pieceWriter), m); !errors.As(err, new(*FieldError)) {
		t.Errorf("a manifest that contradicts itself: %v", err)
	}
}

// TestExpertsAsRows: what is written for experts alone is what any row's fields
// say.
func TestExpertsAsRows(t *testing.T) {
	bad := math.NaN()
	for _, x := range []Expert{
		{}, {7, ptr(uint64(9)), ptr(0.25), ptr(1e-9), ptr("hot"), ptr("Q4_K"), ptr("ok")}, {Expert: 1, Share: ptr(0.5), Flag: ptr("a \"b\"")},
	} {
		if got, want := appendExpert(nil, &x), appendRow(nil, &x); !bytes.Equal(got, want) {
			t.Errorf("%s, as a row %s", got, want)
		}
		v := reflect.ValueOf(&x).Elem()
		for i := range v.NumField() {
			was := reflect.New(v.Field(i).Type()).Elem()
			was.Set(v.Field(i))
			switch v.Field(i).Interface().(type) {
			case *float64:
				v.Field(i).Set(reflect.ValueOf(&bad))
			case *string:
				v.Field(i).Set(reflect.ValueOf(ptr("\x1b")))
			default:
				continue
			}
			if rowIsJSON(&x) {
				t.Errorf("field %s may hold what JSON does not", v.Type().Field(i).Name)
			}
			v.Field(i).Set(was)
		}
		if !rowIsJSON(&x) {
			t.Errorf("%+v is refused", x)
		}
	}
}

func TestEncodePutsRowsOnLines(t *testing.T) {
	text := string(encode(t, twoLayers()))
	for _, want := range []string{
		"      {\"name\": \"s.gguf\", \"format\": \"imatrix-gguf\", \"size_bytes\": 100, \"sha256\": ",
		"    \"layers_without_counts\": [\n      1\n    ],\n",
		"      \"experts\": [\n        {\"expert\": 0, \"count\": 1000, \"share\": 0.3333333333333333, \"relative\": 0.5, \"tier\": \"warm\", \"type\": \"PiQ3\", \"flag\": \"ok\"},\n        {",
		"    {\"name\": \"blk.0.ffn_up_exps.weight\", \"role\": \"expert_up\", \"layer\": 0, \"expert\": null, \"shape\": [32, 8, 2], ",
		"\"expert_types\": [\"PiQ3\", \"Q8_0\"], \"split_planned_bytes\": 368, \"sensitivity\": null, \"sensitivity_from\": null, \"step_up\": null, \"step_down\": null},\n    {",
		"  \"findings\": [\n    {\"code\": \"layer-without-statistics\", \"subject\": \"blk.1\", \"message\": \"no statistics for its 2 experts\"}\n  ]\n}\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the manifest does not hold %q:\n%s", want, text)
		}
	}
}

// TestOlderMinor reads a struct with a field that came later.
func TestOlderMinor(t *testing.T) {
	type document struct {
		Old  string `json:"old"`
		New  *int   `json:"new" since:"1"`
		List []int  `json:"list" since:"1"`
	}
	for _, tt := range []struct {
		text, want string
		minor      uint64
	}{
		{`{"old": "a"}`, "", 0},
		{`{"old": "a"}`, "new: missing", 1},
		{`{"old": "a", "new": null}`, "new: unknown field: it came with format version 1.1", 0},
		{`{"old": "a", "new": null, "list": []}`, "", 1},
	} {
		var d document
		err := decodeStrict([]byte(tt.text), &d, tt.minor)
		if tt.want == "" && (err != nil || d.List == nil) || tt.want != "" && (err == nil || err.Error() != tt.want) {
			t.Errorf("%s as 1.%d: %v, %v, want %q", tt.text, tt.minor, d, err, tt.want)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	good := indented(t, encode(t, twoLayers()))
	for _, tt := range []struct{ name, old, new, want string }{
		{"text after the end", "]\n}\n", "]\n}\n{}", "byte 6"},
		{"cut short", "]\n}\n", "]\n", "unexpected end of JSON input"},
		{"a list", good, "[]", "not a manifest: want an object"},
		{"another object", good, "{}", "format_version: missing: not a manifest of ggufplan"},
		{"major", `"1.1"`, `"2.0"`, `format_version: "2.0": this program reads version 1 only`},
		{"version spelling", `"1.1"`, `"1.00"`, `format_version: "1.00": want MAJOR.MINOR`},
		{"version number", `"format_version": "1.1"`, `"format_version": 1.0`, "format_version: want a string"},
		{"unknown field", `"engine":`, `"motor": 1, "engine":`, "target.motor: unknown field"},
		{"other case", `"engine":`, `"Engine":`, `target.Engine: unknown field: want "engine"`},
		{"twice", `"engine":`, `"engine": "x", "engine":`, "target.engine: duplicate key"},
		{"version twice", `"generator": {`, `"format_version": "1.1", "generator": {`, "format_version: duplicate key"},
		{"missing", `"tensor_count": 3,`, ``, "model.tensor_count: missing"},
		{"null number", `"tensor_count": 3`, `"tensor_count": null`, "model.tensor_count: null where a value must be"},
		{"null list", `"layers_without_counts": [
      1
    ]`, `"layers_without_counts": null`, "statistics.layers_without_counts: null where a value must be"},
		{"null list element", `"expert_types": [
        "PiQ3",`, `"expert_types": [
        null,`, "tensors[0].expert_types[0]: null where a value must be"},
		{"string for number", `"tensor_count": 3`, `"tensor_count": "3"`, `model.tensor_count: "3": want a number`},
		{"fraction", `"tensor_count": 3`, `"tensor_count": 3.0`, "model.tensor_count: 3.0: want a whole number from 0"},
		{"negative", `"tensor_count": 3`, `"tensor_count": -3`, "model.tensor_count: -3: want a whole number from 0"},
		{"number for object", `"generator": {
    "name": "ggufplan",
    "version": "0.1.0"
  }`, `"generator": 1`, "generator: 1: want an object"},
		{"infinite", `"deff": 10`, `"deff": 1e999`, "statistics.deff: 1e999: want a number within the range of float64"},
		{"not UTF-8", "quoted", "qu\xffted", "not UTF-8 text"},

		{"parameters", `"parameters": 1028`, `"parameters": 1029`, "model.parameters: 1029, but tensors[].parameters add up to 1028"},
		{"tensor size", `"planned_bytes": 544,
      "saved_bytes": 480,
      "reason": "its`, `"planned_bytes": 543,
      "saved_bytes": 480,
      "reason": "its`, "tensors[0].saved_bytes: 480, but source_bytes - planned_bytes is 481"},
		{"tensor size and saving", `"planned_bytes": 544,
      "saved_bytes": 480,
      "reason": "its`, `"planned_bytes": 543,
      "saved_bytes": 481,
      "reason": "its`, "totals.planned_bytes: 1104, but tensors add up to 1103"},
		{"shape", `"shape": [
        32,
        8,`, `"shape": [
        32,
        9,`, "tensors[0].parameters: 512, but the shape has 576"},
		{"shape wraps", `"shape": [
        32,
        8,`, `"shape": [
        9223372036854775808,
        8,`, "tensors[0].shape"},
		{"role", `"role": "router"`, `"role": "rooter"`, `tensors[1].role: "rooter": want one of`},
		{"name twice", `"name": "blk.1.ffn_up_exps.weight"`, `"name": "blk.0.ffn_up_exps.weight"`, "tensors[2].name"},
		{"experts", `        "Q8_0",
        "Q8_0"
      ]`, `        "Q8_0"
      ]`, "tensors[2].expert_types: 1 types, but the layer has 2 experts"},
		{"types for a router", `"expert_types": null`, `"expert_types": ["F32", "F32"]`, "tensors[1].expert_types: a tensor of role router has none"},
		{"count", `"count": 1000`, `"count": 1001`, "layers[0].activations: 3000, but its experts' counts add up to 3001"},
		{"type of a tier", `"type": "PiQ3",
          "flag"`, `"type": "Q4_0",
          "flag"`, "layers[0].experts[0].type: not PiQ3, the type of its tier"},
		{"share", `"share": 0.3333333333333333,
          "relative"`, `"share": 0.4,
          "relative"`, "layers[0].experts[0].share"},
		{"one threshold", `"cold_threshold": 600`, `"cold_threshold": null`, "layers[0].cold_threshold: one threshold without the other"},
		{"relative", `"relative": 0.5`, `"relative": 0.51`, "layers[0].experts[0].relative: not count / the largest count, which is 0.5"},
		{"no relative", `"relative": 0.5`, `"relative": null`, "layers[0].experts[0].relative"},
		{"activation share", `"activation_share": 0.6666666666666666`, `"activation_share": 0.5`, "totals.tiers[0].activation_share: not the tier's counts / all counts, which is 0.6666666666666666"},
		{"expert count", `"expert_count": 2`, `"expert_count": 3`, "model.expert_count: 3, but a layer has at most 2"},
		{"block count", `"block_count": 2`, `"block_count": 1`, "tensors[2].layer: 1, but the model has 1 blocks"},
		{"design effect", `"deff": 10`, `"deff": -1`, "statistics.deff: -1: want more than 0"},
		{"path of a model", `"name": "m.gguf"`, `"name": "../m.gguf"`, `model.files[0].name: "../m.gguf" is not the base name of a file`},
		{"no name of an input", `"name": "s.gguf"`, `"name": ""`, `statistics.inputs[0].name: "" is not the base name of a file`},
		{"no name of a tensor", `"name": "blk.0.ffn_gate_inp.weight"`, `"name": ""`, "tensors[1].name: is empty"},
		{"expert of a router", `"expert": null,
      "shape": [
        2,`, `"expert": 0,
      "shape": [
        2,`, "tensors[1].expert: 0 for a tensor without expert_types"},
		{"flags", `"scarce_experts": 0`, `"scarce_experts": 1`, "statistics.scarce_experts: 1, but flags say 0"},
		{"saved", `"saved_bytes": 960,
    "saved_fraction"`, `"saved_bytes": 961,
    "saved_fraction"`, "totals.saved_bytes: 961, but source_bytes - planned_bytes is 960"},
		{"fraction saved", `"saved_fraction": 0.46`, `"saved_fraction": 0.47`, "totals.saved_fraction"},
		{"tier total", `"tier": "hot",
        "experts": 1`, `"tier": "hot",
        "experts": 2`, "totals.tiers[0].experts: 2, but layers lists 1"},
		{"tier bytes", `"split_planned_bytes": 272`, `"split_planned_bytes": 999`, "totals.tiers: split_planned_bytes add up to 1095, but those of routed experts are 912"},
		{"digest", `"header_sha256": "0a`, `"header_sha256": "0A`, "model.files[0].header_sha256"},
		{"layer order", `"layer": 1,
      "activations"`, `"layer": 0,
      "activations"`, "layers[1].layer: 0 does not follow 0"},
		{"scope", `"scope": "layer"`, `"scope": "galaxy"`, `policy.scope: "galaxy": want one of layer, model`},
		{"percentiles", `"hot_percentile": 0.9`, `"hot_percentile": 0.3`, "policy.hot_percentile: 0.3 is not above the cold percentile 0.3"},
		{"damage of nothing", `"damage": null,
    "split_damage"`, `"damage": 1,
    "split_damage"`, "policy.prediction: want it null where totals.damage is null, and only there"},
		{"prediction without a probe", `"split_predicted_kld": null`, `"split_predicted_kld": {"kld": 0.1, "low": 0.05, "high": 0.2}`, "totals.split_predicted_kld: only a probe's sensitivities predict one"},
		{"budget under frequency", `"hot_percentile": 0.9`, `"hot_percentile": null`, "policy.hot_percentile: the frequency policy needs it"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if !strings.Contains(good, tt.old) {
				t.Fatalf("the manifest does not hold %q", tt.old)
			}
			_, err := Decode([]byte(strings.Replace(good, tt.old, tt.new, 1)))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestOtherMinors(t *testing.T) {
	m := twoLayers()
	m.Totals.Baselines[0].Damage = nil // came with 1.1
	good := string(encode(t, m))
	older := regexp.MustCompile(`,\s*("damage": null|"split_damage": null|"prediction": null|"max_tiers": null|"run": null|"split_file_bytes": null|"split_damage_ratio": null|"predicted_kld": null|"split_predicted_kld": null|"measured": null|"hot_share": null|"cold_share": null|"sensitivity": null, "sensitivity_from": null, "step_up": null, "step_down": null|"max_types": null|"price_per_byte": null)`).ReplaceAllString(good, "")
	old, err := Decode([]byte(strings.Replace(older, `"1.1"`, `"1.0"`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	if got := string(encode(t, old)); got != good {
		t.Error("writing an older manifest back is not this version's manifest")
	}
	newer := strings.Replace(good, `"1.1"`, `"1.7"`, 1)
	newer = strings.Replace(newer, `"engine":`, `"motor": {"a": [1, {"b": null}]}, "engine":`, 1)
	m, err = Decode([]byte(newer))
	if err != nil {
		t.Fatal(err)
	}
	if m.FormatVersion != "1.7" {
		t.Errorf("format version %q", m.FormatVersion)
	}
	if got := string(encode(t, m)); got != good {
		t.Error("writing a newer manifest back is not this version's manifest")
	}
	if m.FormatVersion != "1.7" {
		t.Error("Encode changed its argument")
	}
	for _, twice := range []string{`"motor": 1, "motor": 2,`} {
		if _, err := Decode([]byte(strings.Replace(newer, `"engine":`, twice+`"engine":`, 1))); err == nil || !strings.Contains(err.Error(), "target.motor: duplicate key") {
			t.Errorf("an unknown field written twice: %v", err)
		}
	}
}

func TestEncodeRefuses(t *testing.T) {
	for name, spoil := range map[string]func(*Manifest){
		"tensors[1].name":            func(m *Manifest) { m.Tensors[1].Name = "\xff" },
		"statistics.deff":            func(m *Manifest) { *m.Statistics.Deff = 0; *m.Statistics.Deff /= *m.Statistics.Deff },
		"findings":                   func(m *Manifest) { m.Findings = nil },
		"tensors[0].planned_bytes":   func(m *Manifest) { m.Tensors[0].PlannedBytes = 1 << 63 },
		"format_version":             func(m *Manifest) { m.FormatVersion = "" },
		"totals.split_planned_bytes": func(m *Manifest) { m.Totals.SplitPlannedBytes++ },
	} {
		m := twoLayers()
		spoil(m)
		_, err := Encode(m)
		var field *FieldError
		if !errors.As(err, &field) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestDecodeLimitsSize(t *testing.T) {
	_, err := Decode(make([]byte, MaxBytes+1))
	if want := fmt.Sprintf("%d bytes is over the limit of %d", MaxBytes+1, MaxBytes); err == nil || err.Error() != want {
		t.Errorf("error %v, want %q", err, want)
	}
}

func FuzzDecode(f *testing.F) {
	good := encode(f, twoLayers())
	f.Add(good)
	f.Add(bytes.Replace(good, []byte(`"1.1"`), []byte(`"1.7"`), 1))
	f.Add([]byte(`{"format_version":"1.1"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Decode(b)
		if err != nil {
			return
		}
		one := encode(t, m)
		again, err := Decode(one)
		if err != nil {
			t.Fatalf("what Encode wrote does not decode: %v", err)
		}
		if two := encode(t, again); !bytes.Equal(one, two) {
			t.Fatal("one manifest has two spellings")
		}
	})
}

// What does not print could steer a terminal, or reorder a review: no manifest
// holds it.
func TestNamesPrint(t *testing.T) {
	for _, name := range []string{"a\x1b[31m", "a\nb", "a\u009bb", "a\u202eb", "a\u2028b"} {
		for what, change := range map[string]func(*Manifest){
			"model.name":             func(m *Manifest) { m.Model.Name = name },
			"tensors[0].name":        func(m *Manifest) { m.Tensors[0].Name = name },
			"tensors[0].source_type": func(m *Manifest) { m.Tensors[0].SourceType = name },
			"policy.base":            func(m *Manifest) { m.Policy.Base = name },
		} {
			m := twoLayers()
			change(m)
			if _, err := Encode(m); err == nil || !strings.Contains(err.Error(), what) || !strings.Contains(err.Error(), "does not print") {
				t.Errorf("%q as %s: error %v", name, what, err)
			}
		}
		if got := Printable(name); !isText(got) {
			t.Errorf("%q became %q", name, got)
		}
	}
}
