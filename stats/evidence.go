package stats

import (
	"crypto/sha256"
	"fmt"
	"io"
)

// A Kind says what a source's numbers mean, and so what may be done with them.
type Kind string

// The kinds, from most to least informative.
const (
	KindExact    Kind = "exact"    // token counts: they add
	KindScaled   Kind = "scaled"   // counts times an unknown whole number: ratios only
	KindRelative Kind = "relative" // weights without counts
	KindRank     Kind = "rank"     // an order only
	KindNone     Kind = "none"     // nothing about frequency (mean squares may still be there)
)

// Evidence is what is known about the experts of a model: one source's
// content, or several merged.
type Evidence struct {
	Inputs   []Input
	Kind     Kind
	Layers   []Layer // ascending by Layer.Index
	Findings []Finding
	Datasets []string

	// Facts about the model that the source states, 0 where it does not.
	Architecture string
	BlockCount   int
	ExpertCount  int
	TopK         int
	NextN        *int // blocks of multi-token prediction, the last of BlockCount

	// Shared holds what is known about always-active shared experts: Kind
	// [LayerShared], Counts one entry, ascending by Index. Policies do not use it.
	Shared []Layer

	// LayerAxis says what Layer.Index counts before the evidence is mapped
	// onto a model: absolute blocks, or rows of unknown meaning.
	LayerAxis LayerAxis
	// Rows is the length of the source's layer axis when LayerAxis is
	// AxisRows, rows of zeros included; 0 otherwise.
	Rows int

	// Match says how well an input that names tensors fits the model it was
	// fitted onto; nil before Fit, and for inputs that name none.
	Match *Match

	// Columns holds the column mean squares, nil where the source has none.
	Columns Columns

	// OpenExperts: the layers are as wide as the ids that were seen, or as a
	// flag of the tool that wrote them; the model may have more experts, or
	// fewer if those beyond were never used.
	OpenExperts bool

	Chunks  uint64               // ubatches at most that each may have lost some rows of the router, 0 where unknown
	Entries map[string]EntrySize // of an imatrix: what it holds by tensor name
}

// Close releases the files that Columns reads.
func (ev *Evidence) Close() error {
	if c, ok := ev.Columns.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// Phase is the phase that all inputs share, "" where they differ.
func (ev *Evidence) Phase() string {
	if len(ev.Inputs) == 0 {
		return ""
	}
	phase := ev.Inputs[0].Phase
	for _, in := range ev.Inputs {
		if in.Phase != phase {
			return ""
		}
	}
	return phase
}

// A Match counts the entries of an imatrix that name a tensor of the model.
type Match struct {
	Entries int `json:"entries"` // of the file
	Named   int `json:"named"`   // of them, those whose name and size are a tensor's of the model
}

// An EntrySize is the size of one imatrix entry.
type EntrySize struct {
	Values uint64 // column sums
	Counts uint64 // row counts: 1, or one per expert
}

// A LayerAxis says what a source's layer numbers count.
type LayerAxis string

const (
	AxisBlocks LayerAxis = "blocks" // absolute GGUF block numbers
	AxisRows   LayerAxis = "rows"   // row numbers, to be mapped by a model
)

// The formats of importance matrices, as [Input.Format] spells them.
const (
	FormatImatrixGGUF = "imatrix-gguf"
	FormatImatrixDat  = "imatrix-dat" // of llama.cpp before August 2025
)

// A FileID tells a file from others by the digest of all its bytes. Names are
// for people.
type FileID struct {
	Name      string // base name
	SizeBytes uint64 // 0 where only the digest is recorded
	SHA256    string // lower-case hex
}

// Identify returns the identity of a file's content.
func Identify(name string, content []byte) FileID {
	return FileID{name, uint64(len(content)), fmt.Sprintf("%x", sha256.Sum256(content))}
}

// An Input is a file that evidence came from.
type Input struct {
	FileID
	Format string // such as [FormatImatrixGGUF]
	Kind   Kind
	Phase  string // "prefill", "decode", or "" where unknown

	// Imatrix is what an imatrix GGUF file says of itself; nil for other
	// formats.
	Imatrix *Imatrix
}

// FileIDs identifies the files that inputs came from.
func FileIDs(inputs []Input) []FileID {
	ids := make([]FileID, len(inputs))
	for i, in := range inputs {
		ids[i] = in.FileID
	}
	return ids
}

// CompareFiles tells two lists of files apart by their digests, each file as
// often as it is listed: it returns the first that got lacks and the first that
// want lacks, nil for none.
func CompareFiles(want, got []FileID) (missing, extra *FileID) {
	left := map[string]int{}
	for _, in := range want {
		left[in.SHA256]++
	}
	for i, in := range got {
		if left[in.SHA256]--; left[in.SHA256] < 0 && extra == nil {
			extra = &got[i]
		}
	}
	for i, in := range want {
		if left[in.SHA256] > 0 {
			return &want[i], extra
		}
	}
	return nil, extra
}

// An Imatrix holds what llama-quantize records of an importance matrix in its
// output.
type Imatrix struct {
	Datasets []string // imatrix.datasets
	Entries  uint64   // tensors with sums and counts
	Chunks   uint64   // imatrix.chunk_count
	Rows     uint64   // the largest count of an entry
}

// ImatrixChunkRows is how many rows llama-imatrix takes a chunk for when it
// merges files: a call of the legacy format becomes that many.
const ImatrixChunkRows = 512

// A Layer is what is known about one layer's routed experts. Slices have one
// entry per expert, or are nil where the source lacks the signal; nil and 0
// differ.
type Layer struct {
	Index  int
	Kind   LayerKind
	TopK   int     // experts per token, 0 where unknown
	Tokens *uint64 // tokens through the layer, nil where unknown

	// TokensTopK is the TopK that Tokens were derived from, 0 where the source
	// counted them. Derived tokens are rounded down: they prove nothing.
	TokensTopK int

	Counts  []uint64  // kinds exact and scaled
	Weights []float64 // kind relative: unit-free traffic; kind rank: E-1 for the hottest down to 0

	GateUpEnergy []float64 // sum of squares of the gate and up input over tokens and columns
	DownEnergy   []float64 // the same of the down input

	// The part of the energies that the columns' means make: the sum over
	// columns of (sum of the input)^2 / tokens.
	GateUpMeanEnergy []float64
	DownMeanEnergy   []float64

	GateWeightSum   []float64
	GateWeightSqSum []float64
	GateWeightNorm  string // "raw", "topk_normalized" or "scaled"; "" where unknown
	OutNormSum      []float64
	GatedOutNormSum []float64
	MaxOut          []float64

	Blocks       *Blocks // variance over blocks of tokens, nil without block records
	UnseenKnown  []int   // experts that a source without counts shows as unseen
	SuperExperts []int   // experts marked by the super-expert rule
}

// Blocks summarises how counts vary over consecutive blocks of tokens.
type Blocks struct {
	N          int         // blocks
	Deff       float64     // median design effect over experts with a count
	HalfCounts [2][]uint64 // counts of the first and second half, for the stability test; nil where not kept

	Moments *BlockMoments // what Deff came from, nil where only it is known
}

// Columns gives the mean square of the input columns of a weight.
type Columns interface {
	// MeanSquares fills dst (one entry per column, ne[0]) with the mean square
	// of each input column of an expert of a tensor, and reports whether the
	// source has them: false where there is no entry or the expert's count is 0.
	// expert is 0 for a tensor that is not a fused expert tensor.
	MeanSquares(tensor string, expert int, dst []float64) (bool, error)
	// Complete reports whether there is an entry of columns × matrices values
	// under the tensor's own name, which is what llama-quantize needs.
	Complete(tensor string, columns, matrices uint64) bool
}

// RowColumns are Columns that keep sums and counts apart, so that several can
// be merged as llama-imatrix does.
type RowColumns interface {
	Columns
	// RowsPerCount is how many rows a count stands for: 1, or
	// [ImatrixChunkRows] in the legacy format, which counts calls.
	RowsPerCount() float32
	// Sums fills dst with the column sums of squares of one matrix of an entry
	// and returns its count. It reports false where the entry lacks that matrix.
	Sums(tensor string, matrix int, dst []float64) (count float64, ok bool, err error)
}
