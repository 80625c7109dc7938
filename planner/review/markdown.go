package review

import (
	"fmt"
	"io"
	"strings"

	"github.com/ggufplan/ggufplan/planner/manifest"
)

// MaxComment is the most characters that a comment on GitHub holds.
const MaxComment = 65536

// maxFact is how much is written of a single fact, such as a list of pins.
const maxFact = 600

// Markdown writes a review as GitHub-flavoured Markdown, for a comment on a
// pull request: what was decided, the gates, and folded below them the details,
// of which as many rows are shown as [MaxComment] has room for.
func Markdown(w io.Writer, m *manifest.Manifest, o Options) error {
	r := newReview(m)
	text := fitComment(func(rows int) string { return r.markdown(m, o, rows) })
	_, err := io.WriteString(w, text)
	return err
}

// fitComment renders with as many rows per table as a comment holds.
func fitComment(render func(rows int) string) string {
	rows := 256
	text := render(rows)
	for len(text) > MaxComment && rows > 0 {
		rows /= 2
		text = render(rows)
	}
	return text
}

func (r *review) markdown(m *manifest.Manifest, o Options, rows int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n", escapeMarkdown(shorten(r.title, 200)))
	if n := Missed(o.Gates); n > 0 {
		fmt.Fprintf(&b, "**%d of %d gates missed.** ", n, len(o.Gates))
	} else if len(o.Gates) > 0 {
		fmt.Fprintf(&b, "**All %d gates passed.** ", len(o.Gates))
	}
	fmt.Fprintf(&b, "%s\n\n", escapeMarkdown(headline(m)))
	if len(o.Gates) > 0 {
		t := NewTable("gate", "wanted", "got", "result")
		for _, g := range o.Gates {
			t.Add(g.Name, g.Wanted, g.Got, g.Result())
		}
		writeMarkdownTable(&b, t, 50)
		b.WriteByte('\n')
	}
	for _, f := range r.facts {
		fmt.Fprintf(&b, "- **%s:** %s\n", f[0], escapeMarkdown(shorten(f[1], maxFact)))
	}
	for _, s := range r.sections {
		writeMarkdownSection(&b, s, rows)
	}
	return b.String()
}

// writeMarkdownSection writes a section folded, save the comparison with file
// types.
func writeMarkdownSection(b *strings.Builder, s section, rows int) {
	folded := s.title != baselineTitle
	if folded {
		fmt.Fprintf(b, "\n<details>\n<summary>%s (%d)</summary>\n\n", s.title, len(s.table.rows))
	} else {
		fmt.Fprintf(b, "\n## %s\n\n", s.title)
	}
	if s.note != "" {
		fmt.Fprintf(b, "%s\n\n", s.note)
	}
	writeMarkdownTable(b, s.table, rows)
	if folded {
		b.WriteString("\n</details>\n")
	}
}

// writeMarkdownTable writes at most so many rows, and how many more there are.
func writeMarkdownTable(b *strings.Builder, t *Table, rows int) {
	writeMarkdownRow(b, t.heading)
	rule := make([]string, len(t.heading))
	for i := range rule {
		rule[i] = "---"
		if t.right[i] {
			rule[i] = "--:"
		}
	}
	b.WriteString("| " + strings.Join(rule, " | ") + " |\n")
	for _, row := range t.rows[:min(rows, len(t.rows))] {
		writeMarkdownRow(b, row)
	}
	if more := len(t.rows) - rows; more > 0 {
		fmt.Fprintf(b, "\nand %d more\n", more)
	}
}

func writeMarkdownRow(b *strings.Builder, cells []string) {
	for _, c := range cells {
		b.WriteString("| " + escapeMarkdown(shorten(c, 300)) + " ")
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
