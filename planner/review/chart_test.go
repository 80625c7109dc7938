package review

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// A textPen keeps where text is set, in boxes as wide as textWidth bounds it.
type textPen struct {
	texts []string
	boxes []box
}

func (p *textPen) Line(Ink, float64, ...[2]float64)             {}
func (p *textPen) Dot(Ink, float64, float64, float64, string)   {}
func (p *textPen) Cross(Ink, float64, float64, float64, string) {}
func (p *textPen) Ring(Ink, float64, float64, float64, string)  {}

func (p *textPen) Text(_ Ink, x, y, size, anchor float64, turned bool, text string) {
	w := textWidth(text, size)
	b := box{x - anchor*w, y - 0.8*size, x + (1-anchor)*w, y + 0.2*size}
	if turned {
		b = box{x - 0.8*size, y - (1-anchor)*w, x + 0.2*size, y + anchor*w}
	}
	p.texts, p.boxes = append(p.texts, text), append(p.boxes, b)
}

// crowdedChart has file types near one another and a plan among them.
func crowdedChart(r *rand.Rand) *Chart {
	c := &Chart{Model: strings.Repeat("a model of a long name ", 9), Objective: "output-share", Weights: 4e9}
	for i := range 17 {
		bytes, damage := uint64(1.2e9+2e8*float64(i)), 0.08*math.Pow(0.6, float64(i))
		c.Fused = append(c.Fused, ChartPoint{Bytes: bytes, Damage: damage})
		c.Split = append(c.Split, ChartPoint{Bytes: bytes, Damage: 0.8 * damage})
	}
	for i := range 14 {
		bytes := 1.2e9 + 3e9*r.Float64()
		c.Types = append(c.Types, ChartPoint{Name: fmt.Sprintf("IQ%d_XXS", i), Bytes: uint64(bytes), Damage: 0.08 * math.Exp(-bytes/4e8) * (1 + r.Float64())})
	}
	c.Marks = []ChartPoint{{Name: ownRow, Bytes: 2e9, Damage: 0.01}}
	return c
}

// Text neither leaves the chart nor covers other text, on wide pages and narrow
// ones, and most file types have their names.
func TestChartText(t *testing.T) {
	for seed := range uint64(40) {
		c := crowdedChart(rand.New(rand.NewPCG(seed, 0)))
		for name, g := range map[string]geometry{"wide": wideChart, "narrow": narrowChart} {
			pen := &textPen{}
			c.draw(pen, g)
			named := 0
			for i, a := range pen.boxes {
				if strings.HasPrefix(pen.texts[i], "IQ") {
					named++
				}
				if a[0] < 0 || a[1] < 0 || a[2] > g.width || a[3] > g.height {
					t.Errorf("%s, seed %d: %q lies at %.1f", name, seed, pen.texts[i], a)
				}
				for j, b := range pen.boxes[:i] {
					if a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3] {
						t.Errorf("%s, seed %d: %q covers %q", name, seed, pen.texts[i], pen.texts[j])
					}
				}
			}
			if least := map[string]int{"wide": 12, "narrow": 5}[name]; named < least {
				t.Errorf("%s, seed %d: %d of 14 file types have names", name, seed, named)
			}
		}
	}
}

// No damage has a place below all others, and numbers from a stranger's file
// stay numbers.
func TestChartOfExtremes(t *testing.T) {
	for name, damages := range map[string][]float64{"zeros": {0, 0}, "one": {0.5}, "a zero": {0, 0.1, 0.001}, "extremes": {math.MaxFloat64, math.SmallestNonzeroFloat64, 0, 1}} {
		c := &Chart{Model: "m", Weights: 10}
		for i, d := range damages {
			c.Fused = append(c.Fused, ChartPoint{Bytes: uint64(i) * (math.MaxUint64 / 4), Damage: d})
		}
		var svg strings.Builder
		if err := c.SVG(&svg); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(svg.String(), "Inf") || strings.Contains(svg.String(), "NaN") {
			t.Errorf("%s: %s", name, svg.String())
		}
		_, y, _, _ := c.scales(c.Fused, wideChart)
		for _, d := range damages {
			if at := y.at(d); !(at >= wideChart.top && at <= wideChart.bottom) || d == 0 && at != wideChart.bottom && len(damages) > 2 {
				t.Errorf("%s: %g is drawn at %g", name, d, at)
			}
		}
	}
}
