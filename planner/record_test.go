package planner

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner/frequency"
	"github.com/ggufplan/ggufplan/planner/llamaquantize"
	"github.com/ggufplan/ggufplan/planner/manifest"
	"github.com/ggufplan/ggufplan/stats"
)

var update = flag.Bool("update", false, "rewrite golden files of versions that are not released")

func compileSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(manifest.Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func validate(s *jsonschema.Schema, data []byte) error {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return err
	}
	return s.Validate(doc)
}

// goldens are plans that between them use most of the format.
func goldens(t *testing.T) map[string]*Problem {
	t.Helper()
	var types frequency.Types
	pi, err := types.Declare("PiQ3", 8, 3)
	if err != nil {
		t.Fatal(err)
	}
	custom := keepPolicy()
	custom.Frequency.Preset, custom.Frequency.WarmType = "custom", pi
	custom.Frequency.Scope, custom.Frequency.Fuse = ScopeModel, FuseBytes
	custom.Pins = []Pin{pin("attn_v", quant.Q8_0)}
	ranked := keepPolicy()
	ranked.Frequency.TiersBy, ranked.Base = TiersByRank, "IQ4_XS"
	input := stats.Input{FileID: stats.FileID{Name: "s.gguf", SizeBytes: 100, SHA256: strings.Repeat("0f", 32)}, Format: "imatrix-gguf"}
	evidence := func(ev *stats.Evidence) *stats.Evidence {
		ev.Inputs = []stats.Input{input}
		return ev
	}
	return map[string]*Problem{
		"frequency": {
			Model:    openModel(t, gguftest.MoE{Layers: 2, MTP: 1, Shared: 1, Type: quant.BF16}.Builder()),
			Evidence: evidence(counted([]uint64{1000, 75, 25, 0}, []uint64{900, 800, 700, 600})), Policy: keepPolicy()},
		"custom": {
			Model:    openModel(t, gguftest.MoE{Layers: 2, Embd: 96, Type: quant.Q8_0}.Builder()),
			Evidence: evidence(counted([]uint64{1000, 75, 25, 0}, nil)), Types: &types, Policy: custom,
			Baselines: []llamaquantize.FileType{{Name: "IQ2_XS", Number: 20, Default: quant.IQ2_XS}}},
		"weights": {
			Model:    openModel(t, gguftest.MoE{Layers: 1, GateUp: true, Type: quant.F16}.Builder()),
			Evidence: evidence(weighted(stats.KindRelative, []float64{0.5, 0.25, 0.125, 0.125})), Policy: keepPolicy()},
		"ranks": {
			Model:    openModel(t, gguftest.MoE{Layers: 1, Separate: true, Type: quant.F16}.Builder()),
			Evidence: evidence(weighted(stats.KindRank, []float64{3, 2, 1, 0})), Policy: ranked},
	}
}

func TestManifestsFollowTheSchema(t *testing.T) {
	schema := compileSchema(t)
	problems := goldens(t)
	budget := *problems["ranks"]
	budget.Evidence, budget.Policy.Name = counted([]uint64{1000, 75, 25, 0}), PolicyBudget
	bits, err := frequency.ParseFraction("4.5")
	if err != nil {
		t.Fatal(err)
	}
	budget.Policy.Budget = Budget{Target: TargetBPW, BitsPerWeight: bits, Objective: ObjectiveTraffic, Scope: ScopeAll, Seed: 1}
	problems["budget"] = &budget
	for name, problem := range problems {
		t.Run(name, func(t *testing.T) {
			data, err := encodePlan(solve(t, problem))
			if err != nil {
				t.Fatal(err)
			}
			if err := validate(schema, data); err != nil {
				t.Errorf("%#v", err)
			}
			decoded, err := manifest.Decode(data)
			if err != nil {
				t.Fatal(err)
			}
			if again, err := manifest.Encode(decoded); err != nil || !bytes.Equal(again, data) {
				t.Errorf("Encode(Decode(b)) is not b: %v", err)
			}
		})
	}
}

// TestSchemaRefuses breaks a good manifest in one place at a time.
func TestSchemaRefuses(t *testing.T) {
	schema := compileSchema(t)
	data, err := encodePlan(solve(t, goldens(t)["frequency"]))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ old, new string }{
		{`"format_version": "1.1"`, `"format_version": "2.0"`},
		{`"format_version": "1.1"`, `"format_version": 1.0`},
		{`"engine": "llama.cpp"`, `"engine": null`},
		{`"engine": "llama.cpp",`, `"engine": "llama.cpp", "motor": 1,`},
		{`"engine": "llama.cpp",`, ``},
		{`"tensor_count": `, `"tensor_count": -`},
		{`"header_sha256": "`, `"header_sha256": "G`},
		{`"counts_kind": "exact"`, `"counts_kind": "exactly"`},
		{`"name": "frequency"`, `"name": "frequent"`},
		{`"preset": "default"`, `"preset": null`},
		{`"budget": null`, `"budget": {}`},
		{`"hot_type": "Q4_K"`, `"hot_type": "Q4 K"`},
		{`"hot_percentile": 0.9`, `"hot_percentile": 1.9`},
		{`"tier": "hot"`, `"tier": "Hot"`},
		{`"flag": "unseen"`, `"flag": "never"`},
		{`"share": `, `"share": 2`},
		{`"role": "router"`, `"role": "routers"`},
		{`"source_type": "BF16"`, `"source_type": "BF17"`},
		{`"planned_type": "Q4_K"`, `"planned_type": ""`},
		{`"expert_types": null`, `"expert_types": []`},
		{`"reason": "base keep"`, `"reason": ""`},
		{`"saved_bytes": `, `"saved_bytes": 0.5`},
		{`"code": "unseen-experts"`, `"code": "Unseen Experts"`},
		{`"layers_without_counts": [`, `"layers_without_counts": [null, `},
	} {
		broken := bytes.Replace(data, []byte(tt.old), []byte(tt.new), 1)
		if bytes.Equal(broken, data) {
			t.Errorf("the manifest does not hold %s", tt.old)
			continue
		}
		if err := validate(schema, broken); err == nil {
			t.Errorf("%s for %s passes", tt.new, tt.old)
		}
		if _, err := manifest.Decode(broken); err == nil && tt.old != `"source_type": "BF16"` && tt.old != `"hot_type": "Q4_K"` &&
			tt.old != `"code": "unseen-experts"` {
			t.Errorf("Decode takes %s for %s", tt.new, tt.old)
		}
	}
}

// TestSchemaListsWhatTheTablesList keeps the schema's lists in step with the
// code's.
func TestSchemaListsWhatTheTablesList(t *testing.T) {
	var schema struct {
		Defs map[string]struct {
			Enum       []any
			Properties map[string]struct {
				Enum        []any
				Description string
			}
		} `json:"$defs"`
	}
	if err := json.Unmarshal(manifest.Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	words := func(enum []any) []string {
		var list []string
		for _, w := range enum {
			if s, ok := w.(string); ok {
				list = append(list, s)
			}
		}
		return list
	}
	var types []string
	for _, f := range quant.Formats() {
		types = append(types, f.Name)
	}
	if got := words(schema.Defs["ggml_type"].Enum); !slices.Equal(got, types) {
		t.Errorf("ggml_type lists %v, the table %v", got, types)
	}
	if got := words(schema.Defs["tensor"].Properties["role"].Enum); !slices.Equal(got, manifest.Roles) {
		t.Errorf("role lists %v", got)
	}
	if got := words(schema.Defs["expert"].Properties["tier"].Enum); !slices.Equal(got, manifest.Tiers) {
		t.Errorf("tier lists %v", got)
	}
	if got := words(schema.Defs["expert"].Properties["flag"].Enum); !slices.Equal(got, manifest.Flags) {
		t.Errorf("flag lists %v", got)
	}
	if got, want := schema.Defs["finding"].Properties["code"].Description, "One of "+strings.Join(FindingCodes(), ", ")+"; later versions may add codes."; got != want {
		t.Errorf("code says %q, want %q", got, want)
	}
	for _, r := range []ggufio.Role{ggufio.RoleExpertGate, ggufio.RoleExpertUp, ggufio.RoleExpertDown, ggufio.RoleExpertGateUp, ggufio.RoleRouter, ggufio.RoleSharedExpert,
		ggufio.RoleAttention, ggufio.RoleDenseFFN, ggufio.RoleEmbedding, ggufio.RoleOutput, ggufio.RoleNorm, ggufio.RoleOther} {
		if !slices.Contains(manifest.Roles, string(r)) {
			t.Errorf("manifest.Roles lacks %s", r)
		}
	}
	for _, o := range Objectives() {
		if !slices.Contains(manifest.Objectives, string(o)) {
			t.Errorf("manifest.Objectives lacks %s", o)
		}
	}
	if got := words(schema.Defs["budget"].Properties["objective"].Enum); !slices.Equal(got, manifest.Objectives) {
		t.Errorf("objective lists %v", got)
	}
	for _, k := range []stats.Kind{stats.KindExact, stats.KindScaled, stats.KindRelative, stats.KindRank, stats.KindNone} {
		if !slices.Contains(manifest.CountsKinds, string(k)) {
			t.Errorf("manifest.CountsKinds lacks %s", k)
		}
	}
}

// TestGolden holds today's manifests to files written before. Those of released
// versions beside them must decode forever and never change.
func TestGolden(t *testing.T) {
	for name, problem := range goldens(t) {
		path := filepath.Join("manifest", "testdata", manifest.FormatVersion, name+".json")
		got, err := encodePlan(solve(t, problem))
		if err != nil {
			t.Fatal(err)
		}
		if *update {
			if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, got, 0o666); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: the plan differs from %s, first in line %d", name, path, firstDifference(got, want))
		}
	}
}

func firstDifference(a, b []byte) int {
	x, y := bytes.Split(a, []byte("\n")), bytes.Split(b, []byte("\n"))
	for i := range min(len(x), len(y)) {
		if !bytes.Equal(x[i], y[i]) {
			return i + 1
		}
	}
	return min(len(x), len(y)) + 1
}

// TestTotalsAreSums adds up what is listed, the way a reader with jq would.
func TestTotalsAreSums(t *testing.T) {
	for name, problem := range goldens(t) {
		m := solve(t, problem).Manifest()
		var source, planned, split, saved int64
		for _, x := range m.Tensors {
			source += int64(x.SourceBytes)
			planned += int64(x.PlannedBytes)
			split += int64(x.SplitPlannedBytes)
			saved += x.SavedBytes
		}
		if int64(m.Totals.SourceBytes) != source || int64(m.Totals.PlannedBytes) != planned ||
			int64(m.Totals.SplitPlannedBytes) != split || m.Totals.SavedBytes != saved || source-planned != saved {
			t.Errorf("%s: totals %+v", name, m.Totals)
		}
	}
}

// TestLargestModelStaysSmall plans DeepSeek-V3, 1.3 TB of holes, and bounds what
// is allocated for it all: the model's headers, the plan and the manifest.
func TestLargestModelStaysSmall(t *testing.T) {
	path, err := gguftest.ExtendHeader(t.TempDir(), filepath.Join("..", "testdata", "llama-quantize", "deepseek-v3-bf16.gguf"))
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	m, err := ggufio.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	ev := spreadEvidence(m)
	policy := keepPolicy()
	policy.Base = "Q4_K_M"
	plan := solve(t, &Problem{Model: m, Evidence: ev, Policy: policy})
	data, err := encodePlan(plan)
	if err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 100<<20 {
		t.Errorf("planning allocates %d bytes in all", used)
	}
	if again, err := encodePlan(solve(t, &Problem{Model: m, Evidence: ev, Policy: policy})); err != nil || !bytes.Equal(again, data) {
		t.Errorf("another plan of the same problem differs: %v", err)
	}
	for i := range plan.Tensors {
		if x := &plan.Tensors[i]; x.ExpertTypes != nil && (len(x.ExpertTypes) != 256 || x.SplitSizeBytes >= x.Tensor.SizeBytes/3) {
			t.Errorf("%s: %d types, %d of %d bytes", x.Tensor.Name, len(x.ExpertTypes), x.SplitSizeBytes, x.Tensor.SizeBytes)
		}
	}
}
