package read

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/stats"
)

func TestTables(t *testing.T) {
	for _, tt := range []struct {
		name, content string
		opt           Options
		kind          stats.Kind
		axis          stats.LayerAxis
		rows          int
		layers        map[int][]uint64
	}{
		{"leading dense rows", `[[0,0,0],[0,0,0],[4,1,3],[2,2,4]]`, Options{}, stats.KindExact, stats.AxisRows, 4,
			map[int][]uint64{2: {4, 1, 3}, 3: {2, 2, 4}}},
		{"steps", `[[[0,0],[1,2]],[[0,0],[3,4]],[[0,0],[0,0]]]`, Options{}, stats.KindExact, stats.AxisRows, 2, map[int][]uint64{1: {4, 6}}},
		{"recorder", `{"rank":0,"logical_count":[[[0,0],[1,2]],[[0,0],[3,4]]],"average_utilization_rate_over_window":null}`, Options{}, stats.KindScaled, stats.AxisRows, 2,
			map[int][]uint64{1: {4, 6}}},
		{"recorder, one step", `{"logical_count":[[5,1],[1,2]]}`, Options{}, stats.KindScaled, stats.AxisRows, 2, map[int][]uint64{0: {5, 1}, 1: {1, 2}}},
		{"counts beside a placement", `{"physical_to_logical_map":[[0,1]],"logical_count":[[5,1]]}`, Options{}, stats.KindScaled, stats.AxisRows, 1, map[int][]uint64{0: {5, 1}}},
		{"nearly whole", `[[3.0004,0.9999],[1e1,2.0]]`, Options{}, stats.KindExact, stats.AxisRows, 2, map[int][]uint64{0: {3, 1}, 1: {10, 2}}},
		{"seed of known tokens", `{"count":[[0,0,0],[4,2,2]],"mass":[[0,0,0],[2.5,0.5,1]],"tokens":4}`, Options{}, stats.KindExact, stats.AxisRows, 2, map[int][]uint64{1: {4, 2, 2}}},
		{"seed of multiplied counts", `{"tokens":4,"mass":[[2.5,0.5,1]],"count":[[16,8,8]]}`, Options{}, stats.KindScaled, stats.AxisRows, 1, map[int][]uint64{0: {16, 8, 8}}},
		{"layers by number", `{"3":[1,2,5],"1":[0,4,4],"0":[0,0,0]}`, Options{}, stats.KindExact, stats.AxisBlocks, 0, map[int][]uint64{1: {0, 4, 4}, 3: {1, 2, 5}}},
		{"list of records", `[{"layer":1,"experts":[1,0]},{"layer":1,"experts":[1,2]}]`, Options{}, stats.KindExact, stats.AxisBlocks, 0, map[int][]uint64{1: {1, 2, 1}}},
		{"profile", `{"3":{"total_tokens":4,"activation_counts":[4,3,1,0],"avg_gate_weight":[0.5,0.25,0.125,0],"never_activated":1}}`, Options{Experts: 3}, stats.KindExact, stats.AxisBlocks, 0,
			map[int][]uint64{3: {4, 3, 1}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ev := mustRead(t, tt.content, tt.opt)
			if ev.Kind != tt.kind || ev.LayerAxis != tt.axis || ev.Rows != tt.rows || len(ev.Layers) != len(tt.layers) {
				t.Fatalf("kind %s, axis %s, %d rows, %d layers", ev.Kind, ev.LayerAxis, ev.Rows, len(ev.Layers))
			}
			for n, want := range tt.layers {
				if got := layerOf(t, ev, n).Counts; !slices.Equal(got, want) {
					t.Errorf("layer %d: %v, want %v", n, got, want)
				}
			}
		})
	}
}

func TestTableSignals(t *testing.T) {
	ev := mustRead(t, `{"count":[[0,0,0],[4,2,2]],"mass":[[0,0,0],[2.5,0.5,1]],"tokens":4}`, Options{})
	l := layerOf(t, ev, 1)
	if l.TopK != 2 || *l.Tokens != 4 || !slices.Equal(l.GateWeightSum, []float64{2.5, 0.5, 1}) {
		t.Errorf("top-k %d, tokens %d, gate mass %v", l.TopK, *l.Tokens, l.GateWeightSum)
	}
	ev = mustRead(t, `{"3":{"total_tokens":4,"activation_counts":[4,3,1,0],"avg_gate_weight":[0.5,0.25,0.125,0],
		"ean_mean":[1,2,3,0],"reap":[0.5,1,1.5,0]}}`, Options{})
	l = layerOf(t, ev, 3)
	if l.TopK != 2 || l.GateWeightNorm != "raw" || !slices.Equal(l.GateWeightSum, []float64{2, 0.75, 0.125, 0}) ||
		!slices.Equal(l.OutNormSum, []float64{4, 6, 3, 0}) || !slices.Equal(l.GatedOutNormSum, []float64{2, 3, 1.5, 0}) {
		t.Errorf("profile: %+v", l)
	}
	// The length of its lists is a flag of the tool.
	if ev.ExpertCount != 0 {
		t.Errorf("profile states %d experts", ev.ExpertCount)
	}
}

func TestRelativeAndRankedTables(t *testing.T) {
	ev := mustRead(t, `[[0.5,0.25],[0,0],[1,2]]`, Options{})
	if ev.Kind != stats.KindRelative || !slices.Equal(layerOf(t, ev, 0).Weights, []float64{0.5, 0.25}) || layerOf(t, ev, 0).Counts != nil {
		t.Errorf("moving averages: %+v", ev)
	}
	for _, content := range []string{`{"0":[2,0,1],"5":[0,1,2]}`, "{\"0\":[2,0,1]}\n{\"5\":[0,1,2]}\n"} {
		ev = mustRead(t, content, Options{})
		if ev.Kind != stats.KindRank || !slices.Equal(layerOf(t, ev, 0).Weights, []float64{1, 0, 2}) || !slices.Equal(layerOf(t, ev, 5).Weights, []float64{2, 1, 0}) {
			t.Errorf("ranking %s: %+v", content, ev)
		}
	}
	// One list that is no permutation makes all of them counts.
	if ev = mustRead(t, `{"0":[2,0,1],"5":[0,2,2]}`, Options{}); ev.Kind != stats.KindExact {
		t.Errorf("kind %s", ev.Kind)
	}
}

// The design effect by hand: blocks of 4 tokens, one expert each, counts of
// expert 0 are 4, 0, 4, 0: variance 16/3, m*p*(1-p) = 1.
func TestStepsAreBlocks(t *testing.T) {
	content := `[[[4,0],[2,2]],[[0,4],[2,2]],[[0,0],[0,0]],[[4,0],[2,2]],[[0,4],[2,2]]]`
	ev := mustRead(t, content, Options{TopK: 1})
	b := layerOf(t, ev, 0).Blocks
	if b == nil || b.N != 4 || math.Abs(b.Deff-16.0/3) > 1e-12 {
		t.Fatalf("blocks %+v, want 4 with a design effect of 16/3", b)
	}
	if !slices.Equal(b.HalfCounts[0], []uint64{4, 4}) || !slices.Equal(b.HalfCounts[1], []uint64{4, 4}) {
		t.Errorf("halves %v", b.HalfCounts)
	}
	// Equal blocks say nothing of the spread of independent ones.
	if b := layerOf(t, ev, 1).Blocks; b != nil {
		t.Errorf("equal steps give %+v", b)
	}
	// Ranks are no steps in time.
	ev = mustRead(t, `{"logical_count":`+content+`,"logical_count_layout":"rank_layer_expert"}`, Options{})
	if b := layerOf(t, ev, 0).Blocks; b != nil {
		t.Errorf("ranks give blocks %+v", b)
	}
}

func TestTableErrors(t *testing.T) {
	for _, tt := range []struct{ content, want string }{
		{`[[[1,2],[3]],[[1,2],[3,4]]]`, "byte 25: step 1: layer 1 has 2 experts, in steps before it 1"},
		{`[[1,2],[]]`, "byte 9: layer 1 has no experts"},
		{`[[1,2],[3,-4]]`, "byte 13: layer 1, expert 1: -4 is negative"},
		{`[[1,2],[3,NaN]]`, `byte 10: "NaN" is not a number`},
		{`[[1,2],[3,1e999]]`, "byte 10: 1e999 is out of range"},
		{`[[1,2],[3,1e300]]`, "byte 16: layer 1, expert 1: 1e+300 is over 9007199254740991"},
		{`[[1,2],[3,"4"]]`, "byte 10: '\"', want a value"},
		{`[[1,2],[3,4]`, "byte 12: the text ends inside a value"},
		{`[[1,2],[3,4]]]`, "byte 13: ']', want an object or a list"},
		{`[[1,2],[[3,4]]]`, "byte 8: a list, want a number"},
		{`[[[1,2]],[3,4]]`, "byte 10: a number, want a list"},
		{`[[[1,2],[3,4]],[[1,2]]]`, "byte 22: step 1 has 1 layers, steps before it 2"},
		{`[[0,0],[0,0]]`, "no expert was ever used: every count is 0"},
		{`{"logical_count":[]}`, "no layers"},
		{`{"logical_count":[[1]],"count":[[1]]}`, "holds several kinds of statistics: [count logical_count or a table]"},
		{`{"logical_count":[[1]]} {"logical_count":[[1]]}`, "byte 46: a second table of counts"},
		{`{"0":[1,2],"0":[1,2]}`, "byte 15: duplicate layer 0"},
		{`{"600":[1,2]}`, "byte 7: layer 600 is over the limit of 512 layers"},
		{`{"0":{"activation_counts":[1,2],"reap":[1]}}`, "layer 0: reap has 1 experts, the counts 2"},
		{`{"0":{"activation_counts":[1,9],"total_tokens":8}}`, "layer 0: expert 1 has 9 activations in 8 tokens"},
		{`{"0":{"activation_counts":[1,2],"reap":[1,-1]}}`, "layer 0: reap: expert 1: -1 is negative"},
		{`{"count":[[1,2]],"mass":[[1,2],[1,2]],"tokens":3}`, "mass has 2 layers, count 1"},
		{`{"x":` + strings.Repeat("[", 200), "byte 69: nested more than 64 deep"},
		{`{"name":"x","values":["1"]}`, "holds no known activation statistics: its keys: name, values"},
		{`{"name":"x","values":[1]}`, `column "values": holds numbers, and is not known to hold counts`},
		{`{}`, "holds no known activation statistics: its keys: none"},
		{`{"choices":[{"text":"hi"}]}`, "holds no known activation statistics: its keys: choices"},
		{`{"a":"` + "\x01" + `"}`, "byte 6: control character 0x1 in a string"},
		{`{"a":"\ud800x"}`, "byte 13: half a surrogate pair in a string"},
	} {
		if got := errorOf(t, tt.content, Options{}); got != tt.want {
			t.Errorf("%.80s\n got %s\nwant %s", tt.content, got, tt.want)
		}
	}
	for _, tt := range []struct {
		opt  Options
		want string
	}{
		{Options{Experts: 3}, "byte 6: rows have 2 experts, where 3 were stated"},
		{Options{Layers: 3}, "byte 13: 2 layers, where 3 were stated"},
	} {
		if got := errorOf(t, `[[1,2],[3,4]]`, tt.opt); got != tt.want {
			t.Errorf("got %s, want %s", got, tt.want)
		}
	}
}

// rawIDs is the base64 of int32 ids.
func rawIDs(ids ...int32) string {
	var b []byte
	for _, id := range ids {
		b = binary.LittleEndian.AppendUint32(b, uint32(id))
	}
	return base64.StdEncoding.EncodeToString(b)
}

// npyIDs is the base64 of a .npy of int16 ids.
func npyIDs(shape string, ids ...int16) string {
	var b []byte
	for _, id := range ids {
		b = binary.LittleEndian.AppendUint16(b, uint16(id))
	}
	return base64.StdEncoding.EncodeToString(npyFile("<i2", false, shape, b))
}

func TestResponses(t *testing.T) {
	// Two tokens, three layers of which the first is dense, two experts each.
	ids := []int32{0, 0, 1, 2, 0, 3, 0, 0, 2, 0, 3, 1}
	short := make([]int16, len(ids))
	for i, id := range ids {
		short[i] = int16(id)
	}
	raw, npy := rawIDs(ids...), npyIDs("(2, 3, 2)", short...)
	opt := Options{Layers: 3, TopK: 2}
	for _, tt := range []struct {
		name, content string
		times         uint64 // how often the two tokens are counted
	}{
		{"generate", `{"text":"","meta_info":{"prompt_tokens":1,"completion_tokens":2,"routed_experts":"` + raw + `"}}`, 1},
		{"chat", `{"choices":[{"sgl_ext":{"routed_experts":"` + raw + `"}}]}`, 1},
		{"chat, older", `{"choices":[{"meta_info":{"routed_experts":"` + raw + `"}}]}`, 1},
		{"array", `[{"meta_info":{"routed_experts":"` + raw + `"}},{"meta_info":{"routed_experts":"` + raw + `"}}]`, 2},
		{"lines", `{"meta_info":{"routed_experts":"` + raw + `"}}` + "\n" + `{"meta_info":{"routed_experts":"` + raw + `"}}` + "\n", 2},
		{"escaped", `{"meta_info":{"routed_experts":"` + strings.ReplaceAll(strings.ReplaceAll(raw, "/", `\/`), "A", `\u0041`) + `"}}`, 1},
		{"vllm", `{"choices":[{"routed_experts":"` + npy + `"},{"routed_experts":null}]}`, 1},
		{"vllm, prompt apart", `{"prompt_routed_experts":"` + npy + `","choices":[{"token_ids":[1],"routed_experts":"` + npy + `"}]}`, 2},
		{"lists", `{"outputs":[{"routed_experts":[[[0,0],[1,2],[0,3]],[[0,0],[2,0],[3,1]]]}]}`, 1},
		// The last row repeats the second token and belongs to nobody.
		{"a row too many", `{"meta_info":{"routed_experts":"` + rawIDs(append(slices.Clone(ids), ids[6:]...)...) + `","prompt_tokens":1,"completion_tokens":2}}`, 1},
		{"a row too many, chat", `{"choices":[{"sgl_ext":{"routed_experts":"` + rawIDs(append(slices.Clone(ids), ids[6:]...)...) + `"}}],"usage":{"prompt_tokens":1,"completion_tokens":2}}`, 1},
		{"a row too many, choices", `{"choices":[{"sgl_ext":{"routed_experts":"` + rawIDs(append(slices.Clone(ids), ids[6:]...)...) + `"}},{"sgl_ext":{"routed_experts":"` +
			rawIDs(append(slices.Clone(ids), ids[:6]...)...) + `"}}],"usage":{"prompt_tokens":1,"completion_tokens":4}}`, 2},
		{"a row too many, choices apart", `{"choices":[{"meta_info":{"prompt_tokens":1,"completion_tokens":2,"routed_experts":"` + rawIDs(append(slices.Clone(ids), ids[6:]...)...) +
			`"}},{"meta_info":{"prompt_tokens":2,"completion_tokens":1,"routed_experts":"` + raw + `"}}]}`, 2},
		{"no row too many", `{"choices":[{"sgl_ext":{"routed_experts":"` + raw + `"}},{"sgl_ext":{"routed_experts":"` + raw + `"}}],"usage":{"prompt_tokens":1,"completion_tokens":4}}`, 2},
		{"from the second token", `{"meta_info":{"prompt_tokens":2,"completion_tokens":2,"routed_experts_start_len":1,"routed_experts":"` + rawIDs(append(slices.Clone(ids), ids[6:]...)...) + `"}}`, 1},
		{"padding", `{"meta_info":{"routed_experts":"` + rawIDs(append(slices.Clone(ids), -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0)...) + `"}}`, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ev := mustRead(t, tt.content, opt)
			if ev.Kind != stats.KindExact || ev.LayerAxis != stats.AxisRows || ev.Rows != 3 || len(ev.Layers) != 2 {
				t.Fatalf("kind %s, axis %s, %d rows, %d layers", ev.Kind, ev.LayerAxis, ev.Rows, len(ev.Layers))
			}
			for n, want := range map[int][]uint64{1: {1, 1, 2, 0}, 2: {1, 1, 0, 2}} {
				l := layerOf(t, ev, n)
				for e, v := range l.Counts {
					if v != want[e]*tt.times {
						t.Errorf("layer %d: counts %v, want %v times %d", n, l.Counts, want, tt.times)
						break
					}
				}
				if *l.Tokens != 2*tt.times || l.TopK != 2 {
					t.Errorf("layer %d: %d tokens, top-k %d", n, *l.Tokens, l.TopK)
				}
			}
		})
	}
}

func TestResponseErrors(t *testing.T) {
	opt := Options{Layers: 1, TopK: 2}
	response := func(ids string) string { return `{"meta_info":{"routed_experts":"` + ids + `"}}` }
	for _, tt := range []struct {
		name, content string
		opt           Options
		want          string
	}{
		{"no shape", response(rawIDs(1, 2)), Options{}, "routed_experts is an array without a shape"},
		{"another shape", response(rawIDs(1, 2, 3)), opt, "routed_experts ends with 4 bytes, which are not 2 int32 ids"},
		{"a token too short", response(rawIDs(1, 2, 1, 2, 1, 2)), Options{Layers: 2, TopK: 2}, "ends inside token 1: it is not int32 of 2 layers x 2"},
		{"twice", response(rawIDs(1, 2, 3, 3)), opt, "token 1, layer 0 (of 1 layers x 2 experts per token): duplicate expert 3"},
		{"a token over two values", `{"choices":[{"routed_experts":"` + rawIDs(1, 2, 3, 4) + `"},{"routed_experts":"` + rawIDs(5, 6) + `"}]}`, Options{Layers: 3, TopK: 2}, "ends inside token 0"},
		{"too large", response(rawIDs(1, 5000)), opt, "expert 5000"},
		{"negative", response(rawIDs(1, -2)), opt, "expert -2"},
		{"zeros", response(rawIDs(0, 0, 0, 0)), opt, "every id of routed_experts is 0"},
		{"no base64", response("AAAA*AAA"), opt, "not base64"},
		{"cut base64", response(rawIDs(1, 2)[:7]), opt, "routed_experts ends with 3 bytes"},
		{"npy of two axes", response(npyIDs("(2, 2)", 1, 2, 3, 4)), opt, "routed_experts is <i2 [2, 2]"},
		{"npy that lies", response(npyIDs("(1000000000, 1, 2)", 1, 2)), opt, "token 1 of 1000000000"},
		{"npy of other layers", response(npyIDs("(1, 2, 1)", 1, 2)), opt, "has 2 layers and 1 experts per token, where 1 and 2 were stated"},
		{"two shapes", `[{"routed_experts":[[[1,2]]]},{"routed_experts":[[[1],[2]]]}]`, Options{}, "values before it 1 and 2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := errorOf(t, tt.content, tt.opt); !strings.Contains(got, tt.want) {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// With one expert per token a layer of zeros was not recorded, and expert 0
// beside others was used.
func TestResponseOfOneExpertPerToken(t *testing.T) {
	ev := mustRead(t, fmt.Sprintf(`{"meta_info":{"routed_experts":%q}}`, rawIDs(0, 0, 0, 2, 0, 0)), Options{Layers: 2, TopK: 1})
	if len(ev.Layers) != 1 || !slices.Equal(layerOf(t, ev, 1).Counts, []uint64{2, 0, 1}) {
		t.Errorf("%+v", ev.Layers)
	}
}

// A model tells how many layers raw ids have: with or without dense layers,
// as the ids themselves show.
func TestRawIDsTakeTheirShapeFromTheModel(t *testing.T) {
	shape := gguftest.MoE{Layers: 3, Dense: 1, Experts: 6, Used: 2, MTP: 1}
	path := filepath.Join(t.TempDir(), "model.gguf")
	if err := shape.Builder().WriteFile(path); err != nil {
		t.Fatal(err)
	}
	m, err := ggufio.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	trunk := m.Architecture.BlockCount - m.Architecture.NextNBlocks
	if trunk != 3 || len(m.MoELayers()) < 2 {
		t.Fatalf("the model has a trunk of %d blocks and experts in %v", trunk, m.MoELayers())
	}
	response := func(ids ...int32) string { return fmt.Sprintf(`{"meta_info":{"routed_experts":%q}}`, rawIDs(ids...)) }
	for _, tt := range []struct {
		name, content string
		rows          int
	}{
		{"every layer", response(0, 0, 1, 2, 0, 3, 0, 0, 2, 0, 3, 1), 0},
		{"layers with experts", response(1, 2, 0, 3, 2, 0, 3, 1), 2},
		// Six slices are two tokens of three layers or three of two; the dense
		// layer is in use, so it is no layer of the file.
		{"layers with experts, of a length that misleads", response(1, 2, 0, 3, 2, 0, 3, 1, 4, 5, 5, 4), 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ev := mustRead(t, tt.content, Options{Model: m})
			if ev.Rows != tt.rows || len(ev.Layers) != 2 || ev.TopK != 2 {
				t.Fatalf("%d rows, %d layers, top-k %d; want %d, 2, 2", ev.Rows, len(ev.Layers), ev.TopK, tt.rows)
			}
			fitted, err := ev.Fit(m, stats.FitOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if len(fitted.Layers) != 2 || fitted.Layers[0].Index != 1 || fitted.Layers[1].Index != 2 {
				t.Errorf("fitted layers %+v", fitted.Layers)
			}
		})
	}
	if got := errorOf(t, response(1, 2, 0, 3, 1), Options{Model: m}); !strings.Contains(got, "ends with 4 bytes") {
		t.Error(got)
	}
}

// Ids alone do not show how many experts there are, and the lists of
// llama-expert-profile are as long as a flag says.
func TestExpertsThatIDsDoNotShow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "model.gguf")
	if err := (gguftest.MoE{Layers: 2, Experts: 6, Used: 2}).Builder().WriteFile(path); err != nil {
		t.Fatal(err)
	}
	m, err := ggufio.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"trace":   `{"layer":0,"experts":[1,3]}` + "\n" + `{"layer":1,"experts":[0,1]}`,
		"csv":     "layer,expert\n0,1\n0,3\n1,0\n1,1\n",
		"counts":  "layer,expert,count\n0,1,1\n0,3,1\n1,0,1\n1,1,1\n",
		"rows":    `{"schema":"ggufplan.expert_trace","version":1,"layer_index":"moe"}` + "\n" + `{"layer":0,"experts":[1,3]}` + "\n" + `{"layer":1,"experts":[0,1]}`,
		"profile": `{"0":{"total_tokens":1,"activation_counts":[0,1,0,1,0,0,0,0]},"1":{"total_tokens":1,"activation_counts":[1,1,0,0,0,0,0,0]}}`,
	} {
		ev, err := mustRead(t, content, Options{}).Fit(m, stats.FitOptions{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !slices.Equal(ev.Layers[0].Counts, []uint64{0, 1, 0, 1, 0, 0}) || !slices.Equal(ev.Layers[1].Counts, []uint64{1, 1, 0, 0, 0, 0}) || *ev.Layers[0].Tokens != 1 {
			t.Errorf("%s: %+v", name, ev.Layers)
		}
		saved := marshalCanonical(t, mustRead(t, content, Options{}))
		if back, err := mustRead(t, saved, Options{}).Fit(m, stats.FitOptions{}); err != nil || !slices.Equal(back.Layers[0].Counts, ev.Layers[0].Counts) {
			t.Errorf("%s, saved and read back: %v", name, err)
		}
	}
	for name, content := range map[string]string{
		"an id too large": `{"layer":0,"experts":[1,6]}`,
		"a short table":   `[[1,1],[1,1]]`,
		"a used expert":   `{"0":{"total_tokens":1,"activation_counts":[0,1,0,0,0,0,1,0]}}`,
	} {
		if ev, err := mustRead(t, content, Options{}).Fit(m, stats.FitOptions{}); err == nil {
			t.Errorf("%s fits: %+v", name, ev.Layers)
		}
	}
}

// The design effect needs the experts per token, which a table takes from the
// model.
func TestBlocksTakeTopKFromTheModel(t *testing.T) {
	path := filepath.Join(t.TempDir(), "model.gguf")
	if err := (gguftest.MoE{Layers: 1, Experts: 4, Used: 2}).Builder().WriteFile(path); err != nil {
		t.Fatal(err)
	}
	m, err := ggufio.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	// Four tokens per block, two experts each: s = 1/4 and p = 1/2 of every
	// expert, variance 4/3 of counts 1 and 3, m*p*(1-p) = 1.
	content := `[[[1,3,1,3]],[[3,1,3,1]],[[1,3,1,3]],[[3,1,3,1]]]`
	for _, opt := range []Options{{}, {TopK: 2}} {
		ev, err := mustRead(t, content, opt).Fit(m, stats.FitOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if b := ev.Layers[0].Blocks; b == nil || math.Abs(b.Deff-4.0/3) > 1e-12 {
			t.Errorf("blocks %+v, want a design effect of 4/3", b)
		}
		saved := marshalCanonical(t, mustRead(t, content, opt))
		back, err := mustRead(t, saved, Options{}).Fit(m, stats.FitOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if b := back.Layers[0].Blocks; b == nil || b.Deff != ev.Layers[0].Blocks.Deff || !slices.Equal(b.HalfCounts[0], ev.Layers[0].Blocks.HalfCounts[0]) {
			t.Errorf("saved and read back: blocks %+v, want %+v", b, ev.Layers[0].Blocks)
		}
	}
}
