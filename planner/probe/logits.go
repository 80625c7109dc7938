package probe

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/ggufplan/ggufplan/ggufio"
)

const (
	logitsMagic       = "_logits_"
	logitsHeaderBytes = 20 // the magic, and context, vocabulary and chunks as 32 bits each
)

// Logits are what a file of base logits says of itself.
type Logits struct {
	ContextTokens, Vocabulary, Chunks uint64

	path string
}

// OpenLogits reads the head of a file of base logits, and holds its size
// against it.
func OpenLogits(path string) (*Logits, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	head := make([]byte, logitsHeaderBytes)
	if n, err := io.ReadFull(f, head); err != nil || string(head[:8]) != logitsMagic {
		if n >= 8 && string(head[:8]) == logitsMagic {
			return nil, fmt.Errorf("%s: ends in its head: the run that wrote it did not end well", path)
		}
		return nil, fmt.Errorf("%s: is not a file of base logits of llama-perplexity", path)
	}
	u32 := func(at int) uint64 { return uint64(binary.LittleEndian.Uint32(head[at:])) }
	l := &Logits{u32(8), u32(12), u32(16), path}
	const most = 1 << 31
	if l.ContextTokens < 3 || l.ContextTokens >= most || l.Vocabulary < 1 || l.Vocabulary >= most || l.Chunks < 1 || l.Chunks >= most ||
		l.Chunks > uint64(info.Size())/l.ContextTokens || l.Vocabulary > uint64(info.Size()) {
		return nil, fmt.Errorf("%s: %d chunks of %d tokens over %d words do not fit into its %d bytes", path, l.Chunks, l.ContextTokens, l.Vocabulary, info.Size())
	}
	if want := LogitsBytes(l.ContextTokens, l.Chunks, l.Vocabulary); uint64(info.Size()) != want {
		return nil, fmt.Errorf("%s: has %d bytes, %d chunks of %d tokens over %d words take %d", path, info.Size(), l.Chunks, l.ContextTokens, l.Vocabulary, want)
	}
	return l, nil
}

// scored returns how many tokens a run against the logits scores.
func (l *Logits) scored() uint64 { return ScoredTokens(l.ContextTokens, l.Chunks) }

// textBytes returns how many bytes of text the tokens stand for, and whether
// the model's vocabulary says so.
func (l *Logits) textBytes(m *ggufio.Model) (uint64, bool, error) {
	length := tokenLengths(m)
	if length == nil {
		return 0, false, nil
	}
	f, err := os.Open(l.path)
	if err != nil {
		return 0, false, err
	}
	defer f.Close()
	if _, err := f.Seek(logitsHeaderBytes, io.SeekStart); err != nil {
		return 0, false, err
	}
	in := bufio.NewReaderSize(f, 64<<10)
	total := uint64(0)
	var token [4]byte
	for range l.ContextTokens * l.Chunks {
		if _, err := io.ReadFull(in, token[:]); err != nil {
			return 0, false, err
		}
		id := binary.LittleEndian.Uint32(token[:])
		if uint64(id) >= uint64(len(length)) {
			return 0, false, nil
		}
		total += length[id]
	}
	return total, true, nil
}

const controlToken = 3 // in tokenizer.ggml.token_type

// tokenLengths returns how many bytes of text each token stands for, nil for a
// kind of vocabulary that does not say.
func tokenLengths(m *ggufio.Model) []uint64 {
	kind, _, err := m.Metadata.String("tokenizer.ggml.model")
	if err != nil || kind != "gpt2" && kind != "llama" {
		return nil
	}
	tokens, ok, err := m.Metadata.Strings("tokenizer.ggml.tokens")
	if err != nil || !ok {
		return nil
	}
	types, _, err := m.Metadata.Uint64s("tokenizer.ggml.token_type")
	if err != nil {
		types = nil
	}
	out := make([]uint64, len(tokens))
	for i, t := range tokens {
		switch {
		case i < len(types) && types[i] == controlToken:
		case kind == "gpt2": // a letter for each byte
			out[i] = uint64(utf8.RuneCountInString(t))
		case len(t) == len("<0x00>") && strings.HasPrefix(t, "<0x"):
			out[i] = 1
		default:
			out[i] = uint64(len(strings.ReplaceAll(t, "▁", " ")))
		}
	}
	return out
}
