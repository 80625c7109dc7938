package planner

import (
	"math"
	"strings"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/planner/llamaquantize"
)

// A class is a set of tensors whose share of a model's damage carries over from
// one model to the next.
type class int

const (
	classNone class = iota
	classOutput
	classEmbedding
	classGateUp
	classDown
	classShared
	classMix // attention in every form, and all else of a block
	classes
)

// Typical sensitivities: a class's share of all damage, relative to that of all
// routed experts, and the slope over depth. Only ratios matter.
//
// They are rounded geometric means over drop-one KL divergences of 14 published
// models, measured by Thireus, "GGUF Tool Suite" and its contributors
// (https://github.com/Thireus/GGUF-Tool-Suite); their licence asks for this
// credit wherever constants derived from the tables are shown.
var classWeights = [classes]float64{
	classOutput:    0.30,
	classEmbedding: 0.05,
	classGateUp:    0.64,
	classDown:      0.36,
	classShared:    0.40,
	classMix:       1.00,
}

const (
	tiedWeight = 0.35 // of the embedding where it is the output too
	depthSlope = 0.75
)

// A tensorClass is what typical sensitivities know about a tensor.
type tensorClass struct {
	class   class
	layer   int     // -1 outside blocks; of a prediction block the last that runs
	f       float64 // its part of the class before division by the class's sum
	counted bool    // its part is in the sum
}

// classify sorts a model's tensors. Experts that are tensors of their own count
// as the one tensor that they would be if fused.
func classify(m *ggufio.Model) (of []tensorClass, sums [classes]float64) {
	a := &m.Architecture
	layers := max(1, a.BlockCount-a.NextNBlocks)
	of = make([]tensorClass, len(m.Tensors))
	type projection struct {
		layer int
		role  ggufio.Role
	}
	seen := map[projection]bool{}
	for i := range m.Tensors {
		t := &m.Tensors[i]
		c := &of[i]
		c.class, c.layer, c.f = classOf(t), t.Layer, 1
		c.counted = c.class != classNone && llamaquantize.Quantizable(t)
		if t.Layer >= 0 {
			c.counted = c.counted && t.Layer < layers && t.Role != ggufio.RoleRouter && t.Role != ggufio.RoleNorm && !strings.Contains(t.Name, "ffn_gate_inp")
			c.layer = min(t.Layer, layers-1)
			c.f = math.Exp(depthSlope * (0.5 - (float64(c.layer)+0.5)/float64(layers)))
		}
		if strings.Contains(t.Name, "ffn_gate_up_") {
			c.f *= 2
		}
		if key := (projection{t.Layer, t.Role}); c.counted && t.Expert >= 0 {
			if seen[key] {
				continue
			}
			seen[key] = true
		}
		if c.counted {
			sums[c.class] += c.f
		}
	}
	return of, sums
}

func classOf(t *ggufio.Tensor) class {
	switch {
	case t.Name == "output.weight":
		return classOutput
	case t.Name == "token_embd.weight":
		return classEmbedding
	case t.Layer < 0:
		return classNone
	}
	name, _ := kindOf(t.Name)
	switch t.Role {
	case ggufio.RoleExpertGate, ggufio.RoleExpertUp, ggufio.RoleExpertGateUp:
		return classGateUp
	case ggufio.RoleExpertDown:
		return classDown
	case ggufio.RoleDenseFFN:
		if strings.HasPrefix(name, "ffn_down") {
			return classDown
		}
		return classGateUp
	case ggufio.RoleSharedExpert:
		if strings.HasPrefix(name, "ffn_") && !strings.HasPrefix(name, "ffn_gate_inp") {
			return classShared
		}
	}
	return classMix
}

// typicalSensitivities returns the typical s(t) of every tensor of a model:
//
//	s(t) = w(class) · f(t) / sum over the class of f,  f = exp(0.75 (1/2 - (layer + 1/2) / layers))
//
// Prediction blocks get the last layer's, and tensors outside the blocks that
// are neither embedding nor output the mean.
func typicalSensitivities(m *ggufio.Model) ([]float64, []tensorClass) {
	of, sums := classify(m)
	weights := classWeights
	if sums[classOutput] == 0 {
		weights[classEmbedding] = tiedWeight
	}
	out := make([]float64, len(of))
	total, n := 0.0, 0
	for i, c := range of {
		if c.class == classNone {
			continue
		}
		sum := sums[c.class]
		if sum == 0 {
			sum = c.f // only a prediction block has the class
		}
		out[i] = weights[c.class] * c.f / sum
		if c.counted {
			total += out[i]
			n++
		}
	}
	mean := 1.0
	if n > 0 {
		mean = total / float64(n)
	}
	for i, c := range of {
		if c.class == classNone {
			out[i] = mean
		}
	}
	return out, of
}
