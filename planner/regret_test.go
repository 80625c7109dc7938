package planner

import (
	"context"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner/frequency"
	"github.com/ggufplan/ggufplan/planner/llamaquantize"
	"github.com/ggufplan/ggufplan/stats"
	"github.com/ggufplan/ggufplan/stats/measure"
	"github.com/ggufplan/ggufplan/stats/read"
)

// TestRegretOfSampling plans bytemoe-2x8 to ten sizes from sampled errors.
func TestRegretOfSampling(t *testing.T) {
	const dir = "../testdata/bytemoe-2x8/"
	m, err := ggufio.Open(dir + "model-f16.gguf")
	if err != nil {
		t.Fatal(err)
	}
	evidence, err := read.File(context.Background(), dir+"mix.imatrix.gguf", read.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if evidence, err = evidence.Fit(m, stats.FitOptions{}); err != nil {
		t.Fatal(err)
	}
	types := []quant.Type{quant.IQ2_XXS, quant.IQ2_S, quant.Q2_K, quant.IQ3_XXS, quant.Q3_K, quant.IQ3_S, quant.IQ4_XS, quant.Q4_K, quant.Q5_K, quant.Q6_K, quant.Q8_0}
	testRegret(t, m, evidence, types)
}

// TestRegretOfSamplingRoughWeights does so with a model that is harder to sample
// than a trained one: heavy tails, rows whose levels spread by half, and one row
// in fifty eight times as large, so that half of an expert's energy is in two of
// a hundred rows.
func TestRegretOfSamplingRoughWeights(t *testing.T) {
	b := gguftest.MoE{Layers: 2, Experts: 16, Type: quant.BF16}.Builder()
	random := rand.New(rand.NewPCG(22, 2))
	for i := range b.Tensors {
		x := &b.Tensors[i]
		if x.Type != quant.BF16 {
			continue
		}
		columns := int(x.Shape[0])
		for row := range len(x.Data) / (2 * columns) {
			level := 0.02 * math.Exp(0.5*random.NormFloat64())
			if random.IntN(50) == 0 {
				level *= 8
			}
			freedom := 3 + random.IntN(10) // of Student's distribution
			for c := range columns {
				squares := 0.0
				for range freedom {
					v := random.NormFloat64()
					squares += float64(v * v)
				}
				v := level * random.NormFloat64() / math.Sqrt(squares/float64(freedom))
				binary.LittleEndian.PutUint16(x.Data[2*(row*columns+c):], uint16(math.Float32bits(float32(v))>>16))
			}
		}
	}
	m := openModel(t, b)
	types := []quant.Type{quant.Q2_K, quant.Q3_K, quant.IQ3_S, quant.IQ4_XS, quant.Q4_K, quant.Q5_K, quant.Q6_K, quant.Q8_0}
	testRegret(t, m, skewed(m, 3), types)
}

// testRegret plans a model to ten sizes from sampled errors and from full ones,
// and judges both plans by the full ones: a sample may cost at most 0.5 % of the
// damage.
func testRegret(t *testing.T, m *ggufio.Model, evidence *stats.Evidence, types []quant.Type) {
	errorsOf := func(o measure.Options) *measure.Result {
		t.Helper()
		o.Types, o.Quantizable = types, llamaquantize.Quantizable
		x, err := measure.Run(context.Background(), m, evidence, o)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	full := errorsOf(measure.Options{Full: true})
	p := budgetProblem(m, 1, 0)
	p.Evidence = evidence
	p.Policy.Budget.Types = nil
	for _, typ := range types {
		p.Policy.Budget.Types = append(p.Policy.Budget.Types, frequency.GGML(typ))
	}
	named := func(x *measure.Result) *NamedErrors {
		return &NamedErrors{FileID: stats.FileID{Name: "errors.json"}, Result: x}
	}
	judge := func(plan *Plan) (fused, split float64) {
		p.Policy.Budget.Errors = named(full)
		return damageByHand(p, plan)
	}
	p.Policy.Budget.Errors = named(full)
	least := cheapest(t, p)
	p.Policy.Budget.SizeBytes = 1 << 40
	most := solve(t, p).Totals.FileBytes
	var samples []*measure.Result
	for seed := range uint64(2) {
		samples = append(samples, errorsOf(measure.Options{Seed: seed + 1}))
	}
	worst := [2]float64{}
	for i := range uint64(10) {
		p.Policy.Budget.SizeBytes = least + (most-least)*(i+1)/12
		p.Policy.Budget.Errors = named(full)
		wantFused, wantSplit := judge(solve(t, p))
		for seed, sampled := range samples {
			p.Policy.Budget.Errors = named(sampled)
			fused, split := judge(solve(t, p))
			worst[0], worst[1] = max(worst[0], fused/wantFused-1), max(worst[1], split/wantSplit-1)
			if fused > 1.005*wantFused || split > 1.005*wantSplit {
				t.Errorf("%d bytes, seed %d: damages %v and %v, from full errors %v and %v", p.Policy.Budget.SizeBytes, seed+1, fused, split, wantFused, wantSplit)
			}
		}
	}
	t.Logf("at most %.3f %% of damage lost fused, %.3f %% split", 100*worst[0], 100*worst[1])
}
