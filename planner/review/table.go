package review

import (
	"io"
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
	t.lines(w, indent, append([][]string{t.heading}, t.rows...), true)
}

// WriteRows prints the table without its heading.
func (t *Table) WriteRows(w io.Writer, indent string) { t.lines(w, indent, t.rows, false) }

func (t *Table) lines(w io.Writer, indent string, lines [][]string, heading bool) {
	widths := make([]int, len(t.heading))
	for _, cells := range lines {
		for i, cell := range cells {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	if screen, ok := w.(interface{ Width() int }); ok && screen.Width() > 0 {
		lines = t.fit(lines, widths, screen.Width()-len(indent))
	}
	for n, cells := range lines {
		var line strings.Builder
		line.WriteString(indent)
		for i, cell := range cells {
			if i > 0 {
				line.WriteString("  ")
			}
			space := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if t.right[i] {
				line.WriteString(space + cell)
			} else {
				line.WriteString(cell + space)
			}
		}
		text := strings.TrimRight(line.String(), " ")
		if screen, ok := w.(interface{ Heading(string) error }); ok && heading && n == 0 {
			screen.Heading(text)
			continue
		}
		io.WriteString(w, text+"\n")
	}
}

// fit narrows the widest column of text until the table has room, and goes on
// below where a cell is too long. Columns of numbers are left whole.
func (t *Table) fit(lines [][]string, widths []int, room int) [][]string {
	const least = 12
	over := 2*(len(widths)-1) - room
	widest := -1
	for i, n := range widths {
		over += n
		if !t.right[i] && (widest < 0 || n >= widths[widest]) {
			widest = i
		}
	}
	if over <= 0 || widest < 0 || widths[widest]-over < least {
		return lines
	}
	widths[widest] -= over
	var out [][]string
	for _, cells := range lines {
		if widest >= len(cells) {
			out = append(out, cells)
			continue
		}
		for i, part := range Fold(cells[widest], widths[widest]) {
			row := make([]string, len(cells))
			if i == 0 {
				copy(row, cells)
			}
			row[widest] = part
			out = append(out, row)
		}
	}
	return out
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
