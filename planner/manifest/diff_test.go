package manifest

import (
	"encoding/json"
	"testing"
)

func ptr[T any](v T) *T { return &v }

func small() *Manifest {
	return &Manifest{
		FormatVersion: "1.0",
		Policy:        Policy{Name: "frequency", HotType: "Q4_K", HotPercentile: ptr(0.9), Pins: []Pin{{"attn_v", "Q8_0"}}},
		Totals:        Totals{PlannedBytes: 300},
		Layers: []Layer{{Layer: 1, Experts: []Expert{
			{Expert: 0, Count: ptr(uint64(9)), Tier: ptr("hot"), Type: ptr("Q4_K")},
			{Expert: 1, Count: ptr(uint64(1)), Tier: ptr("cold"), Type: ptr("Q2_K")},
		}}},
		Tensors: []Tensor{
			{Name: "a", PlannedType: "Q4_K", PlannedBytes: 100, ExpertTypes: []string{"Q4_K", "Q2_K"}, SplitPlannedBytes: 90},
			{Name: "b", PlannedType: "Q6_K", PlannedBytes: 200, SplitPlannedBytes: 200},
		},
		Findings: []Finding{{"scarce-experts", "blk.1", "1 of 2"}},
	}
}

func TestDiffOfEqualIsEmpty(t *testing.T) {
	if d := Diff(small(), small()); !d.Empty() {
		t.Errorf("differences between equal manifests: %+v", d)
	}
}

func TestDiff(t *testing.T) {
	after := small()
	after.Policy.HotType = "Q5_K"
	after.Policy.HotPercentile = nil
	after.Policy.Pins = append(after.Policy.Pins, Pin{"attn_k", "Q8_0"})
	after.Totals.PlannedBytes = 310
	after.Layers[0].Experts[1] = Expert{Expert: 1, Count: ptr(uint64(3)), Tier: ptr("warm"), Type: ptr("Q3_K")}
	after.Tensors[0].ExpertTypes = []string{"Q4_K", "Q3_K"}
	after.Tensors[0].SplitPlannedBytes = 95
	after.Tensors[1].Name = "c"
	after.Findings = []Finding{{"scarce-experts", "blk.1", "2 of 2"}}

	d := Diff(small(), after)
	for i, want := range []FieldChange{
		{"policy.hot_percentile", json.RawMessage(`0.9`), json.RawMessage(`null`)},
		{"policy.hot_type", json.RawMessage(`"Q4_K"`), json.RawMessage(`"Q5_K"`)},
		{"policy.pins[1]", json.RawMessage(`null`), json.RawMessage(`{"pattern":"attn_k","type":"Q8_0"}`)},
	} {
		if i >= len(d.Policy) || d.Policy[i].Field != want.Field || string(d.Policy[i].Old) != string(want.Old) || string(d.Policy[i].New) != string(want.New) {
			t.Fatalf("policy change %d of %d is not %s", i, len(d.Policy), want.Field)
		}
	}
	if len(d.Totals) != 1 || d.Totals[0].Field != "totals.planned_bytes" {
		t.Errorf("totals: %+v", d.Totals)
	}
	if len(d.Tensors) != 3 || d.Tensors[0].Name != "a" || d.Tensors[1].Name != "c" || d.Tensors[1].OldType != nil ||
		d.Tensors[2].Name != "b" || d.Tensors[2].NewType != nil {
		t.Fatalf("tensors: %+v", d.Tensors)
	}
	if x := d.Tensors[0].Experts; len(x) != 1 || x[0] != (Change{1, "Q2_K", "Q3_K"}) {
		t.Errorf("experts of a: %+v", x)
	}
	if len(d.Experts) != 1 || d.Experts[0].Expert != 1 || *d.Experts[0].NewTier != "warm" || *d.Experts[0].OldCount != 1 {
		t.Errorf("experts: %+v", d.Experts)
	}
	if len(d.Added) != 1 || len(d.Removed) != 1 {
		t.Errorf("findings: %+v, %+v", d.Added, d.Removed)
	}
}
