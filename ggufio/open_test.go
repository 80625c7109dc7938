package ggufio_test

import (
	"path/filepath"
	"runtime"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/gguftest"
)

// The headers of four published models, and what they must be read as.
func TestOpenPublishedModels(t *testing.T) {
	for _, tt := range []struct {
		file, arch                                 string
		tensors, blocks, moe, firstMoE             int
		experts, used, dense, shared               int
		heads, headsKV                             int
		parameters, tensorBytes, fileBytes, header uint64
	}{
		{"qwen3-30b-a3b-bf16.gguf", "qwen3moe", 579, 48, 48, 0, 128, 8, 0, 0, 32, 4, 30532122624, 61089832960, 61089870144, 37184},
		{"mixtral-8x7b-bf16.gguf", "llama", 323, 32, 32, 0, 8, 2, 0, 0, 32, 8, 46702792704, 93408215040, 93408236384, 21344},
		{"deepseek-v3-bf16.gguf", "deepseek2", 1086, 61, 58, 3, 256, 8, 3, 1, 128, 1, 671026419200, 1342267742208, 1342267813696, 71488},
		{"olmoe-1b-7b-bf16.gguf", "olmoe", 195, 16, 16, 0, 64, 8, 0, 0, 16, 16, 6919161856, 13842784256, 13842797120, 12864},
	} {
		t.Run(tt.file, func(t *testing.T) {
			path, err := gguftest.ExtendHeader(t.TempDir(), filepath.Join("../testdata/llama-quantize", tt.file))
			if err != nil {
				t.Fatal(err)
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			m, err := ggufio.Open(path)
			runtime.ReadMemStats(&after)
			if err != nil {
				t.Fatal(err)
			}
			// Headers are small, however large the model.
			if n := after.TotalAlloc - before.TotalAlloc; n > 16<<20 {
				t.Errorf("opening allocated %d bytes", n)
			}
			check := func(what string, got, want any) {
				t.Helper()
				if got != want {
					t.Errorf("%s: %v, want %v", what, got, want)
				}
			}
			a, layers := m.Architecture, m.MoELayers()
			check("architecture", a.Name, tt.arch)
			check("tensors", len(m.Tensors), tt.tensors)
			check("blocks", a.BlockCount, tt.blocks)
			check("MoE layers", len(layers), tt.moe)
			check("first MoE layer", layers[0], tt.firstMoE)
			check("experts", m.ExpertCount(layers[0]), tt.experts)
			check("experts in metadata", a.ExpertCount, tt.experts)
			check("used entries", len(a.ExpertUsedCount), tt.blocks)
			check("used", a.ExpertUsedCount[tt.blocks-1], tt.used)
			check("dense", a.LeadingDense, tt.dense)
			check("shared", a.ExpertSharedCount, tt.shared)
			check("heads", a.HeadCount[0], tt.heads)
			check("heads kv", a.HeadCountKV[0], tt.headsKV)
			check("parameters", m.Parameters(), tt.parameters)
			check("tensor bytes", m.TensorBytes(), tt.tensorBytes)
			check("file bytes", m.FileBytes(), tt.fileBytes)
			check("data offset", m.Files[0].DataOffsetBytes, tt.header)
			if n := len(m.ExpertTensors(layers[0])); n != 3 {
				t.Errorf("%d expert tensors in layer %d, want 3", n, layers[0])
			}
		})
	}
}
