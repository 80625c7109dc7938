package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Outputs are written to temporary files beside their targets; only when all
// are complete is the first renamed, so that a failed run touches nothing.
type outputs struct {
	pending []pendingFile
}

type pendingFile struct {
	temp   *os.File
	target string
}

// create returns a file that becomes target on commit.
func (o *outputs) create(target string) (*os.File, error) {
	if info, err := os.Stat(target); err == nil && !info.Mode().IsRegular() {
		if info.IsDir() {
			return nil, fmt.Errorf("%s: is a directory", target)
		}
		// A device or a pipe cannot be renamed onto: write it directly.
		f, err := os.OpenFile(target, os.O_WRONLY, 0)
		if err != nil {
			return nil, err
		}
		o.pending = append(o.pending, pendingFile{temp: f})
		return f, nil
	}
	if strings.HasSuffix(target, string(filepath.Separator)) {
		return nil, fmt.Errorf("%s: names a folder, not a file", target)
	}
	f, err := os.CreateTemp(filepath.Dir(target), "."+filepath.Base(target)+".*.tmp")
	if err != nil {
		var fault *os.PathError // names the temporary file, which nobody asked for
		if errors.As(err, &fault) {
			err = fault.Err
		}
		return nil, fmt.Errorf("%s: cannot be written there: %w", target, err)
	}
	o.pending = append(o.pending, pendingFile{f, target})
	return f, nil
}

// write creates target with the given content on commit.
func (o *outputs) write(target string, content []byte) error {
	f, err := o.create(target)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return err
}

// commit makes every output durable and then renames them all into place.
func (o *outputs) commit() error {
	for _, p := range o.pending {
		if p.target == "" {
			continue
		}
		mode := os.FileMode(0o644)
		if info, err := os.Stat(p.target); err == nil {
			mode = info.Mode().Perm()
		}
		if err := errors.Join(p.temp.Chmod(mode), p.temp.Sync()); err != nil {
			return err
		}
	}
	for _, p := range o.pending {
		if err := p.temp.Close(); err != nil {
			return err
		}
	}
	for i, p := range o.pending {
		if p.target == "" {
			continue
		}
		if err := os.Rename(p.temp.Name(), p.target); err != nil {
			o.pending = o.pending[i:]
			return err
		}
	}
	o.pending = nil
	return nil
}

// discard removes what was not committed. It is safe to call after commit.
func (o *outputs) discard() {
	for _, p := range o.pending {
		p.temp.Close()
		if p.target != "" {
			os.Remove(p.temp.Name())
		}
	}
	o.pending = nil
}

// refuseOverwrite reports the first input that writing to out would overwrite.
// "" and "-" are no files.
func refuseOverwrite(out string, inputs ...string) error {
	for _, in := range inputs {
		if in != "" && in != "-" && out != "" && out != "-" && sameFile(in, out) {
			return hinted(fmt.Errorf("%s: is an input: the output would overwrite it", in), "name another file after -o")
		}
	}
	return nil
}

// sameFile reports whether two paths lead to one file.
func sameFile(a, b string) bool {
	ia, erra := os.Stat(a)
	ib, errb := os.Stat(b)
	return erra == nil && errb == nil && os.SameFile(ia, ib)
}

// commitPrinted is commit once everything printed so far has reached standard
// output: a run that fails there leaves no file.
func (c *call) commitPrinted(files *outputs) error {
	if _, err := c.stdout.Write(nil); err != nil { // it remembers its first error
		return fmt.Errorf("standard output: %w", err)
	}
	return files.commit()
}

// writeOutput writes content to a file, or to standard output where path is
// "" or "-".
func (c *call) writeOutput(path string, content []byte) error {
	if path == "" || path == "-" {
		_, err := c.stdout.Write(content)
		return err
	}
	var files outputs
	defer files.discard()
	if err := files.write(path, content); err != nil {
		return err
	}
	return files.commit()
}
