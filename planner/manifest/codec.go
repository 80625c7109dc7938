package manifest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"unicode/utf8"
)

// What this version of the program writes.
const (
	FormatVersion    = "1.1"
	GeneratorName    = "ggufplan"
	GeneratorVersion = "0.1.0"
	TargetEngine     = "llama.cpp"
	TargetVersion    = "0.5.0"
)

// The format version that this package knows all fields of.
const (
	formatMajor = 1
	formatMinor = 1
)

// MaxBytes is the size above which Decode refuses a file unread. The manifest
// of a model with 100 layers of 1000 experts is below 40 MB.
const MaxBytes = 128 << 20

// New returns a manifest of this version without contents: its lists are
// empty, not nil.
func New() *Manifest {
	return &Manifest{
		FormatVersion: FormatVersion,
		Generator:     Generator{GeneratorName, GeneratorVersion},
		Target:        Target{TargetEngine, TargetVersion},
		Layers:        []Layer{},
		Tensors:       []Tensor{},
		Findings:      []Finding{},
	}
}

// Encode returns the manifest's one spelling: JSON with two-space indent and a
// final newline, each expert, tensor, finding and input on one line, keys in
// struct order, nothing escaped that need not be. A manifest that contradicts
// itself ([Manifest.Check]) is refused.
//
// Encode writes this package's format: what Decode read from another minor
// version goes out as [FormatVersion], without the fields that Decode dropped.
func Encode(m *Manifest) ([]byte, error) {
	size := 1 << 14
	for i := range m.Layers {
		size += 192 * len(m.Layers[i].Experts)
	}
	for i := range m.Tensors {
		size += 512 + 10*len(m.Tensors[i].ExpertTypes)
	}
	var b bytes.Buffer
	b.Grow(size)
	if err := Write(&b, m); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// Write writes what [Encode] returns, piece by piece. Where it fails, w may have
// a part of it.
func Write(w io.Writer, m *Manifest) error {
	if v, err := parseVersion(m.FormatVersion); err != nil {
		return err
	} else if v.minor != formatMinor {
		own := *m
		own.FormatVersion = FormatVersion
		m = &own
	}
	checked := make(chan error, 1)
	go func() { checked <- m.Check() }() // takes as long as the encoding
	written := write(w, m)
	return cmp.Or(<-checked, written)
}

// Decode reads a manifest and refuses what is not one, saying where: a field
// that is unknown, missing, written twice, in other case or null where it must
// not be, text after the end, numbers that contradict each other
// ([Manifest.Check]), an unknown major version.
//
// An older minor version lacks the fields that came later; they are zero or
// empty. A newer one may have fields that this package does not know; they are
// dropped. Spacing and the order of keys are free.
func Decode(data []byte) (*Manifest, error) {
	if len(data) > MaxBytes {
		return nil, fmt.Errorf("%d bytes is over the limit of %d", len(data), MaxBytes)
	}
	if !utf8.Valid(data) {
		return nil, errors.New("not UTF-8 text")
	}
	var raw skipped
	if err := json.Unmarshal(data, &raw); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return nil, fmt.Errorf("byte %d: %w", syntax.Offset, err)
		}
		return nil, err
	}
	text, err := findVersion(data)
	if err != nil {
		return nil, err
	}
	v, err := parseVersion(text)
	if err != nil {
		return nil, err
	}
	m := new(Manifest)
	if err := decodeStrict(data, m, v.minor); err != nil {
		return nil, err
	}
	if b := m.Policy.Budget; b != nil && v.minor == 0 {
		m.Totals.Damage, m.Totals.SplitDamage = new(b.Damage), new(b.SplitDamage)
		if b.Sensitivity != nil {
			b.Sensitivity.Kind = "table" // there was no other
		}
	}
	if err := m.Check(); err != nil {
		return nil, err
	}
	return m, nil
}

// skipped is a value that is checked to be JSON and not kept.
type skipped struct{}

func (*skipped) UnmarshalJSON([]byte) error { return nil }

type version struct{ major, minor uint64 }

var versionText = regexp.MustCompile(`^(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})$`)

// parseVersion reads a format version and refuses major versions other than
// this package's.
func parseVersion(text string) (version, error) {
	parts := versionText.FindStringSubmatch(text)
	if parts == nil {
		return version{}, &FieldError{"format_version", fmt.Errorf("%q: want MAJOR.MINOR, such as %q", text, FormatVersion)}
	}
	var v version
	v.major, _ = strconv.ParseUint(parts[1], 10, 64)
	v.minor, _ = strconv.ParseUint(parts[2], 10, 64)
	if v.major != formatMajor {
		return version{}, &FieldError{"format_version", fmt.Errorf("%q: this program reads version %d only", text, formatMajor)}
	}
	return v, nil
}

// findVersion returns the format version of valid JSON, wherever in the
// top-level object it stands: how to read the rest depends on it.
func findVersion(data []byte) (string, error) {
	s := newScanner(data)
	if s.next().kind != '{' {
		return "", errors.New("not a manifest: want an object")
	}
	for s.more() {
		key := s.text(s.next())
		value := s.next()
		if key != "format_version" {
			s.skip(value)
			continue
		}
		if value.kind != '"' {
			return "", &FieldError{"format_version", fmt.Errorf("want a string, such as %q", FormatVersion)}
		}
		return s.text(value), nil
	}
	return "", &FieldError{"format_version", errors.New("missing: not a manifest of ggufplan")}
}
