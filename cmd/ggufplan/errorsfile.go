package main

import (
	"fmt"
	"path/filepath"

	"github.com/ggufplan/ggufplan/planner"
	"github.com/ggufplan/ggufplan/stats"
	"github.com/ggufplan/ggufplan/stats/measure"
)

// maxErrorsBytes bounds an errors file: that of a model with 58 layers of 256
// experts in 25 types is about 190 MB.
const maxErrorsBytes = 1 << 30

// readErrors reads what measure wrote; "-" is standard input.
func (c *call) readErrors(path string) (*planner.NamedErrors, error) {
	data, err := c.readWhole(path, maxErrorsBytes)
	if err != nil {
		return nil, err
	}
	name := filepath.Base(inputName(path))
	e, err := measure.Decode(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &planner.NamedErrors{FileID: stats.Identify(name, data), Result: e}, nil
}
