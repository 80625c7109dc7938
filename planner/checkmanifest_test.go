package planner

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/planner/manifest"
)

// TestCheckManifest breaks a good manifest in one value at a time, where only
// the type table, the file types or the tier rule can tell.
func TestCheckManifest(t *testing.T) {
	tiers := solve(t, goldens(t)["frequency"]).Manifest()
	data, err := manifest.Encode(tiers)
	if err != nil {
		t.Fatal(err)
	}
	if err := CheckManifest(tiers); err != nil {
		t.Fatalf("a good manifest: %v", err)
	}
	fused := 0
	for tiers.Tensors[fused].ExpertTypes == nil {
		fused++
	}
	for _, tt := range []struct {
		name, want string
		change     func(m *manifest.Manifest)
	}{
		{"source type", "tensors[0].source_type", func(m *manifest.Manifest) { m.Tensors[0].SourceType = "BF17" }},
		{"case of a type", "tensors[0].source_type", func(m *manifest.Manifest) { m.Tensors[0].SourceType = "bf16" }},
		{"source bytes", "tensors[0].source_bytes", func(m *manifest.Manifest) { m.Tensors[0].SourceBytes++ }},
		{"planned type", "tensors[0].planned_type", func(m *manifest.Manifest) { m.Tensors[0].PlannedType = "Q4_X" }},
		{"planned bytes", "tensors[0].planned_bytes", func(m *manifest.Manifest) { m.Tensors[0].PlannedBytes-- }},
		{"row and block", "tensors[0].planned_type", func(m *manifest.Manifest) {
			m.Tensors[0].Shape[0], m.Tensors[0].PlannedType = 33, "Q8_0"
			m.Tensors[0].SourceType, m.Tensors[0].SourceBytes = "F32", 4*33*m.Tensors[0].Parameters/tiers.Tensors[0].Shape[0]
		}},
		{"an expert's type", "expert_types[1]", func(m *manifest.Manifest) { m.Tensors[fused].ExpertTypes[1] = "Q2" }},
		{"split bytes", "split_planned_bytes", func(m *manifest.Manifest) { m.Tensors[fused].SplitPlannedBytes++ }},
		{"tier", "layers[0].experts[0].tier", func(m *manifest.Manifest) {
			m.Layers[0].Experts[0].Tier = new(map[string]string{"hot": "cold", "warm": "hot", "cold": "warm"}[*m.Layers[0].Experts[0].Tier])
		}},
		{"type of an expert", "layers[0].experts[0].type", func(m *manifest.Manifest) { m.Layers[0].Experts[0].Type = new("Q0") }},
		{"policy's type", "policy.warm_type", func(m *manifest.Manifest) { m.Policy.WarmType = new("warm") }},
		{"pin's type", "policy.pins[0].type", func(m *manifest.Manifest) { m.Policy.Pins = []manifest.Pin{{Pattern: "a", Type: "Q9"}} }},
		{"pin's pattern", "policy.pins[0].pattern", func(m *manifest.Manifest) { m.Policy.Pins = []manifest.Pin{{Pattern: "(", Type: "Q8_0"}} }},
		{"base", "policy.base", func(m *manifest.Manifest) { m.Policy.Base = "Q9_K_M" }},
		{"declared type", "policy.defined_types[0]", func(m *manifest.Manifest) {
			m.Policy.DefinedTypes = []manifest.DefinedType{{Name: "Q4_K", WeightsPerBlock: 8, BytesPerBlock: 3}}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, err := manifest.Decode(data)
			if err != nil {
				t.Fatal(err)
			}
			tt.change(m)
			var field *manifest.FieldError
			if err := CheckManifest(m); !errors.As(err, &field) || !strings.HasSuffix(field.Field, tt.want) {
				t.Errorf("%v, want an error at %s", err, tt.want)
			}
		})
	}
}

// TestCheckManifestSuperExpert lets a super expert be hot whatever its count.
func TestCheckManifestSuperExpert(t *testing.T) {
	m := solve(t, goldens(t)["frequency"]).Manifest()
	layer := &m.Layers[0]
	e := 0
	for *layer.Experts[e].Tier == "hot" {
		e++
	}
	layer.Experts[e].Tier = new("hot")
	if CheckManifest(m) == nil {
		t.Error("a hot expert with the count of another tier passes")
	}
	m.Findings = append(m.Findings, manifest.Finding{Code: CodeSuperExpert, Subject: subjectOfLayer(layer.Layer)})
	if err := CheckManifest(m); err != nil {
		t.Error(err)
	}
}

// TestCheckManifestOfReleases checks manifests that earlier versions wrote.
func TestCheckManifestOfReleases(t *testing.T) {
	files, err := filepath.Glob("manifest/testdata/*/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal(err, "no manifests")
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		m, err := manifest.Decode(data)
		if err != nil {
			t.Fatal(err)
		}
		if err := CheckManifest(m); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}
