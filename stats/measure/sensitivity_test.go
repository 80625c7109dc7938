package measure

import (
	"fmt"
	"slices"
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
		{"QTYPE,a.weight,a.weight\nq2,1,2\n", "duplicate tensor a.weight"},
		{"QTYPE,a.weight\nq2,0.1,4\n", "line 2"},
		{"QTYPE,a.weight\nq2,404\n", "no tensor has a value above 0"},
		{`{"a.weight": 1`, "line 1: unexpected end"},
		{"{\"a.weight\": 1,\n\"b.weight\": \"x\"}", "line 2: tensor b.weight: is not a number"},
		{`{"a.weight": 1} 2`, "line 1: invalid character"},
		{`{"a.weight": 1, "a.weight": 1}`, "duplicate tensor a.weight"},
		{`{"a.weight": 1e999}`, "is not a number"},
		{`{}`, "no column has a tensor's name"},
	} {
		if _, err := DecodeSensitivity([]byte(tt.text), ""); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: error %v, want %q", tt.text, err, tt.want)
		}
	}
}

// A table may have a row for each tensor, and then a column for each type.
func TestSensitivityByRows(t *testing.T) {
	for _, tt := range []struct {
		text, drop, want string
		values           []float64
	}{
		{"tensor,kld\na.weight,0.1\nb.weight,0.3\n", "", "", []float64{0.1, 0.3}},
		{"# drop-type: Q3_K\ntensor,q2_k,q3_k\na.weight,0.1,0.01\nb.weight,0.3,0.03\n", "", "", []float64{0.01, 0.03}},
		{"tensor,q2_k,q3_k\na.weight,0.1,0.01\nb.weight,0.3,0.03\n", "Q2_K", "", []float64{0.1, 0.3}},
		{"tensor,q2_k,q3_k\na.weight,0.1,0.01\n", "", "line 1: several columns of values: keep the column of one type out of q2_k, q3_k", nil},
		{"tensor,q2_k,Q2_K\na.weight,0.1,0.01\n", "Q2_K", "line 1: a second column of Q2_K", nil},
		{"tensor,kld\na.weight,0.1\na.weight,0.3\n", "", "duplicate tensor a.weight", nil},
		{"type,kld\nq2_k,0.1\nq3_k,0.05\n", "", "no column has a tensor's name", nil},
	} {
		s, err := DecodeSensitivity([]byte(tt.text), tt.drop)
		switch {
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%q: error %v, want %q", tt.text, err, tt.want)
		case tt.want == "" && (err != nil || !slices.Equal(s.Values, tt.values) || !slices.Equal(s.Names, []string{"a.weight", "b.weight"})):
			t.Errorf("%q: %v, %v", tt.text, s, err)
		}
	}
}

// Notes before the header give the type of the runs and the control run; what
// the caller says about the type wins.
func TestSensitivityNotes(t *testing.T) {
	const rows = "QTYPE,a.weight\nq2_k,0.1\niq1_m,0.3\n"
	for _, tt := range []struct {
		text, asked, drop string
		control           float64 // -1 for none
		value             float64
		fault             string
	}{
		{"# drop-type: Q2_K\na.weight\n0.1\n", "", "Q2_K", -1, 0.1, ""},
		{"# drop-type: Q2_K\r\n#control:0.002\r\na.weight\r\n0.1\r\n", "", "Q2_K", 0.002, 0.1, ""},
		{"# drop-type: Q2_K\n# control: 0\na.weight\n0.1\n", "IQ1_M", "IQ1_M", 0, 0.1, ""},
		{"# measured in May: twice\n# drop-type: IQ1_M\n" + rows, "", "IQ1_M", -1, 0.3, ""},
		{rows, "Q2_K", "Q2_K", -1, 0.1, ""},
		{"a.weight\n0.1\n# drop-type: Q2_K\n", "", "", -1, 0.1, ""}, // after the header: a remark
		{rows, "", "", 0, 0, "keep the row of one type out of q2_k, iq1_m"},
		{"# drop-type: Q4_K\n" + rows, "", "", 0, 0, "keep the row of one type"},
		{"# control: none\na.weight\n0.1\n", "", "", 0, 0, `line 1: control: "none" is not a divergence`},
		{"#\n# control: -1\na.weight\n0.1\n", "", "", 0, 0, `line 2: control: "-1" is not a divergence`},
		{"# control: NaN\na.weight\n0.1\n", "", "", 0, 0, `line 1: control: "NaN" is not a divergence`},
	} {
		s, err := DecodeSensitivity([]byte(tt.text), tt.asked)
		if tt.fault != "" {
			if err == nil || !strings.Contains(err.Error(), tt.fault) {
				t.Errorf("%q: error %v, want %q", tt.text, err, tt.fault)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", tt.text, err)
			continue
		}
		control := -1.0
		if s.Control != nil {
			control = *s.Control
		}
		if s.DropType != tt.drop || control != tt.control || s.Values[0] != tt.value {
			t.Errorf("%q: type %q, control %v, value %v", tt.text, s.DropType, control, s.Values[0])
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
