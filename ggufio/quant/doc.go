// Package quant knows GGML's tensor types: their geometry, their decoding and
// their encoding, as pure functions on slices.
//
// [Lookup] and [ByName] give a type's [Format], and its [BlockLayout] the
// size of a tensor. [Decode] gives the bits that llama.cpp v0.5.0 gives. An
// [Encoder] writes rows, with an importance per column where there is one, and
// leaves an error like that of ggml_quantize_chunk. On real weights that is at
// most 2 % more, and for the IQ2 and IQ3 types, and those for which GGML searches
// nothing, at most 2 % less. Its bytes are its own.
// [CanDecode], [CanEncode] and [EncodeNeedsWeights] say what is there for a
// type; [Encoder] lists what each costs. A type is added to the table of formats
// (table.go) and to that of codecs (codec.go).
//
// # Determinism
//
// Results have the same bits on every machine: sums have a fixed order, and no
// product is fused with an addition. Where the processor has AVX2, assembly
// does what the Go code does, in the same order; the build tag purego leaves
// it out.
//
// # Scope
//
// Rows are little-endian, as GGUF files are. F64, the integer types, Q8_1 and
// Q8_K are sized but neither decoded nor encoded. The package reads no files.
package quant
