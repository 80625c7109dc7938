package read

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"slices"
	"strings"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/stats"
)

// An imatrix holds, for each weight matrix that llama-imatrix watched, the sum
// of squares of every input column and the number of rows summed. This file
// turns such entries, whatever container they came in, into evidence; the
// containers are imatrix_gguf.go and imatrix_dat.go.

// An entry is what an imatrix holds for one weight.
type entry struct {
	name         string // the weight's, such as "blk.0.ffn_down_exps.weight"
	offsetBytes  int64  // of the column sums of squares, float32
	values       uint64 // how many
	counts       []float64
	meanOffset   int64 // of the column sums, as many; 0 where there are none
	countsOffset int64 // where the counts lie, for messages

	layer      int // block number, -1 outside blocks
	projection projection
	expert     int // of a tensor that holds one expert, else -1

	slices []slice // per expert, of expert tensors, when scanned
}

// A projection is one of the matrices of a feed-forward block.
type projection int

const (
	notExpert projection = iota
	gate
	up
	gateUp
	down
	router
	sharedExpert
)

// A slice is what one expert's columns of an entry come to.
type slice struct {
	energy     float64 // sum of the column sums of squares
	meanEnergy float64 // sum over columns of (column sum)^2 / count, where there are column sums
	filler     bool    // every value equals the count
}

// parseEntryName says which part of a model a weight belongs to.
func parseEntryName(name string) (layer int, p projection, expert int) {
	layer, role, expert := ggufio.ParseTensorName(name)
	if layer < 0 || expert >= maxExperts || !strings.HasSuffix(name, ".weight") {
		return layer, notExpert, -1
	}
	switch role {
	case ggufio.RoleExpertGate:
		p = gate
	case ggufio.RoleExpertUp:
		p = up
	case ggufio.RoleExpertGateUp:
		p = gateUp
	case ggufio.RoleExpertDown:
		p = down
	case ggufio.RoleRouter:
		if strings.HasSuffix(name, ".ffn_gate_inp.weight") {
			p = router
		}
	case ggufio.RoleSharedExpert:
		if !strings.Contains(name, "_inp_") {
			p = sharedExpert
		}
	}
	return layer, p, expert
}

func (p projection) isExpert() bool { return p == gate || p == up || p == gateUp || p == down }

// An imatrixFile is an open file of entries.
type imatrixFile struct {
	path    string
	file    *os.File
	entries []entry // ascending by offset
	perCall bool    // counts are calls, not rows: the legacy format

	legacy []legacyLayer // of the legacy format, parallel to the evidence's layers
}

// scan reads every value once, checks it, and sums the expert tensors.
// expertsOf says how many experts an expert tensor with one count has, 0 where
// that is unknown.
func (f *imatrixFile) scan(ctx context.Context, expertsOf func(*entry) uint64) error {
	slices.SortStableFunc(f.entries, func(a, b entry) int { return cmp.Compare(a.offsetBytes, b.offsetBytes) })
	r := newFloatReader(f.file, 0, math.MaxUint64)
	for i := range f.entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		e := &f.entries[i]
		matrices := uint64(len(e.counts))
		if matrices == 1 && e.projection.isExpert() && e.expert < 0 {
			if n := expertsOf(e); n > 0 && e.values%n == 0 {
				matrices = n
			}
		}
		slices, err := f.scanEntry(r, e, matrices)
		if err != nil {
			return err
		}
		if e.projection.isExpert() {
			e.slices = slices
		}
	}
	return nil
}

func (f *imatrixFile) scanEntry(r *floatReader, e *entry, matrices uint64) ([]slice, error) {
	r.offset, r.left = e.offsetBytes, e.values
	columns := e.values / matrices
	slices := make([]slice, matrices)
	for m := range slices {
		s := &slices[m]
		count := e.counts[0]
		if m < len(e.counts) {
			count = e.counts[m]
		}
		want := float32(count)
		s.filler = count > 0
		for left := columns; left > 0; {
			chunk, err := r.next(left)
			if err != nil {
				return nil, fmt.Errorf("byte %d: entry %s: %w", r.offset, e.name, err)
			}
			for i, v := range chunk {
				if !(v >= 0 && v <= math.MaxFloat32) {
					return nil, fmt.Errorf("byte %d: entry %s: sum of squares %d is %g", r.offset-int64(4*(len(chunk)-i)), e.name, uint64(m)*columns+columns-left+uint64(i), v)
				}
				if v != want {
					s.filler = false
				}
				s.energy += float64(v)
			}
			left -= uint64(len(chunk))
		}
	}
	if e.meanOffset > 0 {
		return slices, f.scanMeans(r, e, slices, columns)
	}
	return slices, nil
}

// scanMeans reads an entry's column sums.
func (f *imatrixFile) scanMeans(r *floatReader, e *entry, slices []slice, columns uint64) error {
	r.offset, r.left = e.meanOffset, e.values
	for m := range slices {
		count := e.counts[0]
		if m < len(e.counts) {
			count = e.counts[m]
		}
		for left := columns; left > 0; {
			chunk, err := r.next(left)
			if err != nil {
				return fmt.Errorf("byte %d: entry %s: %w", r.offset, e.name, err)
			}
			for i, v := range chunk {
				x := float64(v)
				if !(math.Abs(x) <= math.MaxFloat32) {
					return fmt.Errorf("byte %d: entry %s: column sum %d is %g", r.offset-int64(4*(len(chunk)-i)), e.name, uint64(m)*columns+columns-left+uint64(i), v)
				}
				if count > 0 {
					slices[m].meanEnergy += float64(x*x) / count
				}
			}
			left -= uint64(len(chunk))
		}
	}
	return nil
}

// A floatReader reads a run of little-endian float32 in pieces.
type floatReader struct {
	r      io.ReaderAt
	offset int64 // of the next value
	left   uint64
	bytes  []byte
	values []float32
}

func newFloatReader(r io.ReaderAt, offset int64, values uint64) *floatReader {
	n := min(values, 64<<10)
	return &floatReader{r: r, offset: offset, left: values, bytes: make([]byte, 4*n), values: make([]float32, n)}
}

// next returns at most want further values, at least one.
func (f *floatReader) next(want uint64) ([]float32, error) {
	n := min(want, f.left, uint64(len(f.values)))
	b := f.bytes[:4*n]
	if _, err := f.r.ReadAt(b, f.offset); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	f.offset += int64(len(b))
	f.left -= n
	out := f.values[:n]
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return out, nil
}

// checkCount checks a row count as the file gives it.
func (f *imatrixFile) checkCount(e *entry, i int, v float64) error {
	if !(v >= 0 && v < 1<<63) {
		return fmt.Errorf("byte %d: entry %s: count %d is %g", e.countsOffset+int64(4*i), e.name, i, v)
	}
	return nil
}

// evidence groups the scanned entries by layer.
func (f *imatrixFile) evidence() (*stats.Evidence, error) {
	ev := &stats.Evidence{Kind: stats.KindNone, LayerAxis: stats.AxisBlocks, Entries: map[string]stats.EntrySize{}}
	byLayer := map[int][]*entry{}
	for i := range f.entries {
		e := &f.entries[i]
		ev.Entries[e.name] = stats.EntrySize{Values: e.values, Counts: uint64(len(e.counts))}
		if e.projection != notExpert {
			byLayer[e.layer] = append(byLayer[e.layer], e)
		}
	}
	experts := f.separateExperts()
	var err error
	for _, n := range slices.Sorted(maps.Keys(byLayer)) {
		g := &layerEntries{file: f, index: n, entries: byLayer[n]}
		for _, e := range byLayer[n] {
			if e.projection == sharedExpert {
				tokens := uint64(math.RoundToEven(e.counts[0]))
				ev.Shared = append(ev.Shared, stats.Layer{Index: n, Kind: stats.LayerShared, Tokens: &tokens, Counts: []uint64{tokens}})
				break
			}
		}
		if !g.stack(experts) {
			continue // a dense layer
		}
		if err = g.addTo(ev); err != nil {
			return nil, err
		}
	}
	ev.Columns = newFileColumns(f)
	return ev, nil
}

// separateExperts returns the number of experts of a file with one tensor per
// expert: one more than the largest number that occurs.
func (f *imatrixFile) separateExperts() int {
	n := 0
	for i := range f.entries {
		if e := &f.entries[i]; e.projection.isExpert() {
			n = max(n, e.expert+1)
		}
	}
	return n
}
