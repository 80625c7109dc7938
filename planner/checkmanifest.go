package planner

import (
	"fmt"
	"regexp"

	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner/frequency"
	"github.com/ggufplan/ggufplan/planner/llamaquantize"
	"github.com/ggufplan/ggufplan/planner/manifest"
)

// CheckManifest tests what [manifest.Manifest.Check] cannot know: that types
// are GGML's or declared, that every tensor takes the bytes of its types, and
// that counts put experts in their tiers. Whatever reads a plan calls it. The
// error, a [*manifest.FieldError], names the first value that is wrong.
func CheckManifest(m *manifest.Manifest) error {
	r := &typeReader{names: map[string]frequency.Type{}}
	if err := r.policy(&m.Policy); err != nil {
		return err
	}
	superExperts := map[string]bool{}
	for _, f := range m.Findings {
		if f.Code == CodeSuperExpert {
			superExperts[f.Subject] = true
		}
	}
	for i := range m.Layers {
		l := &m.Layers[i]
		if err := r.layer(i, l, superExperts[subjectOfLayer(l.Layer)]); err != nil {
			return err
		}
	}
	for i := range m.Tensors {
		if field, err := r.tensor(&m.Tensors[i]); err != nil {
			return fieldf(err, "tensors[%d].%s", i, field)
		}
	}
	return nil
}

func fieldf(err error, format string, args ...any) error {
	return &manifest.FieldError{Field: fmt.Sprintf(format, args...), Err: err}
}

// A typeReader holds the types that a manifest may name.
type typeReader struct {
	types frequency.Types
	names map[string]frequency.Type // by their one spelling
}

// typ returns the type of a name in its one spelling.
func (r *typeReader) typ(name string) (frequency.Type, error) {
	if t, ok := r.names[name]; ok {
		return t, nil
	}
	t, err := r.types.Lookup(name)
	if err != nil {
		return t, err
	}
	if t.Name != name {
		return t, fmt.Errorf("%q is spelled %s", name, t.Name)
	}
	r.names[name] = t
	return t, nil
}

func (r *typeReader) policy(p *manifest.Policy) error {
	for i, d := range p.DefinedTypes {
		if _, err := r.types.Declare(d.Name, d.WeightsPerBlock, d.BytesPerBlock); err != nil {
			return fieldf(err, "policy.defined_types[%d]", i)
		}
	}
	for _, f := range []struct {
		key  string
		name *string
	}{{"hot_type", &p.HotType}, {"warm_type", p.WarmType}, {"cold_type", p.ColdType}} {
		if f.name == nil {
			continue
		}
		if _, err := r.typ(*f.name); err != nil {
			return fieldf(err, "policy.%s", f.key)
		}
	}
	for i, pin := range p.Pins {
		if _, err := regexp.Compile(pin.Pattern); err != nil {
			return fieldf(err, "policy.pins[%d].pattern", i)
		}
		if _, err := r.typ(pin.Type); err != nil {
			return fieldf(err, "policy.pins[%d].type", i)
		}
	}
	if _, ok := llamaquantize.FileTypeByName(p.Base); !ok && p.Base != BaseKeep {
		return fieldf(fmt.Errorf("%q is not a file type of llama-quantize, nor %s", p.Base, BaseKeep), "policy.base")
	}
	if p.Budget != nil {
		for i, name := range p.Budget.Types {
			if _, err := r.typ(name); err != nil {
				return fieldf(err, "policy.budget.types[%d]", i)
			}
		}
	}
	return nil
}

// layer checks the experts' types, and their tiers where counts have
// thresholds. Super experts are hot whatever their count.
func (r *typeReader) layer(i int, l *manifest.Layer, superExperts bool) error {
	for e := range l.Experts {
		x := &l.Experts[e]
		if x.Type != nil {
			if _, err := r.typ(*x.Type); err != nil {
				return fieldf(err, "layers[%d].experts[%d].type", i, e)
			}
		}
		if x.Tier == nil || x.Count == nil || l.HotThreshold == nil || l.ColdThreshold == nil {
			continue
		}
		th := frequency.Thresholds{Hot: *l.HotThreshold, Cold: *l.ColdThreshold}
		if want := th.Tier(*x.Count).String(); *x.Tier != want && !(superExperts && *x.Tier == frequency.Hot.String()) {
			return fieldf(fmt.Errorf("%q, but its count makes it %s", *x.Tier, want), "layers[%d].experts[%d].tier", i, e)
		}
	}
	return nil
}

// tensor returns the field that is wrong, and how.
func (r *typeReader) tensor(t *manifest.Tensor) (string, error) {
	if _, ok := quant.ByName(t.SourceType); !ok {
		return "source_type", fmt.Errorf("%q is not a type of GGML's", t.SourceType)
	}
	rows := uint64(1)
	for _, n := range t.Shape[1:] {
		rows *= n // manifest.Check has seen that the product with Shape[0] fits
	}
	sizeOf := func(name string) (uint64, error) {
		typ, err := r.typ(name)
		if err != nil {
			return 0, err
		}
		return typ.Layout.EncodedBytes(rows, t.Shape[0])
	}
	for _, f := range []struct {
		key, typ string
		bytes    uint64
	}{{"source", t.SourceType, t.SourceBytes}, {"planned", t.PlannedType, t.PlannedBytes}} {
		size, err := sizeOf(f.typ)
		if err != nil {
			return f.key + "_type", err
		}
		if size != f.bytes {
			return f.key + "_bytes", fmt.Errorf("%d, but %s takes %d", f.bytes, f.typ, size)
		}
	}
	var split, size uint64
	for e, name := range t.ExpertTypes {
		if e == 0 || name != t.ExpertTypes[e-1] {
			var err error
			if size, err = sizeOf(name); err != nil {
				return fmt.Sprintf("expert_types[%d]", e), err
			}
			size /= uint64(len(t.ExpertTypes))
		}
		split += size // of at most 2^62 / experts
	}
	if t.ExpertTypes != nil && split != t.SplitPlannedBytes {
		return "split_planned_bytes", fmt.Errorf("%d, but its experts' types take %d", t.SplitPlannedBytes, split)
	}
	return "", nil
}
