package memory

// A window says which layers of an architecture attend to a sliding window
// alone, and so cache no more than that, as llama.cpp's load_arch_hparams of
// the architecture decides it. The period is the default of a file without
// attention.sliding_window_pattern.
type window struct {
	period      int    // one layer in so many attends to everything; 0: the file must list the layers
	denseFirst  bool   // that one is the first of a period, not the last
	optional    bool   // without attention.sliding_window, or with 0, there is none
	tokens      uint64 // of the window where the file does not say
	fixedTokens uint64 // of the window, whatever the file says
}

// windows are the architectures with a sliding window.
var windows = map[string]window{
	"afmoe":        {period: 4, optional: true},
	"cohere2":      {period: 4},
	"cohere2moe":   {period: 4, denseFirst: true},
	"dots3note":    {},
	"exaone-moe":   {period: 4, tokens: 128},
	"gemma2":       {period: 2, tokens: 4096},
	"gemma3":       {period: 6, optional: true},
	"gemma3n":      {period: 5},
	"gemma4":       {},
	"gpt-oss":      {period: 2},
	"granite_swa":  {},
	"laguna":       {period: 4, denseFirst: true, optional: true},
	"llama4":       {period: 4, fixedTokens: 8192},
	"maple":        {},
	"mellum":       {period: 4, optional: true},
	"mimo2":        {},
	"muse-glimmer": {period: 4},
	"olmo2":        {period: 4, optional: true},
	"plamo3":       {period: 8, optional: true},
	"smallthinker": {period: 4, denseFirst: true, optional: true, fixedTokens: 4096},
	"spark2_5":     {},
	"step35":       {},
}

// A recurrence says which layers of an architecture keep a state per sequence
// instead of a cache, or beside one.
type recurrence int

const (
	recurrentNone     recurrence = iota
	recurrentAll                 // all layers, and there is no cache
	recurrentBoth                // all layers, beside a cache
	recurrentHeadless            // layers without key and value heads
	recurrentInterval            // all but every attention.full_attention_interval-th
	recurrentNemotron            // layers with neither heads nor a feed-forward network
)

// recurrences are the architectures with recurrent layers. interval is what a
// file without full_attention_interval has.
var recurrences = map[string]struct {
	kind     recurrence
	interval uint64
}{
	"arwkv7":         {kind: recurrentAll},
	"bailingmoe3":    {kind: recurrentHeadless},
	"falcon-h1":      {kind: recurrentBoth},
	"granitehybrid":  {kind: recurrentHeadless},
	"jamba":          {kind: recurrentHeadless},
	"kimi-k3":        {kind: recurrentHeadless},
	"kimi-linear":    {kind: recurrentHeadless},
	"lfm2":           {kind: recurrentHeadless},
	"lfm2moe":        {kind: recurrentHeadless},
	"mamba":          {kind: recurrentAll},
	"mamba2":         {kind: recurrentAll},
	"minimax-01":     {kind: recurrentInterval, interval: 8},
	"nemotron_h":     {kind: recurrentNemotron},
	"nemotron_h_moe": {kind: recurrentNemotron},
	"plamo2":         {kind: recurrentHeadless},
	"qwen35":         {kind: recurrentInterval, interval: 4},
	"qwen35moe":      {kind: recurrentInterval, interval: 4},
	"qwen3next":      {kind: recurrentInterval, interval: 4},
	"rwkv6":          {kind: recurrentAll},
	"rwkv6qwen2":     {kind: recurrentAll},
	"rwkv7":          {kind: recurrentAll},
}

// indexed are the architectures whose sparse attention keeps a second cache,
// of the keys that choose what to attend to.
var indexed = map[string]bool{
	"deepseek32": true, "dots3note": true, "glm-dsa": true, "hy_v4": true, "minimax-m3": true,
}

// latents are the architectures that may cache latent attention: keys alone,
// from which values are computed.
var latents = map[string]bool{
	"bailingmoe3": true, "deepseek2": true, "deepseek2-ocr": true, "deepseek32": true, "dots3note": true, "glm-dsa": true,
	"hy_v4": true, "kimi-k3": true, "kimi-linear": true, "mistral4": true,
}

// cacheless are the architectures that generate no text token after token.
var cacheless = map[string]bool{
	"bert": true, "dream": true, "eurobert": true, "gemma-embedding": true, "jina-bert-v2": true, "jina-bert-v3": true,
	"llada": true, "llada-moe": true, "modern-bert": true, "neo-bert": true, "nomic-bert": true, "nomic-bert-moe": true,
	"rnd1": true, "t5encoder": true, "wavtokenizer-dec": true,
}

// plain are the architectures with a cache of keys and values in every layer
// and nothing else.
var plain = map[string]bool{
	"apertus": true, "arcee": true, "arctic": true, "baichuan": true, "bailingmoe": true, "bailingmoe2": true,
	"bitnet": true, "bloom": true, "chameleon": true, "chatglm": true, "codeshell": true, "cogvlm": true,
	"command-r": true, "dbrx": true, "deci": true, "deepseek": true, "deepseek2": true, "deepseek2-ocr": true,
	"dots1": true, "ernie4_5": true, "ernie4_5-moe": true, "exaone": true, "falcon": true, "gemma": true, "glm4": true,
	"glm4moe": true, "gpt2": true, "gptj": true, "gptneox": true, "granite": true, "granitemoe": true, "grok": true,
	"grovemoe": true, "hrm_text": true, "hunyuan-dense": true, "hunyuan-moe": true, "hunyuan_vl": true, "hy_v3": true, "internlm2": true,
	"jais": true, "jais2": true, "llama": true, "llama-embed": true, "maincoder": true, "minicpm": true, "minicpm3": true,
	"minimax-m2": true, "mistral3": true, "mistral4": true, "mpt": true, "nemotron": true, "olmo": true, "olmoe": true,
	"openelm": true, "orion": true, "paddleocr": true, "pangu-embedded": true, "phi2": true, "phi3": true, "phimoe": true,
	"plamo": true, "plm": true, "qwen": true, "qwen2": true, "qwen2moe": true, "qwen2vl": true, "qwen3": true,
	"qwen3moe": true, "qwen3vl": true, "qwen3vlmoe": true, "refact": true, "seed_oss": true, "smollm3": true,
	"stablelm": true, "starcoder": true, "starcoder2": true, "talkie": true, "xverse": true,
}
