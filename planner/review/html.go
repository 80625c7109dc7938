package review

import (
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode"

	"github.com/ggufplan/ggufplan/planner/manifest"
)

// The page is one file that fetches nothing: style, script and data are inside.
var (
	//go:embed page/page.html.tmpl
	pageText string
	//go:embed page/page.css
	pageStyle string
	//go:embed page/page.js
	pageScript string

	pageTemplate = sync.OnceValue(func() *template.Template { return template.Must(template.New("page").Parse(pageText)) })
)

type page struct {
	Title, Made        string
	Verdict            [][2]string
	CSS                template.CSS
	JS                 template.JS
	Cards              []card
	Gates              []Gate
	Map                *tensorMap
	Heat               *heatMap
	Roles              []roleRow
	Chart, NarrowChart template.HTML
	Baselines          *htmlTable
	Findings           []findingGroup
	Folded             []htmlTable
	Tensors            []tensorRow
	Steps              bool // tensors have a next step
	Facts              [][2]string
}

type card struct{ Name, Value, Note string }

type legendEntry struct{ Class, Text string }

type htmlTable struct {
	Title, Note string
	Head        []htmlCell
	Rows        []htmlRow
}

type htmlCell struct {
	Text  string
	Right bool
}

type htmlRow struct {
	Own   bool // the plan itself
	Cells []htmlCell
}

type roleRow struct {
	Name, Source, Planned, Saved, Bits, Types string
	Tensors                                   int
	SourceShare, PlannedShare                 float64 // of the largest, in percent
}

type findingGroup struct {
	Code        string
	Count, More int
	Lines       []string
}

type tensorRow struct {
	Name, Role, Shape, Source, Planned, BytesText, Split, Reason, Up, Down string
	Weights, Bytes                                                         uint64
	Bits                                                                   string
}

// HTML writes a review as one page that needs nothing beside it. Front, if
// there is one, is drawn with the plan in it.
func HTML(w io.Writer, m *manifest.Manifest, o Options) error {
	r := newReview(m)
	r.add(frontierSection(o.Frontier))
	p := &page{Title: htmlText(r.title), CSS: template.CSS(pageStyle), JS: template.JS(pageScript),
		Made:  htmlText(fmt.Sprintf("Made by %s %s from the plan; llama.cpp's types as of %s v%s.", m.Generator.Name, m.Generator.Version, m.Target.Engine, m.Target.Version)),
		Cards: cards(m), Map: newTensorMap(m), Heat: newHeatMap(m), Roles: roleRows(m), Findings: findingGroups(m)}
	for _, g := range o.Gates {
		p.Gates = append(p.Gates, Gate{htmlText(g.Name), htmlText(g.Wanted), htmlText(g.Got), g.Passed})
	}
	p.Verdict, p.Facts = htmlFacts(r.verdict), htmlFacts(r.facts)
	for _, s := range r.sections {
		switch s.title {
		case baselineTitle:
			t := newHTMLTable(s)
			p.Baselines = &t
		case roleTitle, findingTitle:
		default:
			t := newHTMLTable(s)
			p.Folded = append(p.Folded, t)
		}
	}
	if chart := planChart(m, o.Frontier); chart != nil {
		var wide, narrow strings.Builder
		if err := errors.Join(chart.svg(&wide, "chart", wideChart), chart.svg(&narrow, "narrow-chart", narrowChart)); err != nil {
			return err
		}
		p.Chart, p.NarrowChart = template.HTML(wide.String()), template.HTML(narrow.String())
	}
	for i := range m.Tensors {
		row := newTensorRow(&m.Tensors[i])
		p.Steps = p.Steps || row.Up != "" || row.Down != ""
		p.Tensors = append(p.Tensors, row)
	}
	return pageTemplate().Execute(w, p)
}

func htmlFacts(facts [][2]string) [][2]string {
	list := make([][2]string, len(facts))
	for i, f := range facts {
		list[i] = [2]string{capital(f[0]), htmlText(f[1])}
	}
	return list
}

// htmlText replaces what a page cannot show. The template escapes.
func htmlText(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '\uFFFD'
		}
		return r
	}, s)
}

func newHTMLTable(s section) htmlTable {
	t := htmlTable{Title: s.title, Note: s.note}
	for i, h := range s.table.heading {
		t.Head = append(t.Head, htmlCell{h, s.table.right[i]})
	}
	for _, row := range s.table.rows {
		r := htmlRow{Own: row[0] == ownRow}
		for i, text := range row {
			r.Cells = append(r.Cells, htmlCell{htmlText(text), s.table.right[i]})
		}
		t.Rows = append(t.Rows, r)
	}
	return t
}

func cards(m *manifest.Manifest) []card {
	t := &m.Totals
	list := []card{
		{"fused plan", Size(t.PlannedBytes), "from " + Size(t.SourceBytes)},
		{"saved", fractionPercent(t.SavedFraction), SignedSize(t.SavedBytes)},
		{"bits per weight", decimals(t.PlannedBitsPerWeight, 2), "split plan " + decimals(t.SplitBitsPerWeight, 2)},
	}
	if d := t.Damage; d != nil {
		note := "whole plan"
		if n := Nearest(m); n != nil && n.Damage != nil && *n.Damage > 0 {
			note = times(*d / *n.Damage) + " times " + htmlText(n.Name) + "'s"
		}
		list = append(list, card{"predicted damage", Damage(*d), note})
	}
	switch p, x := t.PredictedKLD, m.Measured; {
	case x != nil && p != nil:
		list = append(list, card{"measured KL divergence", KLD(x.KLD), "± " + KLD(x.StandardError) + ", predicted " + KLD(p.KLD)})
	case x != nil:
		list = append(list, card{"measured KL divergence", KLD(x.KLD), "± " + KLD(x.StandardError)})
	case p != nil:
		list = append(list, card{"predicted KL divergence", KLD(p.KLD), KLD(p.Low) + " to " + KLD(p.High)})
	}
	if t.RoutedExperts.SourceBytes > 0 {
		list = append(list, card{"routed experts", Size(t.RoutedExperts.PlannedBytes), "from " + Size(t.RoutedExperts.SourceBytes)})
	}
	return list
}

func roleRows(m *manifest.Manifest) []roleRow {
	groups := groupRoles(m)
	largest := uint64(1)
	for _, g := range groups {
		largest = max(largest, g.source, g.planned)
	}
	var rows []roleRow
	for _, g := range groups {
		rows = append(rows, roleRow{Name: htmlText(strings.ReplaceAll(g.role, "_", " ")), Tensors: g.tensors, Source: Size(g.source), Planned: Size(g.planned),
			Saved: SignedPercent(int64(g.source-g.planned), g.source), Bits: BitsPerWeight(g.planned, g.weights), Types: htmlText(strings.Join(countedNames(g.types), ", ")),
			SourceShare: share(g.source, largest), PlannedShare: share(g.planned, largest)})
	}
	return rows
}

// share is a part of a whole in percent, with one decimal.
func share(part, whole uint64) float64 {
	v, _ := strconv.ParseFloat(strconv.FormatFloat(100*float64(part)/float64(whole), 'f', 1, 64), 64)
	return v
}

// maxFindingLines is how many findings of one code the page lists.
const maxFindingLines = 100

func findingGroups(m *manifest.Manifest) []findingGroup {
	var groups []findingGroup
	for _, f := range m.Findings {
		i := slices.IndexFunc(groups, func(g findingGroup) bool { return g.Code == f.Code })
		if i < 0 {
			i = len(groups)
			groups = append(groups, findingGroup{Code: f.Code})
		}
		g := &groups[i]
		if g.Count++; len(g.Lines) < maxFindingLines {
			g.Lines = append(g.Lines, htmlText(f.Subject+": "+f.Message))
		} else {
			g.More++
		}
	}
	return groups
}

func newTensorRow(t *manifest.Tensor) tensorRow {
	row := tensorRow{Name: htmlText(t.Name), Role: htmlText(strings.ReplaceAll(t.Role, "_", " ")), Shape: strings.ReplaceAll(Shape(t.Shape), " x ", "×"), Source: htmlText(t.SourceType), Planned: htmlText(t.PlannedType),
		BytesText: Count(t.PlannedBytes), Reason: htmlText(t.Reason), Up: htmlText(stepText(t.StepUp)), Down: htmlText(stepText(t.StepDown)), Weights: t.Parameters, Bytes: t.PlannedBytes, Bits: BitsPerWeight(t.PlannedBytes, t.Parameters)}
	if t.ExpertTypes != nil && t.Expert == nil {
		row.Split = htmlText(typeCounts(t.ExpertTypes))
	}
	return row
}
