package main

import (
	"crypto/sha256"
	"fmt"
	"path/filepath"

	"github.com/ggufplan/ggufplan/stats/measure"
)

// maxErrorsBytes bounds an errors file: that of a model with 58 layers of 256
// experts in 25 types is about 190 MB.
const maxErrorsBytes = 1 << 30

// An errorsFile is the content of an errors file and what names it.
type errorsFile struct {
	*measure.Result
	name, sha256 string
}

// readErrors reads what measure wrote; "-" is standard input.
func (c *call) readErrors(path string) (*errorsFile, error) {
	data, err := c.readWhole(path, maxErrorsBytes)
	if err != nil {
		return nil, err
	}
	name := filepath.Base(inputName(path))
	e, err := measure.Decode(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &errorsFile{e, name, fmt.Sprintf("%x", sha256.Sum256(data))}, nil
}
