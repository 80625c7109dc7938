package read

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/stats"
)

// layerOf returns a layer of the evidence.
func layerOf(t testing.TB, ev *stats.Evidence, index int) stats.Layer {
	t.Helper()
	for _, l := range ev.Layers {
		if l.Index == index {
			return l
		}
	}
	t.Fatalf("no layer %d among %d", index, len(ev.Layers))
	return stats.Layer{}
}

func TestTraceSpellings(t *testing.T) {
	// Layers 1 and 3: layer 0 is dense, layer 2 was not recorded.
	want := map[int][]uint64{1: {1, 2, 0, 1}, 3: {0, 0, 1, 1}}
	for _, tt := range []struct{ name, content string }{
		{"plain", `{"layer":1,"experts":[1,3]}
{"layer":1,"experts":[0,1]}
{"layer":3,"experts":[3,2]}
`},
		{"python", `{"layer": 1, "experts": [1, 3], "weights": [0.7, 0.3], "seq": 0, "pos": 0}
{"layer": 1, "experts": [0, 1], "weights": [0.6, 0.4], "seq": 0, "pos": 1}
{"layer": 3, "experts": [3, 2], "weights": [0.5, 0.5], "seq": 0, "pos": 1}`},
		{"aliases", `{"layer_id":1,"topk_ids":[1,3],"topk_weights":[0.7,0.3],"token_idx":5}
{"layer_idx":1,"expert_ids":[0,1]}
{"layer":3,"topk_ids":[3,2],"phase":"decode"}
`},
		{"any order, unknown keys, spaces, escapes", "\ufeff" + ` { "experts" : [ 1 , 3 ] , "request":{"id":"a\"b","t":[1,{}]}, "layer" : 1 }
{"note":"\u00e9\ud83d\ude00\n","l\u0061yer":1,"experts":[0,1],"weights":null}

{"text":"} , {","experts":[3,2.0],"layer":3e0}` + "\r\n"},
		{"repeated tokens", `{"layer":1,"experts":[1,3],"n":1}
{"layer":1,"experts":[1,0],"n":1}
{"layer":1,"experts":[2,0],"n":0}
{"layer":3,"experts":[3,2]}
`},
		{"blocks", `{"layer":1,"counts":[1,2,0,1],"tokens":2}
{"layer":3,"counts":[0,0,1,1],"tokens":1}
`},
		{"csv", "layer,expert\n1,1\n1,3\n1,0\n1,1\n3,3\n3,2\n"},
		{"csv of floats", "layer,expert\n1.0,1.0\n1,3e0\n1,0\n1,1\n3,3\n3,2\n"},
		{"csv lists", "layer_id,expert_ids\n1,1 3\n1,0 1\n3,3 2\n"},
		{"csv crlf and comments", "# anything\r\nlayer_id,expert_ids\r\n1,1 3\r\n\r\n# more\r\n1,0 1\r\n3,3 2\r\n"},
		{"csv quoted", "layer,token,expert_ids\n1,0,\"[1, 3]\"\n1,1,\"[0, 1]\"\n3,1,\"[3, 2]\"\n"},
		{"csv tabs", "pos\tLayer\tExperts\n0\t1\t1 3\n1\t1\t0 1\n1\t3\t3 2"},
		{"csv counts", "layer,expert,count\n1,0,1\n1,1,2\n1,3,1\n3,3,1\n3,2,1\n"},
		{"csv weights", "layer,expert_ids,weights,phase\n1,1 3,0.7 0.3,decode\n1,0 1,0.6 0.4,decode\n3,3 2,0.5 0.5,decode\n"},
		{"route trace", "# model=m n_layer=48 n_expert=4 n_expert_used=2\n" +
			"turn,phase,step,layer,slot,expert,weight,residency,expert_bytes\n" +
			"0,decode,0,1,0,1,0.7,ram,10\n0,decode,0,1,1,3,0.3,ram,10\n0,decode,0,3,0,3,0.5,disk,10\n0,decode,0,3,1,2,0.5,ram,10\n" +
			"0,decode,1,1,0,0,0.6,ram,10\n0,decode,1,1,1,1,0.4,ram,10\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ev := mustRead(t, tt.content, Options{})
			if ev.Kind != stats.KindExact || ev.LayerAxis != stats.AxisBlocks || len(ev.Layers) != len(want) {
				t.Fatalf("kind %s, axis %s, %d layers", ev.Kind, ev.LayerAxis, len(ev.Layers))
			}
			for n, counts := range want {
				if got := layerOf(t, ev, n).Counts; !slices.Equal(got, counts) {
					t.Errorf("layer %d: counts %v, want %v", n, got, counts)
				}
			}
		})
	}
}

// The weights of a trace are kept, and told apart from none.
func TestTraceSignals(t *testing.T) {
	ev := mustRead(t, `{"layer":0,"experts":[1,0],"weights":[0.75,0.25],"phase":"prefill"}
{"layer":0,"experts":[2,0],"weights":[0.5,0.5],"phase":"prefill"}
{"layer":1,"experts":[1,0],"phase":"prefill"}
{"layer":2,"experts":[1,0],"weights":[0.5,0.25],"phase":"prefill"}
`, Options{})
	l := layerOf(t, ev, 0)
	if want := []float64{0.75, 0.75, 0.5}; !slices.Equal(l.GateWeightSum, want) {
		t.Errorf("gate mass %v, want %v", l.GateWeightSum, want)
	}
	if want := []float64{0.3125, 0.5625, 0.25}; !slices.Equal(l.GateWeightSqSum, want) {
		t.Errorf("squares %v, want %v", l.GateWeightSqSum, want)
	}
	if l.GateWeightNorm != "topk_normalized" || layerOf(t, ev, 2).GateWeightNorm != "" {
		t.Errorf("norms %q, %q", l.GateWeightNorm, layerOf(t, ev, 2).GateWeightNorm)
	}
	if layerOf(t, ev, 1).GateWeightSum != nil {
		t.Error("a layer without weights has a gate mass")
	}
	if l.TopK != 2 || *l.Tokens != 2 || ev.TopK != 2 || ev.ExpertCount != 0 || ev.Inputs[0].Phase != "prefill" {
		t.Errorf("top-k %d, tokens %d, of all %d, experts %d, phase %q", l.TopK, *l.Tokens, ev.TopK, ev.ExpertCount, ev.Inputs[0].Phase)
	}
}

func TestTraceHeader(t *testing.T) {
	header := `{"schema":"ggufplan.expert_trace","version":1,"expert_count":8,"top_k":2,"layer_index":"%s"}` + "\n" +
		`{"layer":1,"experts":[1,3]}` + "\n"
	ev := mustRead(t, fmt.Sprintf(header, "block"), Options{})
	if ev.ExpertCount != 8 || ev.LayerAxis != stats.AxisBlocks || len(ev.Layers[0].Counts) != 8 {
		t.Errorf("experts %d, axis %s", ev.ExpertCount, ev.LayerAxis)
	}
	// In MoE order the rows seen and not seen make up the axis.
	ev = mustRead(t, fmt.Sprintf(header, "moe"), Options{})
	if ev.LayerAxis != stats.AxisRows || ev.Rows != 2 {
		t.Errorf("axis %s of %d rows", ev.LayerAxis, ev.Rows)
	}
	// Bare rows take the tokens from the model's experts per token.
	ev = mustRead(t, "layer,expert\n0,1\n0,3\n0,1\n0,2\n", Options{TopK: 2, Experts: 6})
	if l := ev.Layers[0]; *l.Tokens != 2 || len(l.Counts) != 6 {
		t.Errorf("%d tokens, %d experts", *l.Tokens, len(l.Counts))
	}
	ev = mustRead(t, "# n_layer=48 n_expert=9 n_expert_used=2\nlayer,expert\n0,1\n0,3\n", Options{})
	if l := ev.Layers[0]; *l.Tokens != 1 || len(l.Counts) != 9 || ev.BlockCount != 48 {
		t.Errorf("%d tokens, %d experts, %d blocks", *l.Tokens, len(l.Counts), ev.BlockCount)
	}
	// Counts that are not whole are weights.
	ev = mustRead(t, "layer,expert,count\n0,1,1.5\n0,3,2\n", Options{})
	if l := ev.Layers[0]; ev.Kind != stats.KindRelative || !slices.Equal(l.Weights, []float64{0, 1.5, 0, 2}) || l.Counts != nil {
		t.Errorf("kind %s, weights %v, counts %v", ev.Kind, l.Weights, l.Counts)
	}
}

func TestTraceErrors(t *testing.T) {
	good := `{"layer":0,"experts":[1,0]}` + "\n"
	for _, tt := range []struct{ content, want string }{
		{good + `{"layer":0,"experts":[1,x]}`, "line 2: byte 24: \"x\" is not a number"},
		{good + `{"layer":0,"experts":[1,0]`, "line 2: byte 26: the text ends inside a value"},
		{good + `{"layer":0,"experts":[1,01]}`, `line 2: byte 24: "01" is not a number`},
		{good + `{"layer":0,"experts":[1,-1]}`, "line 2: byte 24: -1 is not a whole number from 0 to 9007199254740991"},
		{good + `{"layer":0,"experts":[1,0.5]}`, "line 2: byte 24: 0.5 is not a whole number from 0 to 9007199254740991"},
		{good + `{"layer":512,"experts":[1,0]}`, "line 2: layer 512 is over the limit of 512 layers (as in llama.cpp)"},
		{good + `{"layer":0,"experts":[1,5000]}`, "line 2: expert 5000 is over the limit of 4096 experts"},
		{good + `{"layer":0,"experts":[1,1]}`, "line 2: duplicate expert 1 for one token"},
		{good + `{"layer":0,"experts":[1,0],"weights":[1]}`, "line 2: 1 weights for 2 experts"},
		{good + `{"layer":0,"experts":[1,0],"weights":[1,1e400]}`, "line 2: byte 40: 1e400 is out of range"},
		{good + `{"layer":0,"experts":[1,0],"weights":[1,NaN]}`, `line 2: byte 40: "NaN" is not a number`},
		{good + `{"layer":0,"layer_id":1,"experts":[1,0]}`, `line 2: byte 22: duplicate key "layer_id"`},
		{good + `{"layer":0}`, "line 2: neither experts nor counts"},
		{good + `{"experts":[1]}`, "line 2: no layer"},
		{good + `{"layer":0,"experts":[]}`, "line 2: experts is empty"},
		{good + `{"layer":0,"experts":[1,0]} {}`, "line 2: byte 28: text after the object"},
		{good + `{"layer":0,"counts":[3,1],"tokens":2}`, "line 2: expert 0 has 3 activations in a block of 2 tokens"},
		{good + `{"schema":"ggufplan.expert_trace","version":1}`, "line 2: the header must come first"},
		{`{"schema":"ggufplan.expert_trace","version":2}` + "\n" + good, "line 1: version 2 of ggufplan.expert_trace: want 1"},
		{`{"schema":"ggufplan.expert_trace","expert_count":1}` + "\n" + good, "line 2: expert 1: the file's number of experts is 1"},
		{`{"schema":"ggufplan.expert_trace","top_k":3}` + "\n" + good, "line 2: 2 experts for a token, where 3 were stated"},
		{`{"schema":"ggufplan.expert_trace","expert_count":99999999}` + "\n" + good, "line 1: expert_count: 99999999 experts: must be from 1 to 4096"},
		{"layer,expert\n0,1\n0,1.5\n", `line 3: expert "1.5" is not a whole number`},
		{"layer,expert\n0,1\n0,0x1p1\n", `line 3: expert "0x1p1" is not a whole number`},
		{"layer,expert\n0,1\n0,x\n", `line 3: expert "x" is not a whole number`},
		{"layer,expert\n0,1\n0\n", "line 3: 1 fields where the header has 2"},
		{"layer,expert\n0,1\n-1,0\n", `line 3: layer "-1" is not a whole number, nor a module's name such as model.layers.3.mlp`},
		{"layer,expert\n0,1\n600,0\n", "line 3: layer 600 is over the limit of 512 layers (as in llama.cpp)"},
		{"layer,expert\n0,1\n0,4096\n", "line 3: expert 4096 is over the limit of 4096 experts"},
		{"layer,expert\n0,1 2\n", `line 2: several experts, "1 2", under a header of one: name the column expert_ids`},
		{"layer,expert_ids\n0,1 2\n0,2 2\n", "line 3: duplicate expert 2 for one token"},
		{"layer,expert_ids,weights\n0,1 2,0.5\n", "line 2: 1 weights for 2 experts"},
		{"layer,expert_ids,weights\n0,1 2,0.5 nan\n", `line 2: weight "nan" is not a number`},
		{"layer,expert,count\n0,1,-1\n", `line 2: count "-1" is not a number from 0 to 9007199254740991`},
		{"layer,expert,count\n0,1,NaN\n", `line 2: count "NaN" is not a number from 0 to 9007199254740991`},
		{"layer,expert\n0,\"1\n", "line 2: field 2: no closing quote"},
		{"layer,expert\n", "no expert was ever used: every count is 0"},
	} {
		if got := errorOf(t, tt.content, Options{}); got != tt.want {
			t.Errorf("%q\n got %s\nwant %s", tt.content, got, tt.want)
		}
	}
	if got := errorOf(t, good, Options{Experts: 1}); got != "line 1: expert 1: the stated number of experts is 1" {
		t.Error(got)
	}
}

// The byte-by-byte reading must not differ from the strict one: where it
// accepts a line, both give the same record; and it accepts what programs write.
func TestFastLinesAreStrictLines(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	fast := &traceRecord{}
	strict := traceJSONL{scan: newJSONScanner(context.Background(), nil)}
	accepted := 0
	pieces := []string{`{`, `}`, `[`, `]`, `,`, `:`, ` `, `"`, `"layer"`, `"experts"`, `"weights"`, `"x"`, `1`, `0`, `12`, `-`, `.5`, `0.25`, `e3`, `null`, `true`, `"a"`, `\`}
	for i := range 30000 {
		var b bytes.Buffer
		ids := make([]int, 1+rng.IntN(9))
		drawExperts(rng, ids)
		switch i % 3 {
		case 0:
			jsonLine(&b, rng.IntN(600), rng.IntN(100), ids, rng)
		case 1:
			bareJSONLine(&b, rng.IntN(600), 0, ids, rng)
		case 2:
			fmt.Fprintf(&b, `{"n":%d,"counts":[%d,%d],"layer":%d,"tokens":7,"phase":"p%d","weights":[%g,%d]}`, rng.IntN(9), rng.IntN(9), rng.IntN(1e9), rng.IntN(9), rng.IntN(2), rng.NormFloat64(), rng.IntN(3))
		}
		line := bytes.TrimSpace(b.Bytes())
		if i%2 == 1 { // break it somewhere
			at := rng.IntN(len(line))
			line = slices.Concat(line[:at], []byte(pieces[rng.IntN(len(pieces))]), line[min(at+rng.IntN(3), len(line)):])
		}
		fast.reset()
		ok := fast.parse(line)
		strict.rec.reset()
		err := strict.parseAny(line)
		if !ok {
			if err == nil && i%2 == 0 && bytes.IndexByte(line, 'e') < 0 {
				t.Fatalf("line %s was not read fast", line)
			}
			continue
		}
		accepted++
		if err != nil {
			t.Fatalf("line %s was read fast, and is wrong: %v", line, err)
		}
		a, b2 := *fast, strict.rec
		a.keys, b2.keys, a.spaced, b2.spaced = nil, nil, false, false
		for _, r := range []*traceRecord{&a, &b2} { // fields that are not there keep old values
			r.unknown, r.amounts, r.tags = nil, nil, nil // the strict reader alone notes these
			for bit, field := range map[uint32]*uint64{hasLayer: &r.layer, hasTokens: &r.tokens, hasN: &r.n} {
				if r.has&bit == 0 {
					*field = 0
				}
			}
			if r.has&hasPhase == 0 {
				r.phase = ""
			}
			r.experts, r.weights, r.counts = append([]uint32{}, r.experts...), append([]float64{}, r.weights...), append([]uint64{}, r.counts...)
		}
		if !reflect.DeepEqual(a, b2) {
			t.Fatalf("line %s\nfast   %+v\nstrict %+v", line, a, b2)
		}
	}
	if accepted < 15000 {
		t.Errorf("only %d lines were read fast", accepted)
	}
}

// However the input is cut into reads, and whatever the ends of lines, the
// fast rows and the others add up.
func TestTraceCSVFastRows(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for _, end := range []string{"\n", "\r\n"} {
		for _, lists := range []bool{false, true} {
			want := make([][]uint64, 300)
			var b strings.Builder
			b.WriteString(map[bool]string{false: "layer,expert", true: "layer,expert_ids"}[lists] + end)
			for range 4000 {
				layer := rng.IntN(1 << rng.IntN(9))
				ids := make([]int, 1+rng.IntN(4))
				drawExperts(rng, ids)
				if rng.IntN(50) == 0 {
					ids = []int{rng.IntN(4096)}
				}
				if !lists {
					ids = ids[:1]
				}
				fmt.Fprintf(&b, "%d,%s%s", layer, strings.Trim(fmt.Sprint(ids), "[]"), end)
				if want[layer] == nil {
					want[layer] = make([]uint64, maxExperts)
				}
				for _, e := range ids {
					want[layer][e]++
				}
			}
			src := &source{path: "memory", content: bufio.NewReaderSize(oddReader{strings.NewReader(b.String()), rng}, 16)}
			ev, err := readTraceCSV(context.Background(), src, Options{Experts: maxExperts})
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range ev.Layers {
				if !slices.Equal(l.Counts, want[l.Index]) {
					t.Fatalf("lists %v, end %q: layer %d differs", lists, end, l.Index)
				}
				want[l.Index] = nil
			}
			for n, counts := range want {
				if counts != nil {
					t.Errorf("layer %d is missing", n)
				}
			}
		}
	}
}

// TestCountCSVFastRows reads a table of counts in which some rows are spelled so
// that only the slow way reads them, and one that neither does.
func TestCountCSVFastRows(t *testing.T) {
	c := traceCSV{tally: newTally(Options{})}
	if n, rows := c.fastCounts([]byte("3,5,7\n4,1,2\n9,")); n != 12 || rows != 2 {
		t.Errorf("%d bytes, %d rows", n, rows)
	}
	rng := rand.New(rand.NewPCG(7, 8))
	for _, end := range []string{"\n", "\r\n"} {
		var want [20][64]uint64
		rows := []string{"layer,expert,count"}
		for layer := range want {
			for e := range want[layer] {
				want[layer][e] = rng.Uint64N(1 << rng.IntN(40))
				spell := []string{"%d,%d,%d", "%d, %d,%d", "%d,%d,%d.0", "\"%d\",%d,%d"}[max(0, rng.IntN(12)-8)]
				rows = append(rows, fmt.Sprintf(spell, layer, e, want[layer][e]))
			}
		}
		read := func(rows []string) (*stats.Evidence, error) {
			text := strings.Join(rows, end) + end
			src := &source{path: "memory", content: bufio.NewReaderSize(oddReader{strings.NewReader(text), rng}, 16)}
			return readTraceCSV(context.Background(), src, Options{})
		}
		ev, err := read(rows)
		if err != nil {
			t.Fatal(err)
		}
		for n := range want {
			if got := layerOf(t, ev, n).Counts; !slices.Equal(got, want[n][:]) {
				t.Fatalf("end %q: layer %d: %v, want %v", end, n, got, want[n])
			}
		}
		for _, bad := range []string{"3,4096,1", "3,5,-1", "3,5,1e300", "3,5", "512,5,1", "3,x,1"} {
			_, err := read(slices.Insert(slices.Clone(rows), 700, bad))
			if err == nil || !strings.Contains(err.Error(), "line 701: ") {
				t.Errorf("row %q: %v", bad, err)
			}
		}
	}
}

// oddReader hands out a few bytes at a time.
type oddReader struct {
	r   io.Reader
	rng *rand.Rand
}

func (o oddReader) Read(p []byte) (int, error) {
	return o.r.Read(p[:min(len(p), 1+o.rng.IntN(700))])
}

// repeated is a stream of one text, n times.
type repeated struct {
	text []byte
	n    int
	rest []byte
}

func (r *repeated) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		if r.n == 0 {
			return 0, io.EOF
		}
		r.n--
		r.rest = r.text
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// Memory must not grow with the trace.
func TestTraceMemoryIsFlat(t *testing.T) {
	chunk := makeTrace(20, jsonLine)
	use := func(n int) uint64 {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		ev, err := readTraceJSONL(context.Background(), memorySource(&repeated{text: chunk, n: n}), Options{})
		if err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		if got := *ev.Layers[0].Tokens; got != uint64(20*n) {
			t.Fatalf("%d tokens, want %d", got, 20*n)
		}
		return after.TotalAlloc - before.TotalAlloc
	}
	small, large := use(30), use(300)
	// Segments for the stability test fill up; nothing else may be allocated.
	if limit := small + traceLayers*traceExperts*8*2*stats.MaxSegments; large > limit {
		t.Errorf("a trace of %d bytes allocates %d bytes, one ten times as long %d: over %d", 30*len(chunk), small, large, limit)
	}
}

func TestTraceStopsWhenCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for name, read := range map[string]func(context.Context, *source, Options) (*stats.Evidence, error){"jsonl": readTraceJSONL, "csv": readTraceCSV, "json": readTableJSON, "npy": readNPY} {
		_, err := read(ctx, memorySource(&repeated{text: []byte("[[1,2],[3,4]]\n"), n: 1 << 40}), Options{})
		if !errors.Is(err, context.Canceled) && name != "npy" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestGzippedTrace(t *testing.T) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(sample(t, "trace.jsonl")); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	ev, format, err := readContent(t, b.Bytes(), Options{Experts: 8})
	if err != nil {
		t.Fatal(err)
	}
	if format != "trace-jsonl" {
		t.Errorf("format %s", format)
	}
	checkCounts(t, ev, readExpected(t), Options{Experts: 8}, true)
}

// The design effect of blocks drawn without correlation is 1, and grows when
// tokens come in runs.
func TestTraceBlocks(t *testing.T) {
	for _, tt := range []struct {
		name     string
		run      int
		low, top float64
	}{{"independent", 1, 0.7, 1.3}, {"in runs of 16", 16, 11, 21}} {
		rng := rand.New(rand.NewPCG(7, 8))
		var b bytes.Buffer
		ids := make([]int, traceTopK)
		for i := range 60 * stats.BlockTokens {
			if i%tt.run == 0 {
				drawExperts(rng, ids)
			}
			listLine(&b, 5, 0, ids, nil)
		}
		ev := mustRead(t, "layer,expert_ids\n"+b.String(), Options{})
		l := ev.Layers[0]
		if l.Blocks == nil || l.Blocks.N != 60 || l.Blocks.Deff < tt.low || l.Blocks.Deff > tt.top {
			t.Fatalf("%s: blocks %+v, want 60 with a design effect from %v to %v", tt.name, l.Blocks, tt.low, tt.top)
		}
		var sum, first uint64
		for e := range l.Counts {
			if l.Blocks.HalfCounts[0][e]+l.Blocks.HalfCounts[1][e] != l.Counts[e] {
				t.Errorf("%s: halves of expert %d do not add up", tt.name, e)
			}
			sum += l.Counts[e]
			first += l.Blocks.HalfCounts[0][e]
		}
		if share := float64(first) / float64(sum); share < 0.43 || share > 0.57 {
			t.Errorf("%s: the first half holds %v of the counts", tt.name, share)
		}
	}
}
