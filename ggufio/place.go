package ggufio

import (
	"cmp"
	"fmt"
	"slices"
)

// placeTensors turns offsets into file offsets and checks that the tensors lie
// where they must: one after the other in the order of their infos, each padded
// to the alignment, as llama.cpp demands. Files with types that GGML does not
// have come from other writers; there it is enough that tensors are aligned
// and do not overlap.
func (h *header) placeTensors(c *cursor) error {
	if h.foreign {
		if err := h.checkApart(c); err != nil {
			return err
		}
	} else if err := h.checkPacked(c); err != nil {
		return err
	}
	need, last := uint64(0), ""
	for i := range h.tensors {
		t := &h.tensors[i]
		// Both terms are below 2^62, the data offset below 2^29.
		t.OffsetBytes += h.file.DataOffsetBytes
		if end := t.OffsetBytes + t.SizeBytes; end > need {
			need, last = end, t.Name
		}
	}
	if need > c.size {
		what := "the file was cut"
		if c.size <= h.file.DataOffsetBytes {
			what = "the file holds a header only"
		}
		return &FormatError{File: c.path, OffsetBytes: -1, Field: "tensor " + last,
			Err: fmt.Errorf("the tensor data is missing: %d bytes are needed, the file has %d (%s)", need, c.size, what)}
	}
	return nil
}

func (h *header) checkPacked(c *cursor) error {
	next := uint64(0)
	for i := range h.tensors {
		t := &h.tensors[i]
		if t.OffsetBytes != next {
			return c.failf(t.infoOffset, "tensor "+t.Name+": offset", "%d is not %d, where the tensor before it ends", t.OffsetBytes, next)
		}
		next = Padded(next+t.SizeBytes, h.file.AlignmentBytes)
		if next >= maxTotal {
			return c.fail(t.infoOffset, "tensor "+t.Name, &LimitError{Got: next, Max: maxTotal - 1, Source: "bytes of a file"})
		}
	}
	return nil
}

func (h *header) checkApart(c *cursor) error {
	order := make([]*Tensor, len(h.tensors))
	for i := range h.tensors {
		order[i] = &h.tensors[i]
	}
	slices.SortFunc(order, func(a, b *Tensor) int {
		return cmp.Or(cmp.Compare(a.OffsetBytes, b.OffsetBytes), cmp.Compare(a.infoOffset, b.infoOffset))
	})
	end := uint64(0)
	for _, t := range order {
		field := "tensor " + t.Name + ": offset"
		switch {
		case t.OffsetBytes >= maxTotal:
			return c.fail(t.infoOffset, field, &LimitError{Got: t.OffsetBytes, Max: maxTotal - 1, Source: "bytes of a file"})
		case t.OffsetBytes%h.file.AlignmentBytes != 0:
			return c.failf(t.infoOffset, field, "%d is not a multiple of the alignment, %d", t.OffsetBytes, h.file.AlignmentBytes)
		case t.OffsetBytes < end:
			return c.failf(t.infoOffset, field, "%d lies inside the tensor before it, which ends at %d", t.OffsetBytes, end)
		}
		end = t.OffsetBytes + t.SizeBytes
	}
	return nil
}

// Padded rounds a size up to a multiple of alignment, which is not 0, as GGUF
// pads headers and tensors. Sizes up to 2^63 do not overflow with the
// alignments that [Open] accepts.
func Padded(sizeBytes, alignment uint64) uint64 {
	return (sizeBytes + alignment - 1) / alignment * alignment
}
