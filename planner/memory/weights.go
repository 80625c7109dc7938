package memory

import (
	"strings"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner/llamaquantize"
)

// A Device is where a tensor or a buffer lies.
type Device int

// The devices: the machine's RAM, and one graphics card.
const (
	CPU Device = iota
	GPU
	deviceCount
)

func (d Device) String() string { return [...]string{"CPU", "GPU"}[d] }

// A Placement says which part of a model lies on the graphics card.
type Placement struct {
	// GPULayers is -ngl: how many layers, counted from the last, lie on the
	// card; the output counts as one layer behind the last block.
	GPULayers int

	// CPUExpertLayers is --n-cpu-moe: the routed experts of so many blocks,
	// counted from the first, stay on the CPU whatever GPULayers says.
	CPUExpertLayers int
}

// AllLayers is a GPULayers that no model exceeds.
const AllLayers = 1 << 20

// onGPU reports whether a block, or as block number blocks the output, lies
// on the card: llama_model_base::load_tensors, get_layer_buft_list.
func (p Placement) onGPU(block, blocks int) bool {
	return block >= blocks+1-min(p.GPULayers, blocks+1)
}

// device returns where a block's cache lies.
func (p Placement) device(block, blocks int) Device {
	if p.onGPU(block, blocks) {
		return GPU
	}
	return CPU
}

// inputNames are the tensors outside blocks that belong to the input, which
// stays on the CPU; all others belong to the output.
var inputNames = map[string]bool{
	"token_embd": true, "token_types": true, "position_embd": true, "per_layer_token_embd": true, "hrm.z_l_init": true,
}

// firstNames are the tensors outside blocks that lie where the first block is.
var firstNames = map[string]bool{"token_embd_norm": true, "per_layer_model_proj": true, "per_layer_proj_norm": true}

// sharedNames are tensors outside blocks that every block uses: each device
// with a block has them.
var sharedNames = map[string]bool{"rope_freqs": true, "rope_factors_long": true, "rope_factors_short": true}

// A Weight is one tensor's encoding in the file that a run loads.
type Weight struct {
	Type        quant.Type
	SizeBytes   uint64
	File        int    // of the model's files
	OffsetBytes uint64 // of the tensor in its file
}

// SourceWeights are a model's tensors as its files have them.
func SourceWeights(m *ggufio.Model) []Weight {
	out := make([]Weight, len(m.Tensors))
	for i := range m.Tensors {
		t := &m.Tensors[i]
		out[i] = Weight{t.Type, t.SizeBytes, t.File, t.OffsetBytes}
	}
	return out
}

// QuantizedWeights are a model's tensors as llama-quantize writes them, with
// the given types and sizes: in one file, in its loader's order. Offsets count
// from the start of tensor data.
func QuantizedWeights(m *ggufio.Model, types []quant.Type, sizesBytes []uint64) []Weight {
	out := make([]Weight, len(m.Tensors))
	at := uint64(0)
	for _, i := range llamaquantize.LoaderOrder(m) {
		out[i] = Weight{types[i], sizesBytes[i], 0, at}
		at += ggufio.Padded(sizesBytes[i], llamaquantize.OutputAlignment)
	}
	return out
}

// A Repack says for which processor llama.cpp lays weights out anew when it
// loads them. It does so only without a graphics card.
type Repack string

// The processors: none known, x86-64 with AVX2 or with AVX-512, and ARM with
// dot products or 8-bit matrix products.
const (
	RepackNone    Repack = "none"
	RepackAVX2    Repack = "avx2"
	RepackAVX512  Repack = "avx512"
	RepackDotProd Repack = "dotprod"
	RepackI8MM    Repack = "i8mm"
)

// repacks reports whether rows × of a type get another layout:
// ggml_repack_get_optimal_repack_type.
func (r Repack) repacks(t quant.Type, rows uint64) bool {
	avx512 := r == RepackAVX512
	avx2 := avx512 || r == RepackAVX2
	i8mm := r == RepackI8MM
	arm := i8mm || r == RepackDotProd
	switch t {
	case quant.Q4_0:
		return avx2 && rows%8 == 0 || arm && rows%4 == 0
	case quant.Q4_K:
		return (avx2 || arm) && rows%8 == 0
	case quant.Q2_K:
		return avx512 && rows%8 == 0
	case quant.Q5_K, quant.Q6_K:
		return arm && rows%8 == 0
	case quant.IQ4_NL, quant.MXFP4:
		return avx2 && rows%8 == 0 || arm && rows%4 == 0
	case quant.Q8_0, quant.Q1_0:
		return arm && rows%4 == 0
	}
	return false
}

// WeightBytes are the buffers that hold a model's weights.
type WeightBytes struct {
	GPU      uint64
	CPU      uint64 // read into memory: without mmap
	Mapped   uint64 // with mmap: the parts of the files from the first to the last tensor on the CPU
	Repacked uint64 // on the CPU besides the other two, in a layout of its own
}

// weightUse is where one tensor's weights go.
type weightUse struct {
	on     [deviceCount]bool
	output bool // the embedding, which serves as the output as well
}

// use says where a tensor's weights go.
func (s *Shape) use(t *ggufio.Tensor, p Placement, tied bool) weightUse {
	var u weightUse
	blocks := int(s.blocks)
	base := t.Name
	for _, suffix := range []string{".weight", ".bias", ".scale", ".input_scale"} {
		base = strings.TrimSuffix(base, suffix)
	}
	switch {
	case t.Layer >= 0 && t.Layer >= blocks-int(s.next):
		// Blocks of multi-token prediction are not loaded unless asked for.
	case t.Layer >= 0:
		on := p.device(t.Layer, blocks)
		if t.Layer < p.CPUExpertLayers && isExpertWeight(t.Name) {
			on = CPU
		}
		u.on[on] = true
	case inputNames[base]:
		u.on[CPU] = true
		if base == "token_embd" && tied {
			u.output = true
			u.on[p.device(blocks, blocks)] = true
		}
	case firstNames[base]:
		u.on[p.device(0, blocks)] = true
	case sharedNames[base]:
		for b := range blocks {
			u.on[p.device(b, blocks)] = true
		}
	default:
		u.on[p.device(blocks, blocks)] = true
	}
	return u
}

// isExpertWeight reports whether --n-cpu-moe moves a tensor: common.h,
// LLM_FFN_EXPS_REGEX.
func isExpertWeight(name string) bool {
	for _, projection := range []string{"up", "down", "gate", "gate_up"} {
		if strings.Contains(name, ".ffn_"+projection+"_exps") || strings.Contains(name, ".ffn_"+projection+"_chexps") {
			return true
		}
	}
	return false
}

// rule is how a device's buffers hold tensors.
func (s *Shape) rule(d Device) *bufferRule {
	if d == GPU {
		return &s.card
	}
	return &hostRule
}

// HeldBytes is what a buffer of a device holds of a tensor's weights.
func (s *Shape) HeldBytes(d Device, t *ggufio.Tensor, typ quant.Type, sizeBytes uint64) uint64 {
	f, ok := quant.Lookup(typ)
	if !ok {
		return ggufio.Padded(sizeBytes, s.rule(d).alignment)
	}
	return s.rule(d).held(&f, t.Shape[0], sizeBytes)
}

// Devices says which devices hold each tensor of a model: none for one that is
// not loaded, both for one that serves on both.
func (s *Shape) Devices(m *ggufio.Model, p Placement) [][]Device {
	out := make([][]Device, len(m.Tensors))
	tied := isTied(m)
	for i := range m.Tensors {
		u := s.use(&m.Tensors[i], p, tied)
		for _, d := range []Device{CPU, GPU} {
			if u.on[d] {
				out[i] = append(out[i], d)
			}
		}
	}
	return out
}

// weightBytes sums up where a model's weights go.
func (s *Shape) weightBytes(m *ggufio.Model, weights []Weight, p Placement, repack Repack) (WeightBytes, error) {
	var gpu, cpu, repacked sizes
	tied := isTied(m)
	type span struct{ first, last uint64 }
	spans := map[int]span{}
	for i := range m.Tensors {
		t, w := &m.Tensors[i], &weights[i]
		u := s.use(t, p, tied)
		if u.on[GPU] {
			gpu.add(s.HeldBytes(GPU, t, w.Type, w.SizeBytes))
		}
		if !u.on[CPU] {
			continue
		}
		relaid := p.GPULayers == 0 && repack.repacks(w.Type, rowsOfMatrix(t)) && isMatrix(t)
		if relaid && (t.Layer >= 0 || u.output || t.Role == ggufio.RoleOutput) {
			repacked.add(s.HeldBytes(CPU, t, w.Type, w.SizeBytes))
			if !u.output {
				continue
			}
		}
		cpu.add(s.HeldBytes(CPU, t, w.Type, w.SizeBytes))
		at, ok := spans[w.File]
		if !ok {
			at = span{w.OffsetBytes, 0}
		}
		spans[w.File] = span{min(at.first, w.OffsetBytes), max(at.last, w.OffsetBytes+w.SizeBytes)}
	}
	var mapped sizes
	for _, x := range spans {
		mapped.add(x.last - x.first)
	}
	for _, x := range []*sizes{&gpu, &cpu, &repacked, &mapped} {
		if x.err != nil {
			return WeightBytes{}, x.err
		}
	}
	return WeightBytes{gpu.bytes, cpu.bytes, mapped.bytes, repacked.bytes}, nil
}

// isTied reports whether the embedding serves as the output.
func isTied(m *ggufio.Model) bool {
	for i := range m.Tensors {
		if m.Tensors[i].Name == "output.weight" {
			return false
		}
	}
	return true
}

// isMatrix reports whether a tensor is one that llama.cpp multiplies with as a
// matrix, or as the matrices of experts.
func isMatrix(t *ggufio.Tensor) bool {
	dims := len(t.Shape)
	for dims > 1 && t.Shape[dims-1] == 1 {
		dims--
	}
	if t.Role.IsExpert() && t.Expert < 0 {
		return dims == 3
	}
	return dims == 2
}

func rowsOfMatrix(t *ggufio.Tensor) uint64 {
	if len(t.Shape) < 2 {
		return 1
	}
	return t.Shape[1]
}
