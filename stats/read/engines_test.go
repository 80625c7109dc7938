package read

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/stats"
)

var engineCounts = [][]uint64{{900, 10, 20, 30}, {400, 5, 600, 35}, {5, 800, 15, 400}}

// perRow spells a line for each layer and expert.
func perRow(header string, line func(layer, expert int, count uint64) string) string {
	var b strings.Builder
	if header != "" {
		b.WriteString(header + "\n")
	}
	for l, row := range engineCounts {
		for e, n := range row {
			b.WriteString(line(l, e, n) + "\n")
		}
	}
	return b.String()
}

// perLayer spells a text for each layer.
func perLayer(between string, text func(layer int, list, object string) string) string {
	var all []string
	for l, row := range engineCounts {
		object := make([]string, len(row))
		for e, n := range row {
			object[e] = fmt.Sprintf("%q: %d", fmt.Sprint(e), n)
		}
		all = append(all, text(l, strings.ReplaceAll(fmt.Sprint(row), " ", ", "), "{"+strings.Join(object, ", ")+"}"))
	}
	return strings.Join(all, between)
}

// Tables as engines and hooks write them give the counts that they hold.
func TestTablesOfEngines(t *testing.T) {
	matrix := "[" + perLayer(", ", func(_ int, list, _ string) string { return list }) + "]"
	type row = func(l, e int, n uint64) string
	csv := func(format string) row {
		return func(l, e int, n uint64) string { return fmt.Sprintf(format, l, e, n) }
	}
	for _, tt := range []struct {
		name, content string
		times         uint64
	}{
		{"lists by layer", `{"expert_counts": {` + perLayer(", ", func(l int, list, _ string) string { return fmt.Sprintf(`"layer_%d": %s`, l, list) }) + `}}`, 1},
		{"objects by layer", `{` + perLayer(", ", func(l int, _, object string) string { return fmt.Sprintf(`"layer_%d": %s`, l, object) }) + `}`, 1},
		{"experts by name", `{` + perLayer(", ", func(l int, _, object string) string {
			return fmt.Sprintf(`"%d": %s`, l, strings.NewReplacer(`{"`, `{"expert_`, `, "`, `, "expert_`).Replace(object))
		}) + `}`, 1},
		{"layers, an object", `{"layers": {` + perLayer(", ", func(l int, list, _ string) string { return fmt.Sprintf(`"%d": {"counts": %s}`, l, list) }) + `}}`, 1},
		{"JSONL hits", perLayer("\n", func(l int, list, _ string) string { return fmt.Sprintf(`{"layer": %d, "hits": %s}`, l, list) }), 1},
		{"JSONL exp_counts", perLayer("\n", func(l int, list, _ string) string {
			return fmt.Sprintf(`{"step": 1, "layer": %d, "exp_counts": %s}`, l, list)
		}), 1},
		{"JSONL objects", perLayer("\n", func(l int, _, object string) string {
			return fmt.Sprintf(`{"layer": %d, "expert_counts": %s}`, l, object)
		}), 1},
		{"JSONL histograms", perLayer("\n", func(l int, list, _ string) string { return fmt.Sprintf(`{"layer_id": %d, "histogram": %s}`, l, list) }), 1},
		{"list of histograms", `[` + perLayer(", ", func(l int, list, _ string) string { return fmt.Sprintf(`{"layer_id": %d, "histogram": %s}`, l, list) }) + `]`, 1},
		{"list of objects", "[" + strings.TrimSuffix(perRow("", csv(`{"layer": %d, "expert": %d, "count": %d},`)), ",\n") + "]", 1},
		{"expert_frequency", `{"expert_frequency": ` + matrix + `}`, 1},
		{"exp_counts", `{"exp_counts": ` + matrix + `}`, 1},
		{"activation_frequency", `{"activation_frequency": {` + perLayer(", ", func(l int, list, _ string) string { return fmt.Sprintf(`"%d": %s`, l, list) }) + `}}`, 1},
		{"counts beside shares", `{"share": [[0.5, 0.5, 0, 0], [0.5, 0.5, 0, 0], [0.5, 0.5, 0, 0]], "expert_counts": ` + matrix + `, "ratio": [[1, 2, 3, 4]]}`, 1},
		{"batches in a list", `[{"batch": 0, "tokens_per_expert": ` + matrix + `}, {"batch": 1, "tokens_per_expert": ` + matrix + `}]`, 2},
		{"batches by line", `{"batch": 0, "tokens_per_expert": ` + matrix + `}` + "\n" + `{"batch": 1, "tokens_per_expert": ` + matrix + `}`, 2},
		{"modules of routers", `{` + perLayer(", ", func(l int, list, _ string) string { return fmt.Sprintf(`"model.layers.%d.mlp.gate": %s`, l, list) }) + `}`, 1},
		{"modules of experts", `{` + strings.TrimSuffix(perRow("", func(l, e int, n uint64) string { return fmt.Sprintf(`"model.layers.%d.mlp.experts.%d": %d,`, l, e, n) }), ",\n") + `}`, 1},
		{"tensors", `{` + perLayer(", ", func(l int, list, _ string) string {
			return fmt.Sprintf(`"blk.%d.ffn_gate_inp.weight": {"counts": %s}`, l, list)
		}) + `}`, 1},
		{"CSV of modules", perRow("module,expert,count", csv("model.layers.%d.mlp,%d,%d")), 1},
		{"CSV of vLLM", perRow("layer_idx,logical_expert,num_tokens", csv("%d,%d,%d")), 1},
		{"CSV of pandas", perRow("Unnamed: 0,layer,expert,n_tokens", csv("7,%d,%d,%d")), 1},
		{"header in a comment", "# by a hook\n" + perRow("# layer,expert,count", csv("%d,%d,%d")), 1},
		{"domains", perRow("layer,expert,count,domain", csv("%d,%d,%d,code")) + perRow("", csv("%d,%d,%d,prose")), 2},
		{"an unknown text, once each", perRow("layer,expert,count,flavour", csv("%d,%d,%d,sweet")), 1},
		{"ranks of their own experts", perRow("layer,expert,count,ep_rank", func(l, e int, n uint64) string { return fmt.Sprintf("%d,%d,%d,%d", l, e, n, e/2) }), 1},
		{"ranks of their own tokens", perRow("layer,expert,count,dp_rank", csv("%d,%d,%d,0")) + perRow("", func(l, e int, n uint64) string { return fmt.Sprintf("%d,%d,%d,1", l, e, 2*n) }), 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ev := mustRead(t, tt.content, Options{})
			if ev.Kind != stats.KindExact || len(ev.Layers) != len(engineCounts) {
				t.Fatalf("%s, %d layers", ev.Kind, len(ev.Layers))
			}
			for i, l := range ev.Layers {
				for e, n := range l.Counts {
					if l.Index != i || n != tt.times*engineCounts[i][e] {
						t.Errorf("layer %d: %v, want %d times %v", l.Index, l.Counts, tt.times, engineCounts[i])
						break
					}
				}
			}
		})
	}
}

// Processes that counted the same tokens add up to a multiple.
func TestRanksThatRepeat(t *testing.T) {
	csv := func(rank int) row {
		return func(l, e int, n uint64) string { return fmt.Sprintf("%d,%d,%d,%d", rank, l, e, n) }
	}
	for name, content := range map[string]string{
		"CSV": perRow("tp_rank,layer,expert,count", csv(0)) + perRow("", csv(1)),
		"JSONL": perRow("", func(l, e int, n uint64) string {
			return fmt.Sprintf(`{"rank": 0, "layer": %d, "expert": %d, "count": %d}`+"\n"+`{"rank": 1, "layer": %[1]d, "expert": %d, "count": %d}`, l, e, n)
		}),
		"JSONL of lists": perLayer("\n", func(l int, list, _ string) string {
			return fmt.Sprintf(`{"rank": 0, "layer": %d, "hits": %s}`+"\n"+`{"rank": 1, "layer": %[1]d, "hits": %s}`, l, list)
		}),
	} {
		ev := mustRead(t, content, Options{})
		if ev.Kind != stats.KindScaled || ev.Layers[0].Tokens != nil || ev.Layers[0].Counts[0] != 2*engineCounts[0][0] {
			t.Errorf("%s: %s, %v", name, ev.Kind, ev.Layers[0].Counts)
		}
	}
}

type row = func(l, e int, n uint64) string

// What could change the meaning of a row is refused by name, and naming the
// counts settles it.
func TestColumnsThatTellRowsApart(t *testing.T) {
	csv := perRow("layer,expert,flavour,latency,count", func(l, e int, n uint64) string { return fmt.Sprintf("%d,%d,sweet,1,%d", l, e, n) }) +
		perRow("", func(l, e int, n uint64) string { return fmt.Sprintf("%d,%d,sour,1,%d", l, e, n) })
	jsonl := perRow("", func(l, e int, n uint64) string {
		return fmt.Sprintf(`{"layer": %d, "expert": %d, "count": %d, "flavour": "sweet"}`+"\n"+`{"layer": %[1]d, "expert": %d, "count": %d, "flavour": "sour"}`, l, e, n)
	})
	for name, content := range map[string]string{"CSV": csv, "JSONL": jsonl, "JSON": "[" + strings.ReplaceAll(strings.TrimSpace(jsonl), "\n", ",") + "]"} {
		_, _, err := readContent(t, []byte(content), Options{})
		var column *ColumnError
		if !errors.As(err, &column) || !column.Adds || !slices.Equal(column.Names, []string{"flavour"}) {
			t.Errorf("%s: %v", name, err)
		}
		if ev := mustRead(t, content, Options{CountColumn: "count"}); ev.Layers[0].Counts[0] != 2*engineCounts[0][0] {
			t.Errorf("%s: %v", name, ev.Layers[0].Counts)
		}
	}
}

// Rows that are activations, though each expert has as many: the caller says
// so.
func TestNoCountColumn(t *testing.T) {
	for name, content := range map[string]string{
		"CSV": perRow("layer,expert,latency", func(l, e int, _ uint64) string { return fmt.Sprintf("%d,%d,0.5", l, e) }),
		"JSONL": perRow("", func(l, e int, _ uint64) string {
			return fmt.Sprintf(`{"layer": %d, "expert": %d, "latency": 0.5}`, l, e)
		}),
	} {
		var column *ColumnError
		if _, _, err := readContent(t, []byte(content), Options{}); !errors.As(err, &column) || !slices.Equal(column.Names, []string{"latency"}) {
			t.Errorf("%s: %v", name, err)
		}
		if ev := mustRead(t, content, Options{CountColumn: NoCountColumn}); ev.Kind != stats.KindExact || !slices.Equal(ev.Layers[2].Counts, []uint64{1, 1, 1, 1}) {
			t.Errorf("%s: %s %v", name, ev.Kind, ev.Layers[2].Counts)
		}
	}
}

// Layers may differ in their experts.
func TestRaggedTables(t *testing.T) {
	for _, content := range []string{`[[1,2],[3,4,5]]`, `{"expert_counts":[[1,2],[3,4,5]]}`, `[[[1,2],[3,4,4]],[[0,0],[0,0,1]]]`} {
		ev := mustRead(t, content, Options{})
		if ev.Kind != stats.KindExact || ev.ExpertCount != 0 || !slices.Equal(ev.Layers[0].Counts, []uint64{1, 2}) || !slices.Equal(ev.Layers[1].Counts, []uint64{3, 4, 5}) {
			t.Errorf("%s: %s %d %v", content, ev.Kind, ev.ExpertCount, ev.Layers)
		}
	}
}

// What looks like counts and is not, or says too little, is refused.
func TestTablesRefused(t *testing.T) {
	for _, tt := range []struct{ content, want string }{
		{`{"expert_usage": [[5, 6], [7, 8]]}`, `column "expert_usage": holds numbers`},
		{`{"expert_counts": [5, 6]}`, `"expert_counts" is a list of one layer's counts, and no key says which layer`},
		{`{"expert_counts": [[5, 6]], "hits": [[5, 6]]}`, `"hits" beside "expert_counts": a second table of counts`},
		{`{"expert_counts": [[5, 6], 7]}`, `'7' after a list of "expert_counts" begins otherwise`},
		{`{"0": {"0": 1, "1": 0}, "1": {"0": 0, "1": 1}}`, "a placement or a ranking, not counts"},
		{`{"model.layers.0.mlp.gate": [1, 2], "model.layers.0.mlp.router": [1, 2]}`, "duplicate layer 0"},
		{"module,expert,count\nmodel.layers.0.gate,0,5\nmodel.layers.0.up,0,5\n", `layer 0 has two names`},
		{"module,expert,count\nmodel.gate,0,5\n", `layer "model.gate" is not a whole number, nor a module's name`},
		{`{"layer": 0, "hits": {"0": 5, "zero": 6}}`, `"zero", want the number of an expert`},
		{`{"layer": 0, "hits": {"0": 5, "expert_0": 6}}`, "duplicate expert 0"},
		{`{"schema": "ggufplan.expert_stats", "layers": [{"counts": [1, 2]}, {"layer": 1}]}`,
			`lacks "version": 1, "counts_kind": "exact", "layer": 0 in layers[0]`},
		{`{"counts_kind": "exact"}`, `lacks "schema": "ggufplan.expert_stats", "version": 1, "layers": [{"layer": 0, "counts": [12, 0, 7]}]`},
	} {
		if got := errorOf(t, tt.content, Options{}); !strings.Contains(got, tt.want) {
			t.Errorf("%s\n got %s\nwant %s", tt.content, got, tt.want)
		}
	}
}
