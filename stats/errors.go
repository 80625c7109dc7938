package stats

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/quant"
)

// What an errors file says of itself.
const (
	ErrorsSchemaName    = "ggufplan.errors"
	ErrorsFormatVersion = "1.0"
)

// ErrorsSchema is the JSON Schema of an errors file.
//
//go:embed errors.schema.json
var ErrorsSchema []byte

// Errors is what measuring found: the error of every expert in every
// candidate type. It is the content of an errors file; field order is the
// order of keys.
type Errors struct {
	Schema        string         `json:"schema"`         // "ggufplan.errors"
	FormatVersion string         `json:"format_version"` // MAJOR.MINOR, the manifest's rule
	Generator     string         `json:"generator"`      // "ggufplan 0.1.0"
	Model         ErrorsModel    `json:"model"`
	Statistics    []ErrorsInput  `json:"statistics"` // inputs that counts and column weights came from; [] without
	Weights       string         `json:"weights"`    // "imatrix" or "none"
	Sampling      Sampling       `json:"sampling"`
	Part          *Part          `json:"part"`    // null for the whole
	Types         []string       `json:"types"`   // candidates asked for, smallest first
	Tensors       []TensorErrors `json:"tensors"` // file order
}

// ErrorsModel identifies the measured model.
type ErrorsModel struct {
	Name         string       `json:"name"`
	Architecture string       `json:"architecture"`
	Files        []ErrorsFile `json:"files"`
}

// ErrorsFile is one file of the measured model.
type ErrorsFile struct {
	Name         string `json:"name"`
	SizeBytes    uint64 `json:"size_bytes"`
	HeaderSHA256 string `json:"header_sha256"`
}

// ErrorsInput is one statistics file.
type ErrorsInput struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"`
}

// Sampling says how much was read.
type Sampling struct {
	Mode       string  `json:"mode"` // "sample" or "full"
	Seed       uint64  `json:"seed"`
	Confidence float64 `json:"confidence"`        // of the intervals, 0.95
	TargetHalf float64 `json:"target_half_width"` // relative half-width aimed at, 0.02
}

// A Part says which share of the work a file holds: 1 to Of.
type Part struct {
	Index int `json:"index"`
	Of    int `json:"of"`
}

// TensorErrors holds the errors of one tensor.
type TensorErrors struct {
	Name    string         `json:"name"`
	Layer   *int           `json:"layer"`
	Role    string         `json:"role"`
	Shape   []uint64       `json:"shape"`
	Source  string         `json:"source_type"`
	Types   []string       `json:"types"`   // measured for this tensor, after shape fallback, smallest first
	Experts []ExpertErrors `json:"experts"` // a tensor that is not a routed expert's has one
}

// ExpertErrors holds the errors of one expert; Types runs parallel to
// TensorErrors.Types.
type ExpertErrors struct {
	Expert       int         `json:"expert"`
	Rows         uint64      `json:"rows"` // rows measured
	RowsTotal    uint64      `json:"rows_total"`
	Count        *uint64     `json:"count"`         // tokens, null where unknown
	Weighted     bool        `json:"weighted"`      // false: column weights were ones
	WeightedNorm float64     `json:"weighted_norm"` // sum m_i |W_i|^2, scaled to all rows
	PlainNorm    float64     `json:"plain_norm"`    // sum |W_i|^2, scaled to all rows
	OutputEnergy *float64    `json:"output_energy"` // count-weighted energy of the expert's output; down projections with counts only, else null
	Types        []TypeError `json:"errors"`
}

// A TypeError is the error of one expert in one type. Sums are scaled to all
// rows; Low and High bound Relative at the stated confidence.
type TypeError struct {
	Relative      float64 `json:"relative"`
	Low           float64 `json:"low"`
	High          float64 `json:"high"`
	WeightedError float64 `json:"weighted_error"`
	PlainError    float64 `json:"plain_error"`
}

var versionPattern = regexp.MustCompile(`^(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})$`)

// EncodeErrors returns the content of an errors file: JSON with one line per
// expert, keys in struct order and a final newline. The version written is
// this package's, whatever e was read from.
func EncodeErrors(e *Errors) ([]byte, error) {
	own := *e
	own.Schema, own.FormatVersion = ErrorsSchemaName, ErrorsFormatVersion
	if err := own.validate(); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	put := func(v any) error {
		if err := enc.Encode(v); err != nil {
			return err
		}
		b.Truncate(b.Len() - 1) // Encode's newline
		return nil
	}
	fields := reflect.ValueOf(own)
	for i := range fields.NumField() {
		b.WriteString(separator(i, "{", ",") + "\n  " + strconv.Quote(tagName(fields.Type().Field(i))) + ": ")
		field := fields.Field(i)
		if field.Kind() == reflect.Slice && field.IsNil() {
			field = reflect.MakeSlice(field.Type(), 0, 0)
		}
		if field.Type() != reflect.TypeFor[[]TensorErrors]() {
			if err := put(field.Interface()); err != nil {
				return nil, err
			}
			continue
		}
		b.WriteByte('[')
		for j, t := range own.Tensors {
			experts := t.Experts
			t.Experts = []ExpertErrors{}
			b.WriteString(separator(j, "", ",") + "\n    ")
			if err := put(t); err != nil {
				return nil, err
			}
			b.Truncate(b.Len() - len("]}"))
			for k := range experts {
				b.WriteString(separator(k, "", ",") + "\n      ")
				if err := put(experts[k]); err != nil {
					return nil, err
				}
			}
			b.WriteString("]}")
		}
		b.WriteByte(']')
	}
	b.WriteString("\n}\n")
	return b.Bytes(), nil
}

func separator(i int, first, rest string) string {
	if i == 0 {
		return first
	}
	return rest
}

// DecodeErrors reads the content of an errors file. It refuses an unknown
// major version, a field it does not know in a file of its own minor version
// or older, a missing or repeated field, and values that contradict each
// other. Unknown fields of a newer minor version are dropped.
func DecodeErrors(data []byte) (*Errors, error) {
	var head struct {
		Schema        string `json:"schema"`
		FormatVersion string `json:"format_version"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, jsonError(data, err)
	}
	if head.Schema != ErrorsSchemaName {
		return nil, fmt.Errorf("schema: %q is not %q: not an errors file of measure", head.Schema, ErrorsSchemaName)
	}
	m := versionPattern.FindStringSubmatch(head.FormatVersion)
	if m == nil {
		return nil, fmt.Errorf("format_version: %q is not MAJOR.MINOR", head.FormatVersion)
	}
	if m[1] != "1" {
		return nil, fmt.Errorf("format_version: %s has an unknown major version, this program reads 1", head.FormatVersion)
	}
	if err := checkKeys(data, reflect.TypeFor[Errors](), m[2] != "0"); err != nil {
		return nil, err
	}
	var e Errors
	if err := json.Unmarshal(data, &e); err != nil {
		return nil, jsonError(data, err)
	}
	if err := e.validate(); err != nil {
		return nil, err
	}
	return &e, nil
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
func (e *Errors) validate() error {
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
			return fmt.Errorf("tensor %s: is there twice", t.Name)
		}
		names[t.Name] = true
		if err := t.validate(e.Part == nil); err != nil {
			return fmt.Errorf("tensor %s: %w", t.Name, err)
		}
	}
	return nil
}

func (t *TensorErrors) validate(whole bool) error {
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

func (x *ExpertErrors) validate(types int) error {
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
			return fmt.Errorf("%s is there twice", name)
		}
	}
	return nil
}

var sha256Pattern = regexp.MustCompile(`^[0-9a-f]{64}$`)

func isSHA256(s string) bool { return sha256Pattern.MatchString(s) }

// Tensor returns the errors of a tensor by its name, nil where there are none.
func (e *Errors) Tensor(name string) *TensorErrors {
	for i := range e.Tensors {
		if e.Tensors[i].Name == name {
			return &e.Tensors[i]
		}
	}
	return nil
}

// Check reports why the errors cannot serve a plan for the model with the
// statistics inputs: they are of another model or of other statistics, or hold
// only a part. Files are told apart by size and digest, not by name. Errors
// measured without statistics serve with any.
func (e *Errors) Check(m *ggufio.Model, inputs []Input) error {
	files := make([]ErrorsFile, len(m.Files))
	for i, f := range m.Files {
		files[i] = ErrorsFile{Name: f.Name, SizeBytes: f.SizeBytes, HeaderSHA256: f.HeaderSHA256}
	}
	if err := e.CheckOrigin(files, inputs); err != nil {
		return err
	}
	tensors := make(map[string]*ggufio.Tensor, len(m.Tensors))
	for i := range m.Tensors {
		tensors[m.Tensors[i].Name] = &m.Tensors[i]
	}
	for i := range e.Tensors {
		t := &e.Tensors[i]
		own := tensors[t.Name]
		if own == nil {
			return fmt.Errorf("tensor %s: is not in the model", t.Name)
		}
		if !slices.Equal(t.Shape, own.Shape) || t.Source != own.Type.String() || t.Role != string(own.Role) {
			return fmt.Errorf("tensor %s: measured as %s %s of %v, the model has %s %s of %v", t.Name, t.Role, t.Source, t.Shape, own.Role, own.Type, own.Shape)
		}
	}
	return nil
}

// CheckOrigin is [Errors.Check] for a model of which only the files are known.
func (e *Errors) CheckOrigin(files []ErrorsFile, inputs []Input) error {
	if e.Part != nil {
		return fmt.Errorf("holds part %d of %d: merge the parts first", e.Part.Index, e.Part.Of)
	}
	if len(e.Model.Files) != len(files) {
		return fmt.Errorf("measured on another model: %d files (%s), the model has %d", len(e.Model.Files), e.Model.Files[0].Name, len(files))
	}
	for i, f := range files {
		own := e.Model.Files[i]
		if own.SizeBytes != f.SizeBytes {
			return fmt.Errorf("measured on another model: %s has %d bytes, %s has %d", own.Name, own.SizeBytes, f.Name, f.SizeBytes)
		}
		if own.HeaderSHA256 != f.HeaderSHA256 {
			return fmt.Errorf("measured on another model: %s has header sha256 %s, %s has %s", own.Name, own.HeaderSHA256, f.Name, f.HeaderSHA256)
		}
	}
	if len(e.Statistics) == 0 || len(inputs) == 0 {
		return nil
	}
	var want, got []string
	for _, in := range e.Statistics {
		want = append(want, in.SHA256)
	}
	for _, in := range inputs {
		got = append(got, in.SHA256)
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(want, got) {
		return fmt.Errorf("measured with other statistics: %s, the plan has %s", inputNames(len(e.Statistics), func(i int) (string, string) {
			return e.Statistics[i].Name, e.Statistics[i].SHA256
		}), inputNames(len(inputs), func(i int) (string, string) { return inputs[i].Name, inputs[i].SHA256 }))
	}
	return nil
}

func inputNames(n int, at func(int) (name, digest string)) string {
	var out []string
	for i := range n {
		name, digest := at(i)
		out = append(out, fmt.Sprintf("%s (sha256 %.12s)", name, digest))
	}
	return strings.Join(out, ", ")
}
