package gguftest

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math"
	"strings"

	"github.com/ggufplan/ggufplan/ggufio/quant"
)

// A MoE describes a small Mixture-of-Experts model in the manner of Qwen3-MoE.
// Zero fields take the values in brackets. llama.cpp loads and runs the model
// when all layers have fused experts; it knows no qwen3moe model with the
// other features.
type MoE struct {
	Arch     string // general.architecture ["qwen3moe"]
	Name     string // general.name ["test model"]
	Layers   int    // blocks, MTP blocks not counted [2]
	Dense    int    // how many of Layers, from the first, have no experts [0]
	MTP      int    // MTP blocks after Layers, with experts [0]
	Experts  int    // per layer [4]
	Used     int    // experts per token [2]
	Shared   int    // shared experts per layer [0]
	Embd     int    // row length of attention, gate and up [256]
	FF       int    // row length of down [256]
	Vocab    int    // [64]
	Separate bool   // one tensor per expert instead of fused ones
	GateUp   bool   // gate and up together in one fused tensor
	Tied     bool   // no output.weight

	Type quant.Type // of all tensors of two or more dimensions but the router [F32]

	// Sparse leaves all weights zero, so that the model may be of any size;
	// else they are deterministic noise. Types that cannot be encoded are zero
	// anyhow.
	Sparse bool
}

func (o MoE) withDefaults() MoE {
	set := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	set(&o.Layers, 2)
	set(&o.Experts, 4)
	set(&o.Used, min(2, o.Experts))
	set(&o.Embd, 256)
	set(&o.FF, 256)
	set(&o.Vocab, 64)
	if o.Arch == "" {
		o.Arch = "qwen3moe"
	}
	if o.Name == "" {
		o.Name = "test model"
	}
	return o
}

// Builder returns the model's file, for a test to write or to change first.
func (o MoE) Builder() *Builder {
	o = o.withDefaults()
	const heads, headsKV = 4, 2
	b := &Builder{}
	b.Set("general.architecture", o.Arch)
	b.Set("general.type", "model")
	b.Set("general.name", o.Name)
	number := func(key string, v int) { b.Set(o.Arch+"."+key, uint32(v)) }
	number("block_count", o.Layers+o.MTP)
	number("context_length", 4096)
	number("embedding_length", o.Embd)
	number("feed_forward_length", 4*o.FF)
	number("attention.head_count", heads)
	number("attention.head_count_kv", headsKV)
	b.Set(o.Arch+".attention.layer_norm_rms_epsilon", float32(1e-6))
	number("expert_count", o.Experts)
	number("expert_used_count", o.Used)
	number("expert_feed_forward_length", o.FF)
	if o.Shared > 0 {
		number("expert_shared_count", o.Shared)
	}
	if o.Dense > 0 {
		number("leading_dense_block_count", o.Dense)
	}
	if o.MTP > 0 {
		number("nextn_predict_layers", o.MTP)
	}
	b.Set("general.file_type", uint32(0))
	// Without words llama.cpp still loads the model and runs token numbers.
	number("vocab_size", o.Vocab)
	b.Set("tokenizer.ggml.model", "no_vocab")

	embd, ff, experts := uint64(o.Embd), uint64(o.FF), uint64(o.Experts)
	headDim := max(1, embd/heads)
	add := func(name string, shape ...uint64) {
		t := o.Type
		if len(shape) == 1 || strings.HasSuffix(name, "ffn_gate_inp.weight") {
			t = quant.F32
		}
		b.Add(name, t, shape, o.weights(name, t, shape))
	}
	add("token_embd.weight", embd, uint64(o.Vocab))
	add("output_norm.weight", embd)
	if !o.Tied {
		add("output.weight", embd, uint64(o.Vocab))
	}
	for layer := range o.Layers + o.MTP {
		block := func(name string, shape ...uint64) { add(fmt.Sprintf("blk.%d.%s.weight", layer, name), shape...) }
		block("attn_norm", embd)
		block("attn_q", embd, headDim*heads)
		block("attn_k", embd, headDim*headsKV)
		block("attn_v", embd, headDim*headsKV)
		block("attn_output", headDim*heads, embd)
		block("attn_q_norm", headDim)
		block("attn_k_norm", headDim)
		block("ffn_norm", embd)
		if layer >= o.Layers {
			block("nextn.eh_proj", 2*embd, embd)
			block("nextn.enorm", embd)
			block("nextn.hnorm", embd)
		}
		if layer < o.Dense {
			block("ffn_gate", embd, 4*ff)
			block("ffn_up", embd, 4*ff)
			block("ffn_down", 4*ff, embd)
			continue
		}
		block("ffn_gate_inp", embd, experts)
		switch {
		case o.Separate:
			for e := range o.Experts {
				block(fmt.Sprintf("ffn_gate.%d", e), embd, ff)
				block(fmt.Sprintf("ffn_up.%d", e), embd, ff)
				block(fmt.Sprintf("ffn_down.%d", e), ff, embd)
			}
		case o.GateUp:
			block("ffn_gate_up_exps", embd, 2*ff, experts)
			block("ffn_down_exps", ff, embd, experts)
		default:
			block("ffn_gate_exps", embd, ff, experts)
			block("ffn_up_exps", embd, ff, experts)
			block("ffn_down_exps", ff, embd, experts)
		}
		if o.Shared > 0 {
			n := ff * uint64(o.Shared)
			block("ffn_gate_inp_shexp", embd)
			block("ffn_gate_shexp", embd, n)
			block("ffn_up_shexp", embd, n)
			block("ffn_down_shexp", n, embd)
		}
	}
	return b
}

// weights returns a tensor's encoded noise, nil where it is left zero.
func (o MoE) weights(name string, t quant.Type, shape []uint64) []byte {
	if o.Sparse {
		return nil
	}
	f, ok := quant.Lookup(t)
	if !ok || !quant.CanEncode(t) || quant.EncodeNeedsWeights(t) {
		return nil
	}
	rows := uint64(1)
	for _, n := range shape[1:] {
		rows *= n
	}
	rowBytes, err := f.Layout.EncodedBytes(1, shape[0])
	if err != nil {
		return nil
	}
	enc, err := quant.NewEncoder(t)
	if err != nil {
		panic("gguftest: " + err.Error())
	}
	h := fnv.New64a()
	h.Write([]byte(name))
	noise := Noise{State: h.Sum64()}
	data := make([]byte, rows*rowBytes)
	row := make([]float32, shape[0])
	for r := range rows {
		noise.Fill(row, 0.05)
		if strings.HasSuffix(name, "norm.weight") {
			for i := range row {
				row[i] += 1
			}
		}
		if err := enc.EncodeRow(data[r*rowBytes:(r+1)*rowBytes], row, nil); err != nil {
			panic("gguftest: " + err.Error())
		}
	}
	return data
}

// Noise makes numbers that look like weights and are the same on every
// machine: a splitmix64 generator, and sums of four uniform numbers.
type Noise struct{ State uint64 }

// Uint64 returns the next number.
func (n *Noise) Uint64() uint64 {
	n.State += 0x9e3779b97f4a7c15
	z := n.State
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// Fill fills dst with numbers of mean 0 and the given standard deviation.
func (n *Noise) Fill(dst []float32, deviation float64) {
	for i := range dst {
		x := n.Uint64()
		sum := int64(x&0xffff) + int64(x>>16&0xffff) + int64(x>>32&0xffff) + int64(x>>48) - 2*0xffff
		// Four uniform numbers of 0 to 65535 have a variance of 65536²/3.
		dst[i] = float32(float64(sum) / (65536 / math.Sqrt(3)) * deviation)
	}
}

// An ImatrixEntry is what an imatrix knows about one weight tensor.
type ImatrixEntry struct {
	Name   string    // of the model's tensor
	InSum2 []float32 // expert after expert
	Counts []float32 // one, or one per expert
}

// Imatrix returns an imatrix file as llama-imatrix writes it.
func Imatrix(entries ...ImatrixEntry) *Builder {
	b := &Builder{}
	b.Set("general.type", "imatrix")
	b.Set("imatrix.datasets", []string{"calibration.txt"})
	b.Set("imatrix.chunk_count", uint32(1))
	b.Set("imatrix.chunk_size", uint32(512))
	shape := func(n, mats int) []uint64 {
		if mats == 1 {
			return []uint64{uint64(n)}
		}
		return []uint64{uint64(n / mats), uint64(mats)}
	}
	for _, e := range entries {
		b.AddF32(e.Name+".in_sum2", shape(len(e.InSum2), len(e.Counts)), e.InSum2)
		b.AddF32(e.Name+".counts", shape(len(e.Counts), len(e.Counts)), e.Counts)
	}
	return b
}

// Imatrix returns an imatrix of the model, with a given count for each expert
// of each layer that has experts. Column sums are noise, larger for experts
// with larger counts, zero for those with none; layers for which counts is nil
// are left out. Of separate experts each is an entry of its own.
func (o MoE) Imatrix(counts func(layer int) []float32) *Builder {
	o = o.withDefaults()
	var entries []ImatrixEntry
	for layer := o.Dense; layer < o.Layers+o.MTP; layer++ {
		perExpert := counts(layer)
		if perExpert == nil {
			continue
		}
		total := float32(0)
		for _, n := range perExpert {
			total += n
		}
		tokens := total / float32(o.Used)
		router := fmt.Sprintf("blk.%d.ffn_gate_inp.weight", layer)
		entries = append(entries, ImatrixEntry{router, sums(router, o.Embd, []float32{tokens}), []float32{tokens}})
		for _, p := range []struct {
			name string
			rows int
		}{{"ffn_down", o.FF}, {"ffn_gate", o.Embd}, {"ffn_up", o.Embd}} {
			// Gate and up have the same input.
			seed := fmt.Sprintf("blk.%d.%d", layer, p.rows)
			if p.name == "ffn_down" {
				seed += ".down"
			}
			all := sums(seed, p.rows, perExpert)
			switch {
			case o.Separate:
				for e, n := range perExpert {
					if n > 0 {
						entries = append(entries, ImatrixEntry{fmt.Sprintf("blk.%d.%s.%d.weight", layer, p.name, e), all[e*p.rows : (e+1)*p.rows], []float32{n}})
					}
				}
			case o.GateUp && p.name == "ffn_up":
			case o.GateUp && p.name == "ffn_gate":
				entries = append(entries, ImatrixEntry{fmt.Sprintf("blk.%d.ffn_gate_up_exps.weight", layer), all, perExpert})
			default:
				entries = append(entries, ImatrixEntry{fmt.Sprintf("blk.%d.%s_exps.weight", layer, p.name), all, perExpert})
			}
		}
	}
	return Imatrix(entries...)
}

// sums returns column sums of squares for counts of rows each.
func sums(seed string, columns int, counts []float32) []float32 {
	h := fnv.New64a()
	h.Write(binary.LittleEndian.AppendUint64([]byte(seed), uint64(columns)))
	noise := Noise{State: h.Sum64()}
	out := make([]float32, 0, columns*len(counts))
	for _, n := range counts {
		for range columns {
			out = append(out, n*(0.25+float32(noise.Uint64()>>40)/(1<<24)))
		}
	}
	return out
}
