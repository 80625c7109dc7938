package read

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/ggufplan/ggufplan/stats"
)

// The legacy imatrix format has no magic and no version: little-endian int32
// and float32 in sequence,
//
//	n, then n times: length, name, calls, values, float32[values]
//	optionally: last call, and then length, dataset
//
// and does not say how many experts an entry covers. Most writers divided each
// expert's sums by its own count, so that how often an expert was used is lost.

const (
	maxLegacyEntries   = 1e6
	maxLegacyNameBytes = 255
)

// sniffLegacy reports whether head starts like a legacy imatrix: a plausible
// number of entries and a first entry named like a weight.
func sniffLegacy(head []byte) bool {
	if len(head) < 8 {
		return false
	}
	n := int32(binary.LittleEndian.Uint32(head))
	length := int32(binary.LittleEndian.Uint32(head[4:]))
	if n < 1 || n > maxLegacyEntries || length < 1 || length > maxLegacyNameBytes || len(head) < 16+int(length) {
		return false
	}
	calls := int32(binary.LittleEndian.Uint32(head[8+length:]))
	values := int32(binary.LittleEndian.Uint32(head[12+length:]))
	return plausibleName(string(head[8:8+length])) && calls >= 0 && values >= 1
}

func plausibleName(s string) bool {
	if !utf8.ValidString(s) || !strings.Contains(s, ".") {
		return false
	}
	for _, r := range s {
		if r <= ' ' || r == 0x7f {
			return false
		}
	}
	return true
}

// A legacyWalk is the walk over a legacy file, with its place for messages.
type legacyWalk struct {
	r      *bufio.Reader
	offset int64
	size   int64
	entry  string
}

func (w *legacyWalk) errorf(format string, args ...any) error {
	return fmt.Errorf("byte %d: %s: %w", w.offset, w.entry, fmt.Errorf(format, args...))
}

func (w *legacyWalk) int32(what string) (int32, error) {
	var b [4]byte
	if _, err := io.ReadFull(w.r, b[:]); err != nil {
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return 0, w.errorf("%s: the file ends here", what)
		}
		return 0, w.errorf("%s: %w", what, err)
	}
	w.offset += 4
	return int32(binary.LittleEndian.Uint32(b[:])), nil
}

func (w *legacyWalk) text(n int32, what string) (string, error) {
	b := make([]byte, n)
	if _, err := io.ReadFull(w.r, b); err != nil {
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return "", w.errorf("%s: the file ends here", what)
		}
		return "", w.errorf("%s: %w", what, err)
	}
	w.offset += int64(n)
	return string(b), nil
}

// readImatrixDat reads the legacy format of llama-imatrix, ik_llama.cpp and
// converters.
func readImatrixDat(ctx context.Context, src *source, opt Options) (*stats.Evidence, error) {
	file, _, err := src.file()
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	f := &imatrixFile{path: src.path, file: file, perCall: true}
	w := &legacyWalk{size: info.Size(), r: bufio.NewReaderSize(io.NewSectionReader(file, 0, info.Size()), 64<<10), entry: "entries"}
	record, err := f.walkLegacy(w)
	if err != nil {
		return nil, err
	}
	experts := f.expertsByRouter()
	if opt.Experts > 0 {
		experts = func(*entry) uint64 { return uint64(opt.Experts) }
	}
	if err := f.scan(ctx, experts); err != nil {
		return nil, err
	}
	ev, err := f.evidence()
	if err != nil {
		return nil, err
	}
	ev.Datasets, ev.Inputs = record.Datasets, []stats.Input{{Imatrix: record}}
	finishLegacy(ev, f.legacy, f.separateExperts() > 0)
	return ev, finishKinds(ev)
}

// walkLegacy reads everything but the values, and checks that the entries and
// the trailer make up the whole file. It returns what llama-quantize records.
func (f *imatrixFile) walkLegacy(w *legacyWalk) (*stats.Imatrix, error) {
	n, err := w.int32("number")
	if err != nil {
		return nil, err
	}
	// An entry takes at least 17 bytes: three numbers, a letter, a value.
	if n < 1 || int64(n) > w.size/17 {
		return nil, w.errorf("%d entries in %d bytes", n, w.size)
	}
	seen := make(map[string]bool, n)
	for i := range n {
		w.entry = fmt.Sprintf("entry %d", i)
		length, err := w.int32("length of the name")
		if err != nil {
			return nil, err
		}
		// What a converter that misjudges fused tensors writes parses up to
		// here and then turns into nonsense.
		if length < 1 || length > maxLegacyNameBytes {
			return nil, w.errorf("inconsistent entry length: a name of %d bytes", length)
		}
		name, err := w.text(length, "name")
		if err != nil {
			return nil, err
		}
		if !plausibleName(name) {
			return nil, w.errorf("inconsistent entry length: %q is not a tensor name", name)
		}
		w.entry = "entry " + name
		if seen[name] {
			return nil, w.errorf("duplicate entry")
		}
		seen[name] = true
		e := entry{name: name}
		e.layer, e.projection, e.expert = parseEntryName(name)
		e.countsOffset = w.offset
		calls, err := w.int32("calls")
		if err != nil {
			return nil, err
		}
		values, err := w.int32("number of values")
		if err != nil {
			return nil, err
		}
		if calls < 0 || values < 1 {
			return nil, w.errorf("inconsistent entry length: %d calls, %d values", calls, values)
		}
		e.counts, e.values, e.offsetBytes = []float64{float64(calls)}, uint64(values), w.offset
		bytes := 4 * int64(values)
		if bytes > w.size-w.offset {
			return nil, w.errorf("%d values take %d bytes, the file has %d left", values, bytes, w.size-w.offset)
		}
		for left := bytes; left > 0; {
			step := min(left, 1<<30)
			if _, err := w.r.Discard(int(step)); err != nil {
				return nil, w.errorf("values: %w", err)
			}
			left -= step
		}
		w.offset += bytes
		f.entries = append(f.entries, e)
	}
	record := &stats.Imatrix{Entries: uint64(n), Rows: f.largestCount() * stats.ImatrixChunkRows}
	if w.offset == w.size {
		return record, nil
	}
	w.entry = "trailer"
	chunks, err := w.int32("last call")
	if err != nil {
		return nil, err
	}
	record.Chunks = uint64(max(0, chunks))
	if w.offset == w.size {
		return record, nil
	}
	length, err := w.int32("length of the dataset's name")
	if err != nil {
		return nil, err
	}
	if length < 0 || int64(length) != w.size-w.offset {
		return nil, w.errorf("inconsistent entry length: a dataset's name of %d bytes where the file has %d left", length, w.size-w.offset)
	}
	dataset, err := w.text(length, "dataset")
	if dataset != "" {
		record.Datasets = []string{dataset}
	}
	return record, err
}

// legacyVariation is the least coefficient of variation, across experts, of
// the sums of squares of the up projection's input at which they are taken to
// carry the experts' traffic. Writers that divide by each expert's own count
// leave a few percent: the input is normalised, so every token weighs alike.
const legacyVariation = 0.15

// A legacyLayer is what a layer of the legacy format may tell of traffic.
type legacyLayer struct {
	weights, gateUp, down []float64
	variation             float64 // squared coefficient of variation of weights, those of unseen experts left out
}

// legacyTraffic looks at a layer of the legacy format. calls is set where each expert
// has a tensor of its own: how often an expert was called then tells how often
// it was used. Else the sums of the up projection's input may.
func (g *layerEntries) legacyTraffic(calls []float64, unseen []int) legacyLayer {
	skip := map[int]bool{}
	for _, e := range unseen {
		skip[e] = true
	}
	take := func(st *stack) []float64 {
		list := make([]float64, len(st.slices))
		for e, s := range st.slices {
			if !skip[e] {
				list[e] = s.energy
			}
		}
		return list
	}
	var ll legacyLayer
	if calls != nil {
		ll.weights = append(ll.weights, calls...)
		ll.variation = variation(ll.weights, nil)
		return ll
	}
	for _, p := range expertProjections[:3] {
		if st := &g.stacks[p]; st.slices != nil {
			ll.weights, ll.gateUp = take(st), take(st)
			break
		}
	}
	if st := &g.stacks[down]; st.slices != nil && len(st.slices) == len(ll.weights) {
		ll.down = take(st)
	}
	ll.variation = variation(ll.weights, skip)
	return ll
}

// variation returns the squared coefficient of variation of the values that
// are not left out, 0 where they are all 0 or there are none.
func variation(values []float64, skip map[int]bool) float64 {
	n, sum := 0, 0.0
	for e, v := range values {
		if !skip[e] {
			n++
			sum += v
		}
	}
	if sum == 0 {
		return 0
	}
	mean, squares := sum/float64(n), 0.0
	for e, v := range values {
		if !skip[e] {
			d := v/mean - 1
			squares += float64(d * d)
		}
	}
	return squares / float64(n)
}

// finishLegacy decides, for the file as a whole, whether its writer left
// traffic in it, and sets it: the layers run parallel to ev.Layers.
func finishLegacy(ev *stats.Evidence, layers []legacyLayer, separate bool) {
	spread := make([]float64, len(layers))
	for i, l := range layers {
		spread[i] = l.variation
	}
	slices.Sort(spread)
	least := legacyVariation * legacyVariation
	if separate {
		least = math.SmallestNonzeroFloat64 // calls differ, or tell nothing
	}
	if len(spread) == 0 || spread[len(spread)/2] < least {
		return
	}
	ev.Kind = stats.KindRelative
	for i, l := range layers {
		ev.Layers[i].Weights, ev.Layers[i].GateUpEnergy, ev.Layers[i].DownEnergy = l.weights, l.gateUp, l.down
	}
	ev.Find(stats.CodeRelativeCounts, "", "a legacy imatrix holds no token counts: traffic is estimated from its sums, with low confidence")
}
