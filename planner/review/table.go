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
	t.lines(w, indent, append([][]string{t.heading}, t.rows...))
}

// WriteRows prints the table without its heading.
func (t *Table) WriteRows(w io.Writer, indent string) { t.lines(w, indent, t.rows) }

func (t *Table) lines(w io.Writer, indent string, lines [][]string) {
	widths := make([]int, len(t.heading))
	for _, cells := range lines {
		for i, cell := range cells {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, cells := range lines {
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
		io.WriteString(w, strings.TrimRight(line.String(), " ")+"\n")
	}
}
