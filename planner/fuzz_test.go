package planner

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner/manifest"
	"github.com/ggufplan/ggufplan/planner/memory"
	"github.com/ggufplan/ggufplan/stats"
)

// FuzzModel: whatever model can be read, a plan of it or an error; no plan is
// written that cannot be read, and none contradicts itself.
func FuzzModel(f *testing.F) {
	small := gguftest.MoE{Layers: 1, Experts: 2, Embd: 32, FF: 32, Vocab: 2, Sparse: true}
	for _, o := range []gguftest.MoE{small,
		{Layers: 2, Dense: 1, MTP: 1, Experts: 2, Embd: 32, FF: 32, Vocab: 2, Shared: 1, Type: quant.F16, Sparse: true},
		{Layers: 1, Experts: 2, Embd: 32, FF: 32, Vocab: 2, Separate: true, Sparse: true},
		{Layers: 1, Experts: 2, Embd: 32, FF: 32, Vocab: 2, GateUp: true, Tied: true, Sparse: true},
	} {
		f.Add(o.Builder().Bytes())
	}
	b := small.Builder().Set("general.alignment", uint32(64)).Set("qwen3moe.expert_used_count", []int32{1})
	b.Alignment = 64
	f.Add(b.Bytes())
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(dir, "m.gguf")
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		m, err := ggufio.Open(path)
		if err != nil {
			return
		}
		if shape, err := memory.NewShape(m); err == nil && shape == nil {
			t.Error("no shape and no error")
		}
		ev := &stats.Evidence{Kind: stats.KindExact}
		for _, layer := range m.MoELayers() {
			counts := make([]uint64, m.ExpertCount(layer))
			for e := range counts {
				counts[e] = uint64(7*e%13 + layer)
			}
			ev.Layers = append(ev.Layers, stats.Layer{Index: layer, Kind: stats.LayerRouted, Counts: counts})
		}
		for _, base := range []string{BaseKeep, "Q4_K_M"} {
			policy := DefaultPolicy()
			policy.Base = base
			plan, err := Solve(&Problem{Model: m, Evidence: ev, Policy: policy})
			if err != nil {
				continue
			}
			text, err := manifest.Encode(plan.Manifest())
			if err != nil {
				t.Fatalf("base %s: the plan cannot be written: %v", base, err)
			}
			back, err := manifest.Decode(text)
			if err != nil {
				t.Fatalf("base %s: the plan cannot be read: %v", base, err)
			}
			if err := CheckManifest(back); err != nil {
				t.Fatalf("base %s: %v", base, err)
			}
			if again, err := manifest.Encode(back); err != nil || !bytes.Equal(again, text) {
				t.Errorf("base %s: two spellings, %v", base, err)
			}
		}
	})
}
