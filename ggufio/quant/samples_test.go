package quant_test

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	parser "github.com/gpustack/gguf-parser-go"
)

// A sample is rows that share their column weights.
type sample struct {
	rows    []float32
	columns int
	weights []float32 // one per column, or nil
}

// A data set is what a comparison with the library sums over.
type dataSet struct {
	name    string
	samples []sample
}

const fixture = "../../testdata/bytemoe-2x8"

// realSamples reads rows of experts of a trained model, with the mean squares
// of their input columns from its imatrix.
var realSamples = sync.OnceValues(func() ([]sample, error) {
	const experts, rowsEach = 2, 64
	model, err := openTensors(filepath.Join(fixture, "model-f16.gguf"))
	if err != nil {
		return nil, err
	}
	imatrix, err := openTensors(filepath.Join(fixture, "mix.imatrix.gguf"))
	if err != nil {
		return nil, err
	}
	var samples []sample
	for _, name := range []string{
		"blk.0.ffn_gate_exps.weight", "blk.0.ffn_up_exps.weight", "blk.0.ffn_down_exps.weight",
		"blk.1.ffn_gate_exps.weight", "blk.1.ffn_up_exps.weight", "blk.1.ffn_down_exps.weight",
	} {
		data, shape := model.tensor(name)
		sums, _ := imatrix.tensor(name + ".in_sum2")
		counts, _ := imatrix.tensor(name + ".counts")
		columns, rows := int(shape[0]), int(shape[1])
		for e := range experts {
			s := sample{columns: columns, rows: make([]float32, rowsEach*columns), weights: make([]float32, columns)}
			count := math.Float32frombits(binary.LittleEndian.Uint32(counts[4*e:]))
			for i := range s.weights {
				s.weights[i] = math.Float32frombits(binary.LittleEndian.Uint32(sums[4*(e*columns+i):])) / count
			}
			src := data[2*e*rows*columns:]
			for i := range s.rows {
				s.rows[i] = testHalf(binary.LittleEndian.Uint16(src[2*i:]))
			}
			samples = append(samples, s)
		}
	}
	return samples, nil
})

type tensorFile struct {
	data []byte
	file *parser.GGUFFile
}

func openTensors(path string) (*tensorFile, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	file, err := parser.ParseGGUFFile(path)
	return &tensorFile{data, file}, err
}

func (f *tensorFile) tensor(name string) ([]byte, []uint64) {
	for _, t := range f.file.TensorInfos {
		if t.Name == name {
			return f.data[f.file.TensorDataStartOffset+int64(t.Offset):], t.Dimensions
		}
	}
	panic("no tensor " + name)
}

// testHalf widens a finite binary16 by its definition.
func testHalf(h uint16) float32 {
	m, e := float64(h&0x3ff), int(h>>10&0x1f)
	if e > 0 {
		m, e = m+1024, e-1
	}
	v := math.Ldexp(m, e-24)
	if h&0x8000 != 0 {
		v = -v
	}
	return float32(v)
}

// dataSets returns the rows that every encoder is held to, with and without
// column weights.
func dataSets(tb testing.TB) []dataSet {
	tb.Helper()
	samples, err := realSamples()
	if err != nil {
		tb.Fatal(err)
	}
	sets := []dataSet{{"real weights", samples}}
	for _, shape := range []struct {
		name string
		at   func(r *rand.Rand, i int) float64
		cols int
		rows int
	}{
		{"Gaussian", func(r *rand.Rand, _ int) float64 { return 0.02 * r.NormFloat64() }, 1024, 12},
		{"heavy-tailed", func(r *rand.Rand, _ int) float64 {
			// Student's t with three degrees of freedom.
			a, b, c := r.NormFloat64(), r.NormFloat64(), r.NormFloat64()
			return 0.02 * r.NormFloat64() / math.Sqrt((a*a+b*b+c*c)/3)
		}, 1024, 12},
		{"uniform", func(r *rand.Rand, _ int) float64 { return r.Float64() - 0.5 }, 1024, 8},
		{"shifted", func(r *rand.Rand, _ int) float64 { return 1 + 0.2*r.NormFloat64() }, 1024, 8},
		{"constant", func(*rand.Rand, int) float64 { return 0.37 }, 256, 2},
		{"negative constant", func(*rand.Rand, int) float64 { return -1.3 }, 256, 2},
		{"one outlier per block", func(r *rand.Rand, i int) float64 {
			if i%256 == 77 {
				return 8
			}
			return 0.02 * r.NormFloat64()
		}, 1024, 8},
		{"one outlier per 32", func(r *rand.Rand, i int) float64 {
			if i%32 == 9 {
				return -1
			}
			return 0.02 * r.NormFloat64()
		}, 1024, 8},
		{"mostly zero", func(r *rand.Rand, i int) float64 {
			if r.IntN(16) > 0 {
				return 0
			}
			return r.NormFloat64()
		}, 1024, 8},
		{"two levels", func(r *rand.Rand, i int) float64 { return 0.1 * float64(2*r.IntN(2)-1) }, 512, 4},
		{"integers", func(r *rand.Rand, i int) float64 { return float64(r.IntN(15) - 7) }, 512, 4},
		{"small", func(r *rand.Rand, _ int) float64 { return 1e-5 * r.NormFloat64() }, 512, 4},
		{"large", func(r *rand.Rand, _ int) float64 { return 1e4 * r.NormFloat64() }, 512, 4},
		{"one block", func(r *rand.Rand, _ int) float64 { return r.NormFloat64() }, 256, 1},
		{"ramp", func(_ *rand.Rand, i int) float64 { return float64(i%256)/128 - 1 }, 512, 2},
		{"blocks of unequal size", func(r *rand.Rand, i int) float64 {
			return math.Ldexp(r.NormFloat64(), -(i / 32 % 8))
		}, 1024, 8},
		{"sub-blocks down to nothing", func(r *rand.Rand, i int) float64 {
			return math.Ldexp(r.NormFloat64(), -2*(i/16%16))
		}, 1024, 8},
	} {
		r := rand.New(rand.NewPCG(uint64(len(shape.name)), 17))
		s := sample{columns: shape.cols, rows: make([]float32, shape.cols*shape.rows)}
		for i := range s.rows {
			s.rows[i] = float32(shape.at(r, i))
		}
		for _, weigh := range []struct {
			name string
			at   func(i int) float64
		}{
			{"", nil},
			{", spread importance", func(int) float64 { return math.Exp(1.5 * r.NormFloat64()) }},
			{", one important column", func(i int) float64 {
				if i%256 == 40 {
					return 1e4
				}
				return 1
			}},
			{", half of the columns unused", func(int) float64 { return float64(r.IntN(2)) * r.Float64() }},
		} {
			s := s
			if weigh.at != nil {
				if shape.name == "constant" || shape.name == "one block" {
					continue
				}
				s.weights = make([]float32, s.columns)
				for i := range s.weights {
					s.weights[i] = float32(weigh.at(i))
				}
			}
			sets = append(sets, dataSet{shape.name + weigh.name, []sample{s}})
		}
	}
	bare := dataSet{name: "real weights, no importance"}
	for _, s := range samples {
		s.weights = nil
		bare.samples = append(bare.samples, s)
	}
	return append(sets, bare)
}
