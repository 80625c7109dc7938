package ggufio

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

const (
	keySplitNo      = "split.no"
	keySplitCount   = "split.count"
	keySplitTensors = "split.tensors.count"
)

// shardName is the only spelling of a shard's name that llama.cpp finds.
var shardName = regexp.MustCompile(`^(.*)-([0-9]{5})-of-([0-9]{5})\.gguf$`)

// scanSet scans a file, and where it says that it is split the set of its
// shards, in order. As in llama.cpp a name alone makes no shard.
func scanSet(path string) ([]*header, error) {
	named, err := scan(path)
	if err != nil {
		return nil, err
	}
	if count, _, err := named.lookupUint(keySplitCount); err != nil || count < 2 {
		return []*header{named}, err
	}
	paths, err := members(path)
	if err != nil {
		return nil, err
	}
	headers := make([]*header, len(paths))
	for i, p := range paths {
		if p == path {
			headers[i] = named
		} else if headers[i], err = scan(p); err != nil {
			return nil, err
		}
	}
	return headers, nil
}

// members returns the paths of the set that path belongs to, in order; path
// alone where its name is not a shard's.
func members(path string) ([]string, error) {
	base := baseName(path)
	m := shardName.FindStringSubmatch(base)
	if m == nil {
		if shardName.MatchString(base + ".gguf") {
			// The parser would look for the name with the ending.
			return nil, fileError(path, errors.New("the name is a shard's but for the ending: give it the ending .gguf"))
		}
		return []string{path}, nil
	}
	number, _ := strconv.Atoi(m[2])
	count, _ := strconv.Atoi(m[3])
	if number < 1 || number > count {
		return nil, fileError(path, fmt.Errorf("there is no shard %d of %d: shards are counted from 1", number, count))
	}
	dir := strings.TrimSuffix(path, base)
	if count > 1 && strings.Contains(path, "\n") {
		return nil, fileError(path, errors.New("the path of a shard may not hold a line break"))
	}
	paths := make([]string, count)
	for i := range paths {
		paths[i] = fmt.Sprintf("%s%s-%05d-of-%05d.gguf", dir, m[1], i+1, count)
		// Ask before the first is read, so that a wrong count ends at once.
		if _, err := os.Stat(paths[i]); errors.Is(err, fs.ErrNotExist) {
			if i+1 == number {
				return nil, fileError(path, err)
			}
			return nil, fileError(path, fmt.Errorf("shard %d of %d is missing: there is no %s", i+1, count, baseName(paths[i])))
		}
	}
	return paths, nil
}

// baseName is the part of a path behind the last separator, as typed.
func baseName(path string) string {
	dir, base := filepath.Split(path)
	if base == "" {
		return filepath.Base(strings.TrimSuffix(dir, string(filepath.Separator)))
	}
	return base
}

// checkSet checks that the files are the shards of one model, each in its
// place.
func checkSet(headers []*header) error {
	total := uint64(0)
	for _, h := range headers {
		total += uint64(len(h.tensors))
	}
	if total > maxTensors {
		return &FormatError{File: headers[0].file.Path, OffsetBytes: -1, Field: "tensor count", Err: &LimitError{Got: total, Max: maxTensors, Source: "limit of this program"}}
	}
	seen := map[string]string{}
	for i, h := range headers {
		if err := h.checkPlace(i, len(headers), total); err != nil {
			return err
		}
		if len(headers) == 1 {
			continue
		}
		for j := range h.tensors {
			name := h.tensors[j].Name
			if other, ok := seen[name]; ok {
				return &FormatError{File: h.file.Path, OffsetBytes: int64(h.tensors[j].infoOffset), Field: "tensor " + name,
					Err: fmt.Errorf("is in %s too", other)}
			}
			seen[name] = h.file.Name
		}
	}
	return nil
}

// checkPlace checks what a file says about its place in a set of count files
// with total tensors. Of what shards say llama.cpp reads the numbers of all,
// and both counts of the first alone.
func (h *header) checkPlace(i, count int, total uint64) error {
	if i == 0 {
		splitCount, _, err := h.lookupUint(keySplitCount)
		switch {
		case err != nil:
			return err
		case count == 1 && splitCount < 2: // llama-gguf-split --merge leaves a count of 0
			return nil
		case count == 1:
			return h.fault(keySplitCount, fmt.Errorf("this is a shard of %d files, but its name does not say so: give it its NAME-0000I-of-%05d.gguf name, beside the others", splitCount, splitCount))
		case splitCount != uint64(count):
			return h.fault(keySplitCount, fmt.Errorf("%d against the %d of the file name", splitCount, count))
		}
	}
	no, hasNo, err := h.lookupUint(keySplitNo)
	switch {
	case err != nil:
		return err
	case !hasNo:
		return h.fault(keySplitNo, fmt.Errorf("is absent in shard %d of %d", i+1, count))
	case no != uint64(i):
		return h.fault(keySplitNo, fmt.Errorf("%d (counted from 0) does not fit file %d of %d", no, i+1, count))
	case i > 0:
		return nil
	}
	tensors, hasTensors, err := h.lookupUint(keySplitTensors)
	switch {
	case err != nil:
		return err
	case !hasTensors:
		return h.fault(keySplitTensors, fmt.Errorf("is absent in shard %d of %d", i+1, count))
	case tensors != total:
		return h.fault(keySplitTensors, fmt.Errorf("%d against the %d tensors that are there", tensors, total))
	}
	return nil
}

// fault is an error about a metadata key, placed at its pair if there is one.
func (h *header) fault(key string, err error) error {
	at := int64(-1)
	if i, ok := h.index[key]; ok {
		at = int64(h.pairs[i].OffsetBytes)
	}
	return &FormatError{File: h.file.Path, OffsetBytes: at, Field: pairField(key), Err: err}
}

func (h *header) lookupUint(key string) (v uint64, ok bool, err error) {
	i, found := h.index[key]
	if !found {
		return 0, false, nil
	}
	switch v := h.pairs[i].value.(type) {
	case uint64:
		return v, true, nil
	case int64:
		if v < 0 {
			return 0, false, h.fault(key, fmt.Errorf("%d is negative", v))
		}
		return uint64(v), true, nil
	}
	return 0, false, h.fault(key, fmt.Errorf("is %s, not an integer", h.pairs[i].Describe()))
}
