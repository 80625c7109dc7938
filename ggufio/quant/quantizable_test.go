package quant

import "testing"

func TestQuantizable(t *testing.T) {
	matrix := []uint64{256, 4}
	for _, tt := range []struct {
		name  string
		shape []uint64
		want  bool
	}{
		{"blk.0.attn_q.weight", matrix, true},
		{"blk.0.ffn_up_exps.weight", []uint64{256, 4, 8}, true},
		{"blk.0.ffn_gate_inp_shexp.weight", matrix, true},
		{"blk.0.ffn_gate_inp.weight", matrix, false},
		{"blk.0.ffn_gate_tid2eid.weight", matrix, false},
		{"blk.0.attn_q_norm.weight", matrix, false},
		{"blk.0.attn_q.weight", []uint64{256}, false},
		{"blk.0.attn_q.weight", []uint64{256, 1, 1}, false},
		{"blk.0.attn_q.weight", []uint64{1, 1, 2}, true},
		{"blk.0.ffn_up_exps.bias", matrix, false},
		{"blk.0.attn_q.weight_scale", matrix, false},
		{"token_embd.weight", matrix, true},
		{"token_types.weight", matrix, false},
		{"position_embd.weight", matrix, false},
		{"blk.0.position_embd.x.weight", matrix, false},
		{"blk.0.time_mix_w1.weight", matrix, false},
		{"blk.0.time_mix_key.weight", matrix, true},
		{"blk.0.indexer.k_proj.weight", matrix, false},
		{"blk.0.indexer.attn_k.weight", matrix, true},
		{"blk.0.ssm_conv1d.weight", matrix, false},
		{"blk.0.ssm_in.weight", matrix, true},
		{"per_layer_model_proj.weight", matrix, false},
		{"weight", matrix, true},
	} {
		if got := Quantizable(tt.name, tt.shape); got != tt.want {
			t.Errorf("Quantizable(%q, %v) = %v", tt.name, tt.shape, got)
		}
	}
}

func TestNeedsImatrix(t *testing.T) {
	for _, tt := range []struct {
		name string
		t    Type
		want bool
	}{
		{"blk.0.ffn_up_exps.weight", IQ2_XS, true},
		{"blk.0.ffn_up_exps.weight", IQ3_XXS, true},
		{"blk.0.ffn_up_exps.weight", IQ3_S, false},
		{"blk.0.ffn_up_exps.weight", Q2_K, false},
		{"token_embd.weight", IQ2_XS, false},
		{"per_layer_token_embd.weight", IQ1_S, false},
		{"output.weight", IQ1_S, false},
		{"blk.0.attn_output.weight", IQ1_S, true},
	} {
		if got := NeedsImatrix(tt.name, tt.t); got != tt.want {
			t.Errorf("NeedsImatrix(%q, %v) = %v", tt.name, tt.t, got)
		}
	}
}
