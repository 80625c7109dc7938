package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/ggufplan/ggufplan/planner/manifest"
)

// openInput opens a file for reading; "-" is standard input.
func (c *call) openInput(path string) (io.ReadCloser, error) {
	if path == "-" {
		return io.NopCloser(c.stdin), nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, fmt.Errorf("%s: is a directory, not a file", path)
	}
	return os.Open(path)
}

// readPlan reads a manifest; "-" is standard input.
func (c *call) readPlan(path string) (*manifest.Manifest, error) {
	in, err := c.openInput(path)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	// One byte more than a manifest may have tells Decode that it is too long.
	data, err := io.ReadAll(io.LimitReader(in, manifest.MaxBytes+1))
	if err != nil {
		return nil, err
	}
	plan, err := manifest.Decode(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	return plan, nil
}
