package review

import (
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// A Table lines up columns for a person. Columns that hold numbers are pushed
// to the right, headings with them.
type Table struct {
	heading []string
	right   []bool // per column
	rows    [][]string
}

// NewTable makes a table; a heading that begins with ">" marks a column of
// numbers.
func NewTable(headings ...string) *Table {
	t := &Table{}
	for _, h := range headings {
		name, right := strings.CutPrefix(h, ">")
		t.heading = append(t.heading, name)
		t.right = append(t.right, right)
	}
	return t
}

func (t *Table) Add(cells ...string) { t.rows = append(t.rows, cells) }

// Write prints the table with every line indented. Lines do not end in spaces.
func (t *Table) Write(w io.Writer, indent string) {
	t.lines(w, indent, [][]string{t.heading}, t.rows)
}

// WriteRows prints the table without its heading.
func (t *Table) WriteRows(w io.Writer, indent string) { t.lines(w, indent, nil, t.rows) }

func (t *Table) lines(w io.Writer, indent string, heading, rows [][]string) {
	widths := widthsOf(len(t.heading), heading, rows)
	gap := "  "
	if screen, ok := w.(interface{ Width() int }); ok && screen.Width() > 0 {
		room := screen.Width() - len(indent)
		if total(widths, len(gap)) > room && heading != nil {
			heading = t.foldHeading(widthsOf(len(t.heading), nil, rows))
			widths = widthsOf(len(t.heading), heading, rows)
		}
		fitted, ok := t.fit(rows, widths, room-len(gap)*(len(widths)-1))
		if !ok {
			gap = " "
			fitted, _ = t.fit(rows, widths, room-len(gap)*(len(widths)-1))
		}
		rows = fitted
	}
	for n, cells := range append(slices.Clone(heading), rows...) {
		var line strings.Builder
		line.WriteString(indent)
		for i, cell := range cells {
			if i > 0 {
				line.WriteString(gap)
			}
			space := strings.Repeat(" ", max(0, widths[i]-utf8.RuneCountInString(cell)))
			if t.right[i] {
				line.WriteString(space + cell)
			} else {
				line.WriteString(cell + space)
			}
		}
		text := strings.TrimRight(line.String(), " ")
		if screen, ok := w.(interface{ Heading(string) error }); ok && n < len(heading) {
			screen.Heading(text)
			continue
		}
		io.WriteString(w, text+"\n")
	}
}

// widthsOf returns the width of each column.
func widthsOf(columns int, heading, rows [][]string) []int {
	widths := make([]int, columns)
	for _, lines := range [][][]string{heading, rows} {
		for _, cells := range lines {
			for i, cell := range cells {
				widths[i] = max(widths[i], utf8.RuneCountInString(cell))
			}
		}
	}
	return widths
}

func total(widths []int, gap int) int {
	sum := gap * (len(widths) - 1)
	for _, n := range widths {
		sum += n
	}
	return sum
}

// foldHeading breaks headings that are wider than their columns at words.
func (t *Table) foldHeading(widths []int) [][]string {
	folded := make([][]string, len(t.heading))
	deepest := 0
	for i, h := range t.heading {
		width := max(1, widths[i])
		for _, word := range strings.Fields(h) {
			width = max(width, utf8.RuneCountInString(word))
		}
		folded[i] = Fold(h, width)
		deepest = max(deepest, len(folded[i]))
	}
	lines := make([][]string, deepest)
	for n := range lines {
		lines[n] = make([]string, len(t.heading))
		for i, parts := range folded { // the last part stands on the last line
			if k := n - (deepest - len(parts)); k >= 0 {
				lines[n][i] = parts[k]
			}
		}
	}
	return lines
}

// fit narrows columns of text, the widest first, until the table has room, and
// goes on below where a cell is too long. Columns of numbers and words are left
// whole; so is a table that would not fit even then. Room is for the cells alone.
func (t *Table) fit(lines [][]string, widths []int, room int) (fitted [][]string, ok bool) {
	narrow, least := slices.Clone(widths), make([]int, len(widths))
	for _, cells := range lines {
		for i, cell := range cells {
			for _, word := range strings.Fields(cell) {
				least[i] = max(least[i], utf8.RuneCountInString(word))
			}
		}
	}
	for over := total(widths, 0) - room; over > 0; over-- {
		widest := -1
		for i, n := range narrow {
			if !t.right[i] && n > max(least[i], 8) && (widest < 0 || n >= narrow[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			return lines, false
		}
		narrow[widest]--
	}
	copy(widths, narrow)
	var out [][]string
	for _, cells := range lines {
		parts, deepest := make([][]string, len(cells)), 1
		for i, cell := range cells {
			parts[i] = Fold(cell, max(1, widths[i]))
			deepest = max(deepest, len(parts[i]))
		}
		for n := range deepest {
			row := make([]string, len(cells))
			for i := range cells {
				if n < len(parts[i]) {
					row[i] = parts[i][n]
				}
			}
			out = append(out, row)
		}
	}
	return out, true
}

// Fold breaks text into lines of at most width characters, at spaces where
// there are any.
func Fold(s string, width int) []string {
	var lines []string
	runes := []rune(s)
	for len(runes) > width {
		cut := width
		for cut > 0 && runes[cut] != ' ' {
			cut--
		}
		if cut == 0 {
			cut = width
		}
		lines = append(lines, strings.TrimRight(string(runes[:cut]), " "))
		runes = []rune(strings.TrimLeft(string(runes[cut:]), " "))
	}
	return append(lines, string(runes))
}
