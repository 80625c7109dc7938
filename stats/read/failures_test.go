package read

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/stats"
)

// buildModel writes a model, changed by edit if that is set, and opens it.
func buildModel(t *testing.T, o gguftest.MoE, edit func(b *gguftest.Builder)) *ggufio.Model {
	t.Helper()
	o.Sparse = true
	b := o.Builder()
	if edit != nil {
		edit(b)
	}
	path := filepath.Join(t.TempDir(), "model.gguf")
	if err := b.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	m, err := ggufio.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// readBuilt writes an imatrix and reads it.
func readBuilt(t *testing.T, b *gguftest.Builder) (*stats.Evidence, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "im.gguf")
	if err := b.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	return File(context.Background(), path, Options{})
}

func mustReadBuilt(t *testing.T, b *gguftest.Builder) *stats.Evidence {
	t.Helper()
	ev, err := readBuilt(t, b)
	if err != nil {
		t.Fatal(err)
	}
	return ev
}

func mustFit(t *testing.T, ev *stats.Evidence, m *ggufio.Model, opt stats.FitOptions) *stats.Evidence {
	t.Helper()
	fit, err := ev.Fit(m, opt)
	if err != nil {
		t.Fatal(err)
	}
	return fit
}

func wantError(t *testing.T, err error, part string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), part) {
		t.Errorf("error %v, want %q", err, part)
	}
}

func everyLayer(counts ...float32) func(int) []float32 {
	return func(int) []float32 { return counts }
}

var tiny = gguftest.MoE{Layers: 3, Experts: 4, Used: 2, Embd: 32, FF: 64}

// rowsOf is evidence of a source whose layers are rows of unknown meaning.
func rowsOf(counts ...[]uint64) *stats.Evidence {
	ev := &stats.Evidence{Kind: stats.KindExact, LayerAxis: stats.AxisRows, Rows: len(counts), Inputs: []stats.Input{{FileID: stats.FileID{Name: "rows"}}}}
	for i, c := range counts {
		ev.Layers = append(ev.Layers, stats.Layer{Index: i, Kind: stats.LayerRouted, Counts: c})
	}
	return ev
}

func repeat[T any](n int, v T) []T {
	list := make([]T, n)
	for i := range list {
		list[i] = v
	}
	return list
}

func indices(ev *stats.Evidence) []int {
	var list []int
	for _, l := range ev.Layers {
		list = append(list, l.Index)
	}
	return list
}

// An expert without a count is unseen; so is one whose tensor a file with a
// tensor per expert lacks, even the last one of all layers.
func TestPartialExperts(t *testing.T) {
	m := buildModel(t, tiny, nil)
	fit := mustFit(t, mustReadBuilt(t, tiny.Imatrix(everyLayer(5, 0, 3, 2))), m, stats.FitOptions{})
	if stats.FlagOf(fit.Layers[0].Counts[1], 1) != stats.FlagUnseen {
		t.Error("an expert without a count is not unseen")
	}
	separate := tiny
	separate.Separate = true
	ms := buildModel(t, separate, nil)
	ev := mustReadBuilt(t, separate.Imatrix(everyLayer(5, 3, 2, 0)))
	fit = mustFit(t, ev, ms, stats.FitOptions{})
	if got := fit.Layers[2].Counts; !slices.Equal(got, []uint64{5, 3, 2, 0}) {
		t.Errorf("counts %v of experts with a tensor each", got)
	}
}

// Experts with a tensor each are stacked by their number.
func TestSeparateExpertsAreStacked(t *testing.T) {
	o := tiny
	o.Separate = true
	b := o.Imatrix(everyLayer(5, 3, 2, 10))
	slices.Reverse(b.Tensors)
	ev := mustReadBuilt(t, b)
	l := ev.Layers[0]
	if !slices.Equal(l.Counts, []uint64{5, 3, 2, 10}) || l.TopK != 2 || *l.Tokens != 10 {
		t.Errorf("counts %v, %d of %d tokens", l.Counts, l.TopK, *l.Tokens)
	}
	fused := mustReadBuilt(t, tiny.Imatrix(everyLayer(5, 3, 2, 10))).Layers[0]
	if !slices.Equal(l.DownEnergy, fused.DownEnergy) || !slices.Equal(l.GateUpEnergy, fused.GateUpEnergy) {
		t.Error("energies differ from those of a fused tensor")
	}
	dst := make([]float64, 64)
	if ok, err := ev.Columns.MeanSquares("blk.1.ffn_down.3.weight", 0, dst); !ok || err != nil || dst[0] == 0 {
		t.Errorf("column means of a separate expert: %v %v", ok, err)
	}
	if ok, _ := ev.Columns.MeanSquares("blk.1.ffn_down_exps.weight", 3, dst); ok {
		t.Error("column means were served under another name")
	}
}

// Gate and up in one entry count for either; column means are not shared.
func TestGateUpAliases(t *testing.T) {
	joint := tiny
	joint.GateUp = true
	apart := mustReadBuilt(t, tiny.Imatrix(everyLayer(5, 3, 2, 10)))
	fit := mustFit(t, apart, buildModel(t, joint, nil), stats.FitOptions{})
	if !slices.Equal(fit.Layers[1].Counts, []uint64{5, 3, 2, 10}) {
		t.Errorf("counts %v", fit.Layers[1].Counts)
	}
	if fit.Columns.Complete("blk.0.ffn_gate_up_exps.weight", 32, 4) {
		t.Error("gate stands in for gate_up's column means")
	}
	ev := mustReadBuilt(t, joint.Imatrix(everyLayer(5, 3, 2, 10)))
	fit = mustFit(t, ev, buildModel(t, tiny, nil), stats.FitOptions{})
	if !slices.Equal(fit.Layers[0].GateUpEnergy, apart.Layers[0].GateUpEnergy) || fit.Match.Named != 6 || fit.Match.Entries != 9 {
		t.Errorf("energies of gate_up are lost, or match %+v", fit.Match)
	}
}

// A merge with a legacy file adds the same to every expert's count. With an
// unseen expert its filler shows; else the experts per token do.
func TestPollutedMerge(t *testing.T) {
	const legacy = 512
	m := buildModel(t, tiny, nil)
	b := tiny.Imatrix(everyLayer(300+legacy, 300+legacy, 300+legacy, 300+legacy))
	router := b.Tensor("blk.0.ffn_gate_inp.weight.counts")
	for i := range b.Tensors {
		if strings.HasSuffix(b.Tensors[i].Name, "ffn_gate_inp.weight.counts") {
			b.Tensors[i].Data = router.Data[:0:0]
			for _, x := range []float32{600 + 482.6666} { // 4*812 activations of 3 experts
				bits := math.Float32bits(x)
				b.Tensors[i].Data = append(b.Tensors[i].Data, byte(bits), byte(bits>>8), byte(bits>>16), byte(bits>>24))
			}
		}
	}
	ev := mustReadBuilt(t, b)
	_, err := ev.Fit(m, stats.FitOptions{})
	wantError(t, err, "blk.0: counts sum to 3248 over 1082 tokens, which is 3.001848429 experts per token, not 2")
	if cure := cureOf(err); cure.Cure != stats.StateTopK || cure.TopK != 3 {
		t.Errorf("cure %+v", cure)
	}
	if fit := mustFit(t, ev, m, stats.FitOptions{TopK: 3}); !hasFinding(fit, "k-mismatch") {
		t.Error("experts per token that differ from the model's are no finding")
	}
	_, err = File(context.Background(), "../../testdata/imatrix/moe8.merged-gguf+dat.gguf", Options{TopK: 3})
	wantError(t, err, "merged with a legacy one") // not even when stated
}

func TestWrongModel(t *testing.T) {
	ev := mustReadBuilt(t, tiny.Imatrix(everyLayer(5, 3, 2, 10)))
	for _, tt := range []struct {
		name    string
		change  func(o *gguftest.MoE)
		wantErr string
	}{
		{"experts", func(o *gguftest.MoE) { o.Experts = 8 }, "blk.0.ffn_down_exps.weight has 4 experts, the model 8"},
		{"row length", func(o *gguftest.MoE) { o.FF = 32 }, "blk.0.ffn_down_exps.weight has rows of 64, the model of 32"},
		{"fewer blocks", func(o *gguftest.MoE) { o.Layers = 2 }, "it has blk.2.ffn_down_exps.weight, the model has 2 blocks"},
		{"dense block", func(o *gguftest.MoE) { o.Dense = 1 }, "it has blk.0.ffn_down_exps.weight, block 0 of the model has no experts"},
		{"experts per token", func(o *gguftest.MoE) { o.Used = 1 }, "2 experts per token, not 1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := tiny
			tt.change(&o)
			_, err := ev.Fit(buildModel(t, o, nil), stats.FitOptions{})
			wantError(t, err, tt.wantErr)
			if cureOf(err).Err == nil {
				t.Error("no cure")
			}
		})
	}
	dense := tiny
	dense.Dense = 3
	_, err := ev.Fit(buildModel(t, dense, nil), stats.FitOptions{})
	wantError(t, err, "has no routed experts")
	none := mustReadBuilt(t, gguftest.Imatrix(gguftest.ImatrixEntry{Name: "blk.0.ffn_up_exps.weight", InSum2: make([]float32, 128), Counts: make([]float32, 4)}))
	mustFit(t, none, buildModel(t, tiny, nil), stats.FitOptions{}) // nothing was counted, yet the shapes are the model's
}

// A layer without an entry and a row of zeros are layers without statistics,
// not errors: MTP blocks are never run by llama-imatrix.
func TestLayersWithoutStatistics(t *testing.T) {
	o := tiny
	o.Dense, o.MTP = 1, 1
	m := buildModel(t, o, nil)
	ev := mustReadBuilt(t, o.Imatrix(func(layer int) []float32 {
		switch layer {
		case 1:
			return []float32{5, 3, 2, 10}
		case 2:
			return []float32{0, 0, 0, 0}
		}
		return nil
	}))
	fit := mustFit(t, ev, m, stats.FitOptions{})
	if got := indices(fit); !slices.Equal(got, []int{1, 2}) || !fit.Layers[1].Empty() {
		t.Errorf("layers %v", got)
	}
	// With counts, the MTP block is one.
	ev = mustReadBuilt(t, o.Imatrix(everyLayer(5, 3, 2, 10)))
	if fit := mustFit(t, ev, m, stats.FitOptions{}); fit.Layers[2].Index != 3 || fit.Layers[2].Kind != stats.LayerNextN {
		t.Errorf("last layer %+v", fit.Layers[2])
	}
	b := o.Imatrix(everyLayer(5, 3, 2, 10)).Set("imatrix.n_layer_nextn", uint32(2))
	_, err := mustReadBuilt(t, b).Fit(m, stats.FitOptions{})
	wantError(t, err, "states 2 blocks of multi-token prediction, the model has 1")
}

// Layers whose experts follow from the token alone are of their own kind.
func TestHashLayers(t *testing.T) {
	m := buildModel(t, tiny, func(b *gguftest.Builder) {
		b.AddF32("blk.0.ffn_gate_tid2eid.weight", []uint64{32}, make([]float32, 32))
	})
	fit := mustFit(t, mustReadBuilt(t, tiny.Imatrix(everyLayer(5, 3, 2, 10))), m, stats.FitOptions{})
	if fit.Layers[0].Kind != stats.LayerHash || fit.Layers[1].Kind != stats.LayerRouted {
		t.Errorf("kinds %s and %s", fit.Layers[0].Kind, fit.Layers[1].Kind)
	}
}

// Counts are taken after groups of experts were chosen, so groups change
// nothing.
func TestExpertGroups(t *testing.T) {
	grouped := buildModel(t, tiny, func(b *gguftest.Builder) {
		b.Set("qwen3moe.expert_group_count", uint32(2)).Set("qwen3moe.expert_group_used_count", uint32(1))
	})
	ev := mustReadBuilt(t, tiny.Imatrix(everyLayer(50, 50, 30, 30)))
	a, b := mustFit(t, ev, grouped, stats.FitOptions{}), mustFit(t, ev, buildModel(t, tiny, nil), stats.FitOptions{})
	if !slices.Equal(a.Layers[0].Counts, b.Layers[0].Counts) || *a.Layers[0].Tokens != 80 || len(a.Findings) != 0 {
		t.Errorf("groups changed %+v", a.Layers[0])
	}
}

// Shared experts see every token; they are not among the routed ones.
func TestSharedExperts(t *testing.T) {
	b := tiny.Imatrix(everyLayer(5, 3, 2, 10))
	shared := gguftest.Imatrix(gguftest.ImatrixEntry{Name: "blk.1.ffn_up_shexp.weight", InSum2: make([]float32, 32), Counts: []float32{10}})
	b.Tensors = append(b.Tensors, shared.Tensors...)
	ev := mustReadBuilt(t, b)
	if len(ev.Shared) != 1 || ev.Shared[0].Index != 1 || ev.Shared[0].Counts[0] != 10 || len(ev.Layers) != 3 {
		t.Errorf("shared %+v", ev.Shared)
	}
}

func TestRowMapping(t *testing.T) {
	o := tiny
	o.Layers, o.Dense, o.MTP = 5, 2, 2 // blocks 0, 1 dense; 2, 3, 4 MoE; 5, 6 MTP with experts
	m := buildModel(t, o, nil)
	zero, some := make([]uint64, 4), []uint64{5, 3, 2, 10}
	offset := func(n int) *int { return &n }
	for _, tt := range []struct {
		name    string
		rows    [][]uint64
		offset  *int
		want    []int
		wantErr string
	}{
		{"all blocks", append([][]uint64{zero, zero}, repeat(5, some)...), nil, []int{2, 3, 4, 5, 6}, ""},
		{"trunk's experts", repeat(3, some), nil, []int{2, 3, 4}, ""},
		{"no reading fits", repeat(4, some), nil, nil, "has 4 rows; the model has 7 blocks, 5 in its trunk, 5 with experts, 3 of these in its trunk"},
		{"no dense block is busy", repeat(5, some), nil, []int{2, 3, 4, 5, 6}, ""},
		{"rows of zeros beside dense blocks", append([][]uint64{zero, zero}, repeat(3, some)...), nil, []int{2, 3, 4}, ""},
		{"two readings", [][]uint64{zero, zero, some, zero, some}, nil, nil, "its 5 rows may be the blocks of the trunk or the blocks with experts"},
		{"offset", repeat(5, some), offset(2), []int{2, 3, 4, 5, 6}, ""},
		{"offset of zero", append([][]uint64{zero, zero}, repeat(3, some)...), offset(0), []int{2, 3, 4}, ""},
		{"offset too large", repeat(5, some), offset(3), nil, "row 4: with a layer offset of 3 it is block 7, the model has 7"},
		{"offset negative", repeat(5, some), offset(-1), nil, "row 0: with a layer offset of -1 it is block -1"},
		{"activations of a dense block", repeat(7, some), nil, nil, "row 0 has activations, where block 0 of the model has no experts"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fit, err := rowsOf(tt.rows...).Fit(m, stats.FitOptions{LayerOffset: tt.offset})
			if tt.wantErr != "" {
				wantError(t, err, tt.wantErr)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := indices(fit); !slices.Equal(got, tt.want) {
				t.Errorf("blocks %v, want %v", got, tt.want)
			}
			if l := fit.Layers[0]; l.TopK != 2 || *l.Tokens != 10 {
				t.Errorf("%d experts of %d tokens", l.TopK, *l.Tokens)
			}
		})
	}
	// Where all blocks have experts the readings agree.
	mustFit(t, rowsOf(some, some, some), buildModel(t, tiny, nil), stats.FitOptions{})
	_, err := rowsOf(repeat(3, make([]uint64, 6))...).Fit(m, stats.FitOptions{})
	wantError(t, err, "physical experts of a load balancer need its map")
}

// Counts are whole; float32 stores them with an error above 2^24.
func TestFloatCounts(t *testing.T) {
	near := mustReadBuilt(t, tiny.Imatrix(everyLayer(5.0005, 3, 2, 10)))
	if near.Kind != stats.KindExact || near.Layers[0].Counts[0] != 5 {
		t.Errorf("kind %s, counts %v", near.Kind, near.Layers[0].Counts)
	}
	weights := mustReadBuilt(t, tiny.Imatrix(everyLayer(5.01, 3, 2, 10)))
	if weights.Kind != stats.KindRelative || !hasFinding(weights, "relative-counts") || weights.Layers[0].Weights[0] != float64(float32(5.01)) {
		t.Errorf("kind %s, weights %v", weights.Kind, weights.Layers[0].Weights)
	}
	// 2^25+1 tokens, all to two experts, are stored as 2^25 tokens.
	large := mustReadBuilt(t, tiny.Imatrix(everyLayer(1<<25+4, 1<<25-2, 2, 0)))
	if !hasFinding(large, "rounded-counts") || large.Layers[0].TopK != 2 {
		t.Errorf("findings %v, top-k %d", large.Findings, large.Layers[0].TopK)
	}
	if hasFinding(near, "rounded-counts") {
		t.Error("small counts are said to be rounded")
	}
}

// The router's count may be short by 16 rows per chunk, and by no more.
func TestRaggedBatches(t *testing.T) {
	m := buildModel(t, tiny, nil)
	for _, tt := range []struct {
		tokens  float32
		wantErr string
	}{{1000, ""}, {985, ""}, {984, ""}, {700, "experts per token"}, {1010, "experts per token"}} {
		b := tiny.Imatrix(everyLayer(600, 600, 400, 400))
		for layer := range 3 {
			bits := math.Float32bits(tt.tokens)
			b.Tensor(fmt.Sprintf("blk.%d.ffn_gate_inp.weight.counts", layer)).Data = []byte{byte(bits), byte(bits >> 8), byte(bits >> 16), byte(bits >> 24)}
		}
		ev, err := readBuilt(t, b)
		if err == nil {
			_, err = ev.Fit(m, stats.FitOptions{})
		}
		if tt.wantErr == "" && err != nil {
			t.Errorf("%g tokens: %v", tt.tokens, err)
		} else if tt.wantErr != "" {
			wantError(t, err, tt.wantErr)
		}
	}
}

func TestInvariants(t *testing.T) {
	floats := func(values ...float32) []byte {
		var b []byte
		for _, v := range values {
			bits := math.Float32bits(v)
			b = append(b, byte(bits), byte(bits>>8), byte(bits>>16), byte(bits>>24))
		}
		return b
	}
	for _, tt := range []struct {
		name, tensor string
		data         []byte
		wantErr      string
	}{
		{"projections differ", "blk.1.ffn_gate_exps.weight.counts", floats(5, 3, 10, 2), "blk.1: expert 2 has count 2 in up and 10 in gate"},
		{"more than all tokens", "blk.0.ffn_gate_inp.weight.counts", floats(1), "of 1 tokens"},
		{"negative", "blk.0.ffn_up_exps.weight.counts", floats(5, -3, 2, 10), "entry blk.0.ffn_up_exps.weight: count 1 is -3"},
		{"not a number", "blk.2.ffn_up_exps.weight.counts", floats(5, 3, 2, float32(math.NaN())), "entry blk.2.ffn_up_exps.weight: count 3 is NaN"},
		{"infinite", "blk.2.ffn_up_exps.weight.counts", floats(5, 3, float32(math.Inf(1)), 2), "entry blk.2.ffn_up_exps.weight: count 2 is +Inf"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := tiny.Imatrix(everyLayer(50, 30, 20, 100))
			b.Tensor(tt.tensor).Data = tt.data
			if tt.name == "projections differ" {
				b = tiny.Imatrix(everyLayer(5, 3, 2, 10))
				b.Tensor(tt.tensor).Data = tt.data
			}
			_, err := readBuilt(t, b)
			wantError(t, err, tt.wantErr)
		})
	}
	b := tiny.Imatrix(everyLayer(50, 30, 20, 100))
	sums := b.Tensor("blk.1.ffn_down_exps.weight.in_sum2").Data
	copy(sums[4*70:], floats(float32(math.NaN())))
	_, err := readBuilt(t, b)
	wantError(t, err, "entry blk.1.ffn_down_exps.weight: sum of squares 70 is NaN")
	b = tiny.Imatrix(everyLayer(50, 30, 20, 100))
	copy(b.Tensor("blk.1.ffn_gate_exps.weight.in_sum2").Data[4*40:], floats(1e6))
	if ev := mustReadBuilt(t, b); !hasFinding(ev, "energy-mismatch") {
		t.Error("gate and up of different input are no finding")
	}
}

func TestBrokenImatrix(t *testing.T) {
	entry := gguftest.ImatrixEntry{Name: "blk.0.ffn_up_exps.weight", InSum2: make([]float32, 8), Counts: make([]float32, 2)}
	drop := func(b *gguftest.Builder, suffix string) *gguftest.Builder {
		b.Tensors = slices.DeleteFunc(b.Tensors, func(t gguftest.Tensor) bool { return strings.HasSuffix(t.Name, suffix) })
		return b
	}
	odd := gguftest.Imatrix(entry)
	odd.Tensor("blk.0.ffn_up_exps.weight.counts").Shape = []uint64{1, 3}
	odd.Tensor("blk.0.ffn_up_exps.weight.counts").Data = nil
	for _, tt := range []struct {
		name    string
		b       *gguftest.Builder
		wantErr string
	}{
		{"no counts", drop(gguftest.Imatrix(entry), ".counts"), "entry blk.0.ffn_up_exps.weight: has sums of squares but no counts"},
		{"no sums", drop(gguftest.Imatrix(entry), ".in_sum2"), "entry blk.0.ffn_up_exps.weight: has counts but no sums of squares"},
		{"odd counts", odd, "8 sums of squares do not divide into 3 counts"},
		{"no layers", gguftest.Imatrix(gguftest.ImatrixEntry{Name: "output.weight", InSum2: []float32{1}, Counts: []float32{1}}), "holds statistics of no layer"},
		{"a model", tiny.Builder(), "is a model, not an imatrix"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := readBuilt(t, tt.b)
			wantError(t, err, tt.wantErr)
		})
	}
}

// The signed sums that a fork adds give the energy of the means.
func TestColumnSums(t *testing.T) {
	b := gguftest.Imatrix(gguftest.ImatrixEntry{Name: "blk.0.ffn_down_exps.weight", InSum2: []float32{8, 2, 0, 0}, Counts: []float32{2, 0}})
	b.AddF32("blk.0.ffn_down_exps.weight.in_sum", []uint64{2, 2}, []float32{-4, 1, 0, 0})
	b.AddF32("blk.0.ffn_down_exps.weight.stats", []uint64{12}, repeat(12, float32(math.NaN())))
	l := mustReadBuilt(t, b).Layers[0]
	// (-4)^2/2 + 1^2/2
	if !slices.Equal(l.DownMeanEnergy, []float64{8.5, 0}) || !slices.Equal(l.DownEnergy, []float64{10, 0}) {
		t.Errorf("energies %v, of means %v", l.DownEnergy, l.DownMeanEnergy)
	}
	copy(b.Tensor("blk.0.ffn_down_exps.weight.in_sum").Data, []byte{0, 0, 0xc0, 0x7f})
	_, err := readBuilt(t, b)
	wantError(t, err, "entry blk.0.ffn_down_exps.weight: column sum 0 is NaN")
}

func TestLegacyWriters(t *testing.T) {
	content, err := os.ReadFile("../../testdata/bytemoe-2x8/mix.imatrix.dat")
	if err != nil {
		t.Fatal(err)
	}
	fresh := mustRead(t, string(content), Options{})
	if fresh.Kind != stats.KindNone || fresh.Columns == nil || fresh.Datasets[0] != "cal.mix.txt" {
		t.Errorf("kind %s", fresh.Kind)
	}
	// Undivided sums tell shares: those of a GGUF file's counts.
	counts := []float32{1038, 492, 756, 1486, 853, 755, 764, 0}
	ev := mustRead(t, string(legacyFile(counts)), Options{})
	if ev.Kind != stats.KindRelative || !hasFinding(ev, "relative-counts") {
		t.Fatalf("kind %s", ev.Kind)
	}
	for e, share := range stats.Shares(nil, ev.Layers[0].Weights) {
		if want := float64(counts[e]) / 6144; math.Abs(share-want) > 1e-6 {
			t.Errorf("share of expert %d: %g, want %g", e, share, want)
		}
	}
}

// Llama 4 multiplies the experts' input by the router's weight: sums over it
// are no measure of traffic.
func TestLegacySharesOfScaledInput(t *testing.T) {
	o := gguftest.MoE{Layers: 1, Experts: 4, Used: 2, Embd: 16, FF: 16}
	ev := mustRead(t, string(legacyFile([]float32{400, 300, 20, 10})), Options{})
	if fit := mustFit(t, ev, buildModel(t, o, nil), stats.FitOptions{}); fit.Kind != stats.KindRelative {
		t.Errorf("kind %s", fit.Kind)
	}
	o.Arch = "llama4"
	if fit := mustFit(t, ev, buildModel(t, o, nil), stats.FitOptions{}); fit.Kind != stats.KindNone || fit.Layers[0].Weights != nil || !hasFinding(fit, "no-traffic") {
		t.Errorf("kind %s, weights %v", fit.Kind, fit.Layers[0].Weights)
	}
}

// legacyFile writes a legacy imatrix of one layer as its first writers did:
// sums that nobody divided.
func legacyFile(counts []float32) []byte {
	var b []byte
	word := func(n uint32) { b = append(b, byte(n), byte(n>>8), byte(n>>16), byte(n>>24)) }
	entry := func(name string, calls uint32, values []float32) {
		word(uint32(len(name)))
		b = append(b, name...)
		word(calls)
		word(uint32(len(values)))
		for _, v := range values {
			word(math.Float32bits(v))
		}
	}
	word(3)
	entry("blk.0.ffn_gate_inp.weight", 6, make([]float32, 16))
	var values []float32
	for _, n := range counts {
		values = append(values, repeat(16, n)...)
	}
	entry("blk.0.ffn_up_exps.weight", 48, values)
	entry("blk.0.ffn_down_exps.weight", 48, values)
	return b
}

func TestBrokenLegacyFiles(t *testing.T) {
	good := string(legacyFile([]float32{4, 3, 2, 1}))
	mustRead(t, good, Options{})
	mustRead(t, good+"\x06\x00\x00\x00\x05\x00\x00\x00c.txt", Options{})
	negative := []byte(good)
	copy(negative[len(negative)-4:], "\x00\x00\x80\xbf")
	for _, tt := range []struct{ name, content, wantErr string }{
		{"truncated", good[:len(good)-3], "entry blk.0.ffn_down_exps.weight: 64 values take 256 bytes, the file has 253 left"},
		{"trailer", good + "\x06\x00\x00\x00\x05\x00\x00\x00c.tx", "trailer: inconsistent entry length: a dataset's name of 5 bytes where the file has 4 left"},
		{"desynchronised", strings.Replace(good, "\x10\x00\x00\x00", "\x04\x00\x00\x00", 1), "inconsistent entry length"},
		{"negative", string(negative), "sum of squares 63 is -1"},
		{"too many", "\xff\xff\x0f\x00" + good[4:], "1048575 entries in"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := readContent(t, []byte(tt.content), Options{Format: "imatrix-dat"})
			wantError(t, err, tt.wantErr)
		})
	}
}

// BenchmarkReadImatrix reads an imatrix of 4 layers of 64 experts.
func BenchmarkReadImatrix(b *testing.B) {
	o := gguftest.MoE{Layers: 4, Experts: 64, Used: 8, Embd: 2048, FF: 1024}
	path := filepath.Join(b.TempDir(), "im.gguf")
	if err := o.Imatrix(everyLayer(repeat(64, float32(100))...)).WriteFile(path); err != nil {
		b.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(info.Size())
	for b.Loop() {
		if _, err := File(context.Background(), path, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

// Legacy files hold one set of columns for all heads of attention, which
// llama-quantize refuses.
func TestEntriesThatLlamaQuantizeRefuses(t *testing.T) {
	const name = "blk.0.attn_k_b.weight"
	model := buildModel(t, tiny, func(b *gguftest.Builder) { b.Add(name, quant.F16, []uint64{32, 8, 3}, nil) })
	for _, tt := range []struct {
		values uint64
		fits   bool
	}{{32, false}, {96, true}} {
		im := tiny.Imatrix(everyLayer(5, 3, 2, 10))
		im.AddF32(name+".in_sum2", []uint64{tt.values, 1}, make([]float32, tt.values)).AddF32(name+".counts", []uint64{1, 1}, []float32{10})
		fit := mustFit(t, mustReadBuilt(t, im), model, stats.FitOptions{})
		found := slices.ContainsFunc(fit.Findings, func(f stats.Finding) bool { return f.Code == stats.CodeImatrixSize && f.Subject == name })
		if found == tt.fits || (fit.Match.Named == fit.Match.Entries) != tt.fits {
			t.Errorf("%d values for 3 matrices of 32 columns: found %v, %d of %d entries fit", tt.values, found, fit.Match.Named, fit.Match.Entries)
		}
	}
}
