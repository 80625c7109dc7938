package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/ggufplan/ggufplan/planner"
	"github.com/ggufplan/ggufplan/planner/manifest"
)

// openInput opens a file for reading; "-" is standard input.
func (c *call) openInput(path string) (io.ReadCloser, error) {
	if path == "-" {
		return io.NopCloser(c.stdin), nil
	}
	info, err := os.Stat(path)
	if fault := new(fs.PathError); errors.As(err, &fault) {
		err = fmt.Errorf("%s: %w", path, fault.Err)
	}
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, fmt.Errorf("%s: is a directory, not a file", path)
	}
	if info.Mode().IsRegular() {
		return os.Open(path)
	}
	f, err := c.openSpecial(path, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{&interruptibleReader{ctx: c.ctx, r: f}, f}, nil
}

// openSpecial opens what is no regular file. Opening a pipe waits for its other
// end: an interrupt ends that.
func (c *call) openSpecial(path string, flag int) (*os.File, error) {
	type opened struct {
		f   *os.File
		err error
	}
	done := make(chan opened, 1)
	go func() {
		f, err := os.OpenFile(path, flag, 0)
		done <- opened{f, err}
	}()
	select {
	case <-c.ctx.Done():
		return nil, c.ctx.Err()
	case o := <-done:
		return o.f, o.err
	}
}

// stdinName is what messages and manifests call standard input.
const stdinName = "standard input"

// inputName is a path as messages name it.
func inputName(path string) string {
	if path == "-" {
		return stdinName
	}
	return path
}

// readWhole reads a file of bounded size; "-" is standard input.
func (c *call) readWhole(path string, limit int64) ([]byte, error) {
	in, err := c.openInput(path)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	data, err := io.ReadAll(io.LimitReader(in, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s: is over the limit of %d bytes", inputName(path), limit)
	}
	return data, err
}

// readPlan reads a manifest; "-" is standard input.
func (c *call) readPlan(path string) (*manifest.Manifest, error) {
	data, err := c.readWhole(path, manifest.MaxBytes)
	if err != nil {
		return nil, err
	}
	name := inputName(path)
	switch {
	case len(data) == 0:
		return nil, fmt.Errorf("%s: is empty", name)
	case bytes.HasPrefix(data, []byte("GGUF")):
		return nil, hinted(fmt.Errorf("%s: is a GGUF file, not a manifest", name), "ggufplan plan model.gguf --stats imatrix.gguf -o plan.json writes one")
	}
	plan, err := manifest.Decode(data)
	if err == nil {
		err = planner.CheckManifest(plan)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return plan, nil
}
