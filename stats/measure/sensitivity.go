package measure

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// A Sensitivity is a table of what one and the same disturbance of each tensor
// does to the model, such as the KL divergence after quantizing that tensor
// alone.
type Sensitivity struct {
	Names  []string  // tensors, in the table's order
	Values []float64 // parallel to Names; at least 0, NaN where not measured

	DropType string   // the type that the tensors were quantized to; "" where unknown
	Control  *float64 // what a run showed in which nothing changed; nil where there was none

	Probe *Probe // what probe wrote; then Values are those of the tensors' groups, and nil for a table
}

// notMeasured is what published tables write for a tensor that was not tried.
const notMeasured = 404

// maxSensitivityNames bounds a table; a model of one tensor per expert with
// 256 experts in 60 layers has 50 thousand.
const maxSensitivityNames = 1 << 20

// maxSensitivity bounds what is measured, and its inverse what is more than 0,
// so that a table's mean neither overflows nor vanishes.
const maxSensitivity = 1e150

// DecodeSensitivity reads a table: CSV with a header of tensor names and one
// row of numbers, or a JSON object of numbers by tensor name. An empty cell,
// null and 404 stand for "not measured"; 0 is below the noise. CSV columns
// whose header is not a tensor's name (no dot in it) are passed over, but for
// the label that tells rows of several types apart: dropType says which row is
// meant. Lines "# drop-type: Q2_K" and "# control: 0" before the header give the
// type of the runs and the value of one in which nothing changed. Where dropType
// is not "", it is the type, whatever the file says.
//
// What probe wrote, JSON with a schema, is read as that; dropType must be "" or
// the probe's type.
func DecodeSensitivity(data []byte, dropType string) (*Sensitivity, error) {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if IsProbe(data) {
		return probedSensitivity(data, dropType)
	}
	t := &Sensitivity{DropType: dropType}
	var err error
	if trimmed := bytes.TrimLeft(data, " \t\r\n"); len(trimmed) > 0 && trimmed[0] == '{' {
		err = t.decodeJSON(data)
	} else {
		err = t.decodeCSV(data)
	}
	if err != nil {
		return nil, err
	}
	seen := make(map[string]bool, len(t.Names))
	positive := false
	for i, name := range t.Names {
		if seen[name] {
			return nil, fmt.Errorf("duplicate tensor %s", name)
		}
		seen[name] = true
		positive = positive || t.Values[i] > 0
	}
	if len(t.Names) == 0 {
		return nil, fmt.Errorf("no column has a tensor's name, such as blk.0.ffn_up_exps.weight")
	}
	if !positive {
		return nil, fmt.Errorf("no tensor has a value above 0")
	}
	return t, nil
}

// probedSensitivity reads what probe wrote.
func probedSensitivity(data []byte, dropType string) (*Sensitivity, error) {
	p, err := DecodeProbe(data)
	if err != nil {
		return nil, err
	}
	if p.Part != nil {
		return nil, fmt.Errorf("holds part %d of %d: merge the parts first", p.Part.Index, p.Part.Of)
	}
	if dropType != "" && dropType != p.ProbeType {
		return nil, fmt.Errorf("was measured at %s, not %s", p.ProbeType, dropType)
	}
	t := &Sensitivity{DropType: p.ProbeType, Probe: p}
	runs := p.byName()
	for i := range p.Tensors {
		t.Names = append(t.Names, p.Tensors[i].Name)
		t.Values = append(t.Values, runs[p.Tensors[i].Group].Net())
	}
	return t, nil
}

func (t *Sensitivity) add(name string, value float64) error {
	if len(t.Names) == maxSensitivityNames {
		return fmt.Errorf("more than %d tensors", maxSensitivityNames)
	}
	switch {
	case value == notMeasured:
		value = math.NaN()
	case !isAmount(value) && !math.IsNaN(value):
		return fmt.Errorf("tensor %s: %v is negative or not finite", name, value)
	case value > maxSensitivity || value > 0 && value < 1/maxSensitivity:
		return fmt.Errorf("tensor %s: %v: want 0, or a number from %g to %g", name, value, 1/maxSensitivity, maxSensitivity)
	}
	t.Names = append(t.Names, name)
	t.Values = append(t.Values, value)
	return nil
}

// readNotes reads the comment lines before the header.
func (t *Sensitivity) readNotes(data []byte) error {
	for n, line := range bytes.Split(data, []byte("\n")) {
		text, ok := strings.CutPrefix(strings.TrimSpace(string(line)), "#")
		if !ok {
			return nil
		}
		key, value, _ := strings.Cut(text, ":")
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(key) {
		case "drop-type":
			if t.DropType == "" {
				t.DropType = value
			}
		case "control":
			v, err := strconv.ParseFloat(value, 64)
			if err != nil || !isAmount(v) || v > maxSensitivity {
				return fmt.Errorf("line %d: control: %q is not a divergence", n+1, value)
			}
			t.Control = &v
		}
	}
	return nil
}

func (t *Sensitivity) decodeCSV(data []byte) error {
	if err := t.readNotes(data); err != nil {
		return err
	}
	r := csv.NewReader(bytes.NewReader(data))
	r.Comment = '#'
	r.TrimLeadingSpace = true
	header, err := r.Read()
	if err == io.EOF {
		return fmt.Errorf("is empty")
	}
	if err != nil {
		return err
	}
	row, err := r.Read()
	if err == io.EOF {
		return fmt.Errorf("line 1: a header without a row of values")
	}
	if err != nil {
		return err
	}
	line, _ := r.FieldPos(0)
	rows, lines := [][]string{row}, []int{line}
	for {
		next, err := r.Read()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		at, _ := r.FieldPos(0)
		rows, lines = append(rows, next), append(lines, at)
	}
	if !slices.ContainsFunc(header, namesTensor) {
		if header, row, err = t.turn(header, rows); err != nil || header == nil {
			return err // with nothing, the caller says that there are no tensors
		}
	} else if len(rows) > 1 {
		k, err := t.chooseRow(header, rows, lines)
		if err != nil {
			return err
		}
		row, line = rows[k], lines[k]
	}
	for i, name := range header {
		name = strings.TrimSpace(name)
		if !namesTensor(name) {
			continue
		}
		cell := strings.TrimSuffix(strings.TrimSpace(row[i]), "%")
		value := math.NaN()
		if cell != "" {
			value, err = strconv.ParseFloat(cell, 64)
			if err != nil || math.IsNaN(value) {
				return fmt.Errorf("line %d: tensor %s: %q is not a number", line, name, row[i])
			}
		}
		if err := t.add(name, value); err != nil {
			return fmt.Errorf("line %d: %w", line, err)
		}
	}
	return nil
}

func namesTensor(s string) bool { return strings.Contains(s, ".") }

// turn reads a table with a row for each tensor and a column of values, or one
// for each of several types, as a header and a row. It returns none for other
// tables.
func (t *Sensitivity) turn(header []string, rows [][]string) (names, values []string, err error) {
	if len(header) < 2 || slices.ContainsFunc(rows, func(row []string) bool { return !namesTensor(row[0]) }) {
		return nil, nil, nil
	}
	column := 1
	if len(header) > 2 {
		refused := &RowsError{Line: 1, Columns: true}
		column = 0
		for i, name := range header[1:] {
			name = strings.TrimSpace(name)
			refused.Labels = append(refused.Labels, name)
			if t.DropType != "" && strings.EqualFold(name, t.DropType) {
				if column > 0 {
					return nil, nil, fmt.Errorf("line 1: a second column of %s", name)
				}
				column = i + 1
			}
		}
		if column == 0 {
			return nil, nil, refused
		}
	}
	for _, row := range rows {
		names, values = append(names, row[0]), append(values, row[column])
	}
	return names, values, nil
}

// A RowsError reports a table with a row for each of several types.
type RowsError struct {
	Line   int
	Labels []string // of the rows; nil where they have none

	Columns bool // tensors have rows, types columns
}

func (e *RowsError) Error() string {
	what, which := "a second row of values", "row"
	if e.Columns {
		what, which = "several columns of values", "column"
	}
	if len(e.Labels) == 0 {
		return fmt.Sprintf("line %d: %s: keep the %s of one type", e.Line, what, which)
	}
	labels := e.Labels
	if len(labels) > 8 {
		labels = append(append([]string{}, labels[:8]...), "...")
	}
	return fmt.Sprintf("line %d: %s: keep the %s of one type out of %s", e.Line, what, which, strings.Join(labels, ", "))
}

// Keep returns the label of the row, or column, to keep: Q2_K's, the type that
// sensitivities are best measured at, else the first.
func (e *RowsError) Keep() string {
	for _, label := range e.Labels {
		if strings.EqualFold(label, "Q2_K") {
			return label
		}
	}
	return e.Labels[0]
}

// chooseRow returns the row of the type that the table is read for.
func (t *Sensitivity) chooseRow(header []string, rows [][]string, lines []int) (int, error) {
	refused := &RowsError{Line: lines[1]}
	label := slices.IndexFunc(header, func(name string) bool { return !strings.Contains(name, ".") })
	if label < 0 {
		return 0, refused
	}
	found := -1
	for k, row := range rows {
		name := strings.TrimSpace(row[label])
		refused.Labels = append(refused.Labels, name)
		if t.DropType == "" || !strings.EqualFold(name, t.DropType) {
			continue
		}
		if found >= 0 {
			return 0, fmt.Errorf("line %d: a second row of %s", lines[k], name)
		}
		found = k
	}
	if found < 0 {
		return 0, refused
	}
	return found, nil
}

func (t *Sensitivity) decodeJSON(data []byte) error {
	if !json.Valid(data) {
		var v any
		return jsonError(data, json.Unmarshal(data, &v))
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if _, err := d.Token(); err != nil {
		return jsonError(data, err)
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return jsonError(data, err)
		}
		var value *float64
		if err := d.Decode(&value); err != nil {
			return fmt.Errorf("line %d: tensor %v: is not a number", lineOf(data, d.InputOffset()), key)
		}
		if value == nil {
			value = new(float64)
			*value = notMeasured
		}
		if err := t.add(key.(string), *value); err != nil {
			return fmt.Errorf("line %d: %w", lineOf(data, d.InputOffset()), err)
		}
	}
	return nil
}
