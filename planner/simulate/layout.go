package simulate

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/quant"
)

// layOut decides where every byte of the copy's files comes from.
func (c *Copy) layOut() error {
	for file := range c.model.Files {
		var tensors []*ggufio.Tensor
		for i := range c.model.Tensors {
			if c.model.Tensors[i].File == file {
				tensors = append(tensors, &c.model.Tensors[i])
			}
		}
		changes := map[*ggufio.Tensor]*change{}
		lay := c.inPlace
		for i := range c.changes {
			if ch := &c.changes[i]; ch.tensor.File == file {
				changes[ch.tensor] = ch
				if ch.store != ch.tensor.Type {
					lay = c.moved
				}
			}
		}
		out, err := lay(file, tensors, changes)
		if err != nil {
			return err
		}
		c.Files = append(c.Files, out)
	}
	return nil
}

// inPlace lays out a file whose tensors keep their types: all is the source's
// but the changed tensors.
func (c *Copy) inPlace(file int, tensors []*ggufio.Tensor, changes map[*ggufio.Tensor]*change) (File, error) {
	source := &c.model.Files[file]
	out := File{Name: source.Name, SizeBytes: source.SizeBytes}
	tensors = slices.Clone(tensors)
	slices.SortFunc(tensors, func(a, b *ggufio.Tensor) int { return cmp.Compare(a.OffsetBytes, b.OffsetBytes) })
	at := uint64(0)
	for _, t := range tensors {
		ch := changes[t]
		if ch == nil {
			continue
		}
		ch.offset = t.OffsetBytes
		out.keep(at, at, t.OffsetBytes-at)
		at = t.OffsetBytes + t.SizeBytes
	}
	out.keep(at, at, source.SizeBytes-at)
	return out, nil
}

func (f *File) keep(source, offset, size uint64) {
	if size > 0 {
		f.kept = append(f.kept, kept{source, offset, size})
	}
}

// moved lays out a file some of whose changed tensors get another type:
// metadata is the source's byte for byte, tensor infos and offsets are new.
func (c *Copy) moved(file int, tensors []*ggufio.Tensor, changes map[*ggufio.Tensor]*change) (File, error) {
	source := &c.model.Files[file]
	out := File{Name: source.Name}
	const fixed = 4 + 4 + 8 + 8 // magic, version, tensor count, metadata count
	end := uint64(fixed)
	for i := range c.model.Metadata.Pairs {
		if p := &c.model.Metadata.Pairs[i]; p.File == file {
			end = max(end, p.OffsetBytes+p.SizeBytes)
		}
	}
	header := make([]byte, end)
	in, err := os.Open(source.Path)
	if err != nil {
		return out, err
	}
	defer in.Close()
	if _, err := io.ReadFull(in, header); err != nil {
		return out, fmt.Errorf("%s: %w", source.Path, err)
	}
	data := uint64(0) // offset within the data section
	offsets := make([]uint64, len(tensors))
	for i, t := range tensors {
		typ, size := t.Type, t.SizeBytes
		if ch := changes[t]; ch != nil {
			typ = ch.store
			f, _ := quant.Lookup(typ)
			if size, err = f.Layout.EncodedBytes(t.Rows(), t.Shape[0]); err != nil {
				return out, fmt.Errorf("tensor %s: %w", t.Name, err)
			}
		}
		header = binary.LittleEndian.AppendUint64(header, uint64(len(t.Name)))
		header = append(header, t.Name...)
		header = binary.LittleEndian.AppendUint32(header, uint32(len(t.Shape)))
		for _, n := range t.Shape {
			header = binary.LittleEndian.AppendUint64(header, n)
		}
		header = binary.LittleEndian.AppendUint32(header, uint32(typ))
		header = binary.LittleEndian.AppendUint64(header, data)
		offsets[i] = data
		data += ggufio.Padded(size, source.AlignmentBytes)
	}
	start := ggufio.Padded(uint64(len(header)), source.AlignmentBytes)
	for i, t := range tensors {
		if ch := changes[t]; ch != nil {
			ch.offset = start + offsets[i]
		} else {
			out.keep(t.OffsetBytes, start+offsets[i], t.SizeBytes)
		}
	}
	out.header, out.SizeBytes = header, start+data
	return out, nil
}
