package stats

import (
	_ "embed"
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

// Tensor returns the errors of a tensor by its name, nil where there are none.
func (e *Errors) Tensor(name string) *TensorErrors {
	for i := range e.Tensors {
		if e.Tensors[i].Name == name {
			return &e.Tensors[i]
		}
	}
	return nil
}
