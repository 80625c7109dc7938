package ggufio

// Bounds on what a header may declare. Every count and length is also compared
// with the bytes that are left in the file before anything is allocated; these
// constants stop what a large sparse file would let through.
const (
	// maxHeaderBytes bounds metadata and tensor infos together. Headers are
	// mostly vocabularies; the largest in use, of 260 000 tokens, is about
	// 16 MiB.
	maxHeaderBytes = 128 << 20

	// maxPairs bounds metadata keys; models have some dozens.
	maxPairs = 1 << 16

	// minPairBytes is the smallest pair: key length 8, key 1, type 4, value 1
	// is 14, less one that no writer has been seen to need.
	minPairBytes = 13

	// maxTensors bounds the tensors of a model. The largest that is known has
	// under 70 000: 60 blocks of 384 experts in tensors of their own.
	maxTensors = 200_000

	// minTensorBytes is the smallest tensor info: name length 8, name 1,
	// dimension count 4, one dimension 8, type 4, offset 8.
	minTensorBytes = 33

	// maxStringBytes bounds a key and a string value; llama.cpp's bound is
	// 1 GiB, chat templates are some 100 KiB, and GGUF's own bound on keys,
	// which llama.cpp does not ask for, is 65535.
	maxStringBytes = 64 << 20

	// maxParserKeyBytes is the longest key that gguf-parser-go is given.
	maxParserKeyBytes = 65535

	// maxArrayItems bounds an array; the largest in use are vocabularies and
	// merges, under 2^20.
	maxArrayItems = 1 << 26

	// maxAlignmentBytes bounds general.alignment; more would put tensor data
	// far behind a small header.
	maxAlignmentBytes = 1 << 20

	// maxNameBytes is GGML_MAX_NAME less the final NUL.
	maxNameBytes = 63

	// maxDimensions is GGML_MAX_DIMS.
	maxDimensions = 4

	// maxTotal bounds the weights and the bytes of a tensor and of a model, so
	// that sums of a few such numbers do not wrap.
	maxTotal = 1 << 62

	// maxBlocks is LLAMA_MAX_LAYERS.
	maxBlocks = 512

	// maxExperts bounds the routed experts of a layer; LLAMA_MAX_EXPERTS is
	// 1024 in llama.cpp v0.5.0.
	maxExperts = 1 << 16

	// Of values, only what a lookup may want is kept in memory: no
	// vocabularies, and no more of anything than these.
	maxKeptStringBytes = 1 << 20
	maxKeptItems       = 4096
	maxKeptBytes       = 16 << 20
)
