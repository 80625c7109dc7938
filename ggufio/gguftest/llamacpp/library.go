package llamacpp

import (
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"unsafe"

	"github.com/ebitengine/purego"
	"golang.org/x/sys/cpu"
)

// A Library is the loaded llama.cpp. Methods that run inference or quantize
// take a lock: the library's log is captured per call.
type Library struct {
	mu  sync.Mutex
	log strings.Builder // what the current call logged

	ggmlInit          func(typ uint32)
	ggmlQuantizeChunk func(typ uint32, src *float32, dst *byte, start, rows, rowWeights int64, imatrix *float32) uintptr
	ggmlTypeTraits    func(typ uint32) uintptr
	ggmlRowSize       func(typ uint32, rowWeights int64) uintptr

	cpuBufferType func() uintptr
	backendLoad   func(path string) uintptr
	backendUnload func(reg uintptr)
	regDevice     func(reg, i uintptr) uintptr
	regAddress    func(reg uintptr, name string) uintptr

	quantizeDefaults func(out unsafe.Pointer) uintptr
	quantize         func(in, out string, params unsafe.Pointer) uint32
	modelDefaults    func(out unsafe.Pointer) uintptr
	contextDefaults  func(out unsafe.Pointer) uintptr
	modelLoad        uintptr
	contextInit      uintptr
	modelFree        func(model uintptr)
	contextFree      func(ctx uintptr)
	getMemory        func(ctx uintptr) uintptr
	memoryClear      func(mem uintptr, data bool)
	setThreads       func(ctx uintptr, n, batch int32)
	getVocab         func(model uintptr) uintptr
	vocabSize        func(vocab uintptr) int32
	vocabBOS         func(vocab uintptr) int32
	tokenize         func(vocab uintptr, text string, textLen int32, tokens *int32, max int32, addSpecial, parseSpecial bool) int32
	batchInit        uintptr
	decode           uintptr
	getLogits        func(ctx uintptr) *float32
}

func open(dir string) (*Library, error) {
	l := &Library{}
	handle := func(name string) (uintptr, error) {
		return purego.Dlopen(filepath.Join(dir, name), purego.RTLD_NOW|purego.RTLD_GLOBAL)
	}
	base, err := handle("libggml-base.so")
	if err != nil {
		return nil, err
	}
	ggml, err := handle("libggml." + Version + ".so")
	if err != nil {
		return nil, err
	}
	llama, err := handle("libllama." + Version + ".so")
	if err != nil {
		return nil, err
	}
	purego.RegisterLibFunc(&l.ggmlInit, base, "ggml_quantize_init")
	purego.RegisterLibFunc(&l.ggmlQuantizeChunk, base, "ggml_quantize_chunk")
	purego.RegisterLibFunc(&l.ggmlTypeTraits, base, "ggml_get_type_traits")
	purego.RegisterLibFunc(&l.ggmlRowSize, base, "ggml_row_size")

	purego.RegisterLibFunc(&l.cpuBufferType, base, "ggml_backend_cpu_buffer_type")
	purego.RegisterLibFunc(&l.backendLoad, ggml, "ggml_backend_load")
	purego.RegisterLibFunc(&l.backendUnload, ggml, "ggml_backend_unload")
	purego.RegisterLibFunc(&l.regDevice, base, "ggml_backend_reg_dev_get")
	purego.RegisterLibFunc(&l.regAddress, base, "ggml_backend_reg_get_proc_address")

	purego.RegisterLibFunc(&l.quantizeDefaults, llama, "llama_model_quantize_default_params")
	purego.RegisterLibFunc(&l.quantize, llama, "llama_model_quantize")
	purego.RegisterLibFunc(&l.modelDefaults, llama, "llama_model_default_params")
	purego.RegisterLibFunc(&l.contextDefaults, llama, "llama_context_default_params")
	purego.RegisterLibFunc(&l.modelFree, llama, "llama_model_free")
	purego.RegisterLibFunc(&l.contextFree, llama, "llama_free")
	purego.RegisterLibFunc(&l.getMemory, llama, "llama_get_memory")
	purego.RegisterLibFunc(&l.memoryClear, llama, "llama_memory_clear")
	purego.RegisterLibFunc(&l.setThreads, llama, "llama_set_n_threads")
	purego.RegisterLibFunc(&l.getVocab, llama, "llama_model_get_vocab")
	purego.RegisterLibFunc(&l.vocabSize, llama, "llama_vocab_n_tokens")
	purego.RegisterLibFunc(&l.vocabBOS, llama, "llama_vocab_bos")
	purego.RegisterLibFunc(&l.tokenize, llama, "llama_tokenize")
	purego.RegisterLibFunc(&l.getLogits, llama, "llama_get_logits")
	for name, at := range map[string]*uintptr{
		"llama_model_load_from_file": &l.modelLoad,
		"llama_init_from_model":      &l.contextInit,
		"llama_batch_init":           &l.batchInit,
		"llama_decode":               &l.decode,
	} {
		if *at, err = purego.Dlsym(llama, name); err != nil {
			return nil, err
		}
	}

	// The log goes to a buffer from before the first backend is loaded.
	var logSet func(callback, data uintptr)
	callback := purego.NewCallback(func(level int32, text *byte, _ uintptr) {
		l.log.WriteString(goString(text))
	})
	purego.RegisterLibFunc(&logSet, llama, "llama_log_set")
	logSet(callback, 0)

	if cpu.X86.HasAMXInt8 {
		// Of what AMX lays out anew nothing is estimated: such a processor is
		// taken for one without it, which it can do as well.
		if path := filepath.Join(dir, "libggml-cpu-icelake.so"); l.backendLoad(path) == 0 {
			return nil, fmt.Errorf("%s does not load", path)
		}
	} else {
		var loadAll func(dir string)
		purego.RegisterLibFunc(&loadAll, ggml, "ggml_backend_load_all_from_path")
		loadAll(dir)
	}
	var backendInit func()
	purego.RegisterLibFunc(&backendInit, llama, "llama_backend_init")
	backendInit()
	return l, nil
}

func goString(p *byte) string {
	if p == nil {
		return ""
	}
	n := 0
	for *(*byte)(unsafe.Add(unsafe.Pointer(p), n)) != 0 {
		n++
	}
	return string(unsafe.Slice(p, n))
}

// RowBytes returns the encoded size of a row.
func (l *Library) RowBytes(typ uint32, rowWeights int) int {
	return int(l.ggmlRowSize(typ, int64(rowWeights)))
}

// Encode encodes len(src)/rowWeights rows with ggml_quantize_chunk. weights
// holds one importance per column, or is nil. F32 and the types that GGML
// cannot encode end the process; so may weights that are missing, or values
// near the limits: use a child process for those.
func (l *Library) Encode(typ uint32, src []float32, rowWeights int, weights []float32) []byte {
	rows := len(src) / rowWeights
	dst := make([]byte, rows*l.RowBytes(typ, rowWeights))
	l.ggmlInit(typ)
	var imatrix *float32
	if weights != nil {
		imatrix = &weights[0]
	}
	n := l.ggmlQuantizeChunk(typ, &src[0], &dst[0], 0, int64(rows), int64(rowWeights), imatrix)
	if int(n) != len(dst) {
		panic(fmt.Sprintf("ggml_quantize_chunk wrote %d bytes, want %d", n, len(dst)))
	}
	runtime.KeepAlive(weights)
	return dst
}

// typeTraits is the start of GGML's struct ggml_type_traits.
type typeTraits struct {
	_       uintptr // name
	_       int64   // block size
	_       int64   // interleaved block size
	_       uintptr // bytes per block
	_       bool    // is quantized
	toFloat uintptr
}

// Decode decodes blocks of a quantized type, F16 or BF16.
func (l *Library) Decode(typ uint32, src []byte, dst []float32) {
	traits := *(**typeTraits)(unsafe.Pointer(&[]uintptr{l.ggmlTypeTraits(typ)}[0]))
	purego.SyscallN(traits.toFloat, uintptr(unsafe.Pointer(&src[0])), uintptr(unsafe.Pointer(&dst[0])), uintptr(len(dst)))
	runtime.KeepAlive(src)
	runtime.KeepAlive(dst)
}
