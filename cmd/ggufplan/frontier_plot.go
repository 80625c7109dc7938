package main

import (
	"image/color"
	"io"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/ggufplan/ggufplan/planner"
	"github.com/ggufplan/ggufplan/planner/review"
)

var (
	fusedColour    = color.RGBA{R: 0x1f, G: 0x5f, B: 0xa8, A: 0xff}
	splitColour    = color.RGBA{R: 0xc8, G: 0x55, B: 0x1b, A: 0xff}
	baselineColour = color.RGBA{R: 0x55, G: 0x55, B: 0x55, A: 0xff}
)

// drawFrontier draws size against damage as SVG.
func drawFrontier(w io.Writer, model string, front *planner.Frontier) error {
	p, err := frontierPlot(model, front)
	if err != nil {
		return err
	}
	canvas := vgsvg.New(18*vg.Centimeter, 12*vg.Centimeter)
	p.Draw(draw.New(canvas))
	_, err = canvas.WriteTo(w)
	return err
}

// frontierPlot shows both plans as lines and file types as crosses. Damage is
// on a logarithmic scale where all of it is above 0.
func frontierPlot(model string, front *planner.Frontier) (*plot.Plot, error) {
	unit, unitBytes := frontierUnit(front)
	var fused, split, types plotter.XYs
	var names []string
	at := func(bytes uint64, damage float64) plotter.XY {
		return plotter.XY{X: float64(bytes) / unitBytes, Y: damage}
	}
	for _, p := range front.Points {
		if p.Fused != nil {
			fused = append(fused, at(p.Fused.FileBytes, p.Fused.Damage))
			split = append(split, at(p.Split.FileBytes, p.Split.Damage))
		}
	}
	for _, b := range front.Baselines {
		if b.Damage != nil {
			types = append(types, at(b.FileBytes, *b.Damage))
			names = append(names, " "+b.Name)
		}
	}
	p := plot.New()
	p.Title.Text = review.Printable(model)
	p.X.Label.Text = "size of the file, " + unit
	p.Y.Label.Text = "predicted damage (" + string(front.Objective) + ")"
	p.Legend.Top = true
	p.Legend.Padding = vg.Points(3)
	p.Title.Padding = vg.Points(8)
	p.X.Padding, p.Y.Padding = vg.Points(4), vg.Points(4)
	scaleDamage(p, fused, split, types)
	p.Add(plotter.NewGrid())
	for _, series := range []struct {
		name   string
		points plotter.XYs
		colour color.Color
		shape  draw.GlyphDrawer
	}{{"fused plan", fused, fusedColour, draw.CircleGlyph{}}, {"split plan", split, splitColour, draw.SquareGlyph{}}} {
		line, points, err := plotter.NewLinePoints(series.points)
		if err != nil {
			return nil, err
		}
		line.Color, line.Width = series.colour, vg.Points(1.5)
		points.Color, points.Shape, points.Radius = series.colour, series.shape, vg.Points(2.5)
		p.Add(line, points)
		p.Legend.Add(series.name, line, points)
	}
	if len(types) > 0 {
		points, err := plotter.NewScatter(types)
		if err != nil {
			return nil, err
		}
		points.Color, points.Shape, points.Radius = baselineColour, draw.CrossGlyph{}, vg.Points(3)
		labels, err := plotter.NewLabels(plotter.XYLabels{XYs: types, Labels: names})
		if err != nil {
			return nil, err
		}
		for i := range labels.TextStyle {
			labels.TextStyle[i].Color = baselineColour
			labels.TextStyle[i].Font.Size = vg.Points(9)
		}
		p.Add(points, labels)
		p.Legend.Add("file types", points)
		// Room for the name of the rightmost.
		p.X.Max += 0.1 * (p.X.Max - p.X.Min)
	}
	return p, nil
}

// frontierUnit returns the unit in which the largest file has at least 1.
func frontierUnit(front *planner.Frontier) (name string, bytes float64) {
	largest := uint64(0)
	for _, p := range front.Points {
		largest = max(largest, p.BudgetBytes)
	}
	switch {
	case largest >= 1<<30:
		return "GiB", 1 << 30
	case largest >= 1<<20:
		return "MiB", 1 << 20
	}
	return "KiB", 1 << 10
}

// scaleDamage makes the damage axis logarithmic if no damage is 0.
func scaleDamage(p *plot.Plot, series ...plotter.XYs) {
	least := math.Inf(1)
	for _, points := range series {
		for _, xy := range points {
			least = math.Min(least, xy.Y)
		}
	}
	if least > 0 {
		p.Y.Scale = plot.LogScale{}
		p.Y.Tick.Marker = plot.LogTicks{Prec: 2}
	}
}
