package review

import (
	"fmt"
	"io"
	"strings"

	"github.com/ggufplan/ggufplan/planner/manifest"
)

// Markdown writes the plan's summary as GitHub-flavoured Markdown, for a pull
// request.
func Markdown(w io.Writer, m *manifest.Manifest) error {
	r := newReview(m)
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n", escapeMarkdown(r.title))
	for _, f := range r.facts {
		fmt.Fprintf(&b, "- **%s:** %s\n", f[0], escapeMarkdown(f[1]))
	}
	for _, s := range r.sections {
		fmt.Fprintf(&b, "\n## %s\n\n", s.title)
		if s.note != "" {
			fmt.Fprintf(&b, "%s\n\n", s.note)
		}
		writeMarkdownRow(&b, s.table.heading)
		rule := make([]string, len(s.table.heading))
		for i := range rule {
			rule[i] = "---"
			if s.table.right[i] {
				rule[i] = "--:"
			}
		}
		b.WriteString("| " + strings.Join(rule, " | ") + " |\n")
		for _, row := range s.table.rows {
			writeMarkdownRow(&b, row)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeMarkdownRow(b *strings.Builder, cells []string) {
	for _, c := range cells {
		b.WriteString("| " + escapeMarkdown(c) + " ")
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
