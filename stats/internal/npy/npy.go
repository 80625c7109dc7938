// Package npy reads the header of a .npy file (numpy.lib.format 1.0 to 3.0) and
// the numbers behind it. A header is bounded before it is read; types are plain
// integers and floats, for pickled objects are not run.
package npy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/ggufplan/ggufplan/ggufio/quant"
)

// Magic begins every .npy file.
var Magic = []byte("\x93NUMPY")

// maxHeaderBytes bounds the header of a .npy file, as numpy itself does
// where it is not told otherwise (numpy.lib.format: max_header_size).
const maxHeaderBytes = 10000

// A Header describes a .npy array.
type Header struct {
	Descr   string
	Kind    byte // 'i', 'u' or 'f'
	Size    int  // bytes of a value
	Big     bool // big-endian
	Fortran bool // the first axis varies fastest
	Shape   []uint64
}

// String is the type and the shape.
func (h *Header) String() string {
	dims := make([]string, len(h.Shape))
	for i, n := range h.Shape {
		dims[i] = strconv.FormatUint(n, 10)
	}
	return fmt.Sprintf("%s [%s]", h.Descr, strings.Join(dims, ", "))
}

// Values is the product of the shape.
func (h *Header) Values() (uint64, error) {
	n := uint64(1)
	for _, dim := range h.Shape {
		if dim != 0 && n > math.MaxInt64/16/dim {
			return 0, fmt.Errorf("shape %v is too large", h.Shape)
		}
		n *= dim
	}
	return n, nil
}

// Value decodes the value at the start of b.
func (h *Header) Value(b []byte) float64 {
	var bits uint64
	switch {
	case h.Size == 1:
		bits = uint64(b[0])
	case h.Size == 2 && h.Big:
		bits = uint64(binary.BigEndian.Uint16(b))
	case h.Size == 2:
		bits = uint64(binary.LittleEndian.Uint16(b))
	case h.Size == 4 && h.Big:
		bits = uint64(binary.BigEndian.Uint32(b))
	case h.Size == 4:
		bits = uint64(binary.LittleEndian.Uint32(b))
	case h.Big:
		bits = binary.BigEndian.Uint64(b)
	default:
		bits = binary.LittleEndian.Uint64(b)
	}
	return Number(h.Kind, h.Size, bits)
}

// Number converts a stored number: kind 'i' signed, 'u' unsigned, 'b'
// boolean, 'f' IEEE float, 'B' bfloat16.
func Number(kind byte, size int, bits uint64) float64 {
	switch kind {
	case 'i':
		shift := 64 - 8*size
		return float64(int64(bits<<shift) >> shift)
	case 'f':
		switch size {
		case 2:
			return float64(quant.HalfToFloat(uint16(bits)))
		case 4:
			return float64(math.Float32frombits(uint32(bits)))
		}
		return math.Float64frombits(bits)
	case 'B':
		return float64(math.Float32frombits(uint32(bits) << 16))
	}
	return float64(bits)
}

// Read reads the magic and the header.
func Read(r io.Reader) (*Header, error) {
	var fixed [8]byte
	if _, err := io.ReadFull(r, fixed[:]); err != nil {
		return nil, fmt.Errorf("byte 0: npy header: %w", unexpected(err))
	}
	if !bytes.HasPrefix(fixed[:], Magic) {
		return nil, fmt.Errorf("byte 0: %q is not the start of a .npy file", fixed[:6])
	}
	var length uint64
	switch major := fixed[6]; major {
	case 1:
		var b [2]byte
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return nil, fmt.Errorf("byte 8: npy header: %w", unexpected(err))
		}
		length = uint64(binary.LittleEndian.Uint16(b[:]))
	case 2, 3:
		var b [4]byte
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return nil, fmt.Errorf("byte 8: npy header: %w", unexpected(err))
		}
		length = uint64(binary.LittleEndian.Uint32(b[:]))
	default:
		return nil, fmt.Errorf("byte 6: npy version %d.%d: want 1.0 to 3.0", major, fixed[7])
	}
	if length > maxHeaderBytes {
		return nil, fmt.Errorf("byte 8: npy header of %d bytes, over the limit of %d", length, maxHeaderBytes)
	}
	text := make([]byte, length)
	if _, err := io.ReadFull(r, text); err != nil {
		return nil, fmt.Errorf("byte 10: npy header: %w", unexpected(err))
	}
	h, err := parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("npy header: %w", err)
	}
	return h, nil
}

// parse reads the header's Python dict, which has these three keys in
// any order and nothing else.
func parse(text string) (*Header, error) {
	h := &Header{}
	rest := strings.TrimSpace(text)
	if !strings.HasPrefix(rest, "{") || !strings.HasSuffix(rest, "}") {
		return nil, fmt.Errorf("%.40q is not a dict", rest)
	}
	rest = strings.TrimSpace(rest[1 : len(rest)-1])
	seen := make(map[string]bool)
	for rest != "" {
		key, after, ok := pythonString(rest)
		if !ok || seen[key] {
			return nil, fmt.Errorf("%.40q, want a new key", rest)
		}
		seen[key] = true
		after, ok = strings.CutPrefix(strings.TrimSpace(after), ":")
		if !ok {
			return nil, fmt.Errorf("no value for %q", key)
		}
		after = strings.TrimSpace(after)
		switch key {
		case "descr":
			if h.Descr, after, ok = pythonString(after); !ok {
				return nil, errors.New("descr is a structure, not an array of plain numbers")
			}
		case "fortran_order":
			if cut, is := strings.CutPrefix(after, "True"); is {
				h.Fortran, after = true, cut
			} else if after, ok = strings.CutPrefix(after, "False"); !ok {
				return nil, errors.New("fortran_order is neither True nor False")
			}
		case "shape":
			inner, tail, ok := strings.Cut(after, ")")
			inner, is := strings.CutPrefix(inner, "(")
			if !ok || !is {
				return nil, errors.New("shape is not a tuple")
			}
			after = tail
			for field := range strings.SplitSeq(inner, ",") {
				if field = strings.TrimSpace(field); field == "" {
					continue
				}
				n, err := strconv.ParseUint(strings.TrimSuffix(field, "L"), 10, 63)
				if err != nil || len(h.Shape) == 8 {
					return nil, fmt.Errorf("shape (%.60s)", inner)
				}
				h.Shape = append(h.Shape, n)
			}
		default:
			return nil, fmt.Errorf("key %.40q", key)
		}
		rest = strings.TrimSpace(after)
		if rest != "" {
			if rest, ok = strings.CutPrefix(rest, ","); !ok {
				return nil, fmt.Errorf("%.40q, want ','", rest)
			}
			rest = strings.TrimSpace(rest)
		}
	}
	if !seen["descr"] || !seen["fortran_order"] || !seen["shape"] {
		return nil, errors.New("one of descr, fortran_order and shape is missing")
	}
	return h, h.setType()
}

// setType reads a type such as "<i8" or "|b1".
func (h *Header) setType() error {
	d := h.Descr
	if len(d) == 3 && strings.ContainsRune("<>=|", rune(d[0])) && d[2] >= '1' && d[2] <= '8' {
		h.Big, h.Kind, h.Size = d[0] == '>', d[1], int(d[2]-'0')
		switch d[1:] {
		case "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8":
			return nil
		}
	}
	if strings.HasSuffix(d, "O") {
		return errors.New("descr '|O' is an array of pickled objects, which are not run: save plain numbers")
	}
	return fmt.Errorf("descr %.20q: want integers or floats of 1 to 8 bytes", d)
}

// pythonString reads a quoted string without escapes.
func pythonString(text string) (value, rest string, ok bool) {
	if text == "" || text[0] != '\'' && text[0] != '"' {
		return "", text, false
	}
	end := strings.IndexByte(text[1:], text[0])
	if end < 0 || strings.Contains(text[1:1+end], `\`) {
		return "", text, false
	}
	return text[1 : 1+end], text[2+end:], true
}

// unexpected makes an end of the file an error that says so.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
