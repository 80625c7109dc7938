package read

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/stats"
)

// The counts of every table in testdata/tables that is not as published.
var tableCounts = [][]uint64{{900, 10, 20, 30, 400, 5, 600, 35}, {5, 800, 15, 400, 20, 10, 450, 300}}

// A row means what its header says, in every format.
func TestTablesOfExperts(t *testing.T) {
	for _, tt := range []struct {
		file   string
		kind   stats.Kind
		layers int
	}{
		{"hits.csv", stats.KindExact, 2},
		{"selection_count.csv", stats.KindExact, 2},
		{"tokens.csv", stats.KindExact, 2},
		{"megatron.csv", stats.KindExact, 2},
		{"count.jsonl", stats.KindExact, 2},
		{"hits.jsonl", stats.KindExact, 2},
		{"mtp.jsonl", stats.KindExact, 1},
		{"frequency.csv", stats.KindRelative, 2},
		{"prob.csv", stats.KindRelative, 2},
		{"freq.jsonl", stats.KindRelative, 2},
	} {
		t.Run(tt.file, func(t *testing.T) {
			ev := read(t, filepath.Join("../../testdata/tables", tt.file))
			if ev.Kind != tt.kind || len(ev.Layers) != tt.layers {
				t.Fatalf("%s, %d layers", ev.Kind, len(ev.Layers))
			}
			for i, l := range ev.Layers {
				want := tableCounts[i]
				if tt.kind == stats.KindExact {
					if !slices.Equal(l.Counts, want) {
						t.Errorf("layer %d: %v", i, l.Counts)
					}
					continue
				}
				for e, w := range l.Weights {
					if got := w / l.Weights[0] * float64(want[0]); got < float64(want[e])*0.999 || got > float64(want[e])*1.001 {
						t.Errorf("layer %d, expert %d: %v of expert 0's, want %d of %d", i, e, w/l.Weights[0], want[e], want[0])
					}
				}
			}
			if got := ev.Findings; strings.HasPrefix(tt.file, "m") != slices.ContainsFunc(got, func(f stats.Finding) bool { return f.Code == stats.CodeMTPBlock }) {
				t.Errorf("findings %v", got)
			}
		})
	}
}

func TestTablesAsPublished(t *testing.T) {
	for file, want := range map[string]struct {
		canonical string
		layers    int
	}{
		"fiddler-expert-popularity-machine-learning.json": {"mixtral-8x7b-v0.1.mmlu-machine-learning.json", 32},
		"vramancer-qwen3-coder-expert-histogram.json":     {"qwen3-coder-30b-a3b.mixed.json", 48},
		"kimi-imatrix-counts-3-layers.jsonl":              {"kimi-k2.5.layers-1-10-14.json", 3},
	} {
		got, right := read(t, filepath.Join("../../testdata/tables", file)), read(t, filepath.Join("../../testdata/traffic", want.canonical))
		if got.Kind != stats.KindExact || len(got.Layers) != want.layers || len(right.Layers) != want.layers {
			t.Fatalf("%s: %s, %d layers, want %d", file, got.Kind, len(got.Layers), len(right.Layers))
		}
		for i := range got.Layers {
			if !slices.Equal(got.Layers[i].Counts, right.Layers[i].Counts) {
				t.Errorf("%s: layer %d: %v, want %v", file, i, got.Layers[i].Counts, right.Layers[i].Counts)
			}
		}
	}
	ds4 := read(t, "../../testdata/tables/ds4-expert-hits-head.csv")
	if got := ds4.Layers[0].Counts[:4]; !slices.Equal(got, []uint64{995, 254, 4399, 24}) || ds4.Kind != stats.KindExact {
		t.Errorf("%s %v", ds4.Kind, got)
	}
}

func TestColumnsThatLeaveItOpen(t *testing.T) {
	pairs := func(header string, rows ...string) string { return header + "\n" + strings.Join(rows, "\n") + "\n" }
	open := pairs("layer,expert,bytes", "0,0,4", "0,1,9")
	for _, tt := range []struct{ content, column, want string }{
		{open, "", `column "bytes"`},
		{`{"layer":0,"expert":0,"bytes":4}` + "\n" + `{"layer":0,"expert":1,"bytes":9}`, "", `column "bytes"`},
		{pairs("layer,expert,hits,selections", "0,0,4,1", "0,1,9,1"), "", `columns "hits" and "selections"`},
		{open, "kilobytes", `no column "kilobytes"`},
		{open, "expert", `column "expert" is the expert`},
		{pairs("layer,expert,hits,layer_rows", "0,0,4,3", "0,1,9,3"), "", "over the layer's total of 3"},
		{pairs("layer,expert,hits,layer_rows", "0,0,4,30", "0,1,9,31"), "", "different totals"},
		{pairs("layer,expert,component,count", "0,0,vision,4"), "", `block "vision"`},
	} {
		_, _, err := readContent(t, []byte(tt.content), Options{CountColumn: tt.column})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: error %v, want %q", tt.content, err, tt.want)
		}
		var column *ColumnError
		if strings.HasPrefix(tt.want, "column") && !strings.Contains(tt.want, "is the") && !errors.As(err, &column) {
			t.Errorf("%q: %T", tt.content, err)
		}
	}
	for _, tt := range []struct {
		content, column string
		kind            stats.Kind
		want            []uint64
	}{
		{open, "bytes", stats.KindExact, []uint64{4, 9}},
		{pairs("# layer,expert,hits", "0,0,4", "0,1,9"), "", stats.KindExact, []uint64{4, 9}},
		{pairs("layer,expert,hits,selections", "0,0,4,1", "0,1,9,1"), "hits", stats.KindExact, []uint64{4, 9}},
		{pairs("layer,expert,frequency,count", "0,0,0.3,4", "0,1,0.7,9"), "", stats.KindExact, []uint64{4, 9}},
		{pairs("step,layer,expert,tokens", "0,0,0,1", "0,0,1,5", "1,0,0,3", "1,0,1,4"), "", stats.KindExact, []uint64{4, 9}},
		{pairs("block,expert_idx,Num-Tokens", "0,0,4", "0,1,9"), "", stats.KindExact, []uint64{4, 9}},
		{pairs("layer,expert,hits,layer_tokens", "0,0,10,10", "0,1,10,10"), "", stats.KindExact, []uint64{10, 10}},
		{`{"tokens_per_expert":[[1,5]]}` + "\n" + `{"tokens_per_expert":[[3,4]]}`, "", stats.KindExact, []uint64{4, 9}},
		{`{"layers":[{"layer":0,"counts":[4,9]}]}`, "", stats.KindExact, []uint64{4, 9}},
		{`{"layers":[{"counts":[4,9]}]}`, "", stats.KindExact, []uint64{4, 9}},
		{`{"layer_0":[4,9]}`, "", stats.KindExact, []uint64{4, 9}},
		{`[{"layer":0,"expert":0,"hits":4},{"layer":0,"expert":1,"hits":9}]`, "", stats.KindExact, []uint64{4, 9}},
		// Activations, with columns that say nothing of how often.
		{pairs("layer,expert,token,score", "0,1,0,3", "0,0,1,2", "0,1,2,4"), "", stats.KindExact, []uint64{1, 2}},
	} {
		ev, err := Reader(context.Background(), strings.NewReader(tt.content), "table", Options{CountColumn: tt.column})
		if err != nil {
			t.Errorf("%q: %v", tt.content, err)
			continue
		}
		if got := ev.Layers[0].Counts; ev.Kind != tt.kind || !slices.Equal(got, tt.want) {
			t.Errorf("%q: %s %v", tt.content, ev.Kind, got)
		}
	}
}

// Every layer has experts of its own number.
func TestRaggedTable(t *testing.T) {
	ev := read(t, "../../testdata/tables/ragged.json")
	if !slices.Equal(ev.Layers[0].Counts, tableCounts[0]) || !slices.Equal(ev.Layers[1].Counts, tableCounts[1][:6]) || ev.ExpertCount != 0 {
		t.Errorf("%v, %d experts", ev.Layers, ev.ExpertCount)
	}
}

// What the sums and bounds of counts say, and in which words.
func TestCountBounds(t *testing.T) {
	over := `{"layer": 0, "counts": [9007199254740991, 9007199254740991]}`
	for content, want := range map[string]string{
		over: "the counts of experts 0 to 1 sum to 18014398509481982, over 9007199254740991",
	} {
		if _, _, err := readContent(t, []byte(content), Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	ev := read(t, "../../testdata/tables/over-tokens.json")
	if got := ev.Findings; len(got) != 1 || got[0].Code != stats.CodeKMismatch || !strings.Contains(got[0].Message, "expert 0 has a count of 101 in 100 tokens") {
		t.Errorf("an expert used more often than there are tokens: findings %v", got)
	}
	tokens := uint64(240000)
	l := stats.Layer{Counts: []uint64{239999, 240000}, Tokens: &tokens}
	if err := l.CheckCounts(0); err == nil || strings.Contains(err.Error(), "which is 2 ") {
		t.Errorf("error %v", err)
	}
}

// One bit of a stored tensor changed: the checksum says so.
func TestDamagedTorch(t *testing.T) {
	if ev := read(t, "../../testdata/damaged/base.pt"); ev.Kind == stats.KindNone {
		t.Error("the sound file has no counts")
	}
	if _, err := File(context.Background(), "../../testdata/damaged/flipped.pt", Options{}); err == nil || !strings.Contains(err.Error(), "checksum") {
		t.Errorf("error %v", err)
	}
}

// Rows that are a table, though no key or column says how much, are not read
// as one activation each.
func TestNoCountsOfOne(t *testing.T) {
	for _, tt := range []struct{ content, want string }{
		{"layer,expert,expert_count\n0,0,8\n0,1,8\n", "expert_count"},
		{`{"layer":0,"expert":0,"expert_count":8}` + "\n" + `{"layer":0,"expert":1,"expert_count":8}`, "expert_count"},
		{`{"layer":0,"experts":[0],"zork":5}` + "\n" + `{"layer":0,"experts":[1],"zork":7}`, "zork"},
	} {
		if got := errorOf(t, tt.content, Options{}); !strings.Contains(got, `column "`+tt.want+`": not known`) {
			t.Errorf("%s: %s", tt.content, got)
		}
	}
	ev := mustRead(t, `{"layer":0,"experts":[0],"zork":5}`+"\n"+`{"layer":0,"experts":[1],"zork":7}`+"\n"+`{"layer":0,"experts":[1],"zork":7}`, Options{})
	if got := ev.Layers[0].Counts; !slices.Equal(got, []uint64{1, 2}) || ev.TopK != 1 {
		t.Errorf("a trace of one expert per token: counts %v, top-k %d", got, ev.TopK)
	}
	if got := errorOf(t, "layer,expert,count,phase\n0,0,8,pre\x1b[2Jfill\n", Options{}); !strings.Contains(got, "do not print") {
		t.Errorf("an escape sequence: %s", got)
	}
}

// What a refusal advises works, in every form.
func TestCountColumnOfRecords(t *testing.T) {
	for _, content := range []string{
		"layer,expert,zork\n0,0,5\n0,1,7\n",
		`{"layer":0,"expert":0,"zork":5}` + "\n" + `{"layer":0,"expert":1,"zork":7}`,
		`{"layer":0,"experts":[0],"zork":5}` + "\n" + `{"layer":0,"experts":[1],"zork":7}`,
		`[{"layer":0,"expert":0,"zork":5},{"layer":0,"expert":1,"zork":7}]`,
		`{"layer":0,"expert":0,"zork":5,"hits":1}` + "\n" + `{"layer":0,"expert":1,"zork":7,"hits":1}`,
	} {
		ev := mustRead(t, content, Options{CountColumn: "zork"})
		if got := ev.Layers[0].Counts; ev.Kind != stats.KindExact || !slices.Equal(got, []uint64{5, 7}) {
			t.Errorf("%s: %s %v", content, ev.Kind, got)
		}
	}
}
