package ggufio

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"unicode"
)

// pairField names a metadata key in an error. Keys may hold anything, so what
// could steer a terminal is quoted.
func pairField(key string) string {
	if strings.ContainsFunc(key, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fmt.Sprintf("metadata %q", key)
	}
	return "metadata " + key
}

func numbered(what string, i uint64) string { return fmt.Sprintf("%s %d", what, i) }

// readPairs reads the metadata. Short values are kept, long ones passed over.
func (h *header) readPairs(c *cursor, count uint64) error {
	kept := uint64(0)
	for i := uint64(0); i < count; i++ {
		p, err := c.pair(i, &kept)
		if err != nil {
			return err
		}
		if _, twice := h.index[p.Key]; twice {
			return c.failf(p.OffsetBytes, pairField(p.Key), "duplicate key")
		}
		h.index[p.Key] = len(h.pairs)
		h.pairs = append(h.pairs, p)
	}
	return nil
}

func (c *cursor) pair(i uint64, kept *uint64) (p Pair, err error) {
	p.OffsetBytes = c.pos
	field := numbered("metadata pair", i) + ": key"
	n, err := c.stringLength(maxStringBytes, field)
	if err != nil {
		return p, err
	}
	key, err := c.bytes(n, field)
	if err != nil {
		return p, err
	}
	p.Key = string(key)
	p.ZeroTailBytes = zeroTail(key)
	if p.Key == "" {
		return p, c.fail(p.OffsetBytes, field, errors.New("is empty"))
	}
	field = pairField(p.Key)

	at := c.pos
	typ, err := c.uint32(field + ": type")
	if err != nil {
		return p, err
	}
	p.Type = ValueType(typ)
	switch {
	case p.Type > ValueFloat64:
		return p, c.failf(at, field+": type", "there is no value type %d", typ)
	case p.Type == ValueArray:
		err = c.array(&p, field, kept)
	case p.Type == ValueString:
		err = c.stringValue(&p, field, kept)
	default:
		var raw []byte
		if raw, err = c.bytes(valueTypes[p.Type].sizeBytes, field); err == nil {
			p.value = first(decodeItems(p.Type, raw))
		}
	}
	p.SizeBytes = c.pos - p.OffsetBytes
	return p, err
}

func (c *cursor) stringValue(p *Pair, field string, kept *uint64) (err error) {
	if p.Length, err = c.stringLength(maxStringBytes, field); err != nil {
		return err
	}
	if p.Length > maxKeptStringBytes || *kept+p.Length > maxKeptBytes {
		tail, err := c.skipText(p.Length, field)
		p.ZeroTailBytes += tail
		return err
	}
	b, err := c.bytes(p.Length, field)
	p.value = string(b)
	p.ZeroTailBytes += zeroTail(b)
	*kept += p.Length
	return err
}

func (c *cursor) array(p *Pair, field string, kept *uint64) error {
	at := c.pos
	typ, err := c.uint32(field + ": element type")
	if err != nil {
		return err
	}
	p.ElementType = ValueType(typ)
	switch {
	case p.ElementType == ValueArray:
		return c.failf(at, field+": element type", "arrays of arrays are not supported")
	case p.ElementType > ValueFloat64:
		return c.failf(at, field+": element type", "there is no value type %d", typ)
	}
	at = c.pos
	if p.Length, err = c.uint64(field + ": array length"); err != nil {
		return err
	}
	itemBytes := valueTypes[p.ElementType].sizeBytes
	if p.ElementType == ValueString {
		itemBytes = 8 // its length
	}
	if p.Length > maxArrayItems {
		return c.fail(at, field+": array length", &LimitError{Got: p.Length, Max: maxArrayItems, Source: "limit of this program"})
	}
	if fit := (c.size - c.pos) / itemBytes; p.Length > fit {
		return c.fail(at, field+": array length", &LimitError{Got: p.Length, Max: fit, Source: "file size"})
	}
	if p.ElementType == ValueString {
		return c.stringArray(p, field, kept)
	}
	n := p.Length * itemBytes
	if p.Length > maxKeptItems || *kept+8*p.Length > maxKeptBytes {
		return c.skip(n, field)
	}
	raw, err := c.bytes(n, field)
	if err != nil {
		return err
	}
	p.value = decodeItems(p.ElementType, raw)
	*kept += 8 * p.Length
	return nil
}

func (c *cursor) stringArray(p *Pair, field string, kept *uint64) error {
	keep := p.Length <= maxKeptItems
	items := []string{}
	for i := uint64(0); i < p.Length; i++ {
		n, err := c.stringLength(maxStringBytes, field)
		if err != nil {
			return err
		}
		// 16 stands for the string's own header.
		if keep && *kept+n+16 > maxKeptBytes {
			keep, items = false, nil
		}
		if !keep {
			tail, err := c.skipText(n, field)
			if err != nil {
				return err
			}
			p.ZeroTailBytes += tail
			continue
		}
		b, err := c.bytes(n, field)
		if err != nil {
			return err
		}
		p.ZeroTailBytes += zeroTail(b)
		items = append(items, string(b))
		*kept += n + 16
	}
	if keep {
		p.value = items
	}
	return nil
}

// decodeItems turns the raw numbers of one type into a slice of the widest
// type of their kind.
func decodeItems(t ValueType, raw []byte) any {
	size := int(valueTypes[t].sizeBytes)
	n := len(raw) / size
	word := func(i int) uint64 {
		var w [8]byte
		copy(w[:], raw[i*size:(i+1)*size])
		return binary.LittleEndian.Uint64(w[:])
	}
	switch t {
	case ValueInt8, ValueInt16, ValueInt32, ValueInt64:
		out := make([]int64, n)
		shift := 64 - 8*size
		for i := range out {
			out[i] = int64(word(i)) << shift >> shift // extends the sign
		}
		return out
	case ValueFloat32:
		out := make([]float64, n)
		for i := range out {
			out[i] = float64(math.Float32frombits(uint32(word(i))))
		}
		return out
	case ValueFloat64:
		out := make([]float64, n)
		for i := range out {
			out[i] = math.Float64frombits(word(i))
		}
		return out
	case ValueBool:
		out := make([]bool, n)
		for i := range out {
			out[i] = raw[i] != 0
		}
		return out
	}
	out := make([]uint64, n)
	for i := range out {
		out[i] = word(i)
	}
	return out
}

// first unwraps the only item of a scalar's slice.
func first(items any) any {
	switch v := items.(type) {
	case []uint64:
		return v[0]
	case []int64:
		return v[0]
	case []float64:
		return v[0]
	case []bool:
		return v[0]
	}
	return items
}
