package manifest

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// TestFrozen decodes manifests of released versions: what a version wrote must
// decode forever. This version's come out as they were, older ones say the same
// in this version's words.
func TestFrozen(t *testing.T) {
	for _, version := range []string{"1.0", FormatVersion} {
		files, err := filepath.Glob("testdata/" + version + "/*.json")
		if err != nil {
			t.Fatal(err)
		}
		if len(files) == 0 {
			t.Fatalf("no manifests of version %s", version)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			m, err := Decode(data)
			if err != nil {
				t.Errorf("%s: %v", file, err)
				continue
			}
			written := encode(t, m)
			again, err := Decode(written)
			if err != nil {
				t.Errorf("%s, written back: %v", file, err)
				continue
			}
			if version == FormatVersion && !bytes.Equal(written, data) {
				t.Errorf("%s: Encode(Decode(b)) is not b", file)
			}
			m.FormatVersion = FormatVersion
			if !reflect.DeepEqual(again, m) {
				t.Errorf("%s: written back it says something else", file)
			}
		}
	}
}

// A schemaNode is the part of a JSON Schema that the wire structs determine.
type schemaNode struct {
	Ref                  string          `json:"$ref"`
	Type                 json.RawMessage `json:"type"`
	Enum                 []any           `json:"enum"`
	Const                any             `json:"const"`
	AnyOf                []schemaNode    `json:"anyOf"`
	Properties           json.RawMessage `json:"properties"`
	Required             []string        `json:"required"`
	AdditionalProperties *bool           `json:"additionalProperties"`
	Items                *schemaNode     `json:"items"`
}

// TestSchemaFollowsTheStructs walks the structs beside the schema: the same
// keys in the same order, all required, null exactly where a field may be.
func TestSchemaFollowsTheStructs(t *testing.T) {
	var root struct {
		schemaNode
		Defs map[string]schemaNode `json:"$defs"`
	}
	if err := json.Unmarshal(Schema(), &root); err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	var walk func(path string, n schemaNode, typ reflect.Type, nullAllowed bool)
	walk = func(path string, n schemaNode, typ reflect.Type, nullAllowed bool) {
		null := false
		if len(n.AnyOf) > 0 {
			if len(n.AnyOf) != 2 || string(n.AnyOf[1].Type) != `"null"` {
				t.Errorf("%s: anyOf is not a value or null", path)
				return
			}
			n, null = n.AnyOf[0], true
		}
		for n.Ref != "" {
			name := strings.TrimPrefix(n.Ref, "#/$defs/")
			used[name] = true
			n = root.Defs[name]
		}
		null = null || strings.Contains(string(n.Type), `"null"`) || len(n.Enum) > 0 && slices.Contains(n.Enum, nil)
		if typ.Kind() == reflect.Pointer {
			typ, nullAllowed = typ.Elem(), true
		}
		if null != nullAllowed {
			t.Errorf("%s: null is allowed: %v in the schema, %v in the struct", path, null, nullAllowed)
		}
		want := map[reflect.Kind]string{reflect.Struct: "object", reflect.Slice: "array", reflect.String: "string", reflect.Bool: "boolean",
			reflect.Int: "integer", reflect.Int64: "integer", reflect.Uint64: "integer", reflect.Float64: "number"}[typ.Kind()]
		if n.Enum == nil && !strings.Contains(string(n.Type), `"`+want+`"`) {
			t.Errorf("%s: type %s, want %s", path, n.Type, want)
		}
		switch typ.Kind() {
		case reflect.Slice:
			if n.Items == nil {
				t.Errorf("%s: no items", path)
				return
			}
			walk(path+"[]", *n.Items, typ.Elem(), false)
		case reflect.Struct:
			keys := objectKeys(t, n.Properties)
			var fields []string
			for _, f := range fieldsOf(typ) {
				fields = append(fields, f.key)
			}
			if !slices.Equal(keys, fields) || !slices.Equal(n.Required, fields) {
				t.Errorf("%s: properties %v, required %v, fields %v", path, keys, n.Required, fields)
				return
			}
			if n.AdditionalProperties == nil || *n.AdditionalProperties {
				t.Errorf("%s: further properties are allowed", path)
			}
			var properties map[string]schemaNode
			if err := json.Unmarshal(n.Properties, &properties); err != nil {
				t.Fatal(err)
			}
			for i, f := range fieldsOf(typ) {
				walk(join(path, f.key), properties[f.key], typ.Field(i).Type, f.nullAllowed)
			}
		}
	}
	walk("", root.schemaNode, reflect.TypeFor[Manifest](), false)
	for name := range root.Defs {
		if !used[name] {
			t.Errorf("definition %s is not used", name)
		}
	}
}

// objectKeys returns the keys of an object in the order of the text.
func objectKeys(t *testing.T, raw json.RawMessage) []string {
	t.Helper()
	fields, ok := objectFields(raw)
	if !ok {
		t.Fatalf("not an object: %.40s", raw)
	}
	var keys []string
	for _, f := range fields {
		keys = append(keys, f.key)
	}
	return keys
}
