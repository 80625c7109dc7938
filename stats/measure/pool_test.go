package measure

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/stats"
	"github.com/ggufplan/ggufplan/stats/pace"
)

const manyExperts = 36

// manyExpertsModel writes a layer of 36 experts whose weights have outliers: a
// column's scale spreads by half, and an expert's share of weights that are
// four times as large is between none and 4 %. So errors differ between experts,
// and so do their ratios between types.
func manyExpertsModel(t *testing.T) *ggufio.Model {
	t.Helper()
	b := gguftest.MoE{Layers: 1, Experts: manyExperts, Used: 8, Embd: 256, FF: 256, Vocab: 256, Type: quant.BF16}.Builder()
	random := rand.New(rand.NewPCG(7, 8))
	for _, projection := range []string{"gate", "up", "down"} {
		tensor := b.Tensor("blk.0.ffn_" + projection + "_exps.weight")
		columns, rows := int(tensor.Shape[0]), int(tensor.Shape[1])
		tensor.Data = make([]byte, 0, 2*columns*rows*manyExperts)
		for range manyExperts {
			outliers := 0.02 * random.Float64()
			scale := make([]float64, columns)
			for i := range scale {
				scale[i] = 0.02 * math.Exp(0.5*random.NormFloat64())
			}
			for range rows {
				level := math.Exp(0.1 * random.NormFloat64())
				for i := range scale {
					v := level * scale[i] * random.NormFloat64()
					if random.Float64() < outliers {
						v *= 3
					}
					tensor.Data = binary.LittleEndian.AppendUint16(tensor.Data, uint16(math.Float32bits(float32(v))>>16))
				}
			}
		}
	}
	path := filepath.Join(t.TempDir(), "many.gguf")
	if err := b.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	m, err := ggufio.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

var pooledTypes = []quant.Type{quant.IQ2_XXS, quant.Q2_K, quant.IQ4_XS, quant.Q4_K, quant.Q6_K}

func run(t *testing.T, m *ggufio.Model, e *stats.Evidence, o Options) *Result {
	t.Helper()
	r, err := Run(context.Background(), m, e, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// What a quick measurement says of experts that it measured in one type holds,
// and it measures few in all.
func TestPooledIntervalsCoverTheTruth(t *testing.T) {
	m := manyExpertsModel(t)
	e := waveEvidence(m)
	full := run(t, m, e, Options{Types: pooledTypes, Full: true})
	var cases, covered, wide int
	coveredIn := make([]int, len(pooledTypes))
	var squares float64
	for seed := range uint64(2) {
		quick := run(t, m, e, Options{Types: pooledTypes, Precision: QuickPrecision, Seed: seed})
		for i := range quick.Tensors {
			var lost, truth float64
			for x := range quick.Tensors[i].Experts {
				for k := range quick.Tensors[i].Experts[x].Types {
					got, want := quick.Tensors[i].Experts[x].Types[k], full.Tensors[i].Experts[x].Types[k].Relative
					cases++
					if got.Low <= want && want <= got.High {
						covered++
						coveredIn[k]++
					}
					if got.High-got.Relative > 1.2*QuickPrecision*got.Relative {
						wide++
					}
					d := got.Relative/want - 1
					squares += d * d
					lost, truth = lost+got.Relative, truth+want
				}
			}
			if math.Abs(lost/truth-1) > 0.04 {
				t.Errorf("seed %d, %s: the sum over experts is %.1f %% off", seed, quick.Tensors[i].Name, 100*(lost/truth-1))
			}
		}
	}
	t.Logf("%.1f %% of %d intervals hold the truth; root mean square %.1f %%", 100*float64(covered)/float64(cases), cases, 100*math.Sqrt(squares/float64(cases)))
	if float64(covered) < 0.90*float64(cases) {
		t.Errorf("%d of %d intervals hold the truth", covered, cases)
	}
	// Errors of rows with outliers are skewed in IQ2_XXS, which few rows cannot
	// tell.
	for k, n := range coveredIn {
		if typ := pooledTypes[k]; n*len(pooledTypes)*100 < 88*cases && typ != quant.IQ2_XXS || n*len(pooledTypes)*100 < 80*cases {
			t.Errorf("%v: %d of %d intervals hold the truth", typ, n, cases/len(pooledTypes))
		}
	}
	if wide > 0 {
		t.Errorf("%d of %d intervals are much wider than asked for", wide, cases)
	}
}

// An expert that the imatrix does not know has errors of its own kind, which are
// measured, not taken from the others.
func TestPooledExpertWithoutStatistics(t *testing.T) {
	m := manyExpertsModel(t)
	e := waveEvidence(m)
	const unseen = 5
	quick := run(t, m, e, Options{Types: pooledTypes, Precision: QuickPrecision})
	if quick.Tensors[0].Experts[unseen].Weighted {
		t.Fatal("the expert has weights")
	}
	alone := run(t, m, nil, Options{Types: pooledTypes[2:], Precision: DefaultPrecision})
	for i := range alone.Tensors {
		for k, name := range alone.Tensors[i].Types {
			got := quick.Tensors[i].Experts[unseen].Types[slices.Index(quick.Tensors[i].Types, name)]
			want := alone.Tensors[i].Experts[unseen].Types[k]
			if math.Abs(got.Relative/want.Relative-1) > 1.5*QuickPrecision {
				t.Errorf("%s in %s: %v pooled, %v without statistics", alone.Tensors[i].Name, name, got.Relative, want.Relative)
			}
		}
	}
}

// Workers, parts and an interruption between two experts of a tensor change no
// bit of a quick measurement.
func TestPooledMeasurementIsTheSame(t *testing.T) {
	m := manyExpertsModel(t)
	e := waveEvidence(m)
	options := Options{Types: pooledTypes, Precision: QuickPrecision, Seed: 3, Workers: 1}
	whole := measureBytes(t, m, e, options)
	options.Workers = 3
	if !bytes.Equal(whole, measureBytes(t, m, e, options)) {
		t.Error("three workers have other bytes than one")
	}
	for n := 2; n <= 4; n += 2 {
		var parts []*Result
		for i := range n {
			options.Part = &Part{i + 1, n}
			parts = append(parts, run(t, m, e, options))
		}
		merged, err := Merge(parts, make([]string, n))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(whole, encodeErrors(t, merged)) {
			t.Errorf("%d parts merge into other bytes than one run's", n)
		}
	}
	options.Part = nil

	path := filepath.Join(t.TempDir(), "state")
	ctx, cancel := context.WithCancel(context.Background())
	options.Journal, options.Workers = NewJournal(path, false), 1
	options.Progress = func(p pace.Progress) {
		if 2*p.Done > p.Total {
			cancel()
		}
	}
	if _, err := Run(ctx, m, e, options); !errors.Is(err, context.Canceled) {
		t.Fatalf("an interrupted run returns %v", err)
	}
	options.Journal.Close()
	state, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(state, []byte("\n"))
	if len(lines) < manyExperts {
		t.Fatalf("the state has %d lines", len(lines))
	}
	torn := bytes.Join(lines[:manyExperts/2], nil)
	for _, state := range [][]byte{state, torn} {
		if err := os.WriteFile(path, state, 0o644); err != nil {
			t.Fatal(err)
		}
		options.Journal, options.Progress = NewJournal(path, true), nil
		if !bytes.Equal(whole, measureBytes(t, m, e, options)) {
			t.Errorf("resumed from %d bytes of state, the result has other bytes", len(state))
		}
		options.Journal.Close()
	}
}
