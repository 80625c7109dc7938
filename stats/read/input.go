package read

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/ggufplan/ggufplan/stats"
)

const (
	headBytes = 64 << 10 // what detection may look at

	// Files are wrapped once in practice; a chain of wrappers is an attack.
	maxWrappers = 2
	// The largest window that zstd's own command line accepts by default.
	maxZstdWindowBytes = 128 << 20

	// Numbers as text or float32 compress a few times. Content that must be
	// kept on disk is refused beyond this expansion, and allowed below
	// spoolFloorBytes whatever its ratio.
	maxSpoolRatio   = 200
	spoolFloorBytes = 256 << 20
)

var (
	gzipMagic = []byte{0x1f, 0x8b}
	zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}
)

// A source is one input: its content without compression, as a stream or, on
// request, as a file; its size and digest as it was stored.
type source struct {
	path    string // as errors name it
	head    []byte // the first headBytes of the content, or all of it
	content *bufio.Reader
	raw     *rawReader
	wrapped bool
	regular bool // path is a regular file
	cleanup []func()
}

// openFile opens a file and unwraps its compression.
func openFile(ctx context.Context, path string, opt Options) (*source, error) {
	s := &source{path: path}
	f, err := os.Open(path)
	if err != nil {
		return s, err
	}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = errors.New("is a directory")
	}
	if err != nil {
		f.Close()
		return s, err
	}
	s.regular, s.cleanup = info.Mode().IsRegular(), []func(){func() { f.Close() }}
	s.raw = &rawReader{ctx: ctx, r: f, digest: sha256.New(), progress: opt.Progress}
	if s.regular {
		s.raw.totalBytes = info.Size()
	}
	return s, s.unwrap()
}

// newSource unwraps the compression of a stream.
func newSource(ctx context.Context, r io.Reader, name string, opt Options) (*source, error) {
	s := &source{path: name}
	s.raw = &rawReader{ctx: ctx, r: r, digest: sha256.New(), progress: opt.Progress}
	return s, s.unwrap()
}

// unwrap reads the head of the content. It closes the source if it fails.
func (s *source) unwrap() (err error) {
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	s.content = bufio.NewReaderSize(s.raw, headBytes)
	for wrappers := 0; ; wrappers++ {
		head, err := s.content.Peek(headBytes)
		if err != nil && err != io.EOF {
			return err
		}
		var inner io.Reader
		switch {
		case hasPrefix(head, gzipMagic):
			z, err := gzip.NewReader(s.content)
			if err != nil {
				return fmt.Errorf("gzip: %w", err)
			}
			inner = unwrapped{"gzip", z}
		case hasPrefix(head, zstdMagic):
			z, err := zstd.NewReader(s.content, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxZstdWindowBytes))
			if err != nil {
				return fmt.Errorf("zstd: %w", err)
			}
			s.cleanup = append(s.cleanup, z.Close)
			inner = unwrapped{"zstd", z}
		default:
			s.head = append([]byte(nil), head...)
			return nil
		}
		if wrappers == maxWrappers {
			return fmt.Errorf("compressed more than %d times over", maxWrappers)
		}
		s.wrapped = true
		s.content = bufio.NewReaderSize(inner, headBytes)
	}
}

// unwrapped is content that was compressed. Its errors say so: what is cut or
// damaged is not the format within.
type unwrapped struct {
	format string
	r      io.Reader
}

func (u unwrapped) Read(p []byte) (int, error) {
	n, err := u.r.Read(p)
	if err != nil && err != io.EOF && !errors.Is(err, context.Canceled) {
		err = fmt.Errorf("the %s data is cut or damaged: %w", u.format, err)
	}
	return n, err
}

func hasPrefix(b, prefix []byte) bool {
	return len(b) >= len(prefix) && string(b[:len(prefix)]) == string(prefix)
}

// name is the input's base name.
func (s *source) name() string { return filepath.Base(s.path) }

// Read reads the content from its start. It ends with the context.
func (s *source) Read(p []byte) (int, error) { return s.content.Read(p) }

// file returns the content as a file for random access and the path under
// which it can be opened until the source is closed: the input itself, or a
// temporary copy of what came compressed or through a pipe. The caller closes
// the file. The content must not have been read from.
func (s *source) file() (f *os.File, path string, err error) {
	if s.regular && !s.wrapped {
		f, err := os.Open(s.path)
		return f, s.path, err
	}
	f, err = os.CreateTemp("", "ggufplan-stats-*")
	if err != nil {
		return nil, "", err
	}
	temp := f
	s.cleanup = append(s.cleanup, func() { os.Remove(temp.Name()) })
	defer func() {
		if err != nil {
			temp.Close()
		}
	}()
	var written int64
	for {
		n, err := io.CopyN(f, s.content, 1<<20)
		written += n
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, "", err
		}
		if s.wrapped && written > spoolFloorBytes && written/maxSpoolRatio > s.raw.doneBytes {
			return nil, "", fmt.Errorf("expands to over %d times its compressed size: not a plausible statistics file", maxSpoolRatio)
		}
	}
	return f, f.Name(), nil
}

// input reads what is left of the raw input and describes it.
func (s *source) input() (stats.Input, error) {
	if _, err := io.Copy(io.Discard, s.raw); err != nil {
		return stats.Input{}, err
	}
	return stats.Input{FileID: stats.FileID{Name: s.name(), SizeBytes: uint64(s.raw.doneBytes), SHA256: hex.EncodeToString(s.raw.digest.Sum(nil))}}, nil
}

func (s *source) close() {
	for i := len(s.cleanup) - 1; i >= 0; i-- {
		s.cleanup[i]()
	}
	s.cleanup = nil
}

// A rawReader digests and counts what passes through it, and stops when its
// context ends.
type rawReader struct {
	ctx        context.Context
	r          io.Reader
	digest     hash.Hash
	doneBytes  int64
	totalBytes int64 // 0 where unknown
	progress   func(doneBytes, totalBytes int64)
}

func (r *rawReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.r.Read(p)
	r.digest.Write(p[:n])
	r.doneBytes += int64(n)
	if r.progress != nil {
		r.progress(r.doneBytes, r.totalBytes)
	}
	return n, err
}
