package main

import (
	"encoding/json"
	"fmt"
	"image/color"
	"io"
	"math"
	"path/filepath"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"

	"github.com/ggufplan/ggufplan/planner"
	"github.com/ggufplan/ggufplan/planner/manifest"
	"github.com/ggufplan/ggufplan/planner/review"
)

// frontierChart is a frontier as a chart. Weights are the model's.
func frontierChart(model string, weights uint64, front *planner.Frontier) *review.Chart {
	c := &review.Chart{Model: model, Objective: string(front.Objective), Weights: weights}
	for _, p := range front.Points {
		if p.Fused != nil {
			c.Fused = append(c.Fused, review.ChartPoint{Bytes: p.Fused.FileBytes, Damage: p.Fused.Damage, KLD: p.Fused.PredictedKLD})
		}
		if p.Split != nil {
			c.Split = append(c.Split, review.ChartPoint{Bytes: p.Split.FileBytes, Damage: p.Split.Damage, KLD: p.Split.PredictedKLD})
		}
	}
	for _, b := range front.Baselines {
		if b.Damage != nil {
			c.Types = append(c.Types, review.ChartPoint{Name: b.Name, Bytes: b.FileBytes, Damage: *b.Damage, KLD: b.PredictedKLD})
		}
	}
	return c
}

// maxFrontierBytes bounds what plan --frontier --json writes.
const maxFrontierBytes = 4 << 20

// readFrontier reads what plan --frontier --json wrote.
func (c *call) readFrontier(path string) (*planner.Frontier, error) {
	data, err := c.readWhole(path, maxFrontierBytes)
	if err != nil {
		return nil, err
	}
	var front planner.Frontier
	if err := json.Unmarshal(data, &front); err != nil || len(front.Points) == 0 {
		return nil, hinted(fmt.Errorf("%s: is not what plan --frontier --json writes", inputName(path)), "ggufplan plan model.gguf --stats imatrix.gguf --errors errors.json --frontier 8GiB:24GiB:17 --json > frontier.json")
	}
	if len(front.Points) > maxFrontierSizes || len(front.Baselines) > maxFrontierSizes {
		return nil, fmt.Errorf("%s: more than %d points", inputName(path), maxFrontierSizes)
	}
	for i, p := range front.Points {
		for _, plan := range []*planner.FrontierPlan{p.Fused, p.Split} {
			if plan != nil && plan.Damage < 0 {
				return nil, fmt.Errorf("%s: points[%d]: a damage below 0", inputName(path), i)
			}
		}
	}
	for i, b := range front.Baselines {
		if b.Damage != nil && *b.Damage < 0 {
			return nil, fmt.Errorf("%s: baselines[%d]: a damage below 0", inputName(path), i)
		}
	}
	return &front, nil
}

// ofModel reports whether a frontier, which does not name its model, can be of
// a plan's: the same file types are as large, the header apart.
func ofModel(front *planner.Frontier, plan *manifest.Manifest) bool {
	const header = 64 << 20
	for _, b := range front.Baselines {
		for _, own := range plan.Totals.Baselines {
			if b.Name == own.Name && (b.FileBytes < own.TensorBytes || b.FileBytes-own.TensorBytes > header+own.TensorBytes/100) {
				return false
			}
		}
	}
	return true
}

// drawFrontier draws into a PNG if the name ends so, else an SVG.
func drawFrontier(w io.Writer, name string, chart *review.Chart) error {
	if !strings.EqualFold(filepath.Ext(name), ".png") {
		return chart.SVG(w)
	}
	const scale = 2 // sharp on dense displays
	width, height := vg.Length(review.ChartWidth), vg.Length(review.ChartHeight)
	canvas := vgimg.NewWith(vgimg.UseWH(width, height), vgimg.UseDPI(72*scale), vgimg.UseBackgroundColor(color.White))
	chart.Draw(&imagePen{draw.New(canvas)})
	_, err := vgimg.PngCanvas{Canvas: canvas}.WriteTo(w)
	return err
}

// An imagePen draws on a canvas whose origin is at the bottom left.
type imagePen struct{ canvas draw.Canvas }

var inks = map[review.Ink]color.Color{
	review.InkText: color.RGBA{0x1b, 0x1f, 0x24, 0xff}, review.InkSoft: color.RGBA{0x57, 0x60, 0x6a, 0xff}, review.InkLine: color.RGBA{0xd0, 0xd7, 0xde, 0xff},
	review.InkFused: color.RGBA{0x1f, 0x5f, 0xa8, 0xff}, review.InkSplit: color.RGBA{0xa8, 0x48, 0x0f, 0xff},
	review.InkType: color.RGBA{0x57, 0x60, 0x6a, 0xff}, review.InkMark: color.RGBA{0xb3, 0x26, 0x1e, 0xff},
}

func at(x, y float64) vg.Point {
	return vg.Point{X: vg.Length(x), Y: vg.Length(review.ChartHeight - y)}
}

func (p *imagePen) Line(ink review.Ink, width float64, xy ...[2]float64) {
	points := make([]vg.Point, len(xy))
	for i, v := range xy {
		points[i] = at(v[0], v[1])
	}
	p.canvas.StrokeLines(draw.LineStyle{Color: inks[ink], Width: vg.Length(width)}, points)
}

func (p *imagePen) Dot(ink review.Ink, x, y, radius float64, _ string) {
	p.canvas.DrawGlyph(draw.GlyphStyle{Color: inks[ink], Radius: vg.Length(radius), Shape: draw.CircleGlyph{}}, at(x, y))
}

func (p *imagePen) Cross(ink review.Ink, x, y, r float64, _ string) {
	p.Line(ink, 1.6, [2]float64{x - r, y - r}, [2]float64{x + r, y + r})
	p.Line(ink, 1.6, [2]float64{x - r, y + r}, [2]float64{x + r, y - r})
}

func (p *imagePen) Ring(ink review.Ink, x, y, radius float64, _ string) {
	var path vg.Path
	centre := at(x, y)
	path.Move(vg.Point{X: centre.X + vg.Length(radius), Y: centre.Y})
	path.Arc(centre, vg.Length(radius), 0, 2*math.Pi)
	path.Close()
	p.canvas.SetColor(inks[ink])
	p.canvas.SetLineWidth(2.5)
	p.canvas.Stroke(path)
}

func (p *imagePen) Text(ink review.Ink, x, y, size, anchor float64, turned bool, words string) {
	style := text.Style{Color: inks[ink], Font: font.From(font.Font{Typeface: "Liberation", Variant: "Sans"}, vg.Length(size)),
		XAlign: text.XAlignment(-anchor), YAlign: text.YBottom, Handler: plot.DefaultTextHandler}
	if turned {
		style.Rotation = math.Pi / 2
	}
	// The bottom of a line of text is below its baseline by the font's descent.
	drop := 0.21 * size
	if turned {
		p.canvas.FillText(style, at(x+drop, y), words)
		return
	}
	p.canvas.FillText(style, at(x, y+drop), words)
}
