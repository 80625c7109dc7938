package llamaquantize

import (
	"slices"
	"strings"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/stats"
)

// OutputAlignment is what llama-quantize pads the header and tensors to,
// whatever general.alignment says.
const OutputAlignment = 32

// Keys of the output file that llama-quantize drops or writes anew.
var (
	droppedKeys = []string{"split.no", "split.count", "split.tensors.count"}
	writtenKeys = []writtenKey{
		{"general.quantization_version", 4}, // uint32
		{"general.file_type", 4},            // uint32
	}
)

// A writtenKey is a metadata key of the output and the size of its value.
type writtenKey struct {
	key        string
	valueBytes uint64
}

// HeaderBytes returns the size of the header, padding included, of the file
// that llama-quantize v0.5.0 writes of the model as export's command line runs
// it: the source's metadata without the keys of a split, strings cut at their
// first zero byte, with the file type and quantization version, and with what
// it records of the importance matrix where ev has one (nil: none). Types do
// not change it.
func HeaderBytes(m *ggufio.Model, ev *stats.Evidence) uint64 {
	return ggufio.Padded(UnpaddedHeaderBytes(m, ev), OutputAlignment)
}

// UnpaddedHeaderBytes is HeaderBytes without the padding.
func UnpaddedHeaderBytes(m *ggufio.Model, ev *stats.Evidence) uint64 {
	written := append(writtenKeys[:len(writtenKeys):len(writtenKeys)], imatrixKeys(ev)...)
	size := uint64(4 + 4 + 8 + 8) // magic, version, tensor count, key count
	for _, k := range written {
		size += 8 + uint64(len(k.key)) + 4 + k.valueBytes
	}
	for i := range m.Metadata.Pairs {
		if pair := &m.Metadata.Pairs[i]; pair.File == 0 && !replaced(pair.Key, written) {
			size += pair.SizeBytes - pair.ZeroTailBytes
		}
	}
	for i := range m.Tensors {
		t := &m.Tensors[i]
		size += TensorInfoBytes(t.Name, quant.Dimensions(t.Shape))
	}
	return size
}

// TensorInfoBytes is what a header takes to say where a tensor is: its name,
// number of axes, axes, type and offset.
func TensorInfoBytes(name string, dimensions int) uint64 {
	return 8 + uint64(len(name)) + 4 + 8*uint64(dimensions) + 4 + 8
}

func replaced(key string, written []writtenKey) bool {
	return slices.Contains(droppedKeys, key) || slices.ContainsFunc(written, func(k writtenKey) bool { return k.key == key })
}

// HasImatrix reports whether export's command line gives llama-quantize an
// importance matrix.
func HasImatrix(ev *stats.Evidence) bool { return imatrixKeys(ev) != nil }

// imatrixKeys returns the keys and sizes of what llama-quantize records of an
// importance matrix.
func imatrixKeys(ev *stats.Evidence) []writtenKey {
	r := RecordOf(ev)
	if r == nil {
		return nil
	}
	keys := []writtenKey{
		{"quantize.imatrix.file", stringBytes(r.File)},
		{"quantize.imatrix.entries_count", 4}, // uint32
	}
	if r.Dataset != nil {
		keys = append(keys, writtenKey{"quantize.imatrix.dataset", stringBytes(*r.Dataset)})
	}
	if r.Chunks > 0 {
		keys = append(keys, writtenKey{"quantize.imatrix.chunks_count", 4}) // uint32
	}
	return keys
}

// stringBytes returns the size of a string that llama-quantize passes through
// a buffer of 128 bytes, its end marked by a zero byte.
func stringBytes(s string) uint64 {
	if end := strings.IndexByte(s, 0); end >= 0 {
		s = s[:end]
	}
	return 8 + uint64(min(len(s), 127))
}
