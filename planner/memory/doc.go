// Package memory says what a run of a model takes on a graphics card and in
// the machine's RAM: weights, key-value cache, state and compute buffers.
//
// The engine is llama.cpp v0.5.0 with one graphics card under CUDA. Weights by
// device follow its loader's rules (llama-model.cpp load_tensors, -ngl,
// --n-cpu-moe), caches and states its llama_kv_cache and llama_memory_recurrent,
// and both are exact: tests hold them to what llama.cpp logs when it loads a
// model on a CPU, on a device of ggml-rpc, and on one with CUDA's rules for
// buffers. Compute buffers depend on the order in which it walks its graph and
// on what the card takes over: [Estimate] holds an upper estimate of them.
//
// What a header does not decide is said, not guessed: an architecture whose
// cache this package does not know has an [UnknownError] and its weights.
//
// Sizes are in bytes. The package opens no files; numbers from a header are
// checked before they are multiplied.
package memory
