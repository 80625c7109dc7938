package quant

import "strings"

// neverQuantized are parts of names of tensors that llama-quantize copies:
// norms, routers, and matrices too small to matter or too sensitive.
var neverQuantized = []string{
	"_norm.weight",
	"ffn_gate_inp.weight", "ffn_gate_tid2eid.weight", // routers
	"altup", "laurel", "per_layer_model_proj", // Gemma 3n
	"ssm_conv1d", "shortconv.conv.weight",
	"indexer.k_proj.weight", "indexer.q_proj.weight",
	"time_mix_first.weight", // RWKV
	"time_mix_w0.weight", "time_mix_w1.weight", "time_mix_w2.weight",
	"time_mix_v0.weight", "time_mix_v1.weight", "time_mix_v2.weight",
	"time_mix_a0.weight", "time_mix_a1.weight", "time_mix_a2.weight",
	"time_mix_g1.weight", "time_mix_g2.weight",
	"time_mix_decay_w1.weight", "time_mix_decay_w2.weight",
	"time_mix_lerp_fused.weight",
	"attn_rel_b.weight",                                                   // T5
	".position_embd", "sam.pos_embd", "sam.neck.", "sam.net_", ".rel_pos", // vision
	".patch_embd", ".patch_merger",
	"a.rvq.codebook", "mm.a.code_embd", // audio
}

// Quantizable reports whether llama-quantize v0.5.0 may change a tensor's type
// at all: a matrix or a stack of them, whose name ends in "weight" and is not
// one of those it always copies. No rule reaches the others. shape is GGUF's,
// ne[0] first.
func Quantizable(name string, shape []uint64) bool {
	if Dimensions(shape) < 2 || !strings.HasSuffix(name, "weight") {
		return false
	}
	if name == "position_embd.weight" || name == "token_types.weight" {
		return false
	}
	for _, part := range neverQuantized {
		if strings.Contains(name, part) {
			return false
		}
	}
	return true
}

// Dimensions counts a shape's axes as GGML does: trailing ones are none.
func Dimensions(shape []uint64) int {
	n := len(shape)
	for n > 1 && shape[n-1] == 1 {
		n--
	}
	return n
}

// IsTokenEmbedding reports whether llama-quantize takes a tensor of the name
// for a token embedding.
func IsTokenEmbedding(name string) bool {
	return name == "token_embd.weight" || name == "per_layer_token_embd.weight"
}

// OutputTensor is the name of the tensor that llama-quantize treats as the
// model's output.
const OutputTensor = "output.weight"

// NeedsImatrix reports whether llama-quantize stops when the named tensor is
// to become t and no importance matrix covers it. (In a file of type Q2_K_S,
// Q2_K needs one too.)
func NeedsImatrix(name string, t Type) bool {
	return byType[t].NeedsImatrix && !IsTokenEmbedding(name) && name != OutputTensor
}

// AssertsImatrix reports whether GGML stops where a tensor is encoded to t
// without an importance matrix, whatever its name.
func AssertsImatrix(t Type) bool { return t == IQ2_XXS || t == IQ2_XS || t == IQ1_S }
