package ggufio

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// A cursor reads a header front to back and knows where it stands.
type cursor struct {
	path string
	f    *os.File
	r    *bufio.Reader
	pos  uint64
	size uint64 // of the file
	buf  [8]byte
}

const cursorBufferBytes = 256 << 10

func newCursor(path string, f *os.File, size uint64) *cursor {
	return &cursor{path: path, f: f, r: bufio.NewReaderSize(f, cursorBufferBytes), size: size}
}

// fail reports a fault in the field that starts at offset.
func (c *cursor) fail(offset uint64, field string, err error) error {
	return &FormatError{File: c.path, OffsetBytes: int64(offset), Field: field, Err: err}
}

func (c *cursor) failf(offset uint64, field, format string, args ...any) error {
	return c.fail(offset, field, fmt.Errorf(format, args...))
}

// left is the number of bytes behind the cursor that a header may still use.
func (c *cursor) left() uint64 {
	return min(c.size, maxHeaderBytes) - c.pos
}

// need checks that n more bytes belong to the file and fit a header.
func (c *cursor) need(n uint64, field string) error {
	if n <= c.left() {
		return nil
	}
	if n > c.size-c.pos {
		return c.failf(c.pos, field, "needs %d bytes, and the file ends after %d", n, c.size-c.pos)
	}
	return c.fail(c.pos, field, &LimitError{Got: c.pos + n, Max: maxHeaderBytes, Source: "size of a header"})
}

func (c *cursor) readFull(dst []byte, field string) error {
	if err := c.need(uint64(len(dst)), field); err != nil {
		return err
	}
	if _, err := io.ReadFull(c.r, dst); err != nil {
		return c.fail(c.pos, field, readError(err))
	}
	c.pos += uint64(len(dst))
	return nil
}

// skip passes over n bytes, without reading those beyond the buffer.
func (c *cursor) skip(n uint64, field string) error {
	if err := c.need(n, field); err != nil {
		return err
	}
	if n <= cursorBufferBytes {
		if _, err := c.r.Discard(int(n)); err != nil {
			return c.fail(c.pos, field, readError(err))
		}
		c.pos += n
		return nil
	}
	if _, err := c.f.Seek(int64(c.pos+n), io.SeekStart); err != nil {
		return c.fail(c.pos, field, readError(err))
	}
	c.r.Reset(c.f)
	c.pos += n
	return nil
}

// skipText passes over a string of n bytes and returns its zero tail.
func (c *cursor) skipText(n uint64, field string) (tail uint64, err error) {
	if err := c.need(n, field); err != nil {
		return 0, err
	}
	for left := n; left > 0; {
		chunk, err := c.r.Peek(int(min(left, cursorBufferBytes)))
		if err != nil {
			return 0, c.fail(c.pos, field, readError(err))
		}
		if i := bytes.IndexByte(chunk, 0); i >= 0 && tail == 0 {
			tail = left - uint64(i)
		}
		if _, err := c.r.Discard(len(chunk)); err != nil {
			return 0, c.fail(c.pos, field, readError(err))
		}
		left -= uint64(len(chunk))
		c.pos += uint64(len(chunk))
	}
	return tail, nil
}

// zeroTail returns how many bytes a string has from its first zero byte on.
func zeroTail(b []byte) uint64 {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		return uint64(len(b) - i)
	}
	return 0
}

func (c *cursor) uint32(field string) (uint32, error) {
	err := c.readFull(c.buf[:4], field)
	return binary.LittleEndian.Uint32(c.buf[:4]), err
}

func (c *cursor) uint64(field string) (uint64, error) {
	err := c.readFull(c.buf[:8], field)
	return binary.LittleEndian.Uint64(c.buf[:8]), err
}

// stringLength reads the length of a string and checks it.
func (c *cursor) stringLength(limit uint64, field string) (uint64, error) {
	start := c.pos
	n, err := c.uint64(field)
	if err != nil {
		return 0, err
	}
	if n > limit {
		return 0, c.fail(start, field, &LimitError{Got: n, Max: limit, Source: "length of a string"})
	}
	if n > c.size-c.pos {
		return 0, c.fail(start, field, &LimitError{Got: n, Max: c.size - c.pos, Source: "bytes left in the file"})
	}
	return n, nil
}

func (c *cursor) bytes(n uint64, field string) ([]byte, error) {
	if err := c.need(n, field); err != nil {
		return nil, err
	}
	b := make([]byte, n)
	return b, c.readFull(b, field)
}

// readError words the end of a file that was cut while it was read.
func readError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the file became shorter while it was read")
	}
	return err
}
