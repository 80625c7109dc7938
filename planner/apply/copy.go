package apply

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/stats"
)

// Copy lays out a copy of the model, file by file. The tensors are the model's,
// in its order, whole, with the types that they are to be rounded to and stored
// in; without any, nothing changes. Every byte outside of changed tensors is the
// source's, but in a file some of whose tensors are stored in another type: there
// tensors' types, offsets and padding are new.
func Copy(model *ggufio.Model, tensors []Tensor, names []string, columns stats.Columns) (*Layout, error) {
	l := &Layout{model: model, columns: columns}
	for file := range model.Files {
		var own []Tensor
		moved := false
		for _, t := range tensors {
			if t.Source.File != file {
				continue
			}
			if err := l.check(&t); err != nil {
				return nil, fmt.Errorf("tensor %s: %w", t.Name, err)
			}
			moved = moved || t.Type != t.Source.Type
			own = append(own, t)
		}
		lay := inPlace
		if moved {
			lay = anew
		}
		f, err := lay(names[file], model, file, own)
		if err != nil {
			return nil, err
		}
		l.Files = append(l.Files, f)
	}
	return l, nil
}

// inPlace lays out a file whose tensors keep their types.
func inPlace(name string, model *ggufio.Model, file int, tensors []Tensor) (File, error) {
	f := File{Name: name, SizeBytes: model.Files[file].SizeBytes}
	at := uint64(0)
	keep := func(to uint64) {
		if to > at {
			f.Tensors = append(f.Tensors, Tensor{kept: true, file: file, offset: at, SizeBytes: to - at})
		}
	}
	slices.SortFunc(tensors, func(a, b Tensor) int { return cmp.Compare(a.Source.OffsetBytes, b.Source.OffsetBytes) })
	for _, t := range tensors {
		if t.Changed() {
			t.offset = t.Source.OffsetBytes
			keep(t.offset)
			f.Tensors = append(f.Tensors, t)
			at = t.offset + t.SizeBytes
		}
	}
	keep(f.SizeBytes)
	return f, nil
}

// anew lays out a file some of whose tensors get another type: its metadata is
// the source's byte for byte.
func anew(name string, model *ggufio.Model, file int, tensors []Tensor) (File, error) {
	source := &model.Files[file]
	end := uint64(4 + 4 + 8 + 8) // magic, version, tensor count, metadata count
	for i := range model.Metadata.Pairs {
		if p := &model.Metadata.Pairs[i]; p.File == file {
			end = max(end, p.OffsetBytes+p.SizeBytes)
		}
	}
	in, err := os.Open(source.Path)
	if err != nil {
		return File{}, err
	}
	defer in.Close()
	header := make([]byte, end)
	if _, err := io.ReadFull(in, header); err != nil {
		return File{}, fmt.Errorf("%s: %w", source.Path, err)
	}
	return describe(name, header, tensors, source.AlignmentBytes), nil
}
