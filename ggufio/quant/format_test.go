package quant

import (
	"strings"
	"testing"
)

func TestTypeTable(t *testing.T) {
	names, types := map[string]bool{}, map[Type]bool{}
	rowHeaders := 0
	for _, f := range Formats() {
		if names[f.Name] || types[f.Type] {
			t.Errorf("%s (%d) is listed twice", f.Name, f.Type)
		}
		names[f.Name], types[f.Type] = true, true
		if f.Name != strings.ToUpper(f.Name) || !strings.EqualFold(f.Spelling(), f.Name) {
			t.Errorf("%s is spelled %q", f.Name, f.Spelling())
		}
		if f.Layout.WeightsPerBlock == 0 || f.Layout.BytesPerBlock == 0 {
			t.Errorf("%s has no layout", f.Name)
		}
		if f.Layout.RowHeaderBytes > 0 {
			rowHeaders++
			if f.Engine != IKLlama {
				t.Errorf("%s: none of llama.cpp's types has a row header", f.Name)
			}
		}
		for _, next := range []Type{f.Fallback, f.FallbackIK} {
			g, ok := Lookup(next)
			if !ok {
				t.Fatalf("%s falls back to %v, which is not in the table", f.Name, next)
			}
			if next != f.Type && (g.Layout.WeightsPerBlock != 32 || f.Layout.WeightsPerBlock%32 != 0 || !g.Writable) {
				t.Errorf("%s falls back to %s, not a writable type of narrower blocks", f.Name, g.Name)
			}
			if f.Engine == LlamaCpp && next == f.Fallback && g.Engine != LlamaCpp {
				t.Errorf("%s falls back to %s, which llama.cpp lacks", f.Name, g.Name)
			}
		}
		if back, ok := ByName(f.Spelling()); !ok || back.Type != f.Type {
			t.Errorf("%q reads back as %v", f.Spelling(), back.Type)
		}
	}
	if rowHeaders != 20 {
		t.Errorf("%d types have a row header, want 20", rowHeaders)
	}
}

func TestShapeFallback(t *testing.T) {
	for _, tt := range []struct {
		t          Type
		rowWeights uint64
		want       Type // llama.cpp's rule for its own types
		wantIK     Type
	}{
		{Q4_K, 4096, Q4_K, Q4_K},
		{Q4_K, 2880, Q5_0, Q5_0},
		{Q5_K, 2880, Q5_1, Q6_0},
		{Q6_K, 2880, Q8_0, Q8_0},
		{Q2_K, 2880, Q4_0, IQ4_NL},
		{Q3_K, 2880, Q4_0, IQ4_NL},
		{IQ1_S, 2880, IQ4_NL, IQ4_NL},
		{IQ4_XS, 2880, IQ4_NL, IQ4_NL},
		{TQ1_0, 2880, Q4_0, F16}, // ik_llama.cpp has no ternary types of this kind
		{Q2_0, 96, Q4_0, F16},
		{Q8_0, 2880, Q8_0, Q8_0},
		{Q8_0, 48, F16, F16},
		{Q4_K, 48, F16, F16},
		{NVFP4, 96, F16, F16},
		{MXFP4, 2880, MXFP4, MXFP4},
		{BF16, 1, BF16, BF16},
		{IQ4_K, 2880, Q5_0, Q5_0},
		{IQ5_K, 2880, Q6_0, Q6_0},
		{IQ5_KS, 2880, Q5_0, Q5_0},
		{IQ2_KL, 2880, IQ4_NL, IQ4_NL},
		{Type(1 << 20), 48, Type(1 << 20), Type(1 << 20)},
	} {
		if got := ShapeFallback(tt.t, tt.rowWeights); got != tt.want {
			t.Errorf("ShapeFallback(%v, %d) = %v, want %v", tt.t, tt.rowWeights, got, tt.want)
		}
		if got := ShapeFallbackIK(tt.t, tt.rowWeights); got != tt.wantIK {
			t.Errorf("ShapeFallbackIK(%v, %d) = %v, want %v", tt.t, tt.rowWeights, got, tt.wantIK)
		}
	}
}

// Sizes that published files of ik_llama.cpp have: the row header counts once
// per row.
func TestRowHeaders(t *testing.T) {
	for _, tt := range []struct {
		t    Type
		want uint64 // of a row of 4096 weights
	}{
		{IQ4_KS, 4 + 16*136}, {IQ4_KSS, 4 + 16*128}, {IQ2_KS, 2 + 16*70}, {IQ5_KS, 4 + 16*168},
		{IQ2_KT, 4 + 16*68}, {IQ3_KT, 4 + 16*100}, {IQ4_KT, 4 + 16*128}, {IQ1_KT, 4 + 16*56},
		{IQ1_BN, 2 + 64*13}, {IQ2_BN, 4 + 64*16}, {Q8_KV, 8 + 4096}, {IQ1_S_R4, 2 + 128*6}, {IQ1_M_R4, 2 + 128*7},
		{IQ2_KL, 2 + 16*86}, {IQ3_KS, 2 + 16*102}, {IQ6_K, 16 * 212},
	} {
		f, _ := Lookup(tt.t)
		got, err := f.Layout.EncodedBytes(3, 4096)
		if err != nil || got != 3*tt.want {
			t.Errorf("%v: 3 rows take %d bytes, %v; want %d", tt.t, got, err, 3*tt.want)
		}
	}
}
