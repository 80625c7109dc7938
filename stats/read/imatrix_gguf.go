package read

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/stats"
)

// Suffixes of the tensors that describe one weight. ".sums" is another
// spelling of ".in_sum2". EAddario's fork adds ".in_sum", the signed sums of the
// columns, and ".stats", figures of a whole tensor that say nothing of its
// experts and are left alone.
const (
	suffixSquares = ".in_sum2"
	suffixSums    = ".sums"
	suffixCounts  = ".counts"
	suffixMeans   = ".in_sum"
)

func sniffGGUF(head []byte) bool { return bytes.HasPrefix(head, []byte("GGUF")) }

// readImatrixGGUF reads what llama-imatrix writes.
func readImatrixGGUF(ctx context.Context, src *source, _ Options) (*stats.Evidence, error) {
	file, path, err := src.file()
	if err != nil {
		return nil, err
	}
	// A file that columns may read later closes itself when it is collected.
	m, err := ggufio.OpenAny(path)
	if err != nil {
		var format *ggufio.FormatError
		if errors.As(err, &format) {
			format.File = src.path // not its temporary copy
		}
		return nil, err
	}
	if len(m.Files) != 1 {
		return nil, stats.Hintf("give the imatrix that llama-imatrix wrote for it", "is one of %d shards of a model, not an imatrix", len(m.Files))
	}
	f := &imatrixFile{path: src.path, file: file}
	if err := f.collect(m); err != nil {
		return nil, err
	}
	if err := f.readCounts(); err != nil {
		return nil, err
	}
	chunks, _, err := m.Metadata.Uint64("imatrix.chunk_count")
	if err != nil {
		return nil, err
	}
	datasets, _, err := m.Metadata.Strings("imatrix.datasets")
	if err != nil {
		return nil, err
	}
	nextN, stated, err := m.Metadata.Uint64("imatrix.n_layer_nextn")
	if err != nil {
		return nil, err
	}
	if err := f.scan(ctx, f.expertsByRouter()); err != nil {
		return nil, err
	}
	ev, err := f.evidence()
	if err != nil {
		return nil, err
	}
	ev.Chunks, ev.Datasets = chunks, datasets
	if stated && nextN < 1<<16 {
		ev.NextN = ref(int(nextN))
	}
	// llama-imatrix feeds whole chunks of text: nothing is generated.
	ev.Inputs = []stats.Input{{Phase: "prefill", Imatrix: &stats.Imatrix{Datasets: datasets, Entries: uint64(len(f.entries)), Chunks: chunks, Rows: f.largestCount()}}}
	return ev, finishKinds(ev)
}

// collect finds the entries among the file's tensors.
func (f *imatrixFile) collect(m *ggufio.Model) error {
	type parts struct{ squares, counts, means *ggufio.Tensor }
	byName := map[string]*parts{}
	var order []string
	part := func(name string) *parts {
		p := byName[name]
		if p == nil {
			p = &parts{}
			byName[name] = p
			order = append(order, name)
		}
		return p
	}
	for i := range m.Tensors {
		t := &m.Tensors[i]
		if name, ok := cutEither(t.Name, suffixSquares, suffixSums); ok {
			p := part(name)
			if p.squares != nil {
				return fmt.Errorf("entry %s: has both %s and %s", name, suffixSquares, suffixSums)
			}
			p.squares = t
		} else if name, ok := strings.CutSuffix(t.Name, suffixCounts); ok {
			part(name).counts = t
		} else if name, ok := strings.CutSuffix(t.Name, suffixMeans); ok {
			part(name).means = t
		} else {
			continue
		}
		if t.Type != quant.F32 {
			return fmt.Errorf("byte %d: tensor %s: is %v where an imatrix has F32", t.OffsetBytes, t.Name, t.Type)
		}
	}
	if len(order) == 0 {
		if kind, _, err := m.Metadata.String("general.type"); err == nil && kind == "imatrix" {
			return errors.New("is an imatrix without entries")
		}
		return stats.Hintf("give the imatrix that llama-imatrix -m MODEL -f TEXT wrote", "is a model, not an imatrix")
	}
	for _, name := range order {
		p := byName[name]
		switch {
		case p.squares == nil && p.counts == nil:
			return fmt.Errorf("entry %s: has column sums but no counts and no sums of squares", name)
		case p.squares == nil:
			return fmt.Errorf("entry %s: has counts but no sums of squares", name)
		case p.counts == nil:
			return fmt.Errorf("entry %s: has sums of squares but no counts", name)
		}
		n, matrices := p.squares.Parameters, p.counts.Parameters
		if matrices == 0 || n == 0 || n%matrices != 0 {
			return fmt.Errorf("entry %s: %d sums of squares do not divide into %d counts", name, n, matrices)
		}
		if matrices > 1 && len(p.squares.Shape) > 1 && p.squares.Shape[0] != n/matrices {
			return fmt.Errorf("entry %s: sums of squares of shape %v do not fit %d counts", name, p.squares.Shape, matrices)
		}
		e := entry{name: name, offsetBytes: int64(p.squares.OffsetBytes), values: n, countsOffset: int64(p.counts.OffsetBytes), counts: make([]float64, matrices)}
		if p.means != nil {
			if p.means.Parameters != n {
				return fmt.Errorf("entry %s: has %d column sums for %d sums of squares", name, p.means.Parameters, n)
			}
			e.meanOffset = int64(p.means.OffsetBytes)
		}
		e.layer, e.projection, e.expert = parseEntryName(name)
		f.entries = append(f.entries, e)
	}
	return nil
}

func cutEither(s, a, b string) (string, bool) {
	if rest, ok := strings.CutSuffix(s, a); ok {
		return rest, true
	}
	return strings.CutSuffix(s, b)
}

// readCounts reads every entry's counts.
func (f *imatrixFile) readCounts() error {
	for i := range f.entries {
		e := &f.entries[i]
		r := newFloatReader(f.file, e.countsOffset, uint64(len(e.counts)))
		for done := 0; done < len(e.counts); {
			chunk, err := r.next(uint64(len(e.counts) - done))
			if err != nil {
				return fmt.Errorf("byte %d: entry %s: %w", r.offset, e.name, err)
			}
			for _, v := range chunk {
				e.counts[done] = float64(v)
				if err := f.checkCount(e, done, float64(v)); err != nil {
					return err
				}
				done++
			}
		}
	}
	return nil
}

// largestCount returns the largest count of an entry, rounded as llama-imatrix
// reads it.
func (f *imatrixFile) largestCount() uint64 {
	most := 0.0
	for i := range f.entries {
		most = max(most, slices.Max(f.entries[i].counts))
	}
	return uint64(math.Round(most))
}

// expertsByRouter returns the number of experts of a tensor that has one count
// for all of them: its gate and up have the router's input, so the router's
// row length divides their columns; down has as many experts.
func (f *imatrixFile) expertsByRouter() func(*entry) uint64 {
	rows := map[int]uint64{}
	for i := range f.entries {
		if e := &f.entries[i]; e.projection == router {
			rows[e.layer] = e.values
		}
	}
	experts := map[int]uint64{}
	for i := range f.entries {
		e := &f.entries[i]
		if (e.projection == up || e.projection == gate || e.projection == gateUp) && e.expert < 0 {
			if n := rows[e.layer]; n > 0 && e.values%n == 0 {
				experts[e.layer] = e.values / n
			}
		}
	}
	return func(e *entry) uint64 { return experts[e.layer] }
}
