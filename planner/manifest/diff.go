package manifest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
)

// A Difference holds what changed between two manifests of one model. Its
// lists are sorted and never null.
type Difference struct {
	Inputs  []FieldChange  `json:"inputs"` // generator, target, model, statistics
	Policy  []FieldChange  `json:"policy"`
	Totals  []FieldChange  `json:"totals"`
	Tensors []TensorChange `json:"tensors"` // by place in the new plan, removed ones last
	Experts []ExpertChange `json:"experts"` // by layer, then expert
	Added   []Finding      `json:"findings_added"`
	Removed []Finding      `json:"findings_removed"`
}

// Empty reports whether nothing changed.
func (d *Difference) Empty() bool {
	return len(d.Inputs) == 0 && len(d.Policy) == 0 && len(d.Totals) == 0 && len(d.Tensors) == 0 &&
		len(d.Experts) == 0 && len(d.Added) == 0 && len(d.Removed) == 0
}

// A FieldChange is one value of the manifest that changed; Field is its path,
// such as "policy.hot_type". A value that one side lacks is null.
type FieldChange struct {
	Field string          `json:"field"`
	Old   json.RawMessage `json:"old"`
	New   json.RawMessage `json:"new"`
}

// A TensorChange is a tensor that moved type, came or went. Types and bytes
// are null on the side that lacks the tensor.
type TensorChange struct {
	Name          string   `json:"name"`
	Role          string   `json:"role"`
	OldType       *string  `json:"old_type"`
	NewType       *string  `json:"new_type"`
	OldBytes      *uint64  `json:"old_bytes"`
	NewBytes      *uint64  `json:"new_bytes"`
	OldSplitBytes *uint64  `json:"old_split_bytes"`
	NewSplitBytes *uint64  `json:"new_split_bytes"`
	Experts       []Change `json:"experts"` // experts whose type in the split plan changed
}

// A Change is one expert's move between types.
type Change struct {
	Expert int    `json:"expert"`
	Old    string `json:"old"`
	New    string `json:"new"`
}

// An ExpertChange is an expert that moved tier or type.
type ExpertChange struct {
	Layer    int     `json:"layer"`
	Expert   int     `json:"expert"`
	OldTier  *string `json:"old_tier"`
	NewTier  *string `json:"new_tier"`
	OldType  *string `json:"old_type"`
	NewType  *string `json:"new_type"`
	OldCount *uint64 `json:"old_count"`
	NewCount *uint64 `json:"new_count"`
}

// Diff compares two manifests. A count that moved without moving its expert's
// tier or type is no difference of the plan; the statistics' digest shows it.
func Diff(before, after *Manifest) *Difference {
	d := &Difference{
		Inputs: []FieldChange{}, Policy: []FieldChange{}, Totals: []FieldChange{},
		Added:   findingsOnlyIn(after.Findings, before.Findings),
		Removed: findingsOnlyIn(before.Findings, after.Findings),
	}
	d.Inputs = fieldChanges(d.Inputs, "generator", before.Generator, after.Generator)
	d.Inputs = fieldChanges(d.Inputs, "target", before.Target, after.Target)
	d.Inputs = fieldChanges(d.Inputs, "model", before.Model, after.Model)
	d.Inputs = fieldChanges(d.Inputs, "statistics", before.Statistics, after.Statistics)
	d.Policy = fieldChanges(d.Policy, "policy", before.Policy, after.Policy)
	d.Totals = fieldChanges(d.Totals, "totals", before.Totals, after.Totals)
	d.Totals = fieldChanges(d.Totals, "measured", before.Measured, after.Measured)
	d.Tensors = diffTensors(before.Tensors, after.Tensors)
	d.Experts = diffExperts(before.Layers, after.Layers)
	return d
}

// fieldChanges appends the leaves at which two values of one type differ, in
// the order of their keys in the file.
func fieldChanges(dst []FieldChange, path string, before, after any) []FieldChange {
	old, err := json.Marshal(before)
	if err != nil {
		panic(fmt.Sprintf("manifest: %s does not marshal: %v", path, err))
	}
	now, err := json.Marshal(after)
	if err != nil {
		panic(fmt.Sprintf("manifest: %s does not marshal: %v", path, err))
	}
	return rawChanges(dst, path, old, now)
}

var jsonNull = json.RawMessage("null")

func rawChanges(dst []FieldChange, path string, old, now json.RawMessage) []FieldChange {
	if string(old) == string(now) {
		return dst
	}
	oldFields, oldObject := objectFields(old)
	newFields, newObject := objectFields(now)
	if oldObject && newObject {
		for _, f := range newFields {
			dst = rawChanges(dst, path+"."+f.key, fieldOr(oldFields, f.key), f.value)
		}
		for _, f := range oldFields {
			if !slices.ContainsFunc(newFields, func(g field) bool { return g.key == f.key }) {
				dst = rawChanges(dst, path+"."+f.key, f.value, jsonNull)
			}
		}
		return dst
	}
	var oldList, newList []json.RawMessage
	if len(old) > 0 && old[0] == '[' && len(now) > 0 && now[0] == '[' &&
		json.Unmarshal(old, &oldList) == nil && json.Unmarshal(now, &newList) == nil {
		for i := range max(len(oldList), len(newList)) {
			a, b := jsonNull, jsonNull
			if i < len(oldList) {
				a = oldList[i]
			}
			if i < len(newList) {
				b = newList[i]
			}
			dst = rawChanges(dst, path+"["+strconv.Itoa(i)+"]", a, b)
		}
		return dst
	}
	return append(dst, FieldChange{path, old, now})
}

type field struct {
	key   string
	value json.RawMessage
}

// objectFields splits an object into its fields in file order.
func objectFields(raw json.RawMessage) ([]field, bool) {
	if len(raw) == 0 || raw[0] != '{' {
		return nil, false
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	if _, err := dec.Token(); err != nil { // the opening brace
		return nil, false
	}
	fields := []field{}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, false
		}
		f := field{key: key.(string)}
		if err := dec.Decode(&f.value); err != nil {
			return nil, false
		}
		fields = append(fields, f)
	}
	return fields, true
}

func fieldOr(fields []field, key string) json.RawMessage {
	for _, f := range fields {
		if f.key == key {
			return f.value
		}
	}
	return jsonNull
}

func diffTensors(before, after []Tensor) []TensorChange {
	changes := []TensorChange{}
	old := make(map[string]*Tensor, len(before))
	for i := range before {
		old[before[i].Name] = &before[i]
	}
	kept := make(map[string]bool, len(after))
	for i := range after {
		now := &after[i]
		was, ok := old[now.Name]
		if !ok {
			changes = append(changes, TensorChange{Name: now.Name, Role: now.Role,
				NewType: &now.PlannedType, NewBytes: &now.PlannedBytes, NewSplitBytes: &now.SplitPlannedBytes, Experts: []Change{}})
			continue
		}
		kept[now.Name] = true
		experts := diffExpertTypes(was.ExpertTypes, now.ExpertTypes)
		if was.PlannedType == now.PlannedType && was.PlannedBytes == now.PlannedBytes &&
			was.SplitPlannedBytes == now.SplitPlannedBytes && len(experts) == 0 {
			continue
		}
		changes = append(changes, TensorChange{now.Name, now.Role, &was.PlannedType, &now.PlannedType,
			&was.PlannedBytes, &now.PlannedBytes, &was.SplitPlannedBytes, &now.SplitPlannedBytes, experts})
	}
	for i := range before {
		was := &before[i]
		if !kept[was.Name] {
			changes = append(changes, TensorChange{Name: was.Name, Role: was.Role,
				OldType: &was.PlannedType, OldBytes: &was.PlannedBytes, OldSplitBytes: &was.SplitPlannedBytes, Experts: []Change{}})
		}
	}
	return changes
}

func diffExpertTypes(before, after []string) []Change {
	changes := []Change{}
	for e := range max(len(before), len(after)) {
		var a, b string
		if e < len(before) {
			a = before[e]
		}
		if e < len(after) {
			b = after[e]
		}
		if a != b {
			changes = append(changes, Change{e, a, b})
		}
	}
	return changes
}

func diffExperts(before, after []Layer) []ExpertChange {
	type place struct{ layer, expert int }
	old, now := map[place]*Expert{}, map[place]*Expert{}
	var places []place
	for i := range before {
		for j := range before[i].Experts {
			p := place{before[i].Layer, before[i].Experts[j].Expert}
			old[p] = &before[i].Experts[j]
			places = append(places, p)
		}
	}
	for i := range after {
		for j := range after[i].Experts {
			p := place{after[i].Layer, after[i].Experts[j].Expert}
			now[p] = &after[i].Experts[j]
			if old[p] == nil {
				places = append(places, p)
			}
		}
	}
	slices.SortFunc(places, func(a, b place) int {
		return cmp.Or(cmp.Compare(a.layer, b.layer), cmp.Compare(a.expert, b.expert))
	})
	changes := []ExpertChange{}
	for _, p := range places {
		a, b := old[p], now[p]
		if a == nil {
			a = &Expert{}
		}
		if b == nil {
			b = &Expert{}
		}
		if !equal(a.Tier, b.Tier) || !equal(a.Type, b.Type) {
			changes = append(changes, ExpertChange{p.layer, p.expert, a.Tier, b.Tier, a.Type, b.Type, a.Count, b.Count})
		}
	}
	return changes
}

func equal(a, b *string) bool {
	return a == nil && b == nil || a != nil && b != nil && *a == *b
}

func findingsOnlyIn(these, those []Finding) []Finding {
	only := []Finding{}
	for _, f := range these {
		if !slices.Contains(those, f) {
			only = append(only, f)
		}
	}
	return only
}
