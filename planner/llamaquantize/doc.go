// Package llamaquantize knows what llama-quantize of llama.cpp v0.5.0 does,
// without running it: which tensors it quantizes ([Quantizable]), the type that
// a file type's mix gives each ([Mix]), the size of the header that it writes
// ([HeaderBytes]), and which statistics it takes as an importance matrix
// ([Imatrix]). It is the one place to change for another version of
// llama-quantize; new types are quant's, the lines that run tiers llamapatch's,
// what a run takes memory's, and what llama-perplexity prints probe's.
//
// Sizes are exact, in bytes. The rules were read from its source and checked
// against its dry runs and the files it writes (testdata/llama-quantize).
package llamaquantize
