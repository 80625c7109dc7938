package llamacpp

import (
	"fmt"
	"runtime"
	"unsafe"
)

// QuantizeOptions are the parts of llama_model_quantize_params that tests
// set; the rest keeps its default.
type QuantizeOptions struct {
	FileType        int32 // llama_ftype number
	Threads         int32
	AllowRequantize bool
	Pure            bool
	KeepSplit       bool
	DryRun          bool
	Rules           []Rule
	Imatrix         []ImatrixEntry
	Overrides       []Override
}

// A Rule gives tensors whose names match an ECMAScript pattern a GGML type.
type Rule struct {
	Pattern string
	Type    uint32
}

// An ImatrixEntry holds one tensor's importance per column and matrix: the
// mean square of its inputs.
type ImatrixEntry struct {
	Name string
	Data []float32
}

// An Override sets a metadata key of the output: Value is an int64, a string
// of at most 127 bytes, a float64 or a bool.
type Override struct {
	Key   string
	Value any
}

// quantizeParams is llama_model_quantize_params.
type quantizeParams struct {
	threads                        int32
	fileType                       int32
	outputType, tokenEmbeddingType uint32
	allowRequantize                bool
	quantizeOutput                 bool
	onlyCopy                       bool
	pure                           bool
	keepSplit                      bool
	dryRun                         bool
	imatrix                        unsafe.Pointer
	overrides                      unsafe.Pointer
	rules                          unsafe.Pointer
	pruneLayers                    unsafe.Pointer
	_                              [64]byte // fields that stay as the library set them
}

type cRule struct {
	pattern *byte
	typ     uint32
}

type cImatrixEntry struct {
	name *byte
	data *float32
	size uint64
}

type cOverride struct {
	tag   int32
	key   [128]byte
	_     [4]byte
	value [128]byte
}

// Quantize runs llama_model_quantize and returns what it logged.
func (l *Library) Quantize(in, out string, o QuantizeOptions) (log string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.log.Reset()
	var pin runtime.Pinner
	defer pin.Unpin()

	// The default parameters come by a hidden pointer.
	params := new(quantizeParams)
	pin.Pin(params)
	l.quantizeDefaults(unsafe.Pointer(params))
	if params.threads != 0 || params.fileType != 7 || !params.quantizeOutput {
		return "", fmt.Errorf("llama_model_quantize_params is not laid out as in %s", Version)
	}
	params.threads, params.fileType = o.Threads, o.FileType
	params.allowRequantize, params.pure = o.AllowRequantize, o.Pure
	params.keepSplit, params.dryRun = o.KeepSplit, o.DryRun

	cString := func(s string) *byte {
		b := append([]byte(s), 0)
		pin.Pin(&b[0])
		return &b[0]
	}
	if o.Rules != nil { // ended by a nil pattern
		rules := make([]cRule, len(o.Rules)+1)
		for i, r := range o.Rules {
			rules[i] = cRule{cString(r.Pattern), r.Type}
		}
		pin.Pin(&rules[0])
		params.rules = unsafe.Pointer(&rules[0])
	}
	if o.Imatrix != nil { // ended by a nil name
		entries := make([]cImatrixEntry, len(o.Imatrix)+1)
		for i, e := range o.Imatrix {
			pin.Pin(&e.Data[0])
			entries[i] = cImatrixEntry{cString(e.Name), &e.Data[0], uint64(len(e.Data))}
		}
		pin.Pin(&entries[0])
		params.imatrix = unsafe.Pointer(&entries[0])
	}
	if o.Overrides != nil { // ended by an empty key
		overrides := make([]cOverride, len(o.Overrides)+1)
		for i, kv := range o.Overrides {
			copy(overrides[i].key[:127], kv.Key)
			at := unsafe.Pointer(&overrides[i].value)
			switch v := kv.Value.(type) {
			case int64:
				overrides[i].tag, *(*int64)(at) = 0, v
			case float64:
				overrides[i].tag, *(*float64)(at) = 1, v
			case bool:
				overrides[i].tag, *(*bool)(at) = 2, v
			case string:
				overrides[i].tag = 3
				copy(overrides[i].value[:127], v)
			default:
				return "", fmt.Errorf("override %s: %T is not a type that llama.cpp takes", kv.Key, kv.Value)
			}
		}
		pin.Pin(&overrides[0])
		params.overrides = unsafe.Pointer(&overrides[0])
	}
	if code := l.quantize(in, out, unsafe.Pointer(params)); code != 0 {
		return l.log.String(), fmt.Errorf("llama_model_quantize returned %d: %s", code, lastLine(l.log.String()))
	}
	return l.log.String(), nil
}

func lastLine(s string) string {
	end := len(s)
	for end > 0 && s[end-1] == '\n' {
		end--
	}
	start := end
	for start > 0 && s[start-1] != '\n' {
		start--
	}
	return s[start:end]
}
