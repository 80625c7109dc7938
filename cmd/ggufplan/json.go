package main

import (
	"encoding/json"
	"io"
)

// writeJSON prints a report as the manifest is printed: two spaces, final
// newline, nothing escaped for HTML.
func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
