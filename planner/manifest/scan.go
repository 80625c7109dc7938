package manifest

import (
	"bytes"
	"encoding/json"
	"strconv"
)

// A token is one bracket or one plain value of valid JSON, as it is spelled.
// Its kind is its first byte, with '0' for every number.
type token struct {
	kind byte
	text []byte
}

// A scanner reads the tokens of JSON that is known to be valid, so that it can
// step over commas and colons like spaces. Short strings that repeat, such as
// the types of 20,000 experts, share their memory.
type scanner struct {
	data  []byte
	at    int
	known map[string]string
}

func newScanner(data []byte) *scanner {
	return &scanner{data: data, known: map[string]string{}}
}

func (s *scanner) skipSpace() {
	for s.at < len(s.data) {
		switch s.data[s.at] {
		case ' ', '\n', '\r', '\t', ',', ':':
			s.at++
		default:
			return
		}
	}
}

// more reports whether the list or object has a further element.
func (s *scanner) more() bool {
	s.skipSpace()
	return s.at < len(s.data) && s.data[s.at] != ']' && s.data[s.at] != '}'
}

func (s *scanner) next() token {
	s.skipSpace()
	start := s.at
	switch c := s.data[start]; c {
	case '{', '}', '[', ']':
		s.at++
		return token{c, s.data[start:s.at]}
	case '"':
		for s.at++; s.data[s.at] != '"'; s.at++ {
			if s.data[s.at] == '\\' {
				s.at++
			}
		}
		s.at++
		return token{c, s.data[start:s.at]}
	}
	for s.at < len(s.data) && !bytes.ContainsRune([]byte(" \n\r\t,:]}"), rune(s.data[s.at])) {
		s.at++
	}
	text := s.data[start:s.at]
	if c := text[0]; c == 't' || c == 'f' || c == 'n' {
		return token{c, text}
	}
	return token{'0', text}
}

// text returns the string that a token of kind '"' spells.
func (s *scanner) text(t token) string {
	inner := t.text[1 : len(t.text)-1]
	if bytes.IndexByte(inner, '\\') >= 0 {
		var v string
		if err := json.Unmarshal(t.text, &v); err != nil {
			panic("manifest: valid JSON holds a string that is not: " + err.Error())
		}
		return v
	}
	if len(inner) > 16 {
		return string(inner)
	}
	v, ok := s.known[string(inner)]
	if !ok {
		v = string(inner)
		s.known[v] = v
	}
	return v
}

// skip steps over the value that begins with t.
func (s *scanner) skip(t token) {
	for depth := 0; ; t = s.next() {
		switch t.kind {
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		if depth == 0 {
			return
		}
	}
}

// describe names a token for a message, cut short.
func (s *scanner) describe(t token) string {
	switch t.kind {
	case '{':
		return "an object"
	case '[':
		return "a list"
	case '"':
		v := s.text(t)
		if len(v) > 40 {
			v = v[:40]
		}
		return strconv.Quote(v)
	}
	return string(t.text)
}
