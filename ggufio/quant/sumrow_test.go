package quant

import (
	"math"
	"math/rand/v2"
	"testing"
)

// Vector instructions and Go code give the same bits, those of the stated order.
func TestSumRow(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for n := range 70 {
		for range 20 {
			x, columns, ones := make([]float32, n), make([]float64, n), make([]float64, n)
			for i := range x {
				x[i] = float32(math.Ldexp(r.NormFloat64(), r.IntN(200)-140))
				columns[i], ones[i] = math.Ldexp(r.Float64(), r.IntN(60)-30), 1
			}
			for _, columns := range [][]float64{columns, ones} {
				var p, w, f [8]float64
				for i, v := range x {
					square := float64(v) * float64(v)
					p[i%8] += square
					w[i%8] += float64(columns[i] * square)
					f[i%8] += float64(float64(columns[i]*square) * square)
				}
				sum := func(l [8]float64) float64 {
					return ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]))
				}
				want := RowSums{sum(p), sum(w), sum(f)}
				if got := SumRow(x, columns); got != want {
					t.Fatalf("%d weights: %v, want %v", n, got, want)
				}
				var s rowLanes
				sumWeightedGo(&s, x, columns)
				if s.plain != p || s.weighted != w || s.fourth != f {
					t.Fatalf("%d weights in Go: %v, want %v, %v, %v", n, s, p, w, f)
				}
			}
			if got, want := SumRow(x, nil), SumRow(x, ones); got != want {
				t.Fatalf("%d weights without columns: %v, with ones %v", n, got, want)
			}
		}
	}
}

// A weight that is not finite shows in the plain sum, wherever it is; the
// largest that are do not.
func TestSumRowOfWeightsThatAreNotFinite(t *testing.T) {
	x, columns := make([]float32, 35), make([]float64, 35)
	for i := range x {
		x[i], columns[i] = math.MaxFloat32, 1
	}
	if s := SumRow(x, columns); s.Plain > math.MaxFloat64 || s.Weighted > math.MaxFloat64 || s.Fourth > math.MaxFloat64 {
		t.Errorf("of finite weights: %v", s)
	}
	for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		for i := range x {
			x[i] = float32(bad)
			if s := SumRow(x, columns); s.Plain <= math.MaxFloat64 {
				t.Errorf("%v in column %d: the sums are %v", bad, i, s)
			}
			x[i] = 1
		}
	}
}

func BenchmarkSumRow(b *testing.B) {
	x, columns := make([]float32, 2048), make([]float64, 2048)
	for _, bench := range []struct {
		name    string
		columns []float64
	}{{"plain", nil}, {"weighted", columns}} {
		b.Run(bench.name, func(b *testing.B) {
			for b.Loop() {
				SumRow(x, bench.columns)
			}
			b.ReportMetric(float64(len(x))*float64(b.N)/b.Elapsed().Seconds(), "weights/s")
		})
	}
}
