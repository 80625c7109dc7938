package apply

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/stats/pace"
	"github.com/ggufplan/ggufplan/stats/pace/pacetest"
)

// tookNanoseconds are what a weight with column weights took one core to be
// encoded, with AVX2, whatever the table says now.
var tookNanoseconds = map[quant.Type]float64{
	quant.IQ2_XXS: 80, quant.IQ3_S: 89, quant.Q2_K: 38, quant.Q4_K: 22, quant.Q6_K: 15, quant.Q8_0: 2, quant.BF16: 1.6,
}

// A fakeWriting writes nothing: it says what each piece would take.
type fakeWriting struct {
	w                             *writing
	random                        *rand.Rand
	types                         map[quant.Type]float64 // times as long as they took, here
	copyByte, checkByte, hashByte float64                // nanoseconds
	run                           pacetest.Run
	now                           float64
	workers                       []float64 // when they are ready
	shown                         float64
}

func (f *fakeWriting) at(now float64, p pace.Progress) {
	if now > f.shown+max(0.2, f.shown/1000) || f.shown == 0 {
		f.shown = now
		f.run.At(now, p)
	}
}

// took is what a weight takes to be encoded, in nanoseconds.
func (f *fakeWriting) took(t quant.Type) float64 {
	if quant.HasVectors() {
		return tookNanoseconds[t] * f.types[t]
	}
	return 1e9 * f.w.layout.costs.RoundTrip(t, true).Seconds() * f.types[t]
}

// seconds is what a piece takes.
func (f *fakeWriting) seconds(x *piece) float64 {
	noise := math.Exp(0.1 * f.random.NormFloat64())
	t := x.tensor
	if !t.Changed() {
		return noise * float64(x.size) * f.copyByte / 1e9
	}
	perWeight := 1 + f.took(t.Type)
	if through := t.rounding(x.slice); through != quant.F32 {
		perWeight += f.took(through)
	}
	return noise * (float64(x.units*t.Shape[0])*perWeight + float64(x.size)*f.copyByte) / 1e9
}

func (f *fakeWriting) write() {
	f.w.options.Progress = func(_ string, p pace.Progress) { f.at(f.now, p) }
	p := f.w.foresee()
	for i := range f.w.pieces.count {
		x := f.w.pieces.at(i)
		next := 0
		for k := range f.workers {
			if f.workers[k] < f.workers[next] {
				next = k
			}
		}
		if f.w.recorded(i) {
			f.workers[next] += float64(x.size) * f.checkByte / 1e9
		} else {
			f.workers[next] += f.seconds(&x)
		}
		f.now = f.workers[next]
		if f.w.recorded(i) {
			p.checked(x.size)
		} else {
			p.made(&x)
		}
	}
	p = f.w.foreseeCheck()
	for i := range f.w.pieces.count {
		x := f.w.pieces.at(i)
		f.now += float64(x.size) * (f.checkByte + f.hashByte) / 1e9
		p.readBack(&x, &f.w.options)
	}
}

// The time left is right within a factor of 1.5 after ten seconds, whichever
// types come first, whether they cost here what the table says, and from a
// source in memory or on a disk.
func TestTimeLeft(t *testing.T) {
	m := gguftest.OpenHeader(t, "../../testdata/llama-quantize/qwen3-30b-a3b-bf16.gguf")
	for _, plan := range []struct {
		name string
		of   func(x *ggufio.Tensor) quant.Type
	}{
		{"k", func(x *ggufio.Tensor) quant.Type {
			switch {
			case x.Role == ggufio.RoleExpertDown:
				return quant.Q4_K
			case x.Role.IsExpert():
				return quant.Q2_K
			}
			return quant.Q6_K
		}},
		{"iq", func(x *ggufio.Tensor) quant.Type {
			switch {
			case x.Role == ggufio.RoleExpertDown && x.Layer < 8:
				return quant.Q4_K
			case x.Role == ggufio.RoleExpertDown:
				return quant.IQ3_S
			case x.Role.IsExpert():
				return quant.IQ2_XXS
			}
			return quant.Q8_0
		}},
		{"copied", func(x *ggufio.Tensor) quant.Type {
			if x.Role.IsExpert() && x.Layer >= 24 {
				return quant.Q6_K
			}
			return x.Type
		}},
	} {
		for _, simulated := range []bool{false, true} {
			for seed := range 3 {
				t.Run(fmt.Sprintf("%s/simulated=%v/%d", plan.name, simulated, seed), func(t *testing.T) {
					of := func(x *ggufio.Tensor) quant.Type {
						if len(x.Shape) < 2 || strings.Contains(x.Name, "gate_inp") {
							return x.Type
						}
						return plan.of(x)
					}
					l, err := Typed(m, of, Options{Names: []string{"out.gguf"}, Columns: columns{}})
					if simulated {
						tensors := make([]Tensor, len(m.Tensors))
						for i := range m.Tensors {
							x := &m.Tensors[i]
							tensors[i] = Tensor{Name: x.Name, Type: x.Type, Shape: x.Shape, Source: x}
							for range tensors[i].slices() {
								tensors[i].Rounded = append(tensors[i].Rounded, of(x))
							}
						}
						l, err = Copy(m, tensors, []string{"out.gguf"}, columns{})
					}
					if err != nil {
						t.Fatal(err)
					}
					w := &writing{layout: l, file: &l.Files[0], pieces: cut(l.Files[0].Tensors), options: WriteOptions{Workers: 2, SHA256: seed == 2}}
					w.records = make([]byte, recordBytes*w.pieces.count)
					f := &fakeWriting{w: w, random: rand.New(rand.NewPCG(uint64(seed), 2)), types: map[quant.Type]float64{}, workers: make([]float64, 2),
						copyByte: 2.3 * math.Pow(2, float64(seed-1)), checkByte: 0.2 * math.Pow(1.4, float64(seed-1))}
					for _, typ := range slices.Sorted(maps.Keys(tookNanoseconds)) {
						f.types[typ] = math.Exp(0.22 * (2*f.random.Float64() - 1))
					}
					if seed == 2 {
						f.hashByte = 0.5
						copy(w.records, bytes.Repeat([]byte{1}, recordBytes*w.pieces.count/4))
					}
					f.write()
					f.run.Check(t, f.now)
				})
			}
		}
	}
}
