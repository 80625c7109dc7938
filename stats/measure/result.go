package measure

import (
	_ "embed"

	"github.com/ggufplan/ggufplan/ggufio"
)

// What an errors file says of itself. 1.1 has the fields of 1.0; its
// rows are drawn by weight, those of 1.0 evenly.
const (
	ErrorsSchemaName    = "ggufplan.errors"
	ErrorsFormatVersion = "1.1"
)

// Schema is the JSON Schema of an errors file.
//
//go:embed errors.schema.json
var Schema []byte

// Result is what measuring found: the error of every expert in every
// candidate type. It is the content of an errors file; field order is the
// order of keys.
type Result struct {
	Schema        string       `json:"schema"`         // "ggufplan.errors"
	FormatVersion string       `json:"format_version"` // MAJOR.MINOR, the manifest's rule
	Generator     string       `json:"generator"`      // "ggufplan 0.1.0"
	Model         Model        `json:"model"`
	Statistics    []Input      `json:"statistics"` // inputs that counts and column weights came from; [] without
	Weights       string       `json:"weights"`    // "imatrix" or "none"
	Sampling      Sampling     `json:"sampling"`
	Part          *Part        `json:"part"`    // null for the whole
	Types         []string     `json:"types"`   // candidates asked for, smallest first
	Tensors       []TensorLoss `json:"tensors"` // file order
}

// Model identifies the measured model.
type Model struct {
	Name         string          `json:"name"`
	Architecture string          `json:"architecture"`
	Files        []ggufio.FileID `json:"files"`
}

// Input is one statistics file.
type Input struct {
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

// TensorLoss holds the errors of one tensor.
type TensorLoss struct {
	Name    string       `json:"name"`
	Layer   *int         `json:"layer"`
	Role    string       `json:"role"`
	Shape   []uint64     `json:"shape"`
	Source  string       `json:"source_type"`
	Types   []string     `json:"types"`   // measured for this tensor, after shape fallback, smallest first
	Experts []ExpertLoss `json:"experts"` // a tensor that is not a routed expert's has one
}

// ExpertLoss holds the errors of one expert; Types runs parallel to
// TensorLoss.Types.
type ExpertLoss struct {
	Expert       int        `json:"expert"`
	Rows         uint64     `json:"rows"` // rows measured
	RowsTotal    uint64     `json:"rows_total"`
	Count        *uint64    `json:"count"`         // tokens, null where unknown
	Weighted     bool       `json:"weighted"`      // false: column weights were ones
	WeightedNorm float64    `json:"weighted_norm"` // sum m_i |W_i|^2, scaled to all rows
	PlainNorm    float64    `json:"plain_norm"`    // sum |W_i|^2, scaled to all rows
	OutputEnergy *float64   `json:"output_energy"` // count-weighted energy of the expert's output; down projections with counts only, else null
	Types        []TypeLoss `json:"errors"`
}

// A TypeLoss is the error of one expert in one type. Sums are scaled to all
// rows; Low and High bound Relative at the stated confidence.
type TypeLoss struct {
	Relative      float64 `json:"relative"`
	Low           float64 `json:"low"`
	High          float64 `json:"high"`
	WeightedError float64 `json:"weighted_error"`
	PlainError    float64 `json:"plain_error"`
}

// Tensor returns the errors of a tensor by its name, nil where there are none.
func (e *Result) Tensor(name string) *TensorLoss {
	for i := range e.Tensors {
		if e.Tensors[i].Name == name {
			return &e.Tensors[i]
		}
	}
	return nil
}
