// Package export spells a plan for the programs and people that carry it out
// or judge it.
//
// [LlamaQuantize] gives llama.cpp's llama-quantize one rule for every tensor
// whose type it may change, and the command line that goes with them.
// [IKLlama] does the same for ik_llama.cpp. Both refuse a plan that their
// target cannot carry out, with an [*UnfitError] that names the tensor, rather
// than approximate it. Both run the fused plan; what the split plan would have
// given single experts is lost to them, and listed as [Loss].
//
// [CSV] lists every tensor; [Markdown] and [HTML] sum the plan up for review.
//
// The package sees manifests alone: names in them come from strangers, so
// every one is escaped for the language it is written into.
package export
