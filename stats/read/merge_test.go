package read

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/stats"
)

func mustMerge(t *testing.T, inputs ...*stats.Evidence) *stats.Evidence {
	t.Helper()
	ev, err := stats.Merge(inputs)
	if err != nil {
		t.Fatal(err)
	}
	return ev
}

// evidenceOf makes single-layer evidence for merging.
func evidenceOf(name string, kind stats.Kind, values ...float64) *stats.Evidence {
	l := stats.Layer{Index: 0, Kind: stats.LayerRouted}
	if kind == stats.KindExact || kind == stats.KindScaled {
		for _, v := range values {
			l.Counts = append(l.Counts, uint64(v))
		}
	} else {
		l.Weights = values
	}
	return &stats.Evidence{Kind: kind, LayerAxis: stats.AxisBlocks, Inputs: []stats.Input{{FileID: stats.FileID{Name: name, SHA256: name}, Kind: kind}}, Layers: []stats.Layer{l}}
}

func TestMergeAddsExactCounts(t *testing.T) {
	code, prose := read(t, "../../testdata/bytemoe-2x8/code.imatrix.gguf"), read(t, "../../testdata/bytemoe-2x8/prose.imatrix.gguf")
	both := mustMerge(t, code, prose)
	for i := range both.Layers {
		a, b, sum := &code.Layers[i], &prose.Layers[i], &both.Layers[i]
		if *sum.Tokens != *a.Tokens+*b.Tokens {
			t.Errorf("%d tokens from %d and %d", *sum.Tokens, *a.Tokens, *b.Tokens)
		}
		for e := range sum.Counts {
			if sum.Counts[e] != a.Counts[e]+b.Counts[e] {
				t.Errorf("expert %d: %d from %d and %d", e, sum.Counts[e], a.Counts[e], b.Counts[e])
			}
			if sum.DownEnergy[e] != a.DownEnergy[e]+b.DownEnergy[e] {
				t.Errorf("expert %d: energies were not added", e)
			}
		}
	}
	if both.Kind != stats.KindExact || len(both.Inputs) != 2 || len(both.Findings) != 0 {
		t.Errorf("kind %s, %d inputs, findings %v", both.Kind, len(both.Inputs), both.Findings)
	}

	// Column means of the sum: sums of squares over counts, of both.
	const tensor = "blk.1.ffn_down_exps.weight"
	var ma, mb, mc [256]float64
	for _, c := range []struct {
		columns stats.Columns
		dst     []float64
	}{{code.Columns, ma[:]}, {prose.Columns, mb[:]}, {both.Columns, mc[:]}} {
		if ok, err := c.columns.MeanSquares(tensor, 3, c.dst); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	na, nb := float64(code.Layers[1].Counts[3]), float64(prose.Layers[1].Counts[3])
	for i := range mc {
		want := (ma[i]*na + mb[i]*nb) / (na + nb)
		if math.Abs(mc[i]-want) > 1e-6*want { // added up in float32
			t.Fatalf("column %d: mean square %g, want %g", i, mc[i], want)
		}
	}
}

// Merged columns are those of the file into which llama-imatrix merges.
func TestMergedColumnsAreLlamaImatrixs(t *testing.T) {
	const dir = "../../testdata/imatrix/"
	for merged, inputs := range map[string][]string{
		"moe8.merged-gguf+gguf.gguf": {"moe8.imatrix.gguf", "moe8.imatrix.gguf"},
		"moe8.merged-gguf+dat.gguf":  {"moe8.imatrix.gguf", "moe8.legacy.dat"},
	} {
		ours := mustMerge(t, read(t, dir+inputs[0]), read(t, dir+inputs[1])).Columns
		m, err := ggufio.OpenAny(dir + merged)
		if err != nil {
			t.Fatal(err)
		}
		data, err := m.OpenData()
		if err != nil {
			t.Fatal(err)
		}
		defer data.Close()
		floats := func(name string) []float32 {
			x, ok := m.TensorByName(name)
			if !ok {
				t.Fatalf("%s: no %s", merged, name)
			}
			raw := make([]byte, x.SizeBytes)
			if err := data.ReadRange(x, 0, raw); err != nil {
				t.Fatal(err)
			}
			out := make([]float32, x.Parameters)
			if err := quant.Decode(quant.F32, out, raw); err != nil {
				t.Fatal(err)
			}
			return out
		}
		entries := 0
		for i := range m.Tensors {
			name, ok := strings.CutSuffix(m.Tensors[i].Name, ".in_sum2")
			if !ok {
				continue
			}
			entries++
			sums, counts := floats(m.Tensors[i].Name), floats(name+".counts")
			n := len(sums) / len(counts)
			got := make([]float64, n)
			for e, count := range counts {
				ok, err := ours.MeanSquares(name, e, got)
				if err != nil || ok != (count > 0) {
					t.Fatalf("%s: %s: expert %d: %v, %v of a count of %g", merged, name, e, ok, err, count)
				}
				for k := range got {
					if ok && float32(got[k]) != sums[e*n+k]/count {
						t.Fatalf("%s: %s: expert %d: column %d: %v, llama-imatrix has %v", merged, name, e, k, float32(got[k]), sums[e*n+k]/count)
					}
				}
			}
		}
		if entries < 10 {
			t.Errorf("%s: %d entries", merged, entries)
		}
	}
}

func TestMergeOfOtherKinds(t *testing.T) {
	exact := evidenceOf("exact", stats.KindExact, 10, 30, 60)
	scaled := evidenceOf("scaled", stats.KindScaled, 7000, 2000, 1000)
	ev := mustMerge(t, exact, scaled)
	// The mean of 0.1, 0.3, 0.6 and 0.7, 0.2, 0.1.
	for e, want := range []float64{0.4, 0.25, 0.35} {
		if got := ev.Layers[0].Weights[e]; math.Abs(got-want) > 1e-15 {
			t.Errorf("share of expert %d: %g, want %g", e, got, want)
		}
	}
	if ev.Kind != stats.KindRelative || !hasFinding(ev, "relative-counts") {
		t.Errorf("kind %s, findings %v", ev.Kind, ev.Findings)
	}
	if alone := mustMerge(t, scaled); alone != scaled {
		t.Error("a single input was changed")
	}
	// An input without traffic leaves that of others alone.
	none := evidenceOf("none", stats.KindNone)
	if ev := mustMerge(t, exact, none); ev.Kind != stats.KindExact || !slices.Equal(ev.Layers[0].Counts, exact.Layers[0].Counts) {
		t.Errorf("kind %s, counts %v", ev.Kind, ev.Layers[0].Counts)
	}
}

func hasFinding(ev *stats.Evidence, code string) bool {
	return slices.ContainsFunc(ev.Findings, func(f stats.Finding) bool { return f.Code == code })
}

func TestMergeRefuses(t *testing.T) {
	wide := evidenceOf("wide", stats.KindExact, 1, 2, 3, 4)
	huge := evidenceOf("huge", stats.KindExact, 0, 0, 0)
	huge.Layers[0].Counts[1] = math.MaxUint64
	rows := evidenceOf("rows", stats.KindExact, 1, 2, 3)
	rows.LayerAxis = stats.AxisRows
	first := evidenceOf("first", stats.KindExact, 1, 2, 3)
	for _, tt := range []struct {
		name    string
		inputs  []*stats.Evidence
		wantErr string
	}{
		{"nothing", nil, "no statistics"},
		{"experts", []*stats.Evidence{first, wide}, "wide: has 4 experts in blk.0, first has 3"},
		{"overflow", []*stats.Evidence{first, huge}, "counts of expert 1 add up to more than 2^64 - 1"},
		{"ranks", []*stats.Evidence{first, evidenceOf("order", stats.KindRank, 2, 1, 0)}, "order: ranks cannot be merged"},
		{"axes", []*stats.Evidence{first, rows}, "rows: its layers are rows"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := stats.Merge(tt.inputs); err == nil || !strings.Contains(err.Error(), tt.wantErr) {
				t.Errorf("error %v, want %q", err, tt.wantErr)
			}
		})
	}
}

func TestMergeWarns(t *testing.T) {
	a, b := evidenceOf("a", stats.KindExact, 1, 2), evidenceOf("b", stats.KindExact, 1, 2)
	a.Inputs[0].Phase, b.Inputs[0].Phase = "prefill", "decode"
	if ev := mustMerge(t, a, b); !hasFinding(ev, "mixed-phases") {
		t.Errorf("findings %v", ev.Findings)
	}
	b.Inputs[0] = a.Inputs[0]
	if ev := mustMerge(t, a, b); !hasFinding(ev, "duplicate-input") || hasFinding(ev, "mixed-phases") {
		t.Errorf("findings %v", ev.Findings)
	}
}

// Snapshots count the same tokens as the final file: they become its block
// records.
func TestSnapshotsAreBlocks(t *testing.T) {
	snapshot := func(name string, tokens uint64, counts ...float64) *stats.Evidence {
		ev := evidenceOf(name, stats.KindExact, counts...)
		ev.Layers[0].Tokens, ev.Layers[0].TopK = &tokens, 1
		return ev
	}
	first, second := snapshot("im.gguf.at_10", 100, 60, 40), snapshot("im.gguf.at_20", 200, 100, 100)
	final := snapshot("im.gguf", 300, 160, 140)
	ev := mustMerge(t, final, second, first) // in any order
	if !slices.Equal(ev.Layers[0].Counts, final.Layers[0].Counts) || *ev.Layers[0].Tokens != 300 {
		t.Errorf("counts %v of %d tokens were added up", ev.Layers[0].Counts, *ev.Layers[0].Tokens)
	}
	b := ev.Layers[0].Blocks
	// Blocks of 60:40, 40:60 and 60:40: s = 160/300, the sample variance
	// (2 * 6.667^2 + 13.333^2)/2 = 133.3, the binomial one 100 * s(1-s) = 24.89.
	if b == nil || b.N != 3 || math.Abs(b.Deff-133.333333/24.888889) > 1e-6 {
		t.Fatalf("blocks %+v", b)
	}
	second.Layers[0].Counts[0] = 50
	if _, err := stats.Merge([]*stats.Evidence{first, second, final}); err == nil || !strings.Contains(err.Error(), "im.gguf.at_20: blk.0: expert 0 has count 50, which was 60") {
		t.Errorf("error %v", err)
	}
	// Snapshots of several runs are joined each on its own, then added.
	second.Layers[0].Counts[0] = 100
	more := snapshot("im2.gguf", 50, 25, 25)
	if ev := mustMerge(t, first, more, final); !slices.Equal(ev.Layers[0].Counts, []uint64{185, 165}) {
		t.Errorf("counts %v", ev.Layers[0].Counts)
	}
}

// The design effect of merged inputs is the mean, weighted by how much each
// counted.
func TestMergeWeighsDesignEffects(t *testing.T) {
	a, b := evidenceOf("a", stats.KindExact, 60, 40), evidenceOf("b", stats.KindExact, 100, 200)
	a.Layers[0].Blocks = &stats.Blocks{N: 4, Deff: 2, HalfCounts: [2][]uint64{{30, 20}, {30, 20}}}
	b.Layers[0].Blocks = &stats.Blocks{N: 6, Deff: 10, HalfCounts: [2][]uint64{{50, 100}, {50, 100}}}
	want := (2*100 + 10*300) / 400.0
	for _, ev := range []*stats.Evidence{mustMerge(t, a, b), mustMerge(t, b, a)} {
		got := ev.Layers[0].Blocks
		if got == nil || got.N != 10 || math.Abs(got.Deff-want) > 1e-12 || !slices.Equal(got.HalfCounts[0], []uint64{80, 120}) {
			t.Errorf("blocks %+v, want a design effect of %v", got, want)
		}
	}
}

// Columns are read when they are asked for, so the file must stay as it is.
func TestColumnsOfChangedFile(t *testing.T) {
	content, err := os.ReadFile("../../testdata/imatrix/moe8.imatrix.gguf")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "im.gguf")
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	ev, err := File(context.Background(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	dst := make([]float64, 64)
	if ok, err := ev.Columns.MeanSquares("blk.0.ffn_up_exps.weight", 0, dst); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if ok, err := ev.Columns.MeanSquares("blk.0.ffn_up_exps.weight", 7, dst); ok || err != nil {
		t.Errorf("an unseen expert has mean squares: %v %v", ok, err)
	}
	if !ev.Columns.Complete("blk.0.ffn_up_exps.weight", 64, 8) || ev.Columns.Complete("blk.0.ffn_up_exps.weight", 64, 4) || ev.Columns.Complete("blk.0.ffn_gate_up_exps.weight", 64, 8) {
		t.Error("complete is not an entry of columns x matrices under the tensor's own name")
	}
	if err := os.WriteFile(path, append(content, 0), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ev.Columns.MeanSquares("blk.0.ffn_up_exps.weight", 0, dst); err == nil || !strings.Contains(err.Error(), "changed while it was in use") {
		t.Errorf("error %v", err)
	}
}

// Tools that write a file per layer, and runs of different length, leave
// layers that only some inputs have.
func TestMergeOfDifferentLayers(t *testing.T) {
	first, other := evidenceOf("first", stats.KindExact, 1, 2, 3), evidenceOf("other", stats.KindExact, 4, 5, 6)
	other.Layers[0].Index = 5
	more := evidenceOf("more", stats.KindExact, 10, 20, 30)
	ev := mustMerge(t, other, first, more)
	if len(ev.Layers) != 2 || ev.Layers[0].Index != 0 || ev.Layers[1].Index != 5 ||
		!slices.Equal(ev.Layers[0].Counts, []uint64{11, 22, 33}) || !slices.Equal(ev.Layers[1].Counts, []uint64{4, 5, 6}) {
		t.Errorf("layers %+v", ev.Layers)
	}
	if ev.Kind != stats.KindExact || !hasFinding(ev, "partial-layers") {
		t.Errorf("kind %s, findings %v", ev.Kind, ev.Findings)
	}
	weights := evidenceOf("weights", stats.KindRelative, 1, 1, 2)
	ev = mustMerge(t, other, weights)
	if ev.Kind != stats.KindRelative || !slices.Equal(ev.Layers[0].Weights, []float64{0.25, 0.25, 0.5}) || math.Abs(ev.Layers[1].Weights[2]-0.4) > 1e-15 {
		t.Errorf("kind %s, layers %+v", ev.Kind, ev.Layers)
	}
	// Snapshots of one run have the same layers.
	a, b := evidenceOf("im.gguf", stats.KindExact, 5, 5), evidenceOf("im.gguf.at_1", stats.KindExact, 1, 1)
	b.Layers[0].Index = 1
	if _, err := stats.Merge([]*stats.Evidence{a, b}); err == nil || !strings.Contains(err.Error(), "has blk.0, which im.gguf.at_1 lacks") {
		t.Errorf("error %v", err)
	}
}

// What was read up to the last expert seen has as many experts as the others.
func TestMergeOfOpenExperts(t *testing.T) {
	short, long, full := evidenceOf("short", stats.KindExact, 1, 2), evidenceOf("long", stats.KindExact, 1, 2, 3, 0, 0), evidenceOf("full", stats.KindExact, 5, 5, 5, 5)
	short.OpenExperts, long.OpenExperts = true, true
	for _, tt := range []struct {
		inputs []*stats.Evidence
		want   []uint64
	}{
		{[]*stats.Evidence{short, long}, []uint64{2, 4, 3, 0, 0}},
		{[]*stats.Evidence{short, full}, []uint64{6, 7, 5, 5}},
		{[]*stats.Evidence{full, long, short}, []uint64{7, 9, 8, 5}},
	} {
		ev := mustMerge(t, tt.inputs...)
		if !slices.Equal(ev.Layers[0].Counts, tt.want) || ev.OpenExperts != (len(tt.want) == 5) {
			t.Errorf("counts %v, want %v; open %t", ev.Layers[0].Counts, tt.want, ev.OpenExperts)
		}
		if !slices.Equal(short.Layers[0].Counts, []uint64{1, 2}) {
			t.Fatal("an input was changed")
		}
	}
	if shifts, _, _, err := stats.Compare(short, full, nil); err != nil || len(shifts) != 1 {
		t.Errorf("%v %v", shifts, err)
	}
	over := evidenceOf("over", stats.KindExact, 0, 0, 0, 0, 9)
	over.OpenExperts = true
	if _, err := stats.Merge([]*stats.Evidence{full, over}); err == nil || !strings.Contains(err.Error(), "over: has 5 experts in blk.0, full has 4") {
		t.Errorf("error %v", err)
	}
}
