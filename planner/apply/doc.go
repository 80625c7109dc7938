// Package apply writes the planned model: the fused plan's file as
// llama-quantize v0.5.0 would write it, its header the same to the byte.
//
// [Fused] lays the output out: its files, their headers, and for every tensor
// its type and where its weights come from. A [Layout] can be made by others
// too: a tensor may gather any experts of a source tensor, or hold given
// bytes; [Typed] lays out a model in given types. [Layout.Write] fills the files
// and reads them back. [Rewrite] changes tensors of a file in place.
//
// # State
//
// A file is written as NAME.partial. Behind its last byte lies a table with a
// checksum for every piece of the work that is done, so that a killed run goes
// on where it was: what the table vouches for is read back first, and done
// again where it does not agree. The bytes do not depend on interruptions or
// the number of workers.
//
// # Memory
//
// A worker holds [pieceWeights] weights at once, whatever the model.
package apply
