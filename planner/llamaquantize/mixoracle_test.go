package llamaquantize

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/gguftest/llamacpp"
	"github.com/ggufplan/ggufplan/ggufio/quant"
)

// A shape describes a model for the comparison with the real library. Only
// headers matter to a dry run.
type shape struct {
	arch    string
	layers  int
	nextN   int
	heads   uint32
	kv      any // uint32, or []uint32 with an entry per layer
	experts int
	embd    uint64
	ff      uint64
	tied    bool
	fused   bool // attn_qkv instead of q, k and v
	mla     bool
	dense   int // leading dense layers
	source  quant.Type
	more    []string // further tensors
}

// namesOfNote are names that llama-quantize never quantizes, each beside one
// that is only like it.
var namesOfNote = []string{
	"blk.0.x_norm.weight", "blk.0.x_norms.weight", "blk.0.ffn_gate_tid2eid.weight", "blk.0.ffn_gate_inp_shexp.weight",
	"altup_proj.weight", "alt_up.weight", "blk.0.laurel_l.weight", "blk.0.laure_l.weight", "per_layer_model_proj.weight", "per_layer_proj.weight",
	"per_layer_token_embd.weight", "position_embd.weight", "xposition_embd.weight", "token_types.weight", "token_type.weight",
	"blk.0.shortconv.conv.weight", "blk.0.shortconv.in_proj.weight", "blk.0.indexer.k_proj.weight", "blk.0.indexer.q_proj.weight", "blk.0.indexer.attn_k.weight",
	"blk.0.time_mix_first.weight", "blk.0.time_mix_w0.weight", "blk.0.time_mix_w1.weight", "blk.0.time_mix_w2.weight",
	"blk.0.time_mix_v0.weight", "blk.0.time_mix_v1.weight", "blk.0.time_mix_v2.weight", "blk.0.time_mix_a0.weight", "blk.0.time_mix_a1.weight",
	"blk.0.time_mix_a2.weight", "blk.0.time_mix_g0.weight", "blk.0.time_mix_g1.weight", "blk.0.time_mix_g2.weight",
	"blk.0.time_mix_decay_w1.weight", "blk.0.time_mix_decay_w2.weight", "blk.0.time_mix_lerp_fused.weight", "blk.0.time_mix_key.weight",
	"blk.0.attn_rel_b.weight", "v.position_embd.weight", "sam.pos_embd.weight", "sam.neck.0.weight", "sam.net_2.weight", "sam.other.weight",
	"v.rel_pos_h.weight", "v.patch_embd.weight", "v.patch_merger.weight", "a.rvq.codebook.weight", "mm.a.code_embd.weight", "mm.a.weight",
	"blk.0.ffn_up.bias", "blk.0.odd", "blk.0.weight.x", "blk.1x.ffn_up.weight", "blk..weight", "a.blk.3.attn_v.weight",
}

func (s shape) build() *gguftest.Builder {
	b := &gguftest.Builder{}
	b.Set("general.architecture", s.arch)
	key := func(name string, v any) { b.Set(s.arch+"."+name, v) }
	key("block_count", uint32(s.layers))
	key("context_length", uint32(512))
	key("embedding_length", uint32(s.embd))
	key("feed_forward_length", uint32(s.ff))
	key("attention.head_count", s.heads)
	key("attention.head_count_kv", s.kv)
	key("attention.layer_norm_rms_epsilon", float32(1e-5))
	key("attention.layer_norm_epsilon", float32(1e-5))
	switch s.arch {
	case "apertus":
		for _, name := range []string{"alpha_n", "alpha_p", "beta", "eps"} {
			b.Set("xielu."+name, make([]float32, s.layers))
		}
	case "qwen2vl":
		key("rope.dimension_sections", make([]int32, 4))
	case "bailingmoe3":
		key("attention.key_length_mla", uint32(64))
		key("attention.value_length_mla", uint32(64))
		key("ssm.conv_kernel", uint32(4))
		key("kda.head_dim", uint32(64))
		key("expert_weights_norm", true)
		key("kda.gate_lower_bound", float32(-5))
	case "granitehybrid":
		for _, name := range []string{"conv_kernel", "inner_size", "state_size", "time_step_rank", "group_count"} {
			key("ssm."+name, uint32(4))
		}
	}
	key("vocab_size", uint32(64))
	if s.experts > 0 {
		key("expert_count", uint32(s.experts))
		key("expert_used_count", uint32(2))
		key("expert_feed_forward_length", uint32(s.ff))
		key("expert_shared_count", uint32(1))
		key("expert_weights_scale", float32(1))
		key("leading_dense_block_count", uint32(s.dense))
		key("expert_gating_func", uint32(2))
	}
	if s.nextN > 0 {
		key("nextn_predict_layers", uint32(s.nextN))
	}
	if s.mla {
		key("attention.q_lora_rank", uint32(64))
		key("attention.kv_lora_rank", uint32(64))
		key("rope.dimension_count", uint32(16))
	}
	t := s.source
	add := func(name string, shape ...uint64) { b.Add(name, t, shape, nil) }
	add("token_embd.weight", s.embd, 64)
	if !s.tied {
		add("output.weight", s.embd, 64)
	}
	b.Add("output_norm.weight", quant.F32, []uint64{s.embd}, nil)
	for i := range s.layers {
		blk := func(name string, shape ...uint64) { add(fmt.Sprintf("blk.%d.%s", i, name), shape...) }
		b.Add(fmt.Sprintf("blk.%d.attn_norm.weight", i), quant.F32, []uint64{s.embd}, nil)
		b.Add(fmt.Sprintf("blk.%d.attn_q.bias", i), quant.F32, []uint64{s.embd}, nil)
		switch {
		case s.fused:
			blk("attn_qkv.weight", s.embd, 64)
		case s.mla:
			blk("attn_q_a.weight", s.embd, 64)
			blk("attn_q_b.weight", 64, 64)
			blk("attn_kv_a_mqa.weight", s.embd, 64)
			blk("attn_kv_b.weight", 256, 64)
			blk("attn_k_b.weight", 128, 8, 4)
		default:
			blk("attn_q.weight", s.embd, 64)
			blk("attn_k.weight", s.embd, 64)
			blk("attn_v.weight", s.embd, 64)
		}
		blk("attn_output.weight", s.embd, 64)
		b.Add(fmt.Sprintf("blk.%d.ssm_conv1d.weight", i), quant.F32, []uint64{4, 64}, nil)
		if s.experts > 0 && i >= s.dense {
			blk("ffn_gate_inp.weight", s.embd, uint64(s.experts))
			blk("ffn_gate_exps.weight", s.embd, s.ff, uint64(s.experts))
			blk("ffn_up_exps.weight", s.embd, s.ff, uint64(s.experts))
			blk("ffn_down_exps.weight", s.ff, s.embd, uint64(s.experts))
			blk("ffn_gate_shexp.weight", s.embd, s.ff)
			blk("ffn_up_shexp.weight", s.embd, s.ff)
			blk("ffn_down_shexp.weight", s.ff, s.embd)
		} else {
			blk("ffn_gate.weight", s.embd, s.ff)
			blk("ffn_up.weight", s.embd, s.ff)
			blk("ffn_down.weight", s.ff, s.embd)
		}
	}
	for _, name := range s.more {
		add(name, 256, 3)
	}
	return b
}

var dryRunLine = regexp.MustCompile(`(?m)\] +(\S+) +- \[[^]]*\], type = +(\S+), size = +[0-9.]+ MiB(?: -> +[0-9.]+ MiB \((\S+)\))?`)

func TestMixAgainstLlamaCpp(t *testing.T) {
	lib := llamacpp.Load(t)
	base := shape{arch: "llama", layers: 17, heads: 8, kv: uint32(2), embd: 256, ff: 256, source: quant.F16}
	with := func(change func(*shape)) shape { s := base; change(&s); return s }
	hybrid := make([]uint32, 17)
	for i := range hybrid {
		hybrid[i] = uint32(i % 4)
	}
	shapes := map[string]shape{
		"llama":            base,
		"names":            with(func(s *shape) { s.layers, s.more = 3, namesOfNote }),
		"llama no gqa":     with(func(s *shape) { s.kv = uint32(8) }),
		"llama gqa 3":      with(func(s *shape) { s.heads, s.kv = 7, uint32(2) }),
		"llama tied":       with(func(s *shape) { s.tied = true }),
		"llama 70B":        with(func(s *shape) { s.layers = 80; s.kv = uint32(4) }),
		"llama 65B":        with(func(s *shape) { s.layers = 80; s.kv = uint32(8) }),
		"llama 80 of 16":   with(func(s *shape) { s.layers = 80; s.experts = 16; s.ff = 32; s.embd = 64 }),
		"llama 80 of 8":    with(func(s *shape) { s.layers = 80; s.experts = 8; s.ff = 32; s.embd = 64 }),
		"llama 8 experts":  with(func(s *shape) { s.experts = 8 }),
		"llama 4 experts":  with(func(s *shape) { s.experts = 4; s.kv = uint32(8) }),
		"llama 3 experts":  with(func(s *shape) { s.experts = 3; s.kv = uint32(8) }),
		"llama odd rows":   with(func(s *shape) { s.embd, s.ff = 160, 320 }),
		"llama odder rows": with(func(s *shape) { s.embd, s.ff = 192, 384 }),
		"llama of 128":     with(func(s *shape) { s.embd, s.ff = 128, 256 }),
		"llama F32":        with(func(s *shape) { s.source = quant.F32 }),
		"falcon":           with(func(s *shape) { s.arch = "falcon"; s.fused = true; s.layers = 33 }),
		"qwen2 80":         with(func(s *shape) { s.arch = "qwen2"; s.layers = 80 }),
		"qwen2 80 no gqa":  with(func(s *shape) { s.arch = "qwen2"; s.layers = 80; s.kv = uint32(8) }),
		"deci 80":          with(func(s *shape) { s.arch = "deci"; s.layers = 80 }),
		"jais2 68":         with(func(s *shape) { s.arch = "jais2"; s.layers = 68 }),
		"apertus 80":       with(func(s *shape) { s.arch = "apertus"; s.layers = 80 }),
		"mistral3 80":      with(func(s *shape) { s.arch = "mistral3"; s.layers = 80 }),
		"xverse 80":        with(func(s *shape) { s.arch = "xverse"; s.layers = 80 }),
		"llama-embed 80":   with(func(s *shape) { s.arch = "llama-embed"; s.layers = 80 }),
		"qwen2vl 80":       with(func(s *shape) { s.arch = "qwen2vl"; s.layers = 80 }),
		"qwen3 80":         with(func(s *shape) { s.arch = "qwen3"; s.layers = 80 }),
		"arcee 80":         with(func(s *shape) { s.arch = "arcee"; s.layers = 80 }),
		"qwen3moe":         with(func(s *shape) { s.arch = "qwen3moe"; s.experts = 32 }),
		"deepseek2":        with(func(s *shape) { s.arch = "deepseek2"; s.mla = true; s.experts = 16; s.dense = 3; s.kv = uint32(8) }),
		"glm4moe with MTP": with(func(s *shape) { s.arch = "glm4moe"; s.experts = 16; s.dense = 1; s.nextN = 2 }),
		"granitehybrid":    with(func(s *shape) { s.arch = "granitehybrid"; s.kv = hybrid; s.experts = 16 }),
		"bailingmoe3":      with(func(s *shape) { s.arch = "bailingmoe3"; s.mla = true; s.experts = 16; s.dense = 1 }),
		"phi3 fused":       with(func(s *shape) { s.arch = "phi3"; s.fused = true; s.layers = 19 }),
	}
	for name, s := range shapes {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "model.gguf")
			if err := s.build().WriteFile(path); err != nil {
				t.Fatal(err)
			}
			m, err := ggufio.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, ft := range fileTypes {
				if s.layers > 40 && !slices.Contains([]string{"Q2_K_S", "Q3_K_S", "Q3_K_M", "Q4_K_M", "IQ3_M"}, ft.Name) {
					continue // the many layers are for the rule of models of 70B
				}
				log, err := lib.Quantize(path, "", llamacpp.QuantizeOptions{FileType: int32(ft.Number), Threads: 1, DryRun: true})
				if strings.Contains(log, "no tensor type fallback is defined") {
					continue // llama-quantize stops; a plan says F16 by name
				}
				if err != nil {
					t.Fatalf("%s: %v", ft.Name, err)
				}
				types, err := Mix(m, ft)
				if err != nil {
					t.Fatal(err)
				}
				want := map[string]string{}
				var order []string
				for _, l := range dryRunLine.FindAllStringSubmatch(log, -1) {
					want[l[1]] = l[2] + l[3]
					if l[3] != "" {
						want[l[1]] = l[3]
					}
					order = append(order, l[1])
				}
				if len(order) != len(m.Tensors) {
					t.Fatalf("%s: the dry run lists %d of %d tensors", ft.Name, len(order), len(m.Tensors))
				}
				for k, i := range LoaderOrder(m) {
					name := m.Tensors[i].Name
					if order[k] != name {
						t.Fatalf("%s: tensor %d is %s, want %s", ft.Name, k, name, order[k])
					}
					if got := spelling(types[i]); got != want[name] {
						t.Fatalf("%s: %s is %s, want %s", ft.Name, name, got, want[name])
					}
				}
			}
		})
	}
}
