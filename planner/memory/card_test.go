package memory

import (
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/gguftest/llamacpp"
	"github.com/ggufplan/ggufplan/ggufio/quant"
)

// loggedBy adds up the buffers of a kind that a device has.
func loggedBy(log, kind string, d Device) (mib float64, lines int) {
	for _, b := range llamacpp.Buffers(log) {
		on := GPU
		if strings.HasPrefix(b.Device, "CPU") || strings.HasSuffix(b.Device, "_Host") {
			on = CPU
		}
		if b.Kind == kind && on == d {
			v, _ := strconv.ParseFloat(b.MiB, 64)
			mib += v
			lines++
		}
	}
	return mib, lines
}

// cardRun is a run with a card.
type cardRun struct {
	context, sequences, batch int
	key, value                quant.Type
	mapped, dry               bool
}

func (c *cardRun) load(lib *llamacpp.Library, card *llamacpp.Card, path string, p Placement) (string, error) {
	return lib.LoadLog(path, llamacpp.RunOptions{ContextTokens: c.context, Sequences: c.sequences, BatchTokens: c.batch, Outputs: c.sequences,
		KeyType: uint32(c.key), ValueType: uint32(c.value), MapFile: c.mapped, DryRun: c.dry,
		Card: card, GPULayers: p.GPULayers, CPUExpertLayers: p.CPUExpertLayers})
}

func (c *cardRun) options(p Placement) Options {
	return Options{ContextTokens: uint64(c.context), Sequences: uint64(c.sequences), BatchTokens: uint64(c.batch), KeyType: c.key, ValueType: c.value, Placement: p}
}

// cardPlacements are the places that a model of so many blocks can lie.
func cardPlacements(blocks int) map[string]Placement {
	all := map[string]Placement{
		"no layer": {}, "output": {GPULayers: 1}, "all blocks but the first": {GPULayers: blocks}, "all": {GPULayers: blocks + 1}, "more than all": {GPULayers: blocks + 7},
		"experts in RAM": {GPULayers: blocks + 1, CPUExpertLayers: blocks}, "some experts in RAM": {GPULayers: blocks + 1, CPUExpertLayers: (blocks + 1) / 2},
		"half, and fewer experts": {GPULayers: blocks/2 + 1, CPUExpertLayers: blocks - 1},
	}
	return all
}

// both loads a model and estimates the same run.
func (c cardRun) both(t *testing.T, lib *llamacpp.Library, card *llamacpp.Card, path string, m *ggufio.Model, s *Shape, p Placement) (log string, run *Run) {
	t.Helper()
	log, err := c.load(lib, card, path, p)
	if err != nil {
		t.Fatal(err)
	}
	if run, err = s.Estimate(m, SourceWeights(m), c.options(p)); err != nil {
		t.Fatal(err)
	}
	return log, run
}

// wantBuffers holds a load's weights, cache and state to what is logged of both
// devices.
func wantBuffers(t *testing.T, lib *llamacpp.Library, card *llamacpp.Card, path string, m *ggufio.Model, s *Shape, c cardRun, p Placement) {
	t.Helper()
	log, run := c.both(t, lib, card, path, m, s, p)
	for d, b := range map[Device]*Buffers{GPU: &run.GPU, CPU: &run.CPU} {
		weights := b.Weights
		if d == CPU && c.mapped {
			weights = run.MappedBytes
		}
		mib, lines := loggedBy(log, "model", d)
		wantMiB(t, d.String()+": weights", weights, mib, lines)
		if run.CacheUnknown != nil {
			continue
		}
		mib, lines = loggedBy(log, "KV", d)
		wantMiB(t, d.String()+": cache", b.Cache, mib, lines)
		mib, lines = loggedBy(log, "RS", d)
		wantMiB(t, d.String()+": state", b.State, mib, lines)
	}
}

// What llama.cpp places on a device of another process, and on one that holds
// tensors as CUDA does.
func TestDevicesAsLogged(t *testing.T) {
	lib := llamacpp.Load(t)
	models := loadable(t, t.TempDir())
	// Rows that a card pads.
	models["odd, quantized"] = filepath.Join(t.TempDir(), "odd.gguf")
	if err := (gguftest.MoE{Layers: 2, Embd: 96 * 4, FF: 160, Sparse: true, Type: quant.Q8_0, Vocab: 77}).Builder().WriteFile(models["odd, quantized"]); err != nil {
		t.Fatal(err)
	}
	for device, x := range map[string]struct {
		add  func(testing.TB) *llamacpp.Card
		rule bufferRule
	}{"RPC": {lib.AddRPC, hostRule}, "CUDA's rules": {lib.AddCard, cudaRule}} {
		t.Run(device, func(t *testing.T) {
			card := x.add(t)
			for name, path := range models {
				m, s := open(t, path)
				s.card = x.rule
				for place, p := range cardPlacements(m.Architecture.BlockCount) {
					t.Run(name+"/"+place, func(t *testing.T) {
						for _, c := range []cardRun{
							{context: 512, sequences: 1, key: quant.F16, value: quant.F16}, {context: 1000, sequences: 1, batch: 64, key: quant.F32, value: quant.BF16, mapped: true},
							{context: 3000, sequences: 3, key: quant.Q8_0, value: quant.Q8_0}, {context: 4096, sequences: 4, batch: 16, key: quant.Q5_1, value: quant.Q4_0, mapped: true},
						} {
							wantBuffers(t, lib, card, path, m, s, c, p)
						}
					})
				}
			}
		})
	}
}

// Every architecture that llama.cpp's own test makes a model of, on both.
func TestArchitecturesOnDevicesAsLogged(t *testing.T) {
	lib := llamacpp.Load(t)
	dir, names := unpackHeaders(t)
	rpc, cuda := lib.AddRPC(t), lib.AddCard(t)
	for _, name := range names {
		if !strings.HasPrefix(name, "arch-") {
			continue
		}
		t.Run(strings.TrimSuffix(name, ".gguf"), func(t *testing.T) {
			path, m, s := extended(t, dir, name)
			blocks := m.Architecture.BlockCount
			all, experts, half := Placement{GPULayers: blocks + 1}, Placement{GPULayers: blocks + 1, CPUExpertLayers: blocks}, Placement{GPULayers: (blocks + 1) / 2}
			c := cardRun{context: 1024, sequences: 2, key: quant.F16, value: quant.F16}
			wantBuffers(t, lib, cuda, path, m, s, c, all)
			wantBuffers(t, lib, cuda, path, m, s, c, half)
			s.card = hostRule
			wantBuffers(t, lib, rpc, path, m, s, c, experts)
			wantBuffers(t, lib, rpc, path, m, s, c, half)
		})
	}
}

// wantCardCompute holds the compute buffers of both devices to their promise:
// never below what is logged. most bounds them from above; 0 does not.
func wantCardCompute(t *testing.T, lib *llamacpp.Library, card *llamacpp.Card, path string, m *ggufio.Model, s *Shape, c cardRun, p Placement, most map[Device]float64) {
	t.Helper()
	log, run := c.both(t, lib, card, path, m, s, p)
	for d, b := range map[Device]*Buffers{GPU: &run.GPU, CPU: &run.CPU} {
		mib, _ := loggedBy(log, "compute", d)
		outputs, _ := loggedBy(log, "output", CPU)
		if d == CPU {
			mib += outputs
		}
		if ratio := float64(b.Compute) / (1 << 20) / mib; ratio < 1 || most[d] > 0 && ratio > most[d] {
			t.Errorf("%+v: compute buffers of the %s: estimated %s MiB, llama.cpp logs %.2f: %.2f times", c, d, llamacpp.MiB(b.Compute), mib, ratio)
		}
	}
}

// Compute buffers of models as wide as published ones with a card: batches that
// it takes over, caches that its attention reads and copies of those that it
// does not.
func TestCardComputeAsLogged(t *testing.T) {
	lib := llamacpp.Load(t)
	card := lib.AddCard(t)
	dir, names := unpackHeaders(t)
	for _, name := range names {
		if strings.HasPrefix(name, "arch-") {
			continue
		}
		path, m, s := extended(t, dir, name)
		blocks := m.Architecture.BlockCount
		_, recurrent := recurrences[m.Architecture.Name]
		for place, p := range cardPlacements(blocks) {
			if p.GPULayers == 0 {
				continue // the card computes all the same, unless -dev none keeps it out
			}
			t.Run(strings.TrimSuffix(name, ".gguf")+"/"+place, func(t *testing.T) {
				for _, c := range []cardRun{
					{context: 4096, sequences: 1, batch: 512, key: quant.F16, value: quant.F16}, {context: 32768, sequences: 1, batch: 512, key: quant.Q8_0, value: quant.Q8_0},
					{context: 131072, sequences: 1, batch: 512, key: quant.F16, value: quant.F16}, {context: 131072, sequences: 1, batch: 512, key: quant.Q8_0, value: quant.Q4_0},
					{context: 65536, sequences: 4, batch: 2048, key: quant.BF16, value: quant.BF16}, {context: 32768, sequences: 64, batch: 128, key: quant.F16, value: quant.F16},
					{context: 8192, sequences: 1, batch: 4096, key: quant.F16, value: quant.F16}, {context: 8192, sequences: 1, batch: 16, key: quant.F16, value: quant.F16},
					{context: 32768, sequences: 1, batch: 512, key: quant.IQ4_NL, value: quant.F16}, {context: 32768, sequences: 2, batch: 512, key: quant.F16, value: quant.IQ4_NL},
				} {
					if c.dry = true; recurrent {
						c.sequences = min(c.sequences, 2) // states take memory in a dry run too
					}
					if s.latent {
						c.value = c.key
					}
					most := map[Device]float64{GPU: 2, CPU: 2}
					switch {
					case c.batch < offloadTokens: // megabytes at most
						most = nil
					case c.key == quant.IQ4_NL || c.value == quant.IQ4_NL: // CUDA has no flash attention for it
						most = nil
					case p.GPULayers <= blocks && c.sequences >= offloadTokens: // no flash attention
						most[GPU], most[CPU] = 2.7, 2.7
					case p.GPULayers <= blocks:
						most[GPU] = 2.3
						if recurrent {
							most[CPU] = 0
						}
					case recurrent && c.batch < 512:
						most[CPU] = 3
					}
					wantCardCompute(t, lib, card, path, m, s, c, p, most)
				}
			})
		}
	}
}
