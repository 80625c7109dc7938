// Package quant knows GGML's tensor types: their geometry, their decoding and
// their encoding, as pure functions on slices.
//
// [Lookup] and [ByName] give a type's [Format], and its [BlockLayout] the
// size of a tensor. [Decode] gives the bits that llama.cpp v0.5.0 gives. An
// [Encoder] writes rows, with an importance per column where there is one, and
// leaves an error like that of ggml_quantize_chunk. On real weights that is at
// most 2 % more, and for the IQ2 and IQ3 types, and those for which GGML searches
// nothing, at most 2 % less. Its bytes are its own.
// [CanDecode], [CanEncode] and [EncodeNeedsWeights] say what is there for a type.
//
// # Determinism
//
// Results have the same bits on every machine: sums have a fixed order, and no
// product is fused with an addition. Where the processor has AVX2, assembly
// does what the Go code does, in the same order; the build tag purego leaves
// it out.
//
// # Types
//
// Error is the squared error over the squared weights, both weighted by
// importance, on 48 rows of the experts of testdata/bytemoe-2x8 with its
// imatrix; wider models differ by little. Speed is that of encoding with
// importance, as a multiple of ggml_quantize_chunk's on one x86-64 core; both
// ways are in BenchmarkEncode and BenchmarkDecode, in turns with the library. The
// table is written by go test ./ggufio/quant -run DocTable -update.
//
//	type     bits    error     speed
//	Q4_0     4.5     0.0053    1.5
//	Q4_1     5       0.0032    4.4
//	Q5_0     5.5     0.0013    1.8
//	Q5_1     6       0.00073   4.5
//	Q8_0     8.5     2.7e-05   2
//	Q2_K     2.625   0.045     3.2
//	Q3_K     3.438   0.015     1.1
//	Q4_K     4.5     0.0033    4.8
//	Q5_K     5.5     0.00085   4.6
//	Q6_K     6.562   0.00021   1.5
//	IQ2_XXS  2.062   0.079     4.3
//	IQ2_XS   2.312   0.055     5.8
//	IQ3_XXS  3.062   0.018     3.2
//	IQ1_S    1.562   0.16      1.4
//	IQ4_NL   4.5     0.0042    4
//	IQ3_S    3.438   0.012     3.4
//	IQ2_S    2.562   0.043     2.4
//	IQ4_XS   4.25    0.0043    2.7
//	IQ1_M    1.75    0.12      1.4
//	TQ1_0    1.688   0.62      2.4
//	TQ2_0    2.062   0.62      7.8
//	MXFP4    4.25    0.014     4.7
//	NVFP4    4.5     0.0087    9.9
//	Q1_0     1.125   0.36      1.8
//	Q2_0     2.25    0.5       4.8
//
// # Scope
//
// Rows are little-endian, as GGUF files are. F64, the integer types, Q8_1 and
// Q8_K are sized but neither decoded nor encoded. The package reads no files.
package quant
