package read

import (
	"archive/zip"
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"

	"github.com/ggufplan/ggufplan/stats"
	"github.com/ggufplan/ggufplan/stats/internal/npy"
)

func sniffNPY(head []byte) bool { return bytes.HasPrefix(head, npy.Magic) }

// readNPY reads counts from a .npy file, [layers][experts] or
// [sequences][layers][experts].
func readNPY(ctx context.Context, src *source, opt Options) (*stats.Evidence, error) {
	return npyEvidence(ctx, src, opt, "npy")
}

func npyEvidence(ctx context.Context, in io.Reader, opt Options, format string) (*stats.Evidence, error) {
	r := bufio.NewReaderSize(in, 1<<18)
	h, err := npy.Read(r)
	if err != nil {
		return nil, err
	}
	values, err := h.Values()
	if err != nil {
		return nil, err
	}
	if len(h.Shape) != 2 && len(h.Shape) != 3 || values == 0 {
		return nil, fmt.Errorf("npy array is %s: counts are [layers, experts] or [sequences, layers, experts]", h)
	}
	layers, experts := h.Shape[len(h.Shape)-2], h.Shape[len(h.Shape)-1]
	if layers > maxLayers || experts > maxExperts {
		return nil, fmt.Errorf("npy array is %s: want at most %d layers of %d experts", h, maxLayers, maxExperts)
	}
	m := &matrix{opt: opt, float32: h.Kind == 'f' && h.Size <= 4}
	at := func(step, row uint64) uint64 { return (step*layers + row) * experts }
	var whole []byte
	if h.Fortran {
		// The steps lie interleaved, so all of it is needed at once; reading
		// stops at the end of the input, whatever the header claims.
		if whole, err = readUpTo(r, values*uint64(h.Size)); err != nil {
			return nil, err
		}
	}
	row := make([]float64, experts)
	raw := make([]byte, experts*uint64(h.Size))
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
					row[e] = h.Value(raw[e*h.Size:])
					continue
				}
				i := layer + layers*uint64(e)
				if len(h.Shape) == 3 {
					i = step + steps*i
				}
				row[e] = h.Value(whole[i*uint64(h.Size):])
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
	return withFile(src, func(f *os.File, size int64) (*stats.Evidence, error) { return npzEvidence(ctx, f, size, opt) })
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
