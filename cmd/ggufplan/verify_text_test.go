package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/planner/verify"
)

func TestVerifyGroups(t *testing.T) {
	r := &verify.Report{Tensors: 500}
	add := func(kind, subject, want, got string) {
		r.Differences = append(r.Differences, verify.Difference{Kind: kind, Subject: subject, Want: want, Got: got})
	}
	for layer := 1; layer <= 60; layer++ {
		for _, role := range []string{"gate", "up", "down"} {
			name := fmt.Sprintf("blk.%d.ffn_%s_exps.weight", layer, role)
			add(verify.KindType, name, "Q2_K", "BF16")
			add(verify.KindBytes, name, "100", "1000")
		}
		if layer%2 == 0 {
			add(verify.KindMissing, fmt.Sprintf("blk.%d.attn_q.weight", layer), "Q4_K", "")
		}
	}
	add(verify.KindBytes, "output.weight", "100", "101")
	add(verify.KindType, "token_embd.weight", "Q6_K", "Q4_K")
	for i := range 30 {
		add(verify.KindExtra, fmt.Sprintf("t%d\x1b[2J", i), "", "F16")
	}
	var b strings.Builder
	writeReport(&b, r, false)
	for _, want := range []string{
		"blk.1-60.{ffn_gate_exps,ffn_up_exps,ffn_down_exps}.weight: type is BF16, planned Q2_K (180 tensors)\n",
		"blk.2,4,6,8,10,", ",60.attn_q.weight: missing, planned as Q4_K (30 tensors)\n",
		"output.weight: bytes is 101, planned 100\ntoken_embd.weight: type is Q4_K, planned Q6_K\n",
		"and 14 more; --verbose lists every difference\n", "\n422 differences from the plan\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	if n := strings.Count(b.String(), "\n"); n != 23 || strings.Contains(b.String(), "\x1b") {
		t.Errorf("%d lines:\n%s", n, b.String())
	}
	b.Reset()
	writeReport(&b, r, true)
	if n := strings.Count(b.String(), "\n"); n != len(r.Differences)+2 {
		t.Errorf("%d lines of all", n)
	}
}
