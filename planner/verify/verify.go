// Package verify holds a quantized model against the manifest that planned it.
//
// [Model] compares every tensor of a GGUF file or shard set; [DryRunLog]
// compares what llama-quantize --dry-run printed. Both return every
// difference, sorted, in a [Report]; an error means that the two cannot be
// compared: another model, or nothing that can be read.
//
// [Model] reads headers only: that each tensor has the planned name, shape, type
// and size, that the file names an importance matrix where the plan has one,
// and the file's size. Of a tier file the split plan is compared, expert by expert, and
// its tables are read. [Report.Data] reads the blocks and reports those that
// cannot be weights.
package verify

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/planner/manifest"
)

// The kinds of difference.
const (
	KindMissing = "missing" // planned, not found
	KindExtra   = "extra"   // found, not planned
	KindShape   = "shape"
	KindType    = "type"
	KindBytes   = "bytes"
	KindTotal   = "total" // the sum of all tensors' bytes

	KindFileBytes = "file_bytes"
	KindImatrix   = "imatrix" // the importance matrix that the file's metadata names
	KindData      = "data"    // blocks that cannot be weights
)

// A Difference is one way in which a model departs from its plan.
type Difference struct {
	Kind    string `json:"kind"`
	Subject string `json:"subject"` // a tensor's name, or "total"
	Want    string `json:"want"`    // "" where nothing was planned
	Got     string `json:"got"`     // "" where nothing was found
}

// String says the difference for a person.
func (d Difference) String() string {
	switch d.Kind {
	case KindMissing:
		return fmt.Sprintf("%s: missing, planned as %s", d.Subject, d.Want)
	case KindImatrix:
		if d.Got == "" {
			return fmt.Sprintf("%s: absent, planned with %s: quantized without the importance matrix", d.Subject, d.Want)
		}
		return fmt.Sprintf("%s: %q, planned without an importance matrix", d.Subject, d.Got)
	case KindFileBytes:
		return fmt.Sprintf("%s: planned %s bytes, got %s", d.Subject, d.Want, d.Got)
	case KindData:
		return fmt.Sprintf("%s: %s", d.Subject, d.Got)
	case KindExtra:
		return fmt.Sprintf("%s: not in the plan, found as %s", d.Subject, d.Got)
	}
	return fmt.Sprintf("%s: %s is %s, planned %s", d.Subject, d.Kind, d.Got, d.Want)
}

// A Report is the outcome of a comparison.
type Report struct {
	Tensors      int          `json:"tensors"` // planned
	Matching     int          `json:"matching"`
	PlannedBytes uint64       `json:"planned_bytes"`
	FoundBytes   *uint64      `json:"found_bytes"` // null for a log, which rounds
	DataRead     bool         `json:"data_read"`   // every block was read, not headers alone
	Notes        []string     `json:"notes"`       // what differs and is right
	Differences  []Difference `json:"differences"` // by subject, then kind; "total" last
}

// found is one tensor as a model or a log shows it.
type found struct {
	shape   []uint64
	typ     string
	experts []string                            // types of its experts where they are in tiers, else nil
	size    func(planned uint64) (string, bool) // what to print, and whether it agrees
}

// Options say what a comparison lets pass.
type Options struct {
	AllowNoImatrix bool // a file that names no importance matrix where the plan has one
}

// Model compares a model with its plan.
func Model(plan *manifest.Manifest, model *ggufio.Model, o Options) (*Report, error) {
	if err := sameFacts(plan, model); err != nil {
		return nil, err
	}
	tensors := make(map[string]found, len(model.Tensors))
	total, planned := model.TensorBytes(), plan.Totals.PlannedBytes
	var err error
	if model.IsTierFile() {
		planned = plan.Totals.SplitPlannedBytes
		tensors, total, err = tierTensors(model)
	} else {
		for i := range model.Tensors {
			tensors[model.Tensors[i].Name] = wholeTensor(&model.Tensors[i])
		}
	}
	if err != nil {
		return nil, err
	}
	report, err := compare(plan, tensors, model.IsTierFile())
	if err != nil {
		return nil, err
	}
	report.PlannedBytes, report.FoundBytes = planned, &total
	if total != planned {
		report.add(KindTotal, "total", strconv.FormatUint(planned, 10), strconv.FormatUint(total, 10))
	}
	imatrix, named := report.compareImatrix(plan, model, o.AllowNoImatrix)
	report.compareSize(plan, model, imatrix, named, o.AllowNoImatrix)
	return report, nil
}

func wholeTensor(t *ggufio.Tensor) found {
	return found{shape: t.Shape, typ: t.Type.String(), size: exactly(t.SizeBytes)}
}

func exactly(size uint64) func(planned uint64) (string, bool) {
	return func(planned uint64) (string, bool) { return strconv.FormatUint(size, 10), size == planned }
}

func (r *Report) add(kind, subject, want, got string) {
	r.Differences = append(r.Differences, Difference{kind, subject, want, got})
}

// compare holds the tensors found against the planned ones, those of the split
// plan if that is asked for. It refuses another model's tensors instead of
// listing them all.
func compare(plan *manifest.Manifest, tensors map[string]found, split bool) (*Report, error) {
	if err := sameModel(plan, tensors); err != nil {
		return nil, err
	}
	report := &Report{Tensors: len(plan.Tensors), PlannedBytes: plan.Totals.PlannedBytes, Notes: []string{}, Differences: []Difference{}}
	planned := make(map[string]bool, len(plan.Tensors))
	for i := range plan.Tensors {
		want := &plan.Tensors[i]
		planned[want.Name] = true
		typ, size := want.PlannedType, want.PlannedBytes
		if split {
			typ, size = splitTensor(want)
		}
		got, ok := tensors[want.Name]
		if !ok {
			report.add(KindMissing, want.Name, typ+" "+shapeText(want.Shape), "")
			continue
		}
		before := len(report.Differences)
		if !sameShape(want.Shape, got.shape) {
			report.add(KindShape, want.Name, shapeText(want.Shape), shapeText(got.shape))
		}
		switch {
		case got.experts != nil && len(got.experts) == len(want.ExpertTypes):
			report.compareExperts(want, got.experts)
		case typ != got.typ:
			report.add(KindType, want.Name, typ, got.typ)
		}
		if text, ok := got.size(size); !ok {
			report.add(KindBytes, want.Name, strconv.FormatUint(size, 10), text)
		}
		if len(report.Differences) == before {
			report.Matching++
		}
	}
	for name, got := range tensors {
		if !planned[name] {
			report.add(KindExtra, name, "", got.typ+" "+shapeText(got.shape))
		}
	}
	slices.SortFunc(report.Differences, func(a, b Difference) int {
		return cmp.Or(cmp.Compare(a.Subject, b.Subject), cmp.Compare(a.Kind, b.Kind))
	})
	return report, nil
}

// sameModel tells a model that departs from its plan from a model that the
// plan was never for: fewer than half of either's tensors are the other's by
// name, or more than half of the shared ones differ in shape.
func sameModel(plan *manifest.Manifest, tensors map[string]found) error {
	shared, reshaped := 0, 0
	firstMissing, firstReshaped := "", ""
	for i := range plan.Tensors {
		want := &plan.Tensors[i]
		got, ok := tensors[want.Name]
		switch {
		case !ok:
			if firstMissing == "" {
				firstMissing = want.Name
			}
			continue
		case !sameShape(want.Shape, got.shape):
			if reshaped++; firstReshaped == "" {
				firstReshaped = fmt.Sprintf("%s is %s, planned %s", want.Name, shapeText(got.shape), shapeText(want.Shape))
			}
		}
		shared++
	}
	if 2*shared < len(plan.Tensors) || 2*shared < len(tensors) {
		detail := ""
		if firstMissing != "" {
			detail = "; the first that is missing is " + firstMissing
		}
		return fmt.Errorf("another model's tensors: the plan has %d, this has %d, and %d names agree%s", len(plan.Tensors), len(tensors), shared, detail)
	}
	if 2*reshaped > shared {
		return fmt.Errorf("another model's tensors: %d of %d have another shape; %s", reshaped, shared, firstReshaped)
	}
	return nil
}

// sameShape compares shapes up to trailing axes of 1, which writers drop.
func sameShape(a, b []uint64) bool {
	return slices.Equal(dropOnes(a), dropOnes(b))
}

func dropOnes(shape []uint64) []uint64 {
	for len(shape) > 1 && shape[len(shape)-1] == 1 {
		shape = shape[:len(shape)-1]
	}
	return shape
}

func shapeText(shape []uint64) string {
	parts := make([]string, len(shape))
	for i, n := range shape {
		parts[i] = strconv.FormatUint(n, 10)
	}
	return "[" + strings.Join(parts, ", ") + "]"
}
