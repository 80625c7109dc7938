package measure

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/stats"
)

// Check reports why the errors cannot serve a plan for the model with the
// statistics inputs: they are of another model or of other statistics, or hold
// only a part. Files are told apart by size and digest, not by name. Errors
// measured without statistics serve with any.
func (e *Result) Check(m *ggufio.Model, inputs []stats.Input) error {
	files := make([]File, len(m.Files))
	for i, f := range m.Files {
		files[i] = File{Name: f.Name, SizeBytes: f.SizeBytes, HeaderSHA256: f.HeaderSHA256}
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

// CheckOrigin is [Result.Check] for a model of which only the files are known.
func (e *Result) CheckOrigin(files []File, inputs []stats.Input) error {
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
