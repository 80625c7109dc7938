package ggufio

import (
	"errors"
	"fmt"
	"io/fs"
)

// ErrBigEndian reports a file whose numbers only make sense byte-swapped.
var ErrBigEndian = errors.New("big-endian GGUF is not supported")

// ErrImatrix reports an imatrix file where a model is wanted.
var ErrImatrix = errors.New("is an imatrix file (activation statistics), not a model")

// A FormatError reports where a file stops being a readable GGUF file.
type FormatError struct {
	File        string // as the caller named it
	OffsetBytes int64  // from the start of File, where Field begins; -1 where no byte is to blame
	Field       string // place in the format: "tensor blk.3.ffn_up_exps.weight: type"; may be empty
	Err         error  // what is wrong there
}

func (e *FormatError) Error() string {
	s := e.File
	if e.OffsetBytes >= 0 {
		s += fmt.Sprintf(": byte %d", e.OffsetBytes)
	}
	if e.Field != "" {
		s += ": " + e.Field
	}
	return s + ": " + e.Err.Error()
}

func (e *FormatError) Unwrap() error { return e.Err }

// A LimitError reports a declared quantity too large to trust.
type LimitError struct {
	Got, Max uint64
	Source   string // where Max comes from, such as "file size"
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("%d is over the limit of %d (%s)", e.Got, e.Max, e.Source)
}

// fileError is a FormatError about a file as a whole.
func fileError(path string, err error) error {
	// A PathError names the path again, and the operation, which says nothing
	// to a person.
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return &FormatError{File: path, OffsetBytes: -1, Err: err}
}
