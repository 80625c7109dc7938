package llamacpp

import (
	"fmt"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"unsafe"
)

// RunOptions are the parts of llama_model_params and llama_context_params
// that decide how much memory a run takes; the rest keeps its default.
type RunOptions struct {
	ContextTokens int
	Sequences     int    // n_seq_max; 0 stands for 1
	Unified       bool   // one KV cache for all sequences
	BatchTokens   int    // n_ubatch; 0 for the default
	Outputs       int    // n_outputs_max; 0 stands for as many as n_batch
	KeyType       uint32 // GGML type numbers of the cache
	ValueType     uint32
	MapFile       bool // mmap
	Repack        bool // allow the CPU's own layouts of weights
	DryRun        bool // allocate nothing: buffers of weights and caches are then not logged, their sizes are

	// With a card: n_gpu_layers, and how many blocks' routed experts stay on
	// the CPU.
	Card            *Card
	GPULayers       int
	CPUExpertLayers int
}

// A Buffer is a buffer that the log of a load names.
type Buffer struct {
	Device string // "CPU", "CPU_Mapped", "CPU_REPACK", ...
	Kind   string // "model", "KV", "RS", "compute" or "output"
	MiB    string // as printed, two decimals
}

var bufferLine = regexp.MustCompile(`(?m)^\w+: +(\S+) +(model|KV|RS|compute|output) buffer size = +([0-9.]+) MiB`)

// Buffers returns the buffers that a log names, in its order.
func Buffers(log string) []Buffer {
	var list []Buffer
	for _, m := range bufferLine.FindAllStringSubmatch(log, -1) {
		list = append(list, Buffer{m[1], m[2], m[3]})
	}
	return list
}

// MiB prints a number of bytes as llama.cpp logs buffers.
func MiB(sizeBytes uint64) string {
	return strconv.FormatFloat(float64(sizeBytes)/1024/1024, 'f', 2, 64)
}

// LoadLog loads a model and makes a context, and returns what was logged, also
// with an error.
func (l *Library) LoadLog(path string, o RunOptions) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.log.Reset()
	params := make([]uint64, 10) // sizeof(llama_model_params) is 80
	l.modelDefaults(unsafe.Pointer(&params[0]))
	loadMode := (*int32)(unsafe.Add(unsafe.Pointer(&params[0]), 24))
	flags := unsafe.Slice((*bool)(unsafe.Add(unsafe.Pointer(&params[0]), 72)), 6) // vocab_only, check_tensors, use_extra_bufts, no_host, no_alloc, load_mtp
	if *loadMode != -1 || !flags[2] || flags[4] {
		return "", fmt.Errorf("llama_model_params is not laid out as in %s", Version)
	}
	*loadMode = 0
	if o.MapFile && !o.DryRun {
		*loadMode = 1
	}
	flags[2], flags[4] = o.Repack, o.DryRun
	place, keep := l.placement(&o)
	params[0], params[1] = uint64(place[0]), uint64(place[1])
	*(*int32)(unsafe.Pointer(&params[2])) = int32(o.GPULayers)
	name := append([]byte(path), 0)
	model := callWithStruct(l.modelLoad, uintptr(unsafe.Pointer(&name[0])), params)
	runtime.KeepAlive(name)
	runtime.KeepAlive(keep)
	if model == 0 {
		log := l.log.String()
		return log, fmt.Errorf("%s: llama.cpp cannot load it: %s", path, lastLine(log))
	}
	defer l.modelFree(model)

	ctxParams := make([]uint64, 20) // sizeof(llama_context_params) is 160
	l.contextDefaults(unsafe.Pointer(&ctxParams[0]))
	fields := unsafe.Slice((*uint32)(unsafe.Pointer(&ctxParams[0])), 40)
	if fields[3] != 1 || fields[26] != 1 || fields[27] != 1 { // n_seq_max; type_k and type_v are F16
		return "", fmt.Errorf("llama_context_params is not laid out as in %s", Version)
	}
	fields[0] = uint32(o.ContextTokens)
	if o.BatchTokens > 0 {
		fields[1], fields[2] = max(fields[1], uint32(o.BatchTokens)), uint32(o.BatchTokens)
	}
	fields[3] = uint32(max(1, o.Sequences))
	fields[5] = uint32(o.Outputs)
	fields[26], fields[27] = o.KeyType, o.ValueType
	*(*bool)(unsafe.Add(unsafe.Pointer(&ctxParams[0]), 132)) = false // swa_full, as llama-server has it
	*(*bool)(unsafe.Add(unsafe.Pointer(&ctxParams[0]), 133)) = o.Unified
	ctx := callWithStruct(l.contextInit, model, ctxParams)
	log := l.log.String()
	if ctx == 0 {
		return log, fmt.Errorf("%s: llama.cpp makes no context: %s", path, lastLine(log))
	}
	l.contextFree(ctx)
	return strings.TrimRight(log, "\n"), nil
}
