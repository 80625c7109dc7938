package read

import (
	"archive/zip"
	"bytes"
	"context"
	"math"
	"testing"

	"github.com/ggufplan/ggufplan/stats"
)

var fuzzOptions = []Options{{}, {Layers: 2, Experts: 8, TopK: 2}}

// checkEvidence fails if the evidence contradicts itself.
func checkEvidence(t *testing.T, ev *stats.Evidence) {
	t.Helper()
	if len(ev.Layers) == 0 {
		t.Fatal("no layers and no error")
	}
	last := -1
	for _, l := range ev.Layers {
		if l.Index <= last || l.Index >= maxLayers || ev.LayerAxis == stats.AxisRows && l.Index >= ev.Rows {
			t.Fatalf("layer %d after %d, of %d rows", l.Index, last, ev.Rows)
		}
		last = l.Index
		experts := l.Experts()
		if experts == 0 || experts > maxExperts || (l.Counts == nil) == (l.Weights == nil) {
			t.Fatalf("layer %d: %d counts, %d weights", l.Index, len(l.Counts), len(l.Weights))
		}
		sum, err := l.Activations()
		if err != nil || l.Counts != nil && sum == 0 || sum > 1<<62 {
			t.Fatalf("layer %d: counts sum to %d (%v)", l.Index, sum, err)
		}
		for _, s := range l.Signals() {
			if *s.Values != nil && len(*s.Values) != experts {
				t.Fatalf("layer %d: %s has %d of %d values", l.Index, s.Name, len(*s.Values), experts)
			}
			for _, v := range *s.Values {
				if math.IsNaN(v) || math.IsInf(v, 0) {
					t.Fatalf("layer %d: %s holds %v", l.Index, s.Name, v)
				}
			}
		}
		if b := l.Blocks; b != nil && (b.N < 2 || !(b.Deff > 0) || math.IsInf(b.Deff, 0)) {
			t.Fatalf("layer %d: blocks %+v", l.Index, b)
		}
	}
}

func fuzzReader(f *testing.F, read func(context.Context, *source, Options) (*stats.Evidence, error), samples ...[]byte) {
	for _, s := range samples {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		for _, opt := range fuzzOptions {
			if ev, err := read(context.Background(), memorySource(bytes.NewReader(content)), opt); err == nil {
				checkEvidence(t, ev)
			}
		}
	})
}

func FuzzTraceJSONL(f *testing.F) {
	fuzzReader(f, readTraceJSONL, sample(f, "trace.jsonl")[:400], sample(f, "vllm-patch.jsonl")[:400],
		[]byte(`{"schema":"ggufplan.expert_trace","version":1,"expert_count":8,"top_k":2,"layer_index":"moe"}`+"\n"+`{"layer":1,"counts":[2,1,1],"tokens":2,"n":3,"phase":"x"}`))
}

func FuzzTraceCSV(f *testing.F) {
	fuzzReader(f, readTraceCSV, sample(f, "moe-trace.csv")[:200], sample(f, "layer-expert-ids.csv")[:200],
		[]byte("# n_layer=2 n_expert=8\nlayer;expert;count;phase;weight\n0;1;2.5;a;1e3\n"), []byte("layer,experts\n0,\"[1, 2]\"\n"))
}

func FuzzTableJSON(f *testing.F) {
	fuzzReader(f, readTableJSON, sample(f, "matrix.json"), sample(f, "by-layer.json"), sample(f, "expert-profile.json"), sample(f, "sglang-stat.json"),
		sample(f, "refuse-physical-map.json"), sample(f, "refuse-vllm-ascend-map.json"), []byte(`{"count":[[4,2,2]],"mass":[[2.5,0.5,1]],"tokens":4}`), []byte(`{"0":[1,0,2]}`))
}

func FuzzResponses(f *testing.F) {
	fuzzReader(f, readTableJSON, sample(f, "sglang-response.json")[:400], sample(f, "vllm-response.json")[:2000],
		[]byte(`{"meta_info":{"prompt_tokens":1,"completion_tokens":1,"routed_experts":"`+rawIDs(1, 2, 0, 3, 1, 0, 2, 3)+`"}}`),
		[]byte(`{"choices":[{"routed_experts":"`+npyIDs("(1, 2, 2)", 1, 2, 0, 3)+`"}]}`), []byte(`{"routed_experts":[[[1,2],[0,3]]]}`))
}

func FuzzNPY(f *testing.F) {
	fuzzReader(f, readNPY, sample(f, "counts-2d.npy"), sample(f, "moe-infinity-3d.npy"), npyFile("|u1", true, "(2, 2, 2)", []byte{1, 2, 3, 4, 5, 6, 7, 8}))
}

func FuzzNPZ(f *testing.F) {
	f.Add(sample(f, "counts.npz"))
	f.Add(zipOf(f, zip.Deflate, "a.npy", npyFile("|u1", false, "(1, 2)", []byte{1, 2})))
	f.Fuzz(func(t *testing.T, content []byte) {
		for _, opt := range fuzzOptions {
			if ev, err := npzEvidence(context.Background(), bytes.NewReader(content), int64(len(content)), opt); err == nil {
				checkEvidence(t, ev)
			}
		}
	})
}

// FuzzTorch changes the pickle and a storage inside a sound archive, since a
// changed archive fails its checksums.
func FuzzTorch(f *testing.F) {
	add := func(p *pickler) {
		p.storages = append(p.storages, nil)
		f.Add(append(p.Bytes(), '.'), p.storages[0])
	}
	add(newPickler().tensor([]int{2, 3}, 4, 1, 3, 2, 2, 4))
	add(newPickler().raw("}(").text("logical_count").tensor([]int{2, 2, 2}, 0, 0, 1, 2, 0, 0, 3, 0).raw("u"))
	add(newPickler().raw("}(").int(3).raw("}(").text("expert_frequency").tensor([]int{2}, 1, 2).text("total_tokens").int(3).raw("uu"))
	add(newPickler().tensor([]int{2, 2}, 0, 1, 1, 0).raw("q\x000}(").text("records").raw("]}").text("topk_ids_of_layer").raw("h\x00sa").text("last_physical_to_logical_map").raw("h\x00u"))
	f.Fuzz(func(t *testing.T, pickle, storage []byte) {
		content := zipOf(t, zip.Store, "a/data.pkl", pickle, "a/data/0", storage)
		for _, opt := range fuzzOptions {
			if ev, err := torchEvidence(context.Background(), bytes.NewReader(content), int64(len(content)), opt); err == nil {
				checkEvidence(t, ev)
			}
		}
	})
}
