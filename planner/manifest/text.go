package manifest

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// isText reports whether a string is UTF-8 and all of it prints: what does not
// could steer a terminal, or reorder what a person reviews.
func isText(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= utf8.RuneSelf:
			return utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
		case c < ' ' || c == 0x7f:
			return false
		}
	}
	return true
}

// Printable replaces what does not print.
func Printable(s string) string {
	if isText(s) {
		return s
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return utf8.RuneError
		}
		return r
	}, s)
}
