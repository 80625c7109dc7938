package ggufio

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// architecture reads the facts about the model, by its own rules: numbers may
// be scalars or arrays with an entry per block, as llama.cpp reads them.
func (h *header) architecture(tensors []Tensor) (a Architecture, err error) {
	const nameKey = "general.architecture"
	i, ok := h.index[nameKey]
	if !ok {
		return a, h.fault(nameKey, errors.New("is absent: this is not a model"))
	}
	if a.Name, ok = h.pairs[i].value.(string); !ok {
		return a, h.fault(nameKey, fmt.Errorf("is %s, not string", h.pairs[i].Describe()))
	}
	a.Name, _, _ = strings.Cut(a.Name, "\x00") // as C reads it
	if a.Name == "" {
		return a, h.fault(nameKey, errors.New("is empty"))
	}

	named := uint64(0)
	for i := range tensors {
		named = max(named, uint64(tensors[i].Layer+1))
	}
	blocks, ok, err := h.lookupUint(a.Name + ".block_count")
	switch {
	case err != nil:
		return a, err
	case !ok:
		blocks = named
	case blocks > maxBlocks:
		return a, h.fault(a.Name+".block_count", &LimitError{Got: blocks, Max: maxBlocks, Source: "LLAMA_MAX_LAYERS"})
	case blocks < named:
		return a, h.fault(a.Name+".block_count", fmt.Errorf("is %d, but there are tensors of block %d, counted from 0", blocks, named-1))
	}
	a.BlockCount = int(blocks)

	for _, field := range []struct {
		key   string
		value *int
		limit uint64
		told  bool // and nothing depends on it
	}{
		{"expert_count", &a.ExpertCount, maxExperts, false},
		{"expert_shared_count", &a.ExpertSharedCount, maxExperts, true},
		{"leading_dense_block_count", &a.LeadingDense, blocks, true},
		{"nextn_predict_layers", &a.NextNBlocks, blocks, false},
	} {
		// A model with as many values as blocks is described by the largest.
		values, err := h.perBlock(a.Name+"."+field.key, 1, field.limit)
		switch {
		case err != nil && field.told:
			continue // many architectures do not read it
		case err != nil:
			return a, err
		}
		for _, v := range values {
			*field.value = max(*field.value, v)
		}
	}
	for _, field := range []struct {
		key   string
		value *[]int
		limit uint64
	}{
		{"expert_used_count", &a.ExpertUsedCount, maxExperts},
		{"attention.head_count", &a.HeadCount, anyNumber},
		{"attention.head_count_kv", &a.HeadCountKV, anyNumber},
	} {
		values, err := h.perBlock(a.Name+"."+field.key, a.BlockCount, field.limit)
		if err != nil {
			return a, err
		}
		if short := a.BlockCount - len(values); values != nil && short != 0 {
			// MTP blocks may be left out.
			if short < 0 || short > a.NextNBlocks {
				return a, h.fault(a.Name+"."+field.key, fmt.Errorf("has %d entries for %d blocks", len(values), a.BlockCount))
			}
			values = append(values, make([]int, short)...)
		}
		*field.value = values
	}
	if a.HeadCountKV == nil {
		a.HeadCountKV = a.HeadCount
	}
	return a, nil
}

// anyNumber is the limit of numbers that are only compared with each other:
// llama.cpp takes any of 32 bits, those of arrays whatever their sign.
const anyNumber = math.MaxInt32

// perBlock reads a number, repeated n times, or an array of numbers as it is.
// It returns nil where the key is absent.
func (h *header) perBlock(key string, n int, limit uint64) ([]int, error) {
	i, ok := h.index[key]
	if !ok {
		return nil, nil
	}
	p := &h.pairs[i]
	var values []uint64
	switch v := p.value.(type) {
	case []uint64:
		values = v
	case []int64:
		for _, x := range v {
			switch {
			case x >= 0:
				values = append(values, uint64(x))
			case limit == anyNumber && p.ElementType == ValueInt32:
				values = append(values, uint64(uint32(x)))
			default:
				return nil, h.fault(key, fmt.Errorf("%d is negative", x))
			}
		}
	case uint64, int64:
		x, _, err := h.lookupUint(key)
		if err != nil {
			return nil, err
		}
		values = slices.Repeat([]uint64{x}, n)
	default:
		return nil, h.fault(key, fmt.Errorf("is %s, not an integer or an array of them", p.Describe()))
	}
	out := make([]int, len(values))
	for i, x := range values {
		switch {
		case x <= limit:
			out[i] = int(x)
		case limit == anyNumber && x <= math.MaxUint32:
			out[i] = anyNumber
		default:
			return nil, h.fault(key, &LimitError{Got: x, Max: limit, Source: "limit of this number"})
		}
	}
	return out, nil
}
