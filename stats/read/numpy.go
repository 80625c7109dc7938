package read

import (
	"archive/zip"
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/stats"
)

var npyMagic = []byte("\x93NUMPY")

// maxNPYHeaderBytes bounds the header of a .npy file, as numpy itself does
// where it is not told otherwise (numpy.lib.format: max_header_size).
const maxNPYHeaderBytes = 10000

// An npyHeader describes a .npy array.
type npyHeader struct {
	descr   string
	kind    byte // 'i', 'u' or 'f'
	size    int  // bytes of a value
	big     bool // big-endian
	fortran bool // the first axis varies fastest
	shape   []uint64
}

func (h *npyHeader) String() string {
	dims := make([]string, len(h.shape))
	for i, n := range h.shape {
		dims[i] = strconv.FormatUint(n, 10)
	}
	return fmt.Sprintf("%s [%s]", h.descr, strings.Join(dims, ", "))
}

// values is the product of the shape.
func (h *npyHeader) values() (uint64, error) {
	n := uint64(1)
	for _, dim := range h.shape {
		if dim != 0 && n > math.MaxInt64/16/dim {
			return 0, fmt.Errorf("shape %v is too large", h.shape)
		}
		n *= dim
	}
	return n, nil
}

// value decodes the value at the start of b.
func (h *npyHeader) value(b []byte) float64 {
	var bits uint64
	switch {
	case h.size == 1:
		bits = uint64(b[0])
	case h.size == 2 && h.big:
		bits = uint64(binary.BigEndian.Uint16(b))
	case h.size == 2:
		bits = uint64(binary.LittleEndian.Uint16(b))
	case h.size == 4 && h.big:
		bits = uint64(binary.BigEndian.Uint32(b))
	case h.size == 4:
		bits = uint64(binary.LittleEndian.Uint32(b))
	case h.big:
		bits = binary.BigEndian.Uint64(b)
	default:
		bits = binary.LittleEndian.Uint64(b)
	}
	return numberFromBits(h.kind, h.size, bits)
}

// numberFromBits converts a stored number: kind 'i' signed, 'u' unsigned, 'b'
// boolean, 'f' IEEE float, 'B' bfloat16.
func numberFromBits(kind byte, size int, bits uint64) float64 {
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

// readNPYHeader reads the magic and the header.
func readNPYHeader(r io.Reader) (*npyHeader, error) {
	var fixed [8]byte
	if _, err := io.ReadFull(r, fixed[:]); err != nil {
		return nil, fmt.Errorf("byte 0: npy header: %w", noEOF(err))
	}
	if !bytes.HasPrefix(fixed[:], npyMagic) {
		return nil, fmt.Errorf("byte 0: %q is not the start of a .npy file", fixed[:6])
	}
	var length uint64
	switch major := fixed[6]; major {
	case 1:
		var b [2]byte
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return nil, fmt.Errorf("byte 8: npy header: %w", noEOF(err))
		}
		length = uint64(binary.LittleEndian.Uint16(b[:]))
	case 2, 3:
		var b [4]byte
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return nil, fmt.Errorf("byte 8: npy header: %w", noEOF(err))
		}
		length = uint64(binary.LittleEndian.Uint32(b[:]))
	default:
		return nil, fmt.Errorf("byte 6: npy version %d.%d: want 1.0 to 3.0", major, fixed[7])
	}
	if length > maxNPYHeaderBytes {
		return nil, fmt.Errorf("byte 8: npy header of %d bytes, over the limit of %d", length, maxNPYHeaderBytes)
	}
	text := make([]byte, length)
	if _, err := io.ReadFull(r, text); err != nil {
		return nil, fmt.Errorf("byte 10: npy header: %w", noEOF(err))
	}
	h, err := parseNPYHeader(string(text))
	if err != nil {
		return nil, fmt.Errorf("npy header: %w", err)
	}
	return h, nil
}

// parseNPYHeader reads the header's Python dict, which has these three keys in
// any order and nothing else.
func parseNPYHeader(text string) (*npyHeader, error) {
	h := &npyHeader{}
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
			if h.descr, after, ok = pythonString(after); !ok {
				return nil, errors.New("descr is a structure, not an array of plain numbers")
			}
		case "fortran_order":
			if cut, is := strings.CutPrefix(after, "True"); is {
				h.fortran, after = true, cut
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
				if err != nil || len(h.shape) == 8 {
					return nil, fmt.Errorf("shape (%.60s)", inner)
				}
				h.shape = append(h.shape, n)
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
func (h *npyHeader) setType() error {
	d := h.descr
	if len(d) == 3 && strings.ContainsRune("<>=|", rune(d[0])) && d[2] >= '1' && d[2] <= '8' {
		h.big, h.kind, h.size = d[0] == '>', d[1], int(d[2]-'0')
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

func sniffNPY(head []byte) bool { return bytes.HasPrefix(head, npyMagic) }

// readNPY reads counts from a .npy file, [layers][experts] or
// [sequences][layers][experts].
func readNPY(ctx context.Context, src *source, opt Options) (*stats.Evidence, error) {
	ev, err := npyEvidence(ctx, src, opt, "npy")
	if err != nil {
		return nil, src.errorf("%w", err)
	}
	return ev, nil
}

func npyEvidence(ctx context.Context, in io.Reader, opt Options, format string) (*stats.Evidence, error) {
	r := bufio.NewReaderSize(in, 1<<18)
	h, err := readNPYHeader(r)
	if err != nil {
		return nil, err
	}
	values, err := h.values()
	if err != nil {
		return nil, err
	}
	if len(h.shape) != 2 && len(h.shape) != 3 || values == 0 {
		return nil, fmt.Errorf("npy array is %s: counts are [layers, experts] or [sequences, layers, experts]", h)
	}
	layers, experts := h.shape[len(h.shape)-2], h.shape[len(h.shape)-1]
	if layers > maxLayers || experts > maxExperts {
		return nil, fmt.Errorf("npy array is %s: want at most %d layers of %d experts", h, maxLayers, maxExperts)
	}
	m := &matrix{opt: opt, float32: h.kind == 'f' && h.size <= 4}
	at := func(step, row uint64) uint64 { return (step*layers + row) * experts }
	var whole []byte
	if h.fortran {
		// The steps lie interleaved, so all of it is needed at once; reading
		// stops at the end of the input, whatever the header claims.
		if whole, err = readUpTo(r, values*uint64(h.size)); err != nil {
			return nil, err
		}
	}
	row := make([]float64, experts)
	raw := make([]byte, experts*uint64(h.size))
	steps := values / layers / experts
	for step := range steps {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		for layer := range layers {
			if whole == nil {
				if _, err := io.ReadFull(r, raw); err != nil {
					return nil, fmt.Errorf("npy array is %s and ends after %d of %d values: %w", h, at(step, layer), values, noEOF(err))
				}
			}
			for e := range row {
				if whole == nil {
					row[e] = h.value(raw[e*h.size:])
					continue
				}
				i := layer + layers*uint64(e)
				if len(h.shape) == 3 {
					i = step + steps*i
				}
				row[e] = h.value(whole[i*uint64(h.size):])
			}
			if err := m.addRow(row); err != nil {
				return nil, fmt.Errorf("npy array, value %d: %w", at(step, layer), err)
			}
		}
		if err := m.endStep(); err != nil {
			return nil, err
		}
	}
	if _, err := r.ReadByte(); err != io.EOF {
		return nil, fmt.Errorf("npy array is %s, and data follow it", h)
	}
	return m.evidence(format, stats.KindExact)
}

// readUpTo reads n bytes, growing with what really comes.
func readUpTo(r io.Reader, n uint64) ([]byte, error) {
	var buf bytes.Buffer
	got, err := io.Copy(&buf, io.LimitReader(r, int64(min(n, math.MaxInt64))))
	if err != nil {
		return nil, err
	}
	if uint64(got) != n {
		return nil, fmt.Errorf("npy array ends after %d of %d bytes: %w", got, n, io.ErrUnexpectedEOF)
	}
	return buf.Bytes(), nil
}

// countNames are the names under which an .npz file may hold counts beside
// other arrays.
var countNames = []string{"logical_count", "counts", "count", "expert_counts", "activation_counts", "expert_frequency"}

// sniffNPZ recognises an archive whose first entry is an array.
func sniffNPZ(head []byte) bool { return strings.HasSuffix(firstEntry(head), ".npy") }

// firstEntry returns the name of the first entry of a ZIP archive.
func firstEntry(head []byte) string {
	if len(head) < 30 || string(head[:4]) != "PK\x03\x04" {
		return ""
	}
	n := int(binary.LittleEndian.Uint16(head[26:]))
	if len(head) < 30+n {
		return ""
	}
	return string(head[30 : 30+n])
}

// readNPZ reads counts from an .npz file.
func readNPZ(ctx context.Context, src *source, opt Options) (*stats.Evidence, error) {
	ev, err := withFile(src, func(f *os.File, size int64) (*stats.Evidence, error) { return npzEvidence(ctx, f, size, opt) })
	if err != nil {
		return nil, src.errorf("%w", err)
	}
	return ev, nil
}

// withFile gives random access to the content.
func withFile(src *source, read func(f *os.File, size int64) (*stats.Evidence, error)) (*stats.Evidence, error) {
	f, _, err := src.file()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return read(f, info.Size())
}

func npzEvidence(ctx context.Context, f io.ReaderAt, size int64, opt Options) (*stats.Evidence, error) {
	z, err := zip.NewReader(f, size)
	if err != nil {
		return nil, err
	}
	var names []string
	entries := make(map[string]*zip.File)
	for _, entry := range z.File {
		name := strings.TrimSuffix(entry.Name, ".npy")
		if entries[name] != nil {
			return nil, fmt.Errorf("duplicate array %q", name)
		}
		names = append(names, name)
		entries[name] = entry
	}
	slices.Sort(names)
	chosen := ""
	for _, name := range countNames {
		if entries[name] != nil && chosen == "" {
			chosen = name
		}
	}
	if chosen == "" && len(names) == 1 {
		if chosen = names[0]; placementKeys[chosen] {
			return nil, refusePlacement(chosen)
		}
	}
	if chosen == "" {
		return nil, stats.Hintf("save the counts alone, or under the name counts: numpy.savez(FILE, counts=counts)",
			"holds the arrays %.200s: which of them are counts is not known", strings.Join(names, ", "))
	}
	entry, err := entries[chosen].Open()
	if err != nil {
		return nil, fmt.Errorf("array %q: %w", chosen, err)
	}
	defer entry.Close()
	ev, err := npyEvidence(ctx, entry, opt, "npz")
	if err == nil { // its checksum is compared at its end
		_, err = io.Copy(io.Discard, io.LimitReader(entry, 1<<20))
	}
	if err != nil {
		return nil, fmt.Errorf("array %q: %w", chosen, err)
	}
	return ev, nil
}
