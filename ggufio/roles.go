package ggufio

import (
	"strconv"
	"strings"
)

// ParseTensorName says which part of a model a tensor is: its block, -1
// outside blocks, its role, and the expert that it holds, -1 where it holds
// none or several.
func ParseTensorName(name string) (layer int, role Role, expert int) {
	layer, rest, inBlock := cutBlock(name)
	if inBlock {
		if role, ok := fusedRoles[rest]; ok {
			return layer, role, -1
		}
		if role, expert, ok := separateExpert(rest); ok {
			return layer, role, expert
		}
	} else {
		layer, rest = -1, name
		// Encoders, decoders and vision towers have blocks of their own.
		for _, prefix := range []string{"enc.", "dec.", "v.", "a."} {
			if after, ok := strings.CutPrefix(rest, prefix); ok {
				rest = after
				if _, after, ok := cutBlock(rest); ok {
					rest = after
				}
				break
			}
		}
	}
	return layer, roleOf(rest), -1
}

// fusedRoles are the tensors that hold a layer's routed experts together.
var fusedRoles = map[string]Role{
	"ffn_gate_exps.weight":    RoleExpertGate,
	"ffn_up_exps.weight":      RoleExpertUp,
	"ffn_down_exps.weight":    RoleExpertDown,
	"ffn_gate_up_exps.weight": RoleExpertGateUp,
}

// separateExpert recognises a tensor that holds one routed expert, such as
// "ffn_gate.3.weight".
func separateExpert(rest string) (Role, int, bool) {
	projection, after, ok := strings.Cut(rest, ".")
	if !ok {
		return "", 0, false
	}
	number, ok := strings.CutSuffix(after, ".weight")
	if !ok {
		return "", 0, false
	}
	role, ok := fusedRoles[projection+"_exps.weight"]
	if !ok {
		return "", 0, false
	}
	expert, ok := parseIndex(number, maxExperts)
	return role, expert, ok
}

// cutBlock splits "blk.12.attn_q.weight" into 12 and "attn_q.weight".
func cutBlock(name string) (layer int, rest string, ok bool) {
	after, ok := strings.CutPrefix(name, "blk.")
	if !ok {
		return 0, "", false
	}
	number, rest, ok := strings.Cut(after, ".")
	if !ok {
		return 0, "", false
	}
	layer, ok = parseIndex(number, maxBlocks)
	return layer, rest, ok
}

// parseIndex reads a number below limit in its only spelling: a second one,
// such as 007, would let two tensors claim one place.
func parseIndex(s string, limit int) (int, bool) {
	n, err := strconv.Atoi(s)
	return n, err == nil && n >= 0 && n < limit && strconv.Itoa(n) == s
}

// roleOf judges every tensor that is not a routed expert's, by its name
// without block.
func roleOf(rest string) Role {
	base := rest
	for _, suffix := range []string{".weight", ".bias", ".scale"} {
		if after, ok := strings.CutSuffix(rest, suffix); ok {
			base = after
			break
		}
	}
	if after, ok := strings.CutPrefix(base, "nextn."); ok {
		switch after {
		case "embed_tokens":
			return RoleEmbedding
		case "shared_head_head":
			return RoleOutput
		}
	}
	switch base {
	case "token_embd", "per_layer_token_embd", "position_embd", "token_types":
		return RoleEmbedding
	case "output":
		return RoleOutput
	case "ffn_gate_inp", "exp_probs_b", "ffn_exp_probs_b", "ffn_gate_tid2eid":
		return RoleRouter
	case "ffn_gate", "ffn_up", "ffn_down", "ffn_gate_up":
		return RoleDenseFFN
	}
	switch {
	case strings.Contains(base, "norm"):
		return RoleNorm
	case strings.HasSuffix(base, "_shexp"):
		return RoleSharedExpert
	case strings.HasPrefix(base, "attn_"), strings.HasPrefix(base, "cross_attn_"), strings.HasPrefix(base, "indexer."):
		return RoleAttention
	}
	return RoleOther
}
