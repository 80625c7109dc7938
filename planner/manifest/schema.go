package manifest

import (
	_ "embed"
	"slices"
)

//go:embed schema.json
var schema []byte

// Schema returns the JSON Schema (draft 2020-12) of the format that this
// package writes.
func Schema() []byte { return slices.Clone(schema) }
