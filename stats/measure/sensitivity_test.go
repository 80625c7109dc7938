package measure

import (
	"fmt"
	"strings"
	"testing"
)

func TestDecodeSensitivity(t *testing.T) {
	const want = "[blk.0.ffn_up_exps.weight blk.1.ffn_up_exps.weight output.weight blk.2.attn_v.weight] [0.25 NaN 0 NaN]"
	for name, text := range map[string]string{
		"published table": "QTYPE,blk.0.ffn_up_exps.weight,blk.1.ffn_up_exps.weight,output.weight,blk.2.attn_v.weight\niq1_m,0.250000,404,0,404\n",
		"percent, blank":  "\ufeff# KLD\r\nQTYPE, blk.0.ffn_up_exps.weight,blk.1.ffn_up_exps.weight,output.weight,blk.2.attn_v.weight\r\nq2_K, 0.25%,404%,0%,\r\n",
		"no label":        "blk.0.ffn_up_exps.weight,blk.1.ffn_up_exps.weight,output.weight,blk.2.attn_v.weight\n2.5e-1,,0.0,404.0",
		"json":            "\n {\"blk.0.ffn_up_exps.weight\": 0.25, \"blk.1.ffn_up_exps.weight\": null, \"output.weight\": 0, \"blk.2.attn_v.weight\": 404}\n",
	} {
		t.Run(name, func(t *testing.T) {
			s, err := DecodeSensitivity([]byte(text), "")
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(s.Names, " ", s.Values); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		})
	}
	for _, tt := range []struct{ text, want string }{
		{"", "is empty"},
		{"QTYPE,a.weight\n", "line 1: a header without a row of values"},
		{"QTYPE,group0\nbf16,0\n", "no column has a tensor's name"},
		{"QTYPE,a.weight\nq2,0.1\nq3,0.2\n", "line 3: a second row"},
		{"QTYPE,a.weight\nq2,x\n", `line 2: tensor a.weight: "x" is not a number`},
		{"QTYPE,a.weight\nq2,nan\n", `"nan" is not a number`},
		{"QTYPE,a.weight\nq2,-0.1\n", "line 2: tensor a.weight: -0.1 is negative"},
		{"QTYPE,a.weight,b.weight\nq2,1e308,1e308\n", "line 2: tensor a.weight: 1e+308: want 0, or a number from 1e-150 to 1e+150"},
		{`{"a.weight": 0, "b.weight": 5e-324}`, "line 1: tensor b.weight: 5e-324: want 0"},
		{"QTYPE,a.weight,a.weight\nq2,1,2\n", "tensor a.weight: is there twice"},
		{"QTYPE,a.weight\nq2,0.1,4\n", "line 2"},
		{"QTYPE,a.weight\nq2,404\n", "no tensor has a value above 0"},
		{`{"a.weight": 1`, "line 1: unexpected end"},
		{"{\"a.weight\": 1,\n\"b.weight\": \"x\"}", "line 2: tensor b.weight: is not a number"},
		{`{"a.weight": 1} 2`, "line 1: invalid character"},
		{`{"a.weight": 1, "a.weight": 1}`, "is there twice"},
		{`{"a.weight": 1e999}`, "is not a number"},
		{`{}`, "no column has a tensor's name"},
	} {
		if _, err := DecodeSensitivity([]byte(tt.text), ""); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: error %v, want %q", tt.text, err, tt.want)
		}
	}
}

func FuzzDecodeSensitivity(f *testing.F) {
	f.Add([]byte("QTYPE,a.weight\nq2,0.1\n"))
	f.Add([]byte(`{"a.weight": 1, "b.weight": null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := DecodeSensitivity(data, "")
		if err != nil {
			return
		}
		for i, v := range s.Values {
			if v < 0 || v == notMeasured {
				t.Errorf("%s: %v", s.Names[i], v)
			}
		}
	})
}
