package review

import (
	"fmt"
	"html"
	"io"
	"strings"
	"unicode"

	"github.com/ggufplan/ggufplan/planner/manifest"
)

const htmlHead = `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>%s</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; background: #fff }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.2rem } dt { font-weight: 600 } dd { margin: 0 }
table { border-collapse: collapse } th, td { padding: .2rem .8rem; text-align: left; border-bottom: 1px solid #ddd; vertical-align: top }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
svg text { font: 11px system-ui, sans-serif; fill: #555 }
</style>
</head>
<body>
`

// HTML writes the plan's summary as one page that needs nothing else: no
// script, no image, no font.
func HTML(w io.Writer, m *manifest.Manifest) error {
	r := newReview(m)
	var b strings.Builder
	fmt.Fprintf(&b, htmlHead, htmlText(r.title))
	fmt.Fprintf(&b, "<h1>%s</h1>\n<dl>\n", htmlText(r.title))
	for _, f := range r.facts {
		fmt.Fprintf(&b, "<dt>%s</dt><dd>%s</dd>\n", f[0], htmlText(f[1]))
	}
	b.WriteString("</dl>\n")
	writeTierMap(&b, m)
	for _, s := range r.sections {
		fmt.Fprintf(&b, "<h2>%s</h2>\n", htmlText(s.title))
		if s.note != "" {
			fmt.Fprintf(&b, "<p>%s</p>\n", htmlText(s.note))
		}
		b.WriteString("<table>\n<thead>")
		writeHTMLRow(&b, "th", s.table.heading, s.table.right)
		b.WriteString("</thead>\n<tbody>\n")
		for _, row := range s.table.rows {
			writeHTMLRow(&b, "td", row, s.table.right)
		}
		b.WriteString("</tbody>\n</table>\n")
	}
	b.WriteString("</body>\n</html>\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// htmlText escapes text of a manifest, which may come from a stranger. What
// does not print has no place on a page.
func htmlText(s string) string {
	return html.EscapeString(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '\uFFFD'
		}
		return r
	}, s))
}

func writeHTMLRow(b *strings.Builder, cell string, cells []string, right []bool) {
	b.WriteString("<tr>")
	for i, c := range cells {
		class := ""
		if right[i] {
			class = ` class="n"`
		}
		fmt.Fprintf(b, "<%s%s>%s</%s>", cell, class, htmlText(c), cell)
	}
	b.WriteString("</tr>\n")
}

// tierColours are set from hot to cold; grey stands for no statistics.
var tierColours = map[string]string{"hot": "#c0392b", "warm": "#e8b04a", "cold": "#4a7fb5"}

// writeTierMap draws a square per expert, a row per layer, coloured by tier.
func writeTierMap(b *strings.Builder, m *manifest.Manifest) {
	if len(m.Totals.Tiers) == 0 || len(m.Layers) == 0 {
		return
	}
	const cell, left = 7, 48
	columns := 0
	for _, l := range m.Layers {
		columns = max(columns, len(l.Experts))
	}
	b.WriteString("<h2>Experts by tier</h2>\n<p>A row per layer, a square per expert: hot red, warm yellow, cold blue, grey without statistics.</p>\n")
	fmt.Fprintf(b, "<svg role=\"img\" aria-label=\"experts by tier\" width=\"%d\" height=\"%d\">\n", left+columns*cell, len(m.Layers)*cell+4)
	for row, l := range m.Layers {
		if row%8 == 0 {
			fmt.Fprintf(b, "<text x=\"0\" y=\"%d\">blk.%d</text>\n", row*cell+cell+2, l.Layer)
		}
		for column, e := range l.Experts {
			colour := "#bbb"
			if e.Tier != nil {
				if c, ok := tierColours[*e.Tier]; ok {
					colour = c
				}
			}
			fmt.Fprintf(b, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" fill=\"%s\"/>", left+column*cell, row*cell, cell-1, cell-1, colour)
		}
		b.WriteByte('\n')
	}
	b.WriteString("</svg>\n")
}
