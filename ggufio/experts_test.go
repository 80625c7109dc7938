package ggufio_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/quant"
)

// What tensors of many architectures are, by their names.
func TestRoles(t *testing.T) {
	for _, tt := range []struct {
		name   string
		role   ggufio.Role
		layer  int
		expert int
	}{
		{"blk.7.ffn_gate_exps.weight", ggufio.RoleExpertGate, 7, -1},
		{"blk.7.ffn_up_exps.weight", ggufio.RoleExpertUp, 7, -1},
		{"blk.7.ffn_down_exps.weight", ggufio.RoleExpertDown, 7, -1},
		{"blk.7.ffn_gate_up_exps.weight", ggufio.RoleExpertGateUp, 7, -1},
		{"blk.7.ffn_gate.0.weight", ggufio.RoleExpertGate, 7, 0},
		{"blk.7.ffn_up.12.weight", ggufio.RoleExpertUp, 7, 12},
		{"blk.511.ffn_down.255.weight", ggufio.RoleExpertDown, 511, 255},

		// A second spelling of a number would let two tensors claim one place.
		{"blk.07.ffn_gate_exps.weight", ggufio.RoleOther, -1, -1},
		{"blk.+7.ffn_gate_exps.weight", ggufio.RoleOther, -1, -1},
		{"blk.512.ffn_gate_exps.weight", ggufio.RoleOther, -1, -1},
		{"blk.99999999999999999999.ffn_gate_exps.weight", ggufio.RoleOther, -1, -1},
		{"blk.7.ffn_gate.01.weight", ggufio.RoleOther, 7, -1},
		{"blk.7.ffn_gate.-1.weight", ggufio.RoleOther, 7, -1},

		// Only weights of routed experts are experts.
		{"blk.7.ffn_gate_exps.bias", ggufio.RoleOther, 7, -1},
		{"blk.7.ffn_gate.0.bias", ggufio.RoleOther, 7, -1},
		{"blk.7.ffn_gate_exps.scale", ggufio.RoleOther, 7, -1},
		{"blk.7.ffn_gate_chexps.weight", ggufio.RoleOther, 7, -1},
		{"blk.7.ffn_gate_exps_hot.weight", ggufio.RoleOther, 7, -1},
		{"ffn_gate_exps.weight", ggufio.RoleOther, -1, -1},
		{"enc.blk.0.ffn_gate_exps.weight", ggufio.RoleOther, -1, -1},

		{"blk.7.ffn_gate_inp.weight", ggufio.RoleRouter, 7, -1},
		{"blk.7.ffn_gate_inp.bias", ggufio.RoleRouter, 7, -1},
		{"blk.7.ffn_gate_inp.scale", ggufio.RoleRouter, 7, -1},
		{"blk.7.exp_probs_b.bias", ggufio.RoleRouter, 7, -1},
		{"blk.7.exp_probs_b", ggufio.RoleRouter, 7, -1},
		{"blk.7.ffn_gate_tid2eid.weight", ggufio.RoleRouter, 7, -1},

		{"blk.7.ffn_gate_shexp.weight", ggufio.RoleSharedExpert, 7, -1},
		{"blk.7.ffn_down_shexp.weight", ggufio.RoleSharedExpert, 7, -1},
		{"blk.7.ffn_gate_inp_shexp.weight", ggufio.RoleSharedExpert, 7, -1},

		{"blk.7.ffn_gate.weight", ggufio.RoleDenseFFN, 7, -1},
		{"blk.7.ffn_up.bias", ggufio.RoleDenseFFN, 7, -1},
		{"enc.blk.7.ffn_down.weight", ggufio.RoleDenseFFN, -1, -1},

		{"blk.7.attn_q.weight", ggufio.RoleAttention, 7, -1},
		{"blk.7.attn_qkv.weight", ggufio.RoleAttention, 7, -1},
		{"blk.7.attn_q_a.weight", ggufio.RoleAttention, 7, -1},
		{"blk.7.attn_q_b.weight", ggufio.RoleAttention, 7, -1},
		{"blk.7.attn_kv_a_mqa.weight", ggufio.RoleAttention, 7, -1},
		{"blk.7.attn_kv_b.weight", ggufio.RoleAttention, 7, -1},
		{"blk.7.attn_k_b.weight", ggufio.RoleAttention, 7, -1},
		{"blk.7.attn_v_b.weight", ggufio.RoleAttention, 7, -1},
		{"blk.7.attn_sinks.weight", ggufio.RoleAttention, 7, -1},
		{"blk.7.attn_output.bias", ggufio.RoleAttention, 7, -1},
		{"blk.7.indexer.attn_k.weight", ggufio.RoleAttention, 7, -1},
		{"dec.blk.7.cross_attn_v.weight", ggufio.RoleAttention, -1, -1},

		{"blk.7.attn_norm.weight", ggufio.RoleNorm, 7, -1},
		{"blk.7.attn_q_a_norm.weight", ggufio.RoleNorm, 7, -1},
		{"blk.7.ffn_norm.weight", ggufio.RoleNorm, 7, -1},
		{"blk.7.post_attention_norm.weight", ggufio.RoleNorm, 7, -1},
		{"blk.7.ssm_norm.weight", ggufio.RoleNorm, 7, -1},
		{"blk.7.nextn.enorm.weight", ggufio.RoleNorm, 7, -1},
		{"blk.7.nextn.shared_head_norm.weight", ggufio.RoleNorm, 7, -1},
		{"output_norm.weight", ggufio.RoleNorm, -1, -1},
		{"token_embd_norm.bias", ggufio.RoleNorm, -1, -1},

		{"token_embd.weight", ggufio.RoleEmbedding, -1, -1},
		{"per_layer_token_embd.weight", ggufio.RoleEmbedding, -1, -1},
		{"position_embd.weight", ggufio.RoleEmbedding, -1, -1},
		{"blk.7.nextn.embed_tokens.weight", ggufio.RoleEmbedding, 7, -1},
		{"output.weight", ggufio.RoleOutput, -1, -1},
		{"output.bias", ggufio.RoleOutput, -1, -1},
		{"blk.7.nextn.shared_head_head.weight", ggufio.RoleOutput, 7, -1},

		{"blk.7.nextn.eh_proj.weight", ggufio.RoleOther, 7, -1},
		{"blk.7.ssm_in.weight", ggufio.RoleOther, 7, -1},
		{"blk.7.ssm_a", ggufio.RoleOther, 7, -1},
		{"blk.7.time_mix_key.weight", ggufio.RoleOther, 7, -1},
		{"blk.7.shortconv.in_proj.weight", ggufio.RoleOther, 7, -1},
		{"rope_freqs.weight", ggufio.RoleOther, -1, -1},
		{"per_layer_model_proj.weight", ggufio.RoleOther, -1, -1},
		{"cls.output.weight", ggufio.RoleOther, -1, -1},
	} {
		b := &gguftest.Builder{}
		b.AddF32(tt.name, []uint64{4, 2, 2}, make([]float32, 16))
		m, err := ggufio.OpenAny(writeBuilt(t, b))
		if err != nil {
			t.Fatal(err)
		}
		if x := &m.Tensors[0]; x.Role != tt.role || x.Layer != tt.layer || x.Expert != tt.expert {
			t.Errorf("%s: %s, layer %d, expert %d; want %s, %d, %d", tt.name, x.Role, x.Layer, x.Expert, tt.role, tt.layer, tt.expert)
		}
	}
}

func TestMoELayers(t *testing.T) {
	for _, tt := range []struct {
		name    string
		o       gguftest.MoE
		layers  []int
		tensors int // per layer
		roles   []ggufio.Role
	}{
		{"fused", gguftest.MoE{Layers: 3}, []int{0, 1, 2}, 3, []ggufio.Role{ggufio.RoleExpertGate, ggufio.RoleExpertUp, ggufio.RoleExpertDown}},
		{"leading dense", gguftest.MoE{Layers: 3, Dense: 2}, []int{2}, 3, nil},
		{"MTP", gguftest.MoE{Layers: 2, MTP: 1}, []int{0, 1, 2}, 3, nil},
		{"separate", gguftest.MoE{Separate: true}, []int{0, 1}, 12, nil},
		{"gate and up in one", gguftest.MoE{GateUp: true}, []int{0, 1}, 2, []ggufio.Role{ggufio.RoleExpertGateUp, ggufio.RoleExpertDown}},
		{"none", gguftest.MoE{Dense: 2}, []int{}, 0, nil},
		{"one expert", gguftest.MoE{Experts: 1}, []int{0, 1}, 3, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.o.Embd, tt.o.FF, tt.o.Sparse = 32, 64, true
			m := openBuilt(t, tt.o.Builder())
			if got := m.MoELayers(); !reflect.DeepEqual(got, tt.layers) {
				t.Fatalf("MoE layers %v, want %v", got, tt.layers)
			}
			for _, layer := range tt.layers {
				tensors := m.ExpertTensors(layer)
				if len(tensors) != tt.tensors {
					t.Errorf("layer %d: %d expert tensors, want %d", layer, len(tensors), tt.tensors)
				}
				for i, role := range tt.roles {
					if tensors[i].Role != role {
						t.Errorf("layer %d: tensor %d is %s, want %s", layer, i, tensors[i].Role, role)
					}
				}
				want := max(tt.o.Experts, 1)
				if tt.o.Experts == 0 {
					want = 4
				}
				if n := m.ExpertCount(layer); n != want {
					t.Errorf("layer %d: %d experts, want %d", layer, n, want)
				}
				if mtp := layer >= 2 && tt.o.MTP > 0; m.IsMTP(layer) != mtp {
					t.Errorf("layer %d: MTP is %v", layer, m.IsMTP(layer))
				}
			}
			if len(tt.layers) == 0 && m.ExpertCount(0) != 0 {
				t.Error("a dense layer has experts")
			}
		})
	}
}

// Expert tensors of a layer that contradict each other are refused.
func TestExpertsThatDoNotFit(t *testing.T) {
	fused := gguftest.MoE{Embd: 32, FF: 64, Sparse: true}
	separate := gguftest.MoE{Embd: 32, FF: 64, Sparse: true, Separate: true}
	for _, tt := range []struct {
		name   string
		o      gguftest.MoE
		change func(b *gguftest.Builder)
		want   string
	}{
		{"counts", fused, func(b *gguftest.Builder) { b.Tensor("blk.1.ffn_up_exps.weight").Shape[2] = 3 },
			"tensor blk.1.ffn_up_exps.weight: block 1 has 3 experts here and 4 in blk.1.ffn_gate_exps.weight"},
		{"a flat fused tensor", fused, func(b *gguftest.Builder) { b.Tensor("blk.1.ffn_down_exps.weight").Shape = []uint64{64, 128} },
			"block 1 has 1 experts here and 4 in"},
		{"one dimension", fused, func(b *gguftest.Builder) { b.Tensor("blk.0.ffn_gate_exps.weight").Shape = []uint64{64} },
			"shape [64] is not [row, rows, experts]"},
		{"four dimensions", fused, func(b *gguftest.Builder) { b.Tensor("blk.0.ffn_gate_exps.weight").Shape = []uint64{32, 32, 2, 4} },
			"shape [32 32 2 4] is not [row, rows, experts]"},
		{"a million experts", fused, func(b *gguftest.Builder) {
			b.Tensor("blk.0.ffn_gate_exps.weight").Shape = []uint64{1, 1, 1 << 20}
		}, "1048576 is over the limit of 65536 (experts of a layer)"},
		{"a gap", separate, func(b *gguftest.Builder) { b.Tensor("blk.0.ffn_up.2.weight").Name = "blk.0.ffn_up.4.weight" },
			"block 0 has 4 tensors of its kind, but none of expert 2"},
		{"one missing", separate, func(b *gguftest.Builder) { b.Tensor("blk.0.ffn_up.3.weight").Name = "blk.0.lost.weight" },
			"block 0 has 3 experts here and 4 in blk.0.ffn_gate.0.weight"},
		{"shapes", separate, func(b *gguftest.Builder) { b.Tensor("blk.1.ffn_up.2.weight").Shape[1] = 32 },
			"differs from the [32 32] of blk.1.ffn_up.2.weight"},
		{"both ways", fused, func(b *gguftest.Builder) { b.Add("blk.0.ffn_up.0.weight", quant.F32, []uint64{32, 64}, nil) },
			"block 0 has its experts together and in tensors of their own (blk.0.ffn_up.0.weight)"},
		{"gate twice", fused, func(b *gguftest.Builder) {
			b.Add("blk.0.ffn_gate_up_exps.weight", quant.F32, []uint64{32, 128, 4}, nil)
		}, "block 0 has gate and up together in one tensor as well"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := tt.o.Builder()
			tt.change(b)
			_, err := ggufio.Open(writeBuilt(t, b))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v does not say %q", err, tt.want)
			}
		})
	}
}

// Separate experts may differ in type, and a layer may lack a gate.
func TestExpertsThatFit(t *testing.T) {
	b := gguftest.MoE{Embd: 32, FF: 64, Sparse: true, Separate: true}.Builder()
	b.Tensor("blk.0.ffn_up.2.weight").Type = quant.Q8_0
	openBuilt(t, b)

	b = gguftest.MoE{Embd: 32, FF: 64, Sparse: true}.Builder()
	for layer := range 2 {
		b.Tensor(fmt.Sprintf("blk.%d.ffn_gate_exps.weight", layer)).Name = fmt.Sprintf("blk.%d.other.weight", layer)
	}
	if n := len(openBuilt(t, b).ExpertTensors(1)); n != 2 {
		t.Errorf("%d expert tensors, want 2", n)
	}
}

func TestSums(t *testing.T) {
	m := openBuilt(t, model())
	// 8 and 4 weights of 4 bytes; the data ends padded to 32.
	if m.Parameters() != 12 || m.TensorBytes() != 48 || m.FileBytes() != m.Files[0].DataOffsetBytes+64 {
		t.Errorf("%d weights, %d tensor bytes, %d file bytes", m.Parameters(), m.TensorBytes(), m.FileBytes())
	}
	if x, ok := m.TensorByName("blk.0.attn_norm.weight"); !ok || x != &m.Tensors[1] {
		t.Error("a tensor is not found by its name")
	}
	if _, ok := m.TensorByName("nix"); ok {
		t.Error("a tensor is found that is not there")
	}
	byHand := &ggufio.Model{Tensors: m.Tensors}
	if x, ok := byHand.TensorByName("blk.0.attn_norm.weight"); !ok || x != &m.Tensors[1] {
		t.Error("a tensor of a model made by hand is not found by its name")
	}
}
