package llamaquantize

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/planner/manifest"
	"github.com/ggufplan/ggufplan/stats"
)

// quantizationVersion is GGML_QNT_VERSION.
const quantizationVersion = 2

// A Record is what llama-quantize writes into its output about itself.
type Record struct {
	FileType uint32 // general.file_type
	Imatrix  *ImatrixRecord
}

// An ImatrixRecord is what llama-quantize writes of an importance matrix.
type ImatrixRecord struct {
	File    string
	Dataset *string // the first; nil where there is none
	Entries uint32
	Chunks  uint32 // 0 is not written
}

// RecordOf returns what llama-quantize records of the importance matrix that
// export's command line gives it: of several inputs, of what llama-imatrix
// merges them into. It is nil where no input is an importance matrix.
func RecordOf(ev *stats.Evidence) *ImatrixRecord {
	if ev == nil {
		return nil
	}
	var inputs []manifest.Input
	r := &ImatrixRecord{Entries: uint32(len(ev.Entries))}
	var chunks, rows uint64
	for _, in := range ev.Inputs {
		inputs = append(inputs, manifest.Input{Name: in.Name, Format: in.Format})
		if in.Imatrix == nil {
			continue
		}
		if r.Dataset == nil && len(in.Imatrix.Datasets) > 0 {
			r.Dataset = &in.Imatrix.Datasets[0]
		}
		r.Entries = max(r.Entries, uint32(in.Imatrix.Entries))
		chunks += in.Imatrix.Chunks
		rows += in.Imatrix.Rows
	}
	var merge []string
	if r.File, merge = Imatrix(inputs); r.File == "" {
		return nil
	}
	if len(merge) > 1 {
		chunks = rows / stats.ImatrixChunkRows
	}
	r.Chunks = uint32(chunks)
	return r
}

// Metadata returns the metadata of the output that llama-quantize writes of
// the model, encoded, and how many keys it has: those of the source in their
// order, and behind them those that it sets. in is the model's first file.
func Metadata(m *ggufio.Model, in io.ReaderAt, r Record) (encoded []byte, keys uint64, err error) {
	type set struct {
		key   string
		value []byte
	}
	u32 := func(key string, v uint32) set {
		return set{key, binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, uint32(ggufio.ValueUint32)), v)}
	}
	text := func(key, v string) set {
		v = v[:stringBytes(v)-8]
		b := binary.LittleEndian.AppendUint32(nil, uint32(ggufio.ValueString))
		return set{key, AppendString(b, v)}
	}
	sets := []set{u32("general.quantization_version", quantizationVersion), u32("general.file_type", r.FileType)}
	if im := r.Imatrix; im != nil {
		sets = append(sets, text("quantize.imatrix.file", im.File))
		if im.Dataset != nil {
			sets = append(sets, text("quantize.imatrix.dataset", *im.Dataset))
		}
		sets = append(sets, u32("quantize.imatrix.entries_count", im.Entries))
		if im.Chunks > 0 {
			sets = append(sets, u32("quantize.imatrix.chunks_count", im.Chunks))
		}
	}
	var written []writtenKey
	for _, s := range sets {
		written = append(written, writtenKey{key: s.key})
	}
	for i := range m.Metadata.Pairs {
		p := &m.Metadata.Pairs[i]
		if p.File != 0 || replaced(p.Key, written) {
			continue
		}
		at := len(encoded)
		encoded = append(encoded, make([]byte, p.SizeBytes)...)
		if _, err := in.ReadAt(encoded[at:], int64(p.OffsetBytes)); err != nil {
			return nil, 0, fmt.Errorf("%s: byte %d: %w", m.Files[0].Name, p.OffsetBytes, err)
		}
		if p.ZeroTailBytes > 0 {
			encoded = append(encoded[:at], withoutTails(encoded[at:], p)...)
		}
		keys++
	}
	for _, s := range sets {
		encoded = append(AppendString(encoded, s.key), s.value...)
		keys++
	}
	return encoded, keys, nil
}

// AppendString appends a string as GGUF has it.
func AppendString(b []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint64(b, uint64(len(s))), s...)
}

// withoutTails returns an encoded pair whose strings end before their first
// zero byte.
func withoutTails(pair []byte, p *ggufio.Pair) []byte {
	var out []byte
	take := func() {
		n := binary.LittleEndian.Uint64(pair)
		s, _, _ := strings.Cut(string(pair[8:8+n]), "\x00")
		out, pair = AppendString(out, s), pair[8+n:]
	}
	move := func(n int) { out, pair = append(out, pair[:n]...), pair[n:] }
	take() // the key
	move(4)
	switch {
	case p.Type == ggufio.ValueString:
		take()
	case p.Type == ggufio.ValueArray && p.ElementType == ggufio.ValueString:
		move(4 + 8)
		for range p.Length {
			take()
		}
	}
	return append(out, pair...)
}
