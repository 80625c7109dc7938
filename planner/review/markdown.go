package review

import (
	"fmt"
	"io"
	"strings"

	"github.com/ggufplan/ggufplan/planner/manifest"
)

// MaxComment is the most characters that a comment on GitHub holds.
const MaxComment = 65536

// room is how much of a review is written: rows of a table, and characters of
// a cell.
type room struct{ rows, cell int }

// Markdown writes a review as GitHub-flavoured Markdown, for a comment on a
// pull request: the verdict, the gates, the file types, and folded below them
// the details, of which as many rows are shown as [MaxComment] has room for.
func Markdown(w io.Writer, m *manifest.Manifest, o Options) error {
	return newReview(m).comment(w, o.Gates)
}

// comment writes as many rows of each table as a comment holds.
func (r *review) comment(w io.Writer, gates []Gate) error {
	left := room{rows: 256, cell: 300}
	text := r.markdown(gates, left)
	for len(text) > MaxComment {
		if left.rows > 0 {
			left.rows /= 2
		} else {
			left.cell /= 2
		}
		text = r.markdown(gates, left)
	}
	_, err := io.WriteString(w, text)
	return err
}

func (r *review) markdown(gates []Gate, left room) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n", escapeMarkdown(shorten(r.title, 200)))
	if n := Missed(gates); n > 0 {
		fmt.Fprintf(&b, "**%d of %d gates missed.**\n\n", n, len(gates))
	} else if len(gates) > 0 {
		fmt.Fprintf(&b, "**All %d gates passed.**\n\n", len(gates))
	}
	writeMarkdownFacts(&b, r.verdict, left)
	if len(gates) > 0 {
		t := NewTable("gate", "wanted", "got", "result")
		for _, g := range gates {
			t.Add(g.Name, g.Wanted, g.Got, g.Result())
		}
		b.WriteByte('\n')
		writeMarkdownTable(&b, t, room{min(50, left.cell), left.cell})
	}
	for _, s := range r.sections {
		writeMarkdownSection(&b, s, left)
	}
	if len(r.facts) > 0 {
		b.WriteString("\n<details>\n<summary>How it was made</summary>\n\n")
		writeMarkdownFacts(&b, r.facts, left)
		b.WriteString("\n</details>\n")
	}
	return b.String()
}

func writeMarkdownFacts(b *strings.Builder, facts [][2]string, left room) {
	for _, f := range facts {
		fmt.Fprintf(b, "- **%s:** %s\n", capital(f[0]), escapeMarkdown(shorten(f[1], 2*left.cell)))
	}
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// writeMarkdownSection writes a section, folded unless it is open.
func writeMarkdownSection(b *strings.Builder, s section, left room) {
	if s.open {
		fmt.Fprintf(b, "\n## %s\n\n", s.title)
	} else {
		fmt.Fprintf(b, "\n<details>\n<summary>%s (%d)</summary>\n\n", s.title, len(s.table.rows))
	}
	if s.note != "" {
		fmt.Fprintf(b, "%s\n\n", s.note)
	}
	writeMarkdownTable(b, s.table, left)
	if !s.open {
		b.WriteString("\n</details>\n")
	}
}

// writeMarkdownTable writes the rows that there is room for, and how many more
// there are.
func writeMarkdownTable(b *strings.Builder, t *Table, left room) {
	writeMarkdownRow(b, t.heading, left)
	rule := make([]string, len(t.heading))
	for i := range rule {
		rule[i] = "---"
		if t.right[i] {
			rule[i] = "--:"
		}
	}
	b.WriteString("| " + strings.Join(rule, " | ") + " |\n")
	for _, row := range t.rows[:min(left.rows, len(t.rows))] {
		writeMarkdownRow(b, row, left)
	}
	if more := len(t.rows) - left.rows; more > 0 {
		fmt.Fprintf(b, "\nand %d more\n", more)
	}
}

func writeMarkdownRow(b *strings.Builder, cells []string, left room) {
	for _, c := range cells {
		b.WriteString("| " + escapeMarkdown(shorten(c, left.cell)) + " ")
	}
	b.WriteString("|\n")
}

// escapeMarkdown keeps text from being read as markup, HTML or the end of a
// cell. An underscore within a word is no markup, and stays.
func escapeMarkdown(s string) string {
	var b strings.Builder
	for i, c := range s {
		switch {
		case c < 0x20 || c == 0x7f:
			b.WriteByte(' ')
		case c == '<':
			b.WriteString("&lt;")
		case c == '&':
			b.WriteString("&amp;")
		case c == '_' && i > 0 && i < len(s)-1 && isWord(s[i-1]) && isWord(s[i+1]):
			b.WriteByte('_')
		case strings.ContainsRune("\\`*_[]|~#@!", c):
			b.WriteByte('\\')
			b.WriteRune(c)
		default:
			b.WriteRune(c)
		}
	}
	return b.String()
}

func isWord(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c >= 0x80
}
