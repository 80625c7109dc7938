package read

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/ggufplan/ggufplan/stats"
)

// full is evidence with every signal set.
func full() *stats.Evidence {
	ev := &stats.Evidence{
		Inputs: []stats.Input{{FileID: stats.FileID{Name: "trace.jsonl", SizeBytes: 12, SHA256: "abc"}, Format: "trace-jsonl", Kind: stats.KindExact, Phase: "decode"}},
		Kind:   stats.KindExact, LayerAxis: stats.AxisBlocks, Datasets: []string{"a.txt", "b.txt"},
		Architecture: "qwen3moe", BlockCount: 4, ExpertCount: 3, TopK: 2, NextN: ref(1),
		Findings: []stats.Finding{{Code: "rounded-counts", Subject: "blk.1", Message: "counts above 2^24"}},
		Chunks:   7,
	}
	for i, kind := range []stats.LayerKind{stats.LayerRouted, stats.LayerHash, stats.LayerNextN} {
		ev.Layers = append(ev.Layers, stats.Layer{
			Index: i + 1, Kind: kind, TopK: 2, Tokens: ref(uint64(600)), Counts: []uint64{600, 500, 100},
			GateUpEnergy: []float64{1.5, 2, 1.0 / 3}, DownEnergy: []float64{4, 5, 6},
			GateUpMeanEnergy: []float64{1, 0, 0}, DownMeanEnergy: []float64{0, 1, 2},
			GateWeightSum: []float64{0.1, 0.2, 0.7}, GateWeightSqSum: []float64{0.01, 0.04, 0.49}, GateWeightNorm: "topk_normalized",
			OutNormSum: []float64{7, 8, 9}, GatedOutNormSum: []float64{1, 2, 3}, MaxOut: []float64{0, 1, 2},
			Blocks: &stats.Blocks{N: 5, Deff: 6.2, HalfCounts: [2][]uint64{{300, 260, 40}, {300, 240, 60}}},
		})
	}
	ev.Shared = []stats.Layer{{Index: 2, Kind: stats.LayerShared, Tokens: ref(uint64(600)), Counts: []uint64{600}}}
	stats.MarkSuperExperts(ev.Layers)
	return ev
}

func marshalCanonical(t testing.TB, ev *stats.Evidence) string {
	t.Helper()
	b, err := MarshalCanonical(ev)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestCanonicalRoundTrip(t *testing.T) {
	relative := evidenceOf("w", stats.KindRelative, 0.1, 1.0/3, 0)
	relative.Layers[0].UnseenKnown = []int{2}
	none := evidenceOf("n", stats.KindNone)
	none.Layers[0].UnseenKnown = []int{1, 2}
	rows := rowsOf([]uint64{0, 0}, []uint64{3, 1})
	rows.Inputs[0].Phase = ""
	merged := mustMerge(t, evidenceOf("a", stats.KindExact, 1, 2), evidenceOf("b", stats.KindExact, 3, 4))
	for name, ev := range map[string]*stats.Evidence{"full": full(), "relative": relative, "none": none, "rows": rows, "scaled": evidenceOf("s", stats.KindScaled, 7, 9), "rank": evidenceOf("r", stats.KindRank, 2, 0, 1), "merged": merged} {
		t.Run(name, func(t *testing.T) {
			text := marshalCanonical(t, ev)
			back := mustRead(t, text, Options{})
			if len(back.Inputs) != 1 || back.Inputs[0].Format != "canonical-json" || back.Inputs[0].Phase != ev.Inputs[0].Phase {
				t.Errorf("inputs %+v", back.Inputs)
			}
			want := *ev
			want.Inputs, back.Inputs = nil, nil
			want.Columns = nil
			if len(want.Datasets) == 0 {
				want.Datasets, back.Datasets = nil, nil
			}
			if !reflect.DeepEqual(*back, want) {
				t.Errorf("read back\n%+v\nwant\n%+v", *back, want)
			}
			if again := marshalCanonical(t, ev); again != text {
				t.Error("the same evidence gives other bytes")
			}
		})
	}
}

// The documented example, less its elisions, is read; keys in any order, and
// unknown ones, do not matter.
func TestCanonicalFromOthers(t *testing.T) {
	const text = `{"schema":"ggufplan.expert_stats","version":1,
 "source":{"format":"imatrix-gguf","file":"im.gguf","sha256":"..","datasets":["c.txt"],"warnings":[]},
 "model":{"arch":"qwen3moe","block_count":48,"expert_count":2,"expert_used_count":1,"nextn_layers":0},
 "counts_kind":"exact","phase":"prefill","colour":"blue",
 "layers":[{"layer":0,"kind":"routed","top_k":1,"tokens":3212,
   "counts":[3200,12],
   "in_energy":{"gate_up":[1,2],"down":null},
   "gate_weight_sum":null,"gate_weight_sq_sum":null,"gate_weight_norm":null,
   "out_norm_sum":null,"gated_out_norm_sum":null,"max_out":null,
   "blocks":{"n":100,"deff":6.2},"flags":{"unseen":[],"low":[1]}}]}`
	ev := mustRead(t, text, Options{})
	l := ev.Layers[0]
	if !slices.Equal(l.Counts, []uint64{3200, 12}) || l.DownEnergy != nil || l.MaxOut != nil || l.Deff() != 6.2 || *l.Tokens != 3212 {
		t.Errorf("read %+v", l)
	}
	var anyOrder map[string]any
	if err := json.Unmarshal([]byte(text), &anyOrder); err != nil {
		t.Fatal(err)
	}
	sorted, err := json.Marshal(anyOrder) // layers come before the schema
	if err != nil {
		t.Fatal(err)
	}
	padded := strings.Replace(string(sorted), `"layers"`, `"filler":"`+strings.Repeat("x", 2*headBytes)+`","layers"`, 1)
	if ev := mustRead(t, padded, Options{}); !slices.Equal(ev.Layers[0].Counts, l.Counts) {
		t.Error("the order of keys matters")
	}
	if l := mustRead(t, strings.Replace(text, "[3200,12]", "[3.2e3,12.0]", 1), Options{}).Layers[0]; !slices.Equal(l.Counts, []uint64{3200, 12}) {
		t.Errorf("counts as floats: %v", l.Counts)
	}
	const least = `{"schema":"ggufplan.expert_stats","version":1,"counts_kind":"scaled","layers":[{"layer":7,"counts":[4,0]}]}`
	if l := mustRead(t, "\ufeff\n"+least, Options{}).Layers[0]; l.Tokens != nil || l.TopK != 0 || l.Kind != stats.LayerRouted {
		t.Errorf("what is absent is known: %+v", l)
	}
}

func TestCanonicalRefuses(t *testing.T) {
	const frame = `{"schema":"ggufplan.expert_stats","version":1,"counts_kind":"exact","layers":[LAYERS]}`
	layer := func(s string) string { return strings.Replace(frame, "LAYERS", s, 1) }
	for _, tt := range []struct{ name, text, wantErr string }{
		{"version", strings.Replace(layer(""), `"version":1`, `"version":2`, 1), "this program reads version 1"},
		{"no version", strings.Replace(layer(""), `"version":1,`, ``, 1), `lacks "version": 1`},
		{"kind", strings.Replace(layer(`{"layer":0}`), "exact", "guess", 1), `counts_kind: "guess"`},
		{"no layers", layer(""), "statistics of no layer"},
		{"no layer number", layer(`{"counts":[1]}`), `lacks "layer": 0 in layers[0]`},
		{"twice", layer(`{"layer":1,"counts":[1]},{"layer":1,"counts":[1]}`), "duplicate layer 1"},
		{"a key twice", layer(`{"layer":1,"counts":[1],"counts":[2]}`), "layers[0].counts: duplicate key"},
		{"too many experts", layer(`{"layer":1,"counts":[` + strings.Repeat("0,", 1<<14) + `0]}`), "has more than 16384 entries"},
		{"moments", layer(`{"layer":1,"counts":[1,2],"blocks":{"n":2,"deff":1,"moments":{"slots":3,"slots_sq":5,"sum":[1],"sum_sq":[1,2],"sum_cross":[1,2]}}}`), "blocks.moments: are not lists"},
		{"a negative moment", layer(`{"layer":1,"counts":[1,2],"blocks":{"n":2,"deff":1,"moments":{"slots":-3,"slots_sq":5,"sum":[1,2],"sum_sq":[1,2],"sum_cross":[1,2]}}}`), "-3 is not a sum of counts"},
		{"fraction", layer(`{"layer":0,"counts":[1,2.5]}`), `counts[1]: "2.5" is not a count`},
		{"negative", layer(`{"layer":0,"counts":[1,-2]}`), `counts[1]: "-2" is not a count`},
		{"null count", layer(`{"layer":0,"counts":[1,null]}`), `layers[0].counts[1]: is null`},
		{"count in quotes", layer(`{"layer":0,"counts":[1,"2"]}`), "layers[0].counts[1]: is a string, want a number"},
		{"key twice", strings.Replace(layer(`{"layer":0,"counts":[1]}`), `"counts_kind"`, `"counts_kind":"relative","counts_kind"`, 1), "counts_kind: duplicate key"},
		{"counts twice", layer(`{"layer":0,"counts":[1],"in_mean_energy":{"down":[1],"down":[2]}}`), "layers[0].in_mean_energy.down: duplicate key"},
		{"key in another case", layer(`{"layer":0,"counts":[1],"Counts":[2]}`), "layers[0].Counts: unknown field; it differs from a known one in case"},
		{"null energy", layer(`{"layer":0,"counts":[1,2],"max_out":[1,null]}`), "null"},
		{"too many", layer(`{"layer":0,"counts":[18446744073709551615,1]}`), "more than 2^64 - 1"},
		{"lengths", layer(`{"layer":0,"counts":[1,2],"max_out":[1]}`), "max_out: has 1 entries where others have 2"},
		{"negative signal", layer(`{"layer":0,"counts":[1,2],"out_norm_sum":[1,-1]}`), "out_norm_sum[1]: is -1"},
		{"top-k", layer(`{"layer":0,"counts":[1,2],"top_k":3}`), "top_k: 3 of 2"},
		{"tokens", layer(`{"layer":0,"counts":[500,700],"top_k":1,"tokens":900}`), "not those of one run"},
		{"top-k and tokens", layer(`{"layer":0,"counts":[500,700],"top_k":1,"tokens":600}`), "700 of 600 tokens"},
		{"top-k of others", layer(`{"layer":0,"counts":[500,500,500,500],"top_k":1,"tokens":1000}`), "2 experts per token, not 1"},
		{"no tokens", layer(`{"layer":0,"counts":[500,700],"top_k":1,"tokens":0}`), "over no tokens"},
		{"not of one run", layer(`{"layer":0,"counts":[500,700],"tokens":500}`), "the counts are not those of one run"},
		{"deff", layer(`{"layer":0,"counts":[1,2],"blocks":{"n":5,"deff":0}}`), "blocks: 5 blocks with a design effect of 0"},
		{"halves", layer(`{"layer":0,"counts":[1,2],"blocks":{"n":5,"deff":1,"half_counts":[[1,2]]}}`), "half_counts"},
		{"layer kind", layer(`{"layer":0,"kind":"odd"}`), `kind: "odd"`},
		{"trailing", layer(`{"layer":0,"counts":[1]}`) + `x`, "after the end of the object"},
		{"truncated", layer(`{"layer":0,"counts":[1]}`)[:90], "byte 90"},
		{"type", layer(`{"layer":"0","counts":[1]}`), "layers.layer: a JSON string does not fit here"},
		{"weights where none", strings.Replace(layer(`{"layer":0,"counts":[1]}`), "exact", "none", 1), "counts: are given where counts_kind is none"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := errorOf(t, tt.text, Options{Format: "canonical-json"}); !strings.Contains(got, tt.wantErr) {
				t.Errorf("error %q, want %q", got, tt.wantErr)
			}
		})
	}
}

func TestCompressedInput(t *testing.T) {
	content, err := os.ReadFile("../../testdata/imatrix/moe8.imatrix.gguf")
	if err != nil {
		t.Fatal(err)
	}
	zipped := func(content []byte) []byte {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		w.Write(content)
		w.Close()
		return b.Bytes()
	}
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, wrapped := range map[string][]byte{"gzip": zipped(content), "zstd": enc.EncodeAll(content, nil), "both": zipped(enc.EncodeAll(content, nil))} {
		ev, format, err := readContent(t, wrapped, Options{})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if format != "imatrix-gguf" || ev.Inputs[0].SizeBytes != uint64(len(wrapped)) || ev.Layers[0].Counts[0] != 1038 {
			t.Errorf("%s: %+v", name, ev.Inputs)
		}
		dst := make([]float64, 64) // the temporary copy outlives Read
		if ok, err := ev.Columns.MeanSquares("blk.0.ffn_up_exps.weight", 0, dst); !ok || err != nil {
			t.Errorf("%s: column means: %v %v", name, ok, err)
		}
	}
	if _, _, err := readContent(t, zipped(zipped(zipped(content))), Options{}); err == nil || !strings.Contains(err.Error(), "compressed more than 2 times over") {
		t.Errorf("error %v", err)
	}
	short := zipped(content)
	if _, _, err := readContent(t, short[:len(short)-9], Options{}); err == nil || !strings.Contains(err.Error(), "unexpected EOF") {
		t.Errorf("error %v", err)
	}
	piped, err := Reader(context.Background(), bytes.NewReader(content), "standard input", Options{})
	if err != nil || piped.Inputs[0].Name != "standard input" {
		t.Errorf("standard input: %v", err)
	}
}

// A small file that expands to gigabytes is given up on early.
func TestCompressionBomb(t *testing.T) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		t.Fatal(err)
	}
	bomb := enc.EncodeAll(append([]byte("GGUF"), make([]byte, spoolFloorBytes+4<<20)...), nil)
	if got := errorOf(t, string(bomb), Options{}); !strings.Contains(got, "expands to over 200 times its compressed size") {
		t.Errorf("error %q", got)
	}
}

func TestReadStops(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := File(ctx, "../../testdata/imatrix/moe8.imatrix.gguf", Options{}); err != context.Canceled {
		t.Errorf("error %v", err)
	}
}

// A file that states the experts per token and no tokens is held to what it
// states.
func TestStatedTopK(t *testing.T) {
	m := buildModel(t, tiny, nil)
	stated := `{"schema":"ggufplan.expert_stats","version":1,"counts_kind":"exact","model":{"expert_used_count":3},"layers":[{"layer":0,"counts":[9,9,6,6]}]}`
	_, err := mustRead(t, stated, Options{}).Fit(m, stats.FitOptions{})
	wantError(t, err, "blk.0: it states 3 experts per token, the model has 2")
	fit := mustFit(t, mustRead(t, stated, Options{TopK: 3}), m, stats.FitOptions{TopK: 3})
	if len(fit.Findings) != 1 || fit.Findings[0].Code != "k-mismatch" {
		t.Errorf("findings %v", fit.Findings)
	}
}

// Tokens that follow from counts and experts per token are rounded down. They
// do not contradict what they were derived from, however few they are: stated
// twice, by the file and by the caller, merged, or written and read again.
func TestDerivedTokensProveNothing(t *testing.T) {
	m := buildModel(t, tiny, nil)
	for _, counts := range []string{"[1,0,0,0]", "[2,2,1,0]", "[5,2,1,0]"} {
		for _, k := range []int{2, 3} {
			stated := `{"schema":"ggufplan.expert_stats","version":1,"counts_kind":"exact","layers":[{"layer":0,"counts":` + counts + `}]}`
			ev := mustFit(t, mustRead(t, stated, Options{TopK: k}), m, stats.FitOptions{TopK: k})
			again := mustRead(t, marshalCanonical(t, ev), Options{TopK: k})
			mustFit(t, mustMerge(t, again, ev), m, stats.FitOptions{TopK: k})
		}
	}
	stated := `{"schema":"ggufplan.expert_stats","version":1,"counts_kind":"exact","layers":[{"layer":0,"tokens":0,"counts":[1,0,0,0]}]}`
	_, err := mustRead(t, stated, Options{}).Fit(m, stats.FitOptions{})
	wantError(t, err, "counts sum to 1 over no tokens")
}

// A model whose metadata asks for more experts per token than it has is at
// fault, not its statistics.
func TestModelStatesTooManyPerToken(t *testing.T) {
	o := tiny
	o.Used = 9
	_, err := evidenceOf("a", stats.KindExact, 4, 3, 2, 1).Fit(buildModel(t, o, nil), stats.FitOptions{})
	wantError(t, err, "blk.0: the model's metadata states 9 experts per token, its tensors hold 4 experts")
}

// A compressed file that was cut is said to be cut, not to hold bad JSON.
func TestCutCompressedInput(t *testing.T) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	for range 3000 {
		z.Write([]byte(`{"layer":0,"experts":[0,1]}` + "\n"))
	}
	z.Close()
	whole := b.String()
	for name, content := range map[string]string{"cut": whole[:len(whole)-12], "checksum": whole[:len(whole)-5] + "x" + whole[len(whole)-4:], "junk behind": whole + "junk"} {
		if got := errorOf(t, content, Options{}); !strings.Contains(got, "the gzip data is cut or damaged: ") {
			t.Errorf("%s: error %q", name, got)
		}
	}
}
