// Package probe finds out how much each part of a model matters, by running
// llama-perplexity on copies of it in which a group of tensors is quantized.
//
// [New] settles what is to be run: a run for each group, a few mixtures of
// types, and one whole file. [Setup.Execute] runs them, [Setup.Script] writes
// the commands for somebody else to run, and [Setup.Read] takes their output;
// what they found becomes a [measure.Probe]. [ReadLog] reads one output.
//
// # Runs
//
// One copy lies on the disk, and between runs only the group's tensors are
// written anew. Where what runs start from is F16, BF16 or F32, the copy holds
// weights that went through the type and back; else it is a set of shards, one
// for each group, and the group's holds the type itself.
//
// Base logits are of the same file, program and batch size: a control run of
// the base must show nothing, or what it shows is taken off. The text is used
// in pieces, with base logits of their own, until a run's standard error is
// below a tenth of what it shows. The first runs come before the model's errors
// are measured, since they say how long the others take.
//
// # State
//
// Finished runs, the piece at hand and what the copy holds are kept in
// OUT.partial and files beside it, so that a killed probe goes on.
//
// # Scope
//
// This is the one package that starts processes, and it starts no shell.
package probe
