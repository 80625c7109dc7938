package ggufio

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	gguf_parser "github.com/gpustack/gguf-parser-go"
)

// crossCheck reads the same files with gguf-parser-go and compares. The two
// must agree about every tensor; where they do not, the bytes that one of them
// would read are wrong, and nothing is safe to build on.
func crossCheck(headers []*header) error {
	tensors := 0
	for i, h := range headers {
		if !h.parserReads(i, len(headers)) {
			return nil // one such file makes the parser refuse the whole set
		}
		tensors += len(h.tensors)
	}
	if tensors == 0 {
		return nil // nothing to compare, and the parser overrates the least size of a pair
	}
	path := headers[0].file.Path
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

// parserReads reports whether the parser is known to read file i of count as
// llama.cpp does. It knows no foreign types, trims keys, allocates by the
// number of tensors that a file states, takes the first shard's alignment for
// all of them and what a later one says for the set, and looks for the others
// of what has a shard's name.
func (h *header) parserReads(i, count int) bool {
	for key := range h.index {
		if strings.TrimSpace(key) != key || len(key) > maxParserKeyBytes {
			return false
		}
	}
	if at, ok := h.index[keySplitTensors]; ok {
		p := &h.pairs[at]
		if n, isInt := p.value.(int64); p.Type != ValueInt32 || !isInt || n < 0 || n > maxTensors {
			return false
		}
	}
	if count == 1 {
		base := baseName(h.file.Path)
		return !h.foreign && !shardName.MatchString(base) && !shardName.MatchString(base+".gguf")
	}
	_, named := h.index["general.architecture"]
	splitCount, _, err := h.lookupUint(keySplitCount)
	return !h.foreign && h.file.AlignmentBytes == 32 && (i == 0 || !named) && err == nil && splitCount == uint64(count)
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
