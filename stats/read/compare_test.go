package read

import (
	"slices"
	"testing"

	"github.com/ggufplan/ggufplan/stats"
)

func TestCompare(t *testing.T) {
	a, b := evidenceOf("a", stats.KindExact, 100, 50, 10), evidenceOf("b", stats.KindRelative, 0.1, 0.5, 0.4)
	a.Layers = append(a.Layers, stats.Layer{Index: 3, Counts: []uint64{1, 2, 3}})
	b.Layers = append(b.Layers, stats.Layer{Index: 5, Weights: []float64{1, 2, 3}})
	tiers := func(_ *stats.Evidence, l *stats.Layer) ([]string, error) {
		if l.Counts != nil {
			return []string{"hot", "warm", "cold"}, nil
		}
		return []string{"cold", "warm", "hot"}, nil
	}
	shifts, onlyA, onlyB, err := stats.Compare(a, b, tiers)
	if err != nil {
		t.Fatal(err)
	}
	if len(shifts) != 1 || !slices.Equal(onlyA, []int{3}) || !slices.Equal(onlyB, []int{5}) {
		t.Fatalf("%v, only %v, only %v", shifts, onlyA, onlyB)
	}
	if got := shifts[0].Moved; !slices.Equal(got, []stats.TierMove{{Expert: 0, From: "hot", To: "cold"}, {Expert: 2, From: "cold", To: "hot"}}) {
		t.Errorf("moved %v", got)
	}
	if _, _, _, err := stats.Compare(a, evidenceOf("wide", stats.KindExact, 1, 2), nil); err == nil {
		t.Error("other numbers of experts were compared")
	}
	if _, _, _, err := stats.Compare(evidenceOf("x", stats.KindNone), b, nil); err == nil {
		t.Error("nothing was compared")
	}
}
