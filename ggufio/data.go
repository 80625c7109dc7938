package ggufio

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// Data reads the weights of a model, and only those that are asked for. It may
// be used from several goroutines at once.
type Data struct {
	model *Model
	files []*os.File
}

// OpenData opens the model's files for reading weights. A file that no longer
// has the size that its header was read with is refused.
func (m *Model) OpenData() (*Data, error) {
	d := &Data{model: m}
	for i := range m.Files {
		f, size, err := openRegular(m.Files[i].Path)
		if err != nil {
			d.Close()
			return nil, err
		}
		d.files = append(d.files, f)
		if size != m.Files[i].SizeBytes {
			d.Close()
			return nil, fileError(m.Files[i].Path, fmt.Errorf("the file had %d bytes when it was opened and has %d now", m.Files[i].SizeBytes, size))
		}
	}
	return d, nil
}

// Close closes the files.
func (d *Data) Close() error {
	var errs []error
	for _, f := range d.files {
		errs = append(errs, f.Close())
	}
	d.files = nil
	return errors.Join(errs...)
}

// RowBytes returns the size of one row: Shape[0] weights.
func (t *Tensor) RowBytes() uint64 { return t.SizeBytes / t.Rows() }

// Rows returns the number of rows of the whole tensor.
func (t *Tensor) Rows() uint64 { return t.Parameters / t.Shape[0] }

// ExpertRows returns the number of rows of one expert. A tensor that is not
// fused counts as one expert.
func (t *Tensor) ExpertRows() uint64 { return t.Rows() / t.slices() }

// ExpertBytes returns the size of one expert. A tensor that is not fused
// counts as one expert.
func (t *Tensor) ExpertBytes() uint64 { return t.SizeBytes / t.slices() }

// slices is the number of experts that lie one after the other in the tensor.
func (t *Tensor) slices() uint64 { return uint64(max(1, t.Experts())) }

// ReadExpert reads one expert of a tensor into dst, which must have
// [Tensor.ExpertBytes] bytes. Experts count from 0 within the tensor: a tensor
// that is not fused has expert 0 alone, the whole of it.
func (d *Data) ReadExpert(t *Tensor, expert int, dst []byte) error {
	return d.ReadRows(t, expert, 0, t.ExpertRows(), dst)
}

// ReadRows reads a run of rows of one expert into dst, which must have the
// size of as many [Tensor.RowBytes]. Experts count as in [Data.ReadExpert].
func (d *Data) ReadRows(t *Tensor, expert int, firstRow, rows uint64, dst []byte) error {
	perExpert := t.ExpertRows()
	switch {
	case expert < 0 || uint64(expert) >= t.slices():
		return fmt.Errorf("tensor %s: there is no expert %d of %d", t.Name, expert, t.slices())
	case firstRow > perExpert || rows > perExpert-firstRow:
		return fmt.Errorf("tensor %s: rows %d to %d of %d are out of range", t.Name, firstRow, firstRow+rows, perExpert)
	case rows*t.RowBytes() != uint64(len(dst)):
		return fmt.Errorf("tensor %s: %d rows are %d bytes, not %d", t.Name, rows, rows*t.RowBytes(), len(dst))
	}
	return d.ReadRange(t, (uint64(expert)*perExpert+firstRow)*t.RowBytes(), dst)
}

// ReadRange fills dst with the tensor's bytes from offset on, which counts from
// the tensor's start.
func (d *Data) ReadRange(t *Tensor, offset uint64, dst []byte) error {
	if offset > t.SizeBytes || uint64(len(dst)) > t.SizeBytes-offset {
		return fmt.Errorf("tensor %s: bytes %d to %d of %d are out of range", t.Name, offset, offset+uint64(len(dst)), t.SizeBytes)
	}
	return d.read(t.File, t.OffsetBytes+offset, dst, "tensor "+t.Name)
}

// ReadFile fills dst with the bytes of one of the model's files from offset on.
func (d *Data) ReadFile(file int, offset uint64, dst []byte) error {
	return d.read(file, offset, dst, "bytes")
}

func (d *Data) read(file int, offset uint64, dst []byte, field string) error {
	if file < 0 || file >= len(d.files) {
		return fmt.Errorf("%s: file %d is not open", field, file)
	}
	n, err := d.files[file].ReadAt(dst, int64(offset))
	if n == len(dst) {
		return nil // at the very end of the file io.EOF comes with the bytes
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return &FormatError{File: d.model.Files[file].Path, OffsetBytes: int64(offset), Field: field, Err: readError(err)}
}
