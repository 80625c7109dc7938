// Package planner decides which quantization type each tensor of a model gets.
//
// [Solve] turns a [Problem] (a model's headers, what is known about its
// experts' traffic, and a [Policy]) into a [Plan]: a type, a size and a reason
// for every tensor, and for every expert of it. [Plan.Manifest] is the record
// of a plan. [Allocator] is the frequency policy for a running system.
//
// # Two plans
//
// A GGUF tensor has one type, so a plan holds two answers side by side. The
// fused plan gives each tensor one type; stock llama.cpp runs it. The split
// plan gives each expert of a fused tensor a type of its own. Each has its own
// totals. Where a file has one tensor per expert the two are the same.
//
// # Units
//
// Sizes are exact integers in bytes, named so. Counts are tokens routed to an
// expert. Fractions that the user wrote are exact decimals ([Fraction]), so
// that a threshold never depends on binary rounding.
//
// # Scope
//
// Everything here is a pure function of its input: no file is opened, no time
// or random number read, and the same problem gives the same plan on every
// machine. Writing model files is left to llama-quantize.
package planner
