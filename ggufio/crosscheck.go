package ggufio

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"syscall"

	gguf_parser "github.com/gpustack/gguf-parser-go"
)

// crossCheck reads the same files with gguf-parser-go and compares. The two
// must agree about every tensor; where they do not, the bytes that one of them
// would read are wrong, and nothing is safe to build on.
func crossCheck(path string, headers []*header) error {
	tensors := 0
	for _, h := range headers {
		if h.foreign {
			return nil // one such type makes the parser refuse the whole set
		}
		tensors += len(h.tensors)
	}
	if tensors == 0 {
		return nil // nothing to compare, and the parser overrates the least size of a pair
	}
	// The parser reads a leading "~/" as the home directory.
	abs, err := filepath.Abs(path)
	if err != nil {
		return fileError(path, err)
	}
	gf, err := parse(abs, gguf_parser.UseMMap())
	if errors.Is(err, syscall.ENOMEM) { // the address space is limited: the header is all that is needed
		gf, err = parse(abs)
	}
	if err != nil {
		return fileError(path, fmt.Errorf("gguf-parser-go: %w", err))
	}
	if err := compare(gf, headers, tensors); err != nil {
		return fileError(path, fmt.Errorf("the header scan and gguf-parser-go disagree: %w", err))
	}
	return nil
}

// parse calls the parser, which panics on some inputs that the scan has not
// refused.
func parse(path string, options ...gguf_parser.GGUFReadOption) (gf *gguf_parser.GGUFFile, err error) {
	defer func() {
		if r := recover(); r != nil {
			gf, err = nil, fmt.Errorf("panic: %v", r)
		}
	}()
	return gguf_parser.ParseGGUFFile(path, append(options, gguf_parser.SkipLargeMetadata())...)
}

func compare(gf *gguf_parser.GGUFFile, headers []*header, tensors int) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	if len(gf.TensorInfos) != tensors || gf.Header.TensorCount != uint64(tensors) {
		return fmt.Errorf("%d tensors against %d", tensors, len(gf.TensorInfos))
	}
	if len(gf.SplitTensorDataStartOffsets) != len(headers) {
		return fmt.Errorf("%d files against %d", len(headers), len(gf.SplitTensorDataStartOffsets))
	}
	// The parser does not say which shard a tensor is in; it lists those of the
	// first shard, then those of the second.
	next := 0
	for k, h := range headers {
		dataOffset := uint64(gf.SplitTensorDataStartOffsets[k])
		for i := range h.tensors {
			a, b := &h.tensors[i], &gf.TensorInfos[next]
			next++
			switch {
			case a.Name != b.Name:
				return fmt.Errorf("tensor %d is named %q against %q", next-1, a.Name, b.Name)
			case uint32(a.Type) != uint32(b.Type):
				return fmt.Errorf("tensor %s: type %d against %d", a.Name, uint32(a.Type), uint32(b.Type))
			case int(b.NDimensions) != len(a.Shape) || !slices.Equal(a.Shape, b.Dimensions):
				return fmt.Errorf("tensor %s: shape %v against %v", a.Name, a.Shape, b.Dimensions)
			case a.OffsetBytes != dataOffset+b.Offset:
				return fmt.Errorf("tensor %s: starts at byte %d against %d", a.Name, a.OffsetBytes, dataOffset+b.Offset)
			case a.SizeBytes != b.Bytes():
				return fmt.Errorf("tensor %s: %d bytes against %d", a.Name, a.SizeBytes, b.Bytes())
			}
		}
	}
	return nil
}
