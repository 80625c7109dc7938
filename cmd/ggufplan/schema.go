package main

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"github.com/ggufplan/ggufplan/planner/manifest"
	"github.com/ggufplan/ggufplan/stats/measure"
)

// schemas are the files that have a schema, the default first.
var schemas = []struct {
	name   string
	schema func() []byte
}{
	{"manifest", manifest.Schema},
	{"errors", func() []byte { return measure.Schema }},
	{"sensitivity", func() []byte { return measure.ProbeSchema }},
}

func schemaCommand() *command {
	return &command{
		name:     "schema",
		operands: "[KIND]",
		short:    "the JSON Schema of the manifest, or of what measure and probe write",
		long: `
Prints the JSON Schema (draft 2020-12) of the manifest, KIND manifest, of what
measure writes, KIND errors, or of what probe writes, KIND sensitivity.

Example:

  $ ggufplan schema
  {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
  ...`,
		max: 1,
		setup: func(*pflag.FlagSet) func(*call, []string) error {
			return func(c *call, operands []string) error {
				want := schemas[0].name
				if len(operands) == 1 {
					want = operands[0]
				}
				var names []string
				for _, s := range schemas {
					if s.name == want {
						err := c.writeProduct(s.schema())
						return err
					}
					names = append(names, s.name)
				}
				return hinted(fmt.Errorf("%q has no schema: want %s", want, strings.Join(names, " or ")), "ggufplan schema "+names[0])
			}
		},
	}
}
