// Package planner decides which quantization type each tensor of a model gets.
//
// [Solve] turns a [Problem] (a model's headers, what is known about its
// experts' traffic, and a [Policy]) into a [Plan]: a type, a size and a reason
// for every tensor, and for every expert of it. [Plan.Manifest] is the record
// of a plan. The way there:
//
//	problem    what was asked, and of which model
//	frame      what no policy decides: kept tensors, pins, the base, MoE layers
//	cells      each open tensor with its candidates: bytes and damage of each,
//	           which weighing.go makes of errors, traffic and sensitivities
//	groups     cells as a multiple-choice knapsack; split plans have one a
//	           tensor's expert, of the few types that a tensor's experts share
//	knapsack   solved exactly by a core of the problem (Pisinger 1995) between
//	           bounds of its Lagrangian relaxation (Sinha and Zoltners 1979)
//	assignment one type per tensor, and one per expert within the same bytes
//	verdicts   the types as chosen, which shape fallbacks and the rule that no
//	           tensor grows turn into outcomes
//
// A plan holds two answers side by side: the fused plan gives each tensor one
// type, and stock llama.cpp runs it; the split plan gives each expert one.
//
// Sizes are exact integers in bytes, named so. The same problem gives the same
// plan on every machine: no file is opened, no time or random number read.
package planner
