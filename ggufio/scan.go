package ggufio

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ggufplan/ggufplan/ggufio/quant"
)

// A header is what the strict scan finds in one file. Its tensors' offsets are
// from the start of the file.
type header struct {
	file    File
	pairs   []Pair
	index   map[string]int
	tensors []Tensor
	foreign bool // holds types that the parser does not know
}

// openRegular opens a regular file. Anything else is refused before it is
// opened, since opening a FIFO waits for a writer.
func openRegular(path string) (*os.File, uint64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, 0, fileError(path, err)
	}
	switch {
	case info.IsDir():
		return nil, 0, fileError(path, errors.New("is a directory, not a file"))
	case !info.Mode().IsRegular():
		return nil, 0, fileError(path, errors.New("is not a regular file"))
	case info.Size() == 0:
		return nil, 0, fileError(path, errors.New("is empty"))
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, fileError(path, err)
	}
	return f, uint64(info.Size()), nil
}

// scan reads the header of one file and refuses everything that llama.cpp
// refuses, or that would make a later reader allocate or seek without bound.
func scan(path string) (*header, error) {
	f, size, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()

	c := newCursor(path, f, size)
	h := &header{
		file:  File{FileID: FileID{Name: baseName(path), SizeBytes: size}, Path: path, AlignmentBytes: 32},
		index: map[string]int{},
	}
	tensorCount, pairCount, err := c.preamble()
	if err != nil {
		return nil, err
	}
	if err := h.readPairs(c, pairCount); err != nil {
		return nil, err
	}
	if err := h.checkAlignment(c); err != nil {
		return nil, err
	}
	if err := h.readTensors(c, tensorCount); err != nil {
		return nil, err
	}
	h.file.TensorCount = len(h.tensors)
	h.file.DataOffsetBytes = Padded(c.pos, h.file.AlignmentBytes)
	if err := h.placeTensors(c); err != nil {
		return nil, err
	}
	// A file without tensors may end before the padding does.
	h.file.DataOffsetBytes = min(h.file.DataOffsetBytes, size)
	h.file.HeaderSHA256, err = digest(f, h.file.DataOffsetBytes)
	if err != nil {
		return nil, c.fail(0, "header", readError(err))
	}
	return h, nil
}

// preamble reads the fixed head of the file.
func (c *cursor) preamble() (tensorCount, pairCount uint64, err error) {
	magic := make([]byte, min(4, c.size))
	if err := c.readFull(magic, "magic"); err != nil {
		return 0, 0, err
	}
	switch string(magic) {
	case "GGUF":
	case "FUGG":
		return 0, 0, c.fail(0, "magic", ErrBigEndian)
	case "lmgg", "fmgg", "tjgg":
		return 0, 0, c.failf(0, "magic", "this is a GGML file of the time before GGUF")
	default:
		return 0, 0, c.failf(0, "magic", "%q is not \"GGUF\"", magic)
	}
	version, err := c.uint32("version")
	switch {
	case err != nil:
		return 0, 0, err
	case version == 2 || version == 3:
	case bits.ReverseBytes32(version) >= 1 && bits.ReverseBytes32(version) <= 3:
		return 0, 0, c.fail(4, "version", ErrBigEndian)
	default:
		return 0, 0, c.failf(4, "version", "%d is not supported, only 2 and 3 are", version)
	}
	at := c.pos
	if tensorCount, err = c.uint64("tensor count"); err != nil {
		return 0, 0, err
	}
	if err := c.checkCount(at, tensorCount, maxTensors, minTensorBytes, "tensor count"); err != nil {
		return 0, 0, err
	}
	at = c.pos
	if pairCount, err = c.uint64("metadata count"); err != nil {
		return 0, 0, err
	}
	return tensorCount, pairCount, c.checkCount(at, pairCount, maxPairs, minPairBytes, "metadata count")
}

// checkCount checks a number of items of a least size against a constant and
// against the bytes that are left.
func (c *cursor) checkCount(at, n, limit, itemBytes uint64, field string) error {
	if n > limit {
		return c.fail(at, field, &LimitError{Got: n, Max: limit, Source: "limit of this program"})
	}
	if fit := (c.size - c.pos) / itemBytes; n > fit {
		return c.fail(at, field, &LimitError{Got: n, Max: fit, Source: "file size"})
	}
	return nil
}

func (h *header) checkAlignment(c *cursor) error {
	const key = "general.alignment"
	i, ok := h.index[key]
	if !ok {
		return nil
	}
	p := &h.pairs[i]
	field := pairField(key)
	n, isUint := p.value.(uint64)
	switch {
	case p.Type != ValueUint32 || !isUint:
		return c.failf(p.OffsetBytes, field, "is %s, not uint32", p.Describe())
	case bits.OnesCount64(n) != 1:
		return c.failf(p.OffsetBytes, field, "%d is not a power of two", n)
	case n > maxAlignmentBytes:
		return c.fail(p.OffsetBytes, field, &LimitError{Got: n, Max: maxAlignmentBytes, Source: "limit of this program"})
	}
	h.file.AlignmentBytes = n
	return nil
}

// readTensors reads the tensor infos and checks each by itself.
func (h *header) readTensors(c *cursor, count uint64) error {
	seen := make(map[string]bool, count)
	for i := uint64(0); i < count; i++ {
		t, err := c.tensorInfo(i)
		if err != nil {
			return err
		}
		if seen[t.Name] {
			return c.failf(t.infoOffset, "tensor "+t.Name, "duplicate name")
		}
		seen[t.Name] = true
		h.tensors = append(h.tensors, t)
		if f, _ := quant.Lookup(t.Type); f.Engine != quant.LlamaCpp {
			h.foreign = true
		}
	}
	return nil
}

// tensorInfo reads one tensor info. The tensor's OffsetBytes is still relative
// to the data section.
func (c *cursor) tensorInfo(i uint64) (t Tensor, err error) {
	t.infoOffset = c.pos
	field := numbered("tensor", i)
	n, err := c.stringLength(maxNameBytes, field+": name")
	if err != nil {
		return t, err
	}
	name, err := c.bytes(n, field+": name")
	if err != nil {
		return t, err
	}
	if err := checkTensorName(name); err != nil {
		return t, c.fail(t.infoOffset, field+": name", err)
	}
	t.Name = string(name)
	field = "tensor " + t.Name

	at := c.pos
	dims, err := c.uint32(field + ": dimension count")
	if err != nil {
		return t, err
	}
	if dims < 1 || dims > maxDimensions {
		return t, c.failf(at, field+": dimension count", "%d is not between 1 and %d", dims, maxDimensions)
	}
	t.Shape = make([]uint64, dims)
	t.Parameters = 1
	at = c.pos
	for d := range t.Shape {
		if t.Shape[d], err = c.uint64(field + ": shape"); err != nil {
			return t, err
		}
		if t.Shape[d] == 0 {
			return t, c.failf(at, field+": shape", "dimension %d is 0: tensors without elements are not supported", d)
		}
		over, product := bits.Mul64(t.Parameters, t.Shape[d])
		if over != 0 || product >= maxTotal {
			return t, c.failf(at, field+": shape", "%v holds 2^62 weights or more", t.Shape[:d+1])
		}
		t.Parameters = product
	}

	at = c.pos
	typ, err := c.uint32(field + ": type")
	if err != nil {
		return t, err
	}
	t.Type = quant.Type(typ)
	format, ok := quant.Lookup(t.Type)
	if !ok {
		return t, c.failf(at, field+": type", "there is no tensor type %d", typ)
	}
	t.SizeBytes, err = format.Layout.EncodedBytes(t.Parameters/t.Shape[0], t.Shape[0])
	if err == nil && t.SizeBytes >= maxTotal {
		err = &LimitError{Got: t.SizeBytes, Max: maxTotal - 1, Source: "bytes of a tensor"}
	}
	if err != nil {
		return t, c.fail(at, field+": "+format.Name, err)
	}
	t.OffsetBytes, err = c.uint64(field + ": offset")
	return t, err
}

// checkTensorName refuses names that the parser would change, that cannot be
// told apart on paper, or that a manifest could not spell.
func checkTensorName(name []byte) error {
	switch {
	case len(name) == 0:
		return errors.New("is empty")
	case !utf8.Valid(name):
		return errors.New("is not UTF-8")
	case strings.TrimSpace(string(name)) != string(name):
		return errors.New("begins or ends with white space")
	case strings.ContainsFunc(string(name), func(r rune) bool { return !unicode.IsPrint(r) }):
		return fmt.Errorf("%q holds a character that does not print", name)
	}
	return nil
}

// digest hashes the first n bytes of f.
func digest(f *os.File, n uint64) (string, error) {
	sum := sha256.New()
	copied, err := io.CopyBuffer(onlyWriter{sum}, io.NewSectionReader(f, 0, int64(n)), make([]byte, cursorBufferBytes))
	if err != nil {
		return "", err
	}
	if uint64(copied) != n {
		return "", io.ErrUnexpectedEOF
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// onlyWriter hides everything but Write, so that CopyBuffer uses its buffer.
type onlyWriter struct{ io.Writer }
