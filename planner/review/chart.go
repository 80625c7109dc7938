package review

import (
	"cmp"
	"fmt"
	"html"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/ggufplan/ggufplan/planner/manifest"
)

// A Chart shows files by size and predicted damage: plans as lines, file types
// and this plan as points. It draws itself with a [Pen].
type Chart struct {
	Model     string
	Objective string
	Tensors   bool   // sizes are of the tensors, without what else a file holds
	Weights   uint64 // of the model, for the second axis; 0 if unknown
	Fused     []ChartPoint
	Split     []ChartPoint
	Types     []ChartPoint
	Marks     []ChartPoint // plans to point out
}

// A ChartPoint is one file.
type ChartPoint struct {
	Name   string
	Bytes  uint64
	Damage float64
	KLD    *manifest.PredictedKLD // nil where none is predicted
}

// Ink is what something is drawn in.
type Ink int

const (
	InkText Ink = iota
	InkSoft
	InkLine // of grids
	InkFused
	InkSplit
	InkType
	InkMark
)

// A Pen draws in units of pixels from the top left.
type Pen interface {
	Line(ink Ink, width float64, xy ...[2]float64)
	Dot(ink Ink, x, y, radius float64, title string)
	Cross(ink Ink, x, y, radius float64, title string)
	Ring(ink Ink, x, y, radius float64, title string)
	// Text sets text on the baseline y; anchor is 0 for its start, 0.5 for
	// its middle, 1 for its end at x. Turned text runs upwards.
	Text(ink Ink, x, y, size, anchor float64, turned bool, text string)
}

// A geometry is a chart's size, the frame of its axes, and about how many steps
// the horizontal ones have.
type geometry struct {
	width, height, left, right, top, bottom float64
	steps                                   int
}

// The chart's size, unless it is for a narrow page.
const (
	ChartWidth, ChartHeight = 880.0, 528.0
	labelSize               = 11.5
)

var (
	wideChart   = geometry{ChartWidth, ChartHeight, 84, 862, 92, 452, 8}
	narrowChart = geometry{376, 456, 72, 366, 80, 338, 4}
)

// Title and Description say in words what the chart shows.
func (c *Chart) Title() string { return "Size against predicted damage: " + Printable(c.Model) }

func (c *Chart) Description() string {
	text := fmt.Sprintf("%d sizes of the fused plan, %d of the split plan and %d file types of llama-quantize", len(c.Fused), len(c.Split), len(c.Types))
	for _, p := range c.Marks {
		text += fmt.Sprintf("; %s: %s, damage %s", Printable(p.Name), Size(p.Bytes), significant(p.Damage))
	}
	return text
}

func significant(v float64) string { return strconv.FormatFloat(v, 'g', 4, 64) }

func (c *Chart) all() []ChartPoint { return slices.Concat(c.Fused, c.Split, c.Types, c.Marks) }

// scale maps values to pixels. Low and high are decimal logarithms if it is
// logarithmic; what is below least, such as 0, then lies at low.
type scale struct {
	low, high, from, to float64
	log                 bool
	least               float64
	zero                bool // something is below least
}

func (s scale) at(v float64) float64 {
	switch {
	case s.log && v < s.least:
		v = s.low
	case s.log:
		v = math.Log10(v)
	}
	if s.high == s.low {
		return (s.from + s.to) / 2
	}
	return s.from + float64((v-s.low)/(s.high-s.low)*(s.to-s.from))
}

// Draw draws the chart.
func (c *Chart) Draw(pen Pen) { c.draw(pen, wideChart) }

func (c *Chart) draw(pen Pen, g geometry) {
	points := c.all()
	if len(points) == 0 {
		return
	}
	x, y, unit, name := c.scales(points, g)
	c.drawAxes(pen, g, x, y, unit, name)
	names := &labels{pen: pen, frame: g}
	for _, series := range []struct {
		ink    Ink
		name   string
		points []ChartPoint
	}{{InkSplit, "split plan", c.Split}, {InkFused, "fused plan", c.Fused}} {
		var line [][2]float64
		for _, p := range series.points {
			line = append(line, [2]float64{x.at(float64(p.Bytes)), y.at(p.Damage)})
		}
		if len(line) > 1 {
			pen.Line(series.ink, 2, line...)
		}
		for i, p := range series.points {
			pen.Dot(series.ink, line[i][0], line[i][1], 2.6, pointTitle(series.name, p))
			names.solid = append(names.solid, around(line[i][0], line[i][1], 3))
		}
		for i := 1; i < len(line); i++ { // names keep off the lines too
			from, to := line[i-1], line[i]
			steps := math.Ceil(math.Hypot(to[0]-from[0], to[1]-from[1]) / 8)
			for k := 1.0; k < steps; k++ {
				names.lines = append(names.lines, around(from[0]+float64((to[0]-from[0])*k/steps), from[1]+float64((to[1]-from[1])*k/steps), 2))
			}
		}
	}
	for _, p := range c.Types {
		pen.Cross(InkType, x.at(float64(p.Bytes)), y.at(p.Damage), 4, pointTitle(p.Name, p))
		names.solid = append(names.solid, around(x.at(float64(p.Bytes)), y.at(p.Damage), 4))
	}
	for _, p := range c.Marks {
		pen.Ring(InkMark, x.at(float64(p.Bytes)), y.at(p.Damage), 7, pointTitle(p.Name, p))
		names.solid = append(names.solid, around(x.at(float64(p.Bytes)), y.at(p.Damage), 7))
	}
	for _, p := range c.Marks {
		names.place(InkMark, x.at(float64(p.Bytes)), y.at(p.Damage), Printable(p.Name))
	}
	for _, p := range c.Split {
		if p.Name != "" {
			names.place(InkSplit, x.at(float64(p.Bytes)), y.at(p.Damage), Printable(p.Name))
		}
	}
	types := slices.Clone(c.Types)
	slices.SortStableFunc(types, func(a, b ChartPoint) int { return cmp.Compare(a.Bytes, b.Bytes) })
	for _, p := range types {
		names.place(InkType, x.at(float64(p.Bytes)), y.at(p.Damage), Printable(p.Name))
	}
	c.drawLegend(pen, g)
}

func pointTitle(name string, p ChartPoint) string {
	text := fmt.Sprintf("%s: %s (%s bytes), damage %s", Printable(name), Size(p.Bytes), Count(p.Bytes), significant(p.Damage))
	if p.KLD != nil {
		text += ", KL divergence about " + PredictedKLD(p.KLD)
	}
	return text
}

func (c *Chart) scales(points []ChartPoint, g geometry) (x, y scale, unit float64, name string) {
	x = scale{low: math.Inf(1), high: math.Inf(-1), from: g.left, to: g.right}
	y = scale{low: math.Inf(1), high: math.Inf(-1), from: g.bottom, to: g.top}
	for _, p := range points {
		x.low, x.high = math.Min(x.low, float64(p.Bytes)), math.Max(x.high, float64(p.Bytes))
		y.high = math.Max(y.high, p.Damage)
		if p.Damage > 0 {
			y.low = math.Min(y.low, p.Damage)
		}
	}
	if y.log = y.high > 0; y.log {
		y.least = math.Max(y.low, 1e-12*y.high) // no more than 12 decades
		y.zero = slices.ContainsFunc(points, func(p ChartPoint) bool { return p.Damage < y.least })
		y.low, y.high = math.Log10(y.least), math.Log10(y.high)
	} else {
		y.low = 0
	}
	for _, s := range []*scale{&x, &y} {
		margin := 0.05 * (s.high - s.low)
		if margin == 0 {
			margin = math.Max(0.05*math.Abs(s.high), 0.1)
		}
		s.low, s.high = s.low-margin, s.high+margin
	}
	if y.zero {
		y.low -= float64(0.08 * (y.high - y.low))
	}
	x.low = math.Max(0, x.low)
	switch {
	case x.high >= 1<<30:
		return x, y, 1 << 30, "GiB"
	case x.high >= 1<<20:
		return x, y, 1 << 20, "MiB"
	}
	return x, y, 1 << 10, "KiB"
}

// steps returns round numbers from low to high, about n of them.
func steps(low, high float64, n int) []float64 {
	if !(high > low) {
		return []float64{low}
	}
	raw := (high - low) / float64(n)
	step := math.Pow(10, math.Floor(math.Log10(raw)))
	for _, f := range []float64{1, 2, 5, 10} {
		if float64(f*step) >= raw {
			step *= f
			break
		}
	}
	var list []float64
	for k := math.Ceil(low / step); float64(k*step) <= high; k++ {
		list = append(list, float64(k*step))
	}
	return list
}

func tickText(v float64) string { return strconv.FormatFloat(v, 'g', 5, 64) }

func (c *Chart) drawAxes(pen Pen, g geometry, x, y scale, unit float64, name string) {
	for _, v := range steps(x.low/unit, x.high/unit, g.steps) {
		px := x.at(v * unit)
		pen.Line(InkLine, 1, [2]float64{px, g.top}, [2]float64{px, g.bottom})
		pen.Text(InkSoft, px, g.bottom+18, 12, 0.5, false, tickText(v))
	}
	ticks := steps(y.low, y.high, 6)
	if y.log {
		ticks = nil
		bottom := y.low
		if y.zero {
			bottom = math.Log10(y.least)
		}
		for decade := math.Floor(y.low); decade <= y.high; decade++ {
			marks := []float64{1, 2, 5}
			if y.high-y.low > 3 {
				marks = []float64{1}
			} else if y.high-y.low < 0.4 {
				marks = []float64{1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9}
			}
			for _, f := range marks {
				if v := decade + float64(math.Log10(f)); v >= bottom && v <= y.high {
					ticks = append(ticks, math.Pow(10, v))
				}
			}
		}
	}
	if y.zero {
		ticks = append(ticks, 0)
	}
	for _, v := range ticks {
		py := y.at(v)
		pen.Line(InkLine, 1, [2]float64{g.left, py}, [2]float64{g.right, py})
		pen.Text(InkSoft, g.left-8, py+4, 12, 1, false, strconv.FormatFloat(v, 'g', 3, 64))
	}
	pen.Line(InkSoft, 1, [2]float64{g.left, g.top}, [2]float64{g.left, g.bottom}, [2]float64{g.right, g.bottom})
	pen.Text(InkText, (g.left+g.right)/2, g.bottom+42, 13, 0.5, false, c.sizeName()+", "+name)
	pen.Text(InkText, 14, (g.top+g.bottom)/2, 13, 0.5, true, "predicted damage"+c.objectiveText())
	if c.Weights > 0 {
		pen.Line(InkSoft, 1, [2]float64{g.left, g.top}, [2]float64{g.right, g.top})
		perBit := float64(c.Weights) / 8
		for _, v := range steps(x.low/perBit, x.high/perBit, g.steps) {
			px := x.at(v * perBit)
			pen.Line(InkSoft, 1, [2]float64{px, g.top}, [2]float64{px, g.top - 5})
			pen.Text(InkSoft, px, g.top-10, 12, 0.5, false, tickText(v))
		}
		pen.Text(InkText, (g.left+g.right)/2, g.top-30, 13, 0.5, false, "bits per weight")
	}
}

func (c *Chart) sizeName() string {
	if c.Tensors {
		return "size of the tensors"
	}
	return "size of the file"
}

func (c *Chart) objectiveText() string {
	if c.Objective == "" {
		return ""
	}
	return " (" + Printable(c.Objective) + ")"
}

func (c *Chart) drawLegend(pen Pen, g geometry) {
	pen.Text(InkText, 12, 24, 15, 0, false, shorten(Printable(c.Model), int(g.width/10)))
	x, y := g.left, g.bottom+64
	entry := func(ink Ink, name string, draw func(x float64)) {
		width := 18 + float64(textWidth(name, 12))
		if x > g.left && x+width > g.width {
			x, y = g.left, y+18
		}
		draw(x)
		pen.Text(InkText, x+18, y, 12, 0, false, name)
		x += width + 22
	}
	if len(c.Fused) > 0 {
		entry(InkFused, "fused plan", func(x float64) { pen.Dot(InkFused, x+8, y-4, 4, "") })
	}
	if len(c.Split) > 0 {
		entry(InkSplit, "split plan", func(x float64) { pen.Dot(InkSplit, x+8, y-4, 4, "") })
	}
	if len(c.Types) > 0 {
		entry(InkType, "llama-quantize's file types", func(x float64) { pen.Cross(InkType, x+8, y-4, 4, "") })
	}
	if len(c.Marks) > 0 {
		entry(InkMark, "this plan", func(x float64) { pen.Ring(InkMark, x+8, y-4, 5, "") })
	}
}

func shorten(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

// textWidth is a bound on the width of text in the fonts that pens use.
func textWidth(s string, size float64) float64 { return float64(0.6 * size * float64(len([]rune(s)))) }

// labels places names where they cover nothing.
type labels struct {
	pen   Pen
	frame geometry
	solid []box // points, names and the lines to them
	lines []box // of plans
}

type box [4]float64 // left, top, right, bottom

func around(x, y, r float64) box { return box{x - r, y - r, x + r, y + r} }

func (l *labels) free(b box, lines bool) bool {
	hit := func(o box) bool { return b[0] < o[2] && o[0] < b[2] && b[1] < o[3] && o[1] < b[3] }
	g := l.frame
	return b[0] >= g.left+2 && b[2] <= g.right+4 && b[1] >= g.top+2 && b[3] <= g.bottom-2 &&
		!slices.ContainsFunc(l.solid, hit) && (!lines || !slices.ContainsFunc(l.lines, hit))
}

// place sets a point's name: beside the point, or further out with a line to it
// that crosses nothing, or in the end nothing but lines of plans. A name without
// a place is left to the point's title.
func (l *labels) place(ink Ink, px, py float64, text string) {
	const beside = 8
	w, h := textWidth(text, labelSize)+4, labelSize+3
	for _, strict := range []bool{true, false} {
		for _, distance := range []float64{beside, 18, 28, 40, 54, 70, 90} {
			for _, d := range [][2]float64{{1, 0}, {1, -1}, {0, -1}, {1, 1}, {-1, 0}, {-1, -1}, {0, 1}, {-1, 1}} {
				cx, cy := px+float64(d[0]*(distance+float64(w/2))), py+float64(d[1]*(distance+float64(h/2)))
				name := box{cx - float64(w/2), cy - float64(h/2), cx + float64(w/2), cy + float64(h/2)}
				if !l.free(name, true) {
					continue
				}
				var leader []box
				for at := beside - 1.0; distance > beside && at <= distance-1; at += 2 {
					leader = append(leader, around(px+float64(d[0]*at), py+float64(d[1]*at), 1))
				}
				if slices.ContainsFunc(leader, func(b box) bool { return !l.free(b, strict) }) {
					continue
				}
				if n := len(leader); n > 0 {
					l.pen.Line(InkSoft, 0.8, [2]float64{leader[0][0] + 1, leader[0][1] + 1}, [2]float64{leader[n-1][0] + 1, leader[n-1][1] + 1})
				}
				l.pen.Text(ink, cx, cy+float64(0.35*labelSize), labelSize, 0.5, false, text)
				l.solid = append(append(l.solid, name), leader...)
				return
			}
		}
	}
}

// planChart is the chart of a plan: the frontier where there is one, else the
// file types whose damage the plan knows, by the sizes of their tensors. It is
// nil where there is nothing to compare.
func planChart(m *manifest.Manifest, front *Chart) *Chart {
	c := &Chart{}
	var mark *ChartPoint
	switch t := &m.Totals; {
	case front != nil:
		*c = *front
		mark = PlanMark(m, ownRow)
	case t.Damage == nil:
		return nil
	default:
		c.Objective, c.Tensors = objective(m), true
		for _, x := range m.Totals.Baselines {
			if x.Damage != nil {
				c.Types = append(c.Types, ChartPoint{x.Name, x.TensorBytes, *x.Damage, x.PredictedKLD})
			}
		}
		if t.SplitDamage != nil {
			c.Split = []ChartPoint{{splitFact, t.SplitPlannedBytes, *t.SplitDamage, t.SplitPredictedKLD}}
		}
		mark = &ChartPoint{ownRow, t.PlannedBytes, *t.Damage, t.PredictedKLD}
	}
	c.Model, c.Weights = m.Model.Name, m.Model.Parameters
	if mark != nil {
		c.Marks = append(slices.Clone(c.Marks), *mark)
	}
	return c
}

// objective is what the damage of a plan is: without a budget that of the first.
func objective(m *manifest.Manifest) string {
	if b := m.Policy.Budget; b != nil {
		return b.Objective
	}
	return manifest.Objectives[0]
}

// frontierSection holds the points of a chart's lines as numbers.
func frontierSection(c *Chart) section {
	s := section{title: "Frontier", note: "Plans to other sizes: the fused plan, and the split plan with the same bytes for everything else.",
		table: NewTable(">fused file", ">damage", ">split file", ">damage")}
	if c == nil || len(c.Fused) != len(c.Split) {
		return s
	}
	for i, p := range c.Fused {
		s.table.Add(Size(p.Bytes), Damage(p.Damage), Size(c.Split[i].Bytes), Damage(c.Split[i].Damage))
	}
	return s
}

// PlanMark is a plan as a point of a chart, nil if its file or its damage is
// unknown.
func PlanMark(m *manifest.Manifest, name string) *ChartPoint {
	t := &m.Totals
	if t.Damage == nil || t.PlannedFileBytes == nil {
		return nil
	}
	return &ChartPoint{name, *t.PlannedFileBytes, *t.Damage, t.PredictedKLD}
}

// SVG writes the chart as a file of its own that follows the reader's scheme
// of colours, with a title and a description.
func (c *Chart) SVG(w io.Writer) error { return c.svg(w, "chart", wideChart) }

// svg writes the chart; id tells its parts from those of other charts on a page.
func (c *Chart) svg(w io.Writer, id string, g geometry) error {
	pen := &svgPen{}
	fmt.Fprintf(pen, `<svg xmlns="http://www.w3.org/2000/svg" class="chart" viewBox="0 0 %[2]g %[3]g" role="img" aria-labelledby="%[1]s-title %[1]s-desc">
<title id="%[1]s-title">%[4]s</title>
<desc id="%[1]s-desc">%[5]s</desc>
<style>
.chart { --c-bg: #fff; --c-text: #1b1f24; --c-soft: #57606a; --c-line: #d0d7de; --c-fused: #1f5fa8; --c-split: #a8480f; --c-type: #57606a; --c-mark: #b3261e; background: var(--c-bg); font-family: system-ui, "Liberation Sans", sans-serif }
@media (prefers-color-scheme: dark) { .chart { --c-bg: #0f1419; --c-text: #e6edf3; --c-soft: #9da7b3; --c-line: #333c47; --c-fused: #7db7f0; --c-split: #f0a066; --c-type: #9da7b3; --c-mark: #ff9a8f } }
@media print { .chart { --c-bg: #fff; --c-text: #000; --c-soft: #444; --c-line: #bbb; --c-fused: #1f5fa8; --c-split: #a8480f; --c-type: #444; --c-mark: #b3261e } }
</style>
<rect width="%[2]g" height="%[3]g" style="fill:var(--c-bg)"/>
`, id, g.width, g.height, html.EscapeString(c.Title()), html.EscapeString(c.Description()))
	c.draw(pen, g)
	pen.WriteString("</svg>\n")
	_, err := io.WriteString(w, pen.String())
	return err
}

// An svgPen writes the elements of an SVG.
type svgPen struct{ strings.Builder }

func (s *svgPen) colour(ink Ink) string {
	return "var(--c-" + []string{"text", "soft", "line", "fused", "split", "type", "mark"}[ink] + ")"
}

func px(v float64) string {
	return strings.TrimSuffix(strconv.FormatFloat(v, 'f', 1, 64), ".0")
}

func (s *svgPen) Line(ink Ink, width float64, xy ...[2]float64) {
	var points []string
	for _, p := range xy {
		points = append(points, px(p[0])+","+px(p[1]))
	}
	fmt.Fprintf(s, "<polyline points=\"%s\" style=\"fill:none;stroke:%s;stroke-width:%s\"/>\n", strings.Join(points, " "), s.colour(ink), px(width))
}

func (s *svgPen) titled(shape, title string) {
	if title != "" {
		title = "<title>" + html.EscapeString(title) + "</title>"
	}
	fmt.Fprintf(s, "<g>%s%s</g>\n", title, shape)
}

func (s *svgPen) Dot(ink Ink, x, y, radius float64, title string) {
	s.titled(fmt.Sprintf(`<circle cx="%s" cy="%s" r="%s" style="fill:%s"/>`, px(x), px(y), px(radius), s.colour(ink)), title)
}

func (s *svgPen) Cross(ink Ink, x, y, r float64, title string) {
	s.titled(fmt.Sprintf(`<path d="M%s %sL%s %sM%s %sL%s %s" style="fill:none;stroke:%s;stroke-width:1.6"/>`,
		px(x-r), px(y-r), px(x+r), px(y+r), px(x-r), px(y+r), px(x+r), px(y-r), s.colour(ink)), title)
}

func (s *svgPen) Ring(ink Ink, x, y, radius float64, title string) {
	s.titled(fmt.Sprintf(`<circle cx="%s" cy="%s" r="%s" style="fill:none;stroke:%s;stroke-width:2.5"/>`, px(x), px(y), px(radius), s.colour(ink)), title)
}

func (s *svgPen) Text(ink Ink, x, y, size, anchor float64, turned bool, text string) {
	turn := ""
	if turned {
		turn = fmt.Sprintf(` transform="rotate(-90 %s %s)"`, px(x), px(y))
	}
	align := map[float64]string{0: "start", 0.5: "middle", 1: "end"}[anchor]
	fmt.Fprintf(s, "<text x=\"%s\" y=\"%s\" text-anchor=\"%s\" style=\"fill:%s;font-size:%spx\"%s>%s</text>\n", px(x), px(y), align, s.colour(ink), px(size), turn, html.EscapeString(text))
}
