package llamacpp

import (
	"fmt"
	"math"
	"os"
	"runtime"
	"strings"
	"unsafe"

	"github.com/ebitengine/purego"
)

// A Model is a model that the library has loaded, with one context.
type Model struct {
	lib        *Library
	model, ctx uintptr
	vocab      uintptr
	Vocabulary int // tokens in the vocabulary
	Context    int // tokens in the context
}

// LoadModel loads a GGUF file (any shard of a set: the first) with a context
// of contextTokens tokens. Close frees it.
func (l *Library) LoadModel(path string, contextTokens int) (*Model, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.log.Reset()
	params := make([]uint64, 10) // sizeof(llama_model_params) is 80
	l.modelDefaults(unsafe.Pointer(&params[0]))
	if os.Getenv(tiersEnv) != "" {
		// No buffers of other layouts, use_extra_bufts: repacked kernels take no
		// expert twice in a token.
		unsafe.Slice((*byte)(unsafe.Pointer(&params[0])), 80)[74] = 0
	}
	name := append([]byte(path), 0)
	model := callWithStruct(l.modelLoad, uintptr(unsafe.Pointer(&name[0])), params)
	runtime.KeepAlive(name)
	if model == 0 {
		return nil, fmt.Errorf("%s: llama.cpp cannot load it: %s", path, fault(l.log.String()))
	}
	ctxParams := make([]uint64, 20) // sizeof(llama_context_params) is 160
	l.contextDefaults(unsafe.Pointer(&ctxParams[0]))
	fields := unsafe.Slice((*uint32)(unsafe.Pointer(&ctxParams[0])), 4)
	if fields[3] != 1 {
		l.modelFree(model)
		return nil, fmt.Errorf("llama_context_params is not laid out as in %s", Version)
	}
	for i := range 3 { // n_ctx, n_batch, n_ubatch
		fields[i] = uint32(contextTokens)
	}
	ctx := callWithStruct(l.contextInit, model, ctxParams)
	if ctx == 0 {
		l.modelFree(model)
		return nil, fmt.Errorf("%s: llama.cpp makes no context: %s", path, lastLine(l.log.String()))
	}
	vocab := l.getVocab(model)
	l.setThreads(ctx, 1, 1) // the models are small: more threads wait for each other
	return &Model{lib: l, model: model, ctx: ctx, vocab: vocab, Vocabulary: int(l.vocabSize(vocab)), Context: contextTokens}, nil
}

// fault returns why a model was not loaded: the line that says so, or the last.
func fault(log string) string {
	if _, why, ok := strings.Cut(log, "error loading model: "); ok {
		why, _, _ = strings.Cut(why, "\n")
		return why
	}
	return lastLine(log)
}

// Close frees the model and its context.
func (m *Model) Close() {
	m.lib.contextFree(m.ctx)
	m.lib.modelFree(m.model)
}

// Tokenize returns the tokens of a text, without a beginning-of-sequence token.
func (m *Model) Tokenize(text string) []int32 {
	tokens := make([]int32, len(text)+16)
	n := m.lib.tokenize(m.vocab, text, int32(len(text)), &tokens[0], int32(len(tokens)), false, false)
	if n < 0 {
		panic(fmt.Sprintf("llama_tokenize: %d", n))
	}
	return tokens[:n]
}

// batch is struct llama_batch.
type batch struct {
	tokens   int32
	_        int32
	token    *int32
	embd     uintptr
	pos      *int32
	seqCount *int32
	seqID    **int32
	logits   *int8
}

// Logits evaluates a sequence from an empty context and returns the logits of
// the next token after each position, one row of Vocabulary values each.
func (m *Model) Logits(tokens []int32) ([][]float32, error) {
	if len(tokens) == 0 || len(tokens) > m.Context {
		return nil, fmt.Errorf("%d tokens do not fit a context of %d", len(tokens), m.Context)
	}
	l := m.lib
	l.mu.Lock()
	defer l.mu.Unlock()
	l.log.Reset()
	l.memoryClear(l.getMemory(m.ctx), true)
	var pin runtime.Pinner
	defer pin.Unpin()
	n := len(tokens)
	pos, counts, want := make([]int32, n), make([]int32, n), make([]int8, n)
	seq := make([]int32, 1)
	seqs := make([]*int32, n)
	for i := range n {
		pos[i], counts[i], want[i], seqs[i] = int32(i), 1, 1, &seq[0]
	}
	for _, p := range []any{&tokens[0], &pos[0], &counts[0], &want[0], &seq[0], &seqs[0]} {
		pin.Pin(p)
	}
	b := batch{tokens: int32(n), token: &tokens[0], pos: &pos[0], seqCount: &counts[0], seqID: &seqs[0], logits: &want[0]}
	words := unsafe.Slice((*uint64)(unsafe.Pointer(&b)), unsafe.Sizeof(b)/8)
	if code := int32(callWithStruct(l.decode, m.ctx, words)); code != 0 {
		return nil, fmt.Errorf("llama_decode returned %d: %s", code, lastLine(l.log.String()))
	}
	flat := unsafe.Slice(l.getLogits(m.ctx), n*m.Vocabulary)
	rows := make([][]float32, n)
	for i := range rows {
		rows[i] = append([]float32(nil), flat[i*m.Vocabulary:(i+1)*m.Vocabulary]...)
	}
	return rows, nil
}

// callWithStruct calls fn(arg, s) where s is a struct of more than 16 bytes
// passed by value, which the x86-64 calling convention puts on the stack.
func callWithStruct(fn, arg uintptr, s []uint64) uintptr {
	r, _, _ := purego.SyscallN(trampoline(), fn, arg, uintptr(unsafe.Pointer(&s[0])), uintptr(len(s)))
	runtime.KeepAlive(s)
	return r
}

// Divergence compares next-token distributions over a text.
type Divergence struct {
	Mean, StandardError float64 // KL divergence of the second from the first, nats per token
	Tokens              int
}

// Predictions are a model's logits of the next token at the scored positions
// of a text.
type Predictions struct {
	tokens []int32
	logits [][]float32
}

// Predict evaluates text in windows of the model's context, and keeps the
// second half of each, as llama-perplexity does.
func (m *Model) Predict(text string) (*Predictions, error) {
	p := &Predictions{tokens: m.Tokenize(text)}
	return p, m.eachScored(p.tokens, func(logits []float32) { p.logits = append(p.logits, logits) })
}

func (m *Model) eachScored(tokens []int32, f func(logits []float32)) error {
	for start := 0; start+m.Context <= len(tokens); start += m.Context {
		rows, err := m.Logits(tokens[start : start+m.Context])
		if err != nil {
			return err
		}
		for _, row := range rows[m.Context/2 : m.Context-1] {
			f(row)
		}
	}
	return nil
}

// KLDivergence returns the mean KL divergence D(reference || m) of the
// next-token distributions over the reference's text. The contexts must be of
// the same size.
func (m *Model) KLDivergence(reference *Predictions) (Divergence, error) {
	var values []float64
	err := m.eachScored(reference.tokens, func(logits []float32) {
		values = append(values, divergence(reference.logits[len(values)], logits))
	})
	if err != nil {
		return Divergence{}, err
	}
	return summarise(values)
}

func summarise(values []float64) (Divergence, error) {
	if len(values) < 2 {
		return Divergence{}, fmt.Errorf("the text is shorter than one window")
	}
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	mean := sum / float64(len(values))
	sq := 0.0
	for _, v := range values {
		sq += (v - mean) * (v - mean)
	}
	n := float64(len(values))
	return Divergence{mean, math.Sqrt(sq / (n - 1) / n), len(values)}, nil
}

// divergence is the KL divergence of softmax(q) from softmax(p).
func divergence(p, q []float32) float64 {
	lp, lq := logNormaliser(p), logNormaliser(q)
	sum := 0.0
	for i := range p {
		a, b := float64(p[i])-lp, float64(q[i])-lq
		sum += math.Exp(a) * (a - b)
	}
	return sum
}

func logNormaliser(x []float32) float64 {
	top := float64(x[0])
	for _, v := range x {
		top = max(top, float64(v))
	}
	sum := 0.0
	for _, v := range x {
		sum += math.Exp(float64(v) - top)
	}
	return top + math.Log(sum)
}
