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
	if err := e.CheckOrigin(m.FileIDs(), stats.FileIDs(inputs)); err != nil {
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
func (e *Result) CheckOrigin(files []ggufio.FileID, inputs []stats.FileID) error {
	if e.Part != nil {
		return fmt.Errorf("holds part %d of %d: merge the parts first", e.Part.Index, e.Part.Of)
	}
	if err := ggufio.SameModel(files, e.Model.Files); err != nil {
		return fmt.Errorf("measured on %w", err)
	}
	if len(e.Statistics) == 0 || len(inputs) == 0 {
		return nil
	}
	own := make([]stats.FileID, len(e.Statistics))
	for i, in := range e.Statistics {
		own[i] = stats.FileID{Name: in.Name, SHA256: in.SHA256}
	}
	if missing, extra := stats.CompareFiles(inputs, own); missing != nil || extra != nil {
		return fmt.Errorf("measured with other statistics: %s, the plan has %s", fileNames(own), fileNames(inputs))
	}
	return nil
}

func fileNames(files []stats.FileID) string {
	var out []string
	for _, f := range files {
		out = append(out, fmt.Sprintf("%s (sha256 %.12s)", f.Name, f.SHA256))
	}
	return strings.Join(out, ", ")
}
