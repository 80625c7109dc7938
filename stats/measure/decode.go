package measure

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"slices"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/stats/internal/strictjson"
)

var versionPattern = regexp.MustCompile(`^(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})$`)

// Decode reads the content of an errors file. It refuses an unknown
// major version, a field it does not know in a file of its own minor version
// or older, a missing or repeated field, and values that contradict each
// other. Unknown fields of a newer minor version are dropped.
func Decode(data []byte) (*Result, error) {
	var e Result
	if err := decodeRecord(data, ErrorsSchemaName, ErrorsFormatVersion, "not an errors file of measure", &e); err != nil {
		return nil, err
	}
	if err := e.validate(); err != nil {
		return nil, err
	}
	return &e, nil
}

// decodeRecord reads a record with a schema's name and a format version; own is
// this program's, 1.0 or 1.1 with the same fields.
func decodeRecord[T any](data []byte, schema, own, otherwise string, record *T) error {
	var head struct {
		Schema        string `json:"schema"`
		FormatVersion string `json:"format_version"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return jsonError(data, err)
	}
	if head.Schema != schema {
		return fmt.Errorf("schema: %q is not %q: %s", head.Schema, schema, otherwise)
	}
	m := versionPattern.FindStringSubmatch(head.FormatVersion)
	if m == nil {
		return fmt.Errorf("format_version: %q is not MAJOR.MINOR", head.FormatVersion)
	}
	if m[1] != "1" {
		return fmt.Errorf("format_version: %s has an unknown major version, this program reads 1", head.FormatVersion)
	}
	newer := m[2] != "0" && head.FormatVersion != own
	if err := strictjson.Check(data, reflect.TypeFor[T](), newer); err != nil {
		return err
	}
	if err := json.Unmarshal(data, record); err != nil {
		return jsonError(data, err)
	}
	return nil
}

// jsonError adds the line to an error of encoding/json.
func jsonError(data []byte, err error) error {
	var offset int64
	switch err := err.(type) {
	case *json.SyntaxError:
		offset = err.Offset
	case *json.UnmarshalTypeError:
		return fmt.Errorf("line %d: %s: a JSON %s does not fit", lineOf(data, err.Offset), err.Field, err.Value)
	default:
		return err
	}
	return fmt.Errorf("line %d: %w", lineOf(data, offset), err)
}

func lineOf(data []byte, offset int64) int {
	return 1 + bytes.Count(data[:min(int(offset), len(data))], []byte("\n"))
}

// validate reports the first value that cannot be right.
func (e *Result) validate() error {
	if e.Weights != "imatrix" && e.Weights != "none" {
		return fmt.Errorf("weights: %q is neither imatrix nor none", e.Weights)
	}
	s := e.Sampling
	if s.Mode != "sample" && s.Mode != "full" {
		return fmt.Errorf("sampling.mode: %q is neither sample nor full", s.Mode)
	}
	if !(s.Confidence > 0 && s.Confidence < 1) || !(s.TargetHalf >= 0 && s.TargetHalf < 1) {
		return fmt.Errorf("sampling: confidence %v with half width %v is not a statement about intervals", s.Confidence, s.TargetHalf)
	}
	if p := e.Part; p != nil && (p.Index < 1 || p.Index > p.Of) {
		return fmt.Errorf("part: %d of %d", p.Index, p.Of)
	}
	if len(e.Model.Files) == 0 {
		return fmt.Errorf("model.files: is empty")
	}
	for i, f := range e.Model.Files {
		if !isSHA256(f.HeaderSHA256) {
			return fmt.Errorf("model.files[%d].header_sha256: %q is not a sha256 in lower-case hex", i, f.HeaderSHA256)
		}
	}
	for i, f := range e.Statistics {
		if !isSHA256(f.SHA256) {
			return fmt.Errorf("statistics[%d].sha256: %q is not a sha256 in lower-case hex", i, f.SHA256)
		}
	}
	if err := checkTypeNames(e.Types); err != nil {
		return fmt.Errorf("types: %w", err)
	}
	names := make(map[string]bool, len(e.Tensors))
	for i := range e.Tensors {
		t := &e.Tensors[i]
		if names[t.Name] {
			return fmt.Errorf("duplicate tensor %s", t.Name)
		}
		names[t.Name] = true
		if err := t.validate(e.Part == nil); err != nil {
			return fmt.Errorf("tensor %s: %w", t.Name, err)
		}
	}
	return nil
}

func (t *TensorLoss) validate(whole bool) error {
	role := ggufio.Role(t.Role)
	if len(t.Shape) == 0 {
		return fmt.Errorf("shape: is empty")
	}
	if err := checkTypeNames(t.Types); err != nil {
		return fmt.Errorf("types: %w", err)
	}
	if _, ok := quant.ByName(t.Source); !ok {
		return fmt.Errorf("source_type: %q is not a GGML type", t.Source)
	}
	experts := uint64(1)
	if role.IsExpert() && len(t.Shape) >= 3 {
		experts = t.Shape[len(t.Shape)-1]
	}
	if whole && uint64(len(t.Experts)) != experts {
		return fmt.Errorf("experts: %d listed, the shape has %d", len(t.Experts), experts)
	}
	last := -1
	for i := range t.Experts {
		x := &t.Experts[i]
		if x.Expert <= last || role.IsExpert() && len(t.Shape) >= 3 && uint64(x.Expert) >= experts {
			return fmt.Errorf("experts[%d]: expert %d is out of order or range", i, x.Expert)
		}
		last = x.Expert
		if err := x.validate(len(t.Types)); err != nil {
			return fmt.Errorf("expert %d: %w", x.Expert, err)
		}
	}
	return nil
}

func (x *ExpertLoss) validate(types int) error {
	if x.Rows > x.RowsTotal || x.RowsTotal == 0 {
		return fmt.Errorf("rows: %d of %d", x.Rows, x.RowsTotal)
	}
	if len(x.Types) != types {
		return fmt.Errorf("errors: %d entries for %d types", len(x.Types), types)
	}
	if !isAmount(x.WeightedNorm) || !isAmount(x.PlainNorm) || x.OutputEnergy != nil && !isAmount(*x.OutputEnergy) {
		return fmt.Errorf("a norm or an energy is negative or not finite")
	}
	for i, r := range x.Types {
		for _, v := range []float64{r.Relative, r.Low, r.High, r.WeightedError, r.PlainError} {
			if !isAmount(v) {
				return fmt.Errorf("errors[%d]: %v is negative or not finite", i, v)
			}
		}
		if r.Low > r.Relative || r.Relative > r.High {
			return fmt.Errorf("errors[%d]: relative %v lies outside %v to %v", i, r.Relative, r.Low, r.High)
		}
	}
	return nil
}

func isAmount(v float64) bool { return v >= 0 && v <= math.MaxFloat64 }

func checkTypeNames(names []string) error {
	for i, name := range names {
		if f, ok := quant.ByName(name); !ok || f.Name != name {
			return fmt.Errorf("%q is not a GGML type", name)
		}
		if slices.Contains(names[:i], name) {
			return fmt.Errorf("duplicate type %s", name)
		}
	}
	return nil
}

var sha256Pattern = regexp.MustCompile(`^[0-9a-f]{64}$`)

func isSHA256(s string) bool { return sha256Pattern.MatchString(s) }
