// Package ggufio reads GGUF model files, whole or split into shards.
//
// It answers what metadata a model carries, where each tensor lies, and which
// bytes hold expert E of layer L. [Open] reads headers alone; [Data] reads
// weights, and no more of them than is asked for.
//
// # Units and axes
//
// Sizes and offsets are in bytes and named so (SizeBytes, OffsetBytes); a
// tensor's offset counts from the start of its file. Shapes follow the file:
// Shape[0] is the contiguous axis, so a fused expert tensor is [weights per
// row, rows, experts], the reverse of what NumPy shows.
//
// # Untrusted input
//
// Every header is scanned twice: first by this package, which compares counts
// and lengths with the file's size and with the bounds in limits.go before
// anything is allocated, then by gguf-parser-go. The two must agree on every
// tensor's name, type, shape and bytes. A file that breaks the format gives a
// [*FormatError] that names file, byte and field; contents never panic.
//
// # Scope
//
// GGUF versions 2 and 3, little-endian; big-endian files are refused with
// [ErrBigEndian]. Tensors must lie one after the other, as llama.cpp demands.
// Files with tensor types that only ik_llama.cpp has are unknown to
// gguf-parser-go and are held to this package's scan alone, which there allows
// gaps and any order, but no overlap. The package neither writes models nor
// downloads them, nor guesses the type of a metadata key.
package ggufio
