// Package picture draws a review's chart as an image. It stands apart so that
// who wants the review alone does not take a library of fonts and colours along.
package picture

import (
	"image/color"
	"io"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"

	"github.com/ggufplan/ggufplan/planner/review"
)

// PNG writes a chart as a PNG of twice [review.ChartWidth] by
// [review.ChartHeight] pixels, sharp on dense displays.
func PNG(w io.Writer, chart *review.Chart) error {
	const scale = 2
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
	drop := float64(0.21 * size)
	if turned {
		p.canvas.FillText(style, at(x+drop, y), words)
		return
	}
	p.canvas.FillText(style, at(x, y+drop), words)
}
