package export

import (
	"fmt"
	"strings"
)

// pattern returns an ECMAScript regular expression that matches the name and
// nothing else.
//
// llama-quantize lower-cases patterns byte by byte, but not the names; splits
// items at white space and at their first "="; ik_llama.cpp splits at commas.
// So all but lower-case letters, digits, "_", "-" and what lies beyond ASCII is
// written as an escape that neither can change: "A" as \x41.
func pattern(name string) string { return "^" + escape(name) + "$" }

func escape(name string) string {
	var b strings.Builder
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '_', c == '-', c >= 0x80:
			b.WriteByte(c)
		case c == '.':
			b.WriteString(`\.`)
		default:
			fmt.Fprintf(&b, `\x%02x`, c)
		}
	}
	return b.String()
}
