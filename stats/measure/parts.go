package measure

import (
	"fmt"
	"math/bits"
	"reflect"
	"slices"
)

// maxParts bounds I/N: more parts than a large model has experts make no sense.
const maxParts = 1 << 20

// takePart keeps the items of the part that is asked for. A part is a run of
// groups in the order of the file, so that each reads its own stretch of the
// model. A group belongs to the part in which the middle of its work falls
// when the expected work of all is cut into N equal shares, by the table of
// costs, so that every machine cuts alike.
func (m *measurement) takePart() error {
	p := m.options.Part
	if p == nil {
		return nil
	}
	if p.Of < 1 || p.Of > maxParts || p.Index < 1 || p.Index > p.Of {
		return fmt.Errorf("part %d of %d: parts count from 1 to N, and N is at most %d", p.Index, p.Of, maxParts)
	}
	var total, before uint64
	for _, g := range m.groups {
		total += uint64(g.expected.share)
	}
	var kept []measureItem
	var groups []itemGroup
	for _, g := range m.groups {
		if partOf(before+uint64(g.expected.share)/2, total, p.Of) == p.Index {
			groups = append(groups, itemGroup{len(kept), g.count, g.expected})
			kept = append(kept, m.items[g.first:][:g.count]...)
		}
		before += uint64(g.expected.share)
	}
	m.items, m.groups = kept, groups
	return nil
}

// partOf returns the part, 1 to n, in which position at of total falls.
func partOf(at, total uint64, n int) int {
	hi, lo := bits.Mul64(at, uint64(n))
	q, _ := bits.Div64(hi, lo, total) // at < total, so hi < total
	return int(q) + 1
}

// Merge joins the parts of one measurement, in any order, into what one run
// would have returned. Parts of other versions, which draw rows otherwise, are
// refused. names are the parts' names in errors.
func Merge(parts []*Result, names []string) (*Result, error) {
	if len(parts) == 0 {
		return nil, fmt.Errorf("no parts to merge")
	}
	at := make([]int, len(parts)) // at[i]: which input is part i+1
	for i := range at {
		at[i] = -1
	}
	for i, p := range parts {
		if p.Part == nil {
			return nil, fmt.Errorf("%s: is not a part: it holds a whole measurement", names[i])
		}
		if p.Part.Of != len(parts) {
			return nil, fmt.Errorf("%s: is part %d of %d, and %d are given", names[i], p.Part.Index, p.Part.Of, len(parts))
		}
		if other := at[p.Part.Index-1]; other >= 0 {
			return nil, fmt.Errorf("%s: is part %d of %d, as is %s", names[i], p.Part.Index, p.Part.Of, names[other])
		}
		at[p.Part.Index-1] = i
		if p.FormatVersion != ErrorsFormatVersion {
			return nil, fmt.Errorf("%s: is of format %s, parts of %s are merged: merge it with the version that measured it, or measure anew", names[i], p.FormatVersion, ErrorsFormatVersion)
		}
		if what := differs(parts[0], p); what != "" {
			return nil, fmt.Errorf("%s: %s differs from %s: not parts of one measurement", names[i], what, names[0])
		}
	}
	whole := *parts[at[0]]
	whole.Part = nil
	whole.Tensors = []TensorLoss{}
	for _, i := range at {
		for _, t := range parts[i].Tensors {
			last := len(whole.Tensors) - 1
			if last < 0 || whole.Tensors[last].Name != t.Name {
				t.Experts = slices.Clone(t.Experts)
				whole.Tensors = append(whole.Tensors, t)
				continue
			}
			// A tensor whose experts two parts share.
			was := &whole.Tensors[last]
			if !reflect.DeepEqual(was.Types, t.Types) || !slices.Equal(was.Shape, t.Shape) {
				return nil, fmt.Errorf("%s: tensor %s: shape or types differ from the part before", names[i], t.Name)
			}
			was.Experts = append(was.Experts, t.Experts...)
		}
	}
	if err := whole.validate(); err != nil {
		return nil, fmt.Errorf("the parts do not make a whole: %w", err)
	}
	return &whole, nil
}

// differs names the first thing in which two parts are not of one run.
func differs(a, b *Result) string {
	switch {
	case a.Generator != b.Generator:
		return "generator"
	case !reflect.DeepEqual(a.Model, b.Model):
		return "model"
	case !reflect.DeepEqual(a.Statistics, b.Statistics):
		return "statistics"
	case a.Weights != b.Weights:
		return "weights"
	case a.Sampling != b.Sampling:
		return "sampling"
	case !slices.Equal(a.Types, b.Types):
		return "types"
	}
	return ""
}
