// Package frequency is the rule that sorts experts into tiers by how often they
// are used, and an [Allocator] that keeps it for a running system: record which
// experts the router chose, recompute, ask which tier and type an expert has.
//
// Counts are activations: tokens routed to an expert. An expert is hot from
// ceil(hot percentile x largest count) on, cold below floor(cold percentile x
// largest count), warm between; one that was never used is cold. A "percentile"
// is a fraction of the largest count, held exactly as it was written
// ([Fraction]), so that no threshold depends on binary rounding.
//
// The package imports no more than the table of types: [Type] is GGML's or one
// that the user declared.
package frequency
