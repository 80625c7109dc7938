package measure

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio/quant"
)

// BenchmarkCosts prints the table of costs of stats/pace anew, in nanoseconds a
// weight: with column weights and without them. go test ./stats/measure -bench
// Costs -run - prints it, and with -tags purego that of machines without AVX2.
func BenchmarkCosts(b *testing.B) {
	random := rand.New(rand.NewPCG(1, 2))
	const columns = 2048
	weights, row := make([]float64, columns), make([]float32, columns)
	for i := range row {
		weights[i] = math.Exp(random.NormFloat64())
		row[i] = float32(random.NormFloat64() * 0.02 * math.Exp(0.3*random.NormFloat64()))
	}
	for _, f := range quant.Formats() {
		if !quant.CanEncode(f.Type) {
			continue
		}
		for _, given := range []struct {
			name    string
			weights []float64
		}{{"weighted", weights}, {"plain", nil}} {
			if given.weights == nil && quant.EncodeNeedsWeights(f.Type) {
				continue
			}
			b.Run(f.Name+"/"+given.name, func(b *testing.B) {
				trip, err := NewRoundTrip(f.Type)
				if err != nil {
					b.Fatal(err)
				}
				trip.SetWeights(given.weights)
				for b.Loop() {
					if err := trip.There(row, trip.given); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/columns, "ns/weight")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}
