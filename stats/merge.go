package stats

import (
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"strings"
)

// Merge combines the evidence of several inputs.
//
// Exact counts of the same layers and experts add up, and so do tokens and
// the other sums. Any other mix is combined by shares: each layer's traffic is
// the mean of the inputs' shares, every input weighing the same, and the
// result's kind is relative, with a finding "relative-counts". Inputs without
// traffic (kind none) give their column mean squares alone. Ranks cannot be
// combined with anything.
//
// A layer that some inputs lack is combined from those that have it, with a
// finding "partial-layers".
//
// Snapshots that llama-imatrix --save-frequency left beside an imatrix
// (OUT.at_N) count the same tokens as it: they are not added, but serve as
// block records of their layers.
func Merge(inputs []*Evidence) (*Evidence, error) {
	if len(inputs) == 0 {
		return nil, errors.New("there are no statistics to merge")
	}
	inputs, err := joinSnapshots(inputs)
	if err != nil {
		return nil, err
	}
	if len(inputs) == 1 {
		return inputs[0], nil
	}
	out := &Evidence{LayerAxis: inputs[0].LayerAxis, Rows: inputs[0].Rows}
	var traffic []*Evidence
	exact := true
	for _, ev := range inputs {
		out.Inputs = append(out.Inputs, ev.Inputs...)
		out.Datasets = append(out.Datasets, ev.Datasets...)
		out.Findings = append(out.Findings, ev.Findings...)
		if err := out.joinFacts(ev); err != nil {
			return nil, fmt.Errorf("%s: %w", ev.name(), err)
		}
		switch ev.Kind {
		case KindNone:
			continue
		case KindRank:
			return nil, fmt.Errorf("%s: ranks cannot be merged with other statistics", ev.name())
		}
		traffic = append(traffic, ev)
		exact = exact && ev.Kind == KindExact
	}
	out.inputFindings()
	out.mergeColumns(inputs)
	if len(traffic) == 0 {
		traffic, exact = inputs, false
	}
	out.OpenExperts = !slices.ContainsFunc(traffic, func(ev *Evidence) bool { return !ev.OpenExperts })
	groups, err := groupLayers(alignExperts(traffic))
	if err != nil {
		return nil, err
	}
	out.partialLayers(groups, len(traffic))
	switch {
	case exact || len(traffic) == 1:
		out.Kind = traffic[0].Kind
		if len(traffic) == 1 {
			out.Shared = traffic[0].Shared
		}
		err = out.addLayers(groups)
	case traffic[0].Kind == KindNone:
		out.Kind = KindNone
		out.meanLayers(groups)
	default:
		out.Kind = KindRelative
		out.meanLayers(groups)
		out.Find(CodeRelativeCounts, "", "%d inputs were combined by their shares, each weighing the same, because not all of them hold exact counts", len(traffic))
	}
	if err != nil {
		return nil, err
	}
	if exact {
		for _, ev := range traffic {
			out.Chunks += ev.Chunks
		}
	}
	MarkSuperExperts(out.Layers)
	return out, nil
}

// name names the evidence in messages.
func (ev *Evidence) name() string {
	var names []string
	for _, in := range ev.Inputs {
		names = append(names, in.Name)
	}
	if len(names) == 0 {
		return "statistics"
	}
	return strings.Join(names, " + ")
}

// joinFacts takes over what ev states of its model and refuses a
// contradiction.
func (out *Evidence) joinFacts(ev *Evidence) error {
	if ev.LayerAxis != out.LayerAxis {
		return Curable(NameModel, "its layers are %s, those of other inputs %s", ev.LayerAxis, out.LayerAxis)
	}
	if ev.LayerAxis == AxisRows && ev.Rows != out.Rows {
		return fmt.Errorf("has %d rows of layers, other inputs %d", ev.Rows, out.Rows)
	}
	if ev.Architecture != "" && out.Architecture != "" && ev.Architecture != out.Architecture {
		return fmt.Errorf("is of architecture %s, other inputs are of %s", ev.Architecture, out.Architecture)
	}
	if out.Architecture == "" {
		out.Architecture = ev.Architecture
	}
	for _, f := range []struct {
		what  string
		to    *int
		value int
	}{
		{"blocks", &out.BlockCount, ev.BlockCount},
		{"experts", &out.ExpertCount, ev.ExpertCount},
		{"experts per token", &out.TopK, ev.TopK},
	} {
		if *f.to != 0 && f.value != 0 && *f.to != f.value {
			return fmt.Errorf("has %d %s, other inputs %d", f.value, f.what, *f.to)
		}
		if *f.to == 0 {
			*f.to = f.value
		}
	}
	if ev.NextN != nil {
		if out.NextN != nil && *out.NextN != *ev.NextN {
			return fmt.Errorf("has %d blocks of multi-token prediction, other inputs %d", *ev.NextN, *out.NextN)
		}
		out.NextN = ev.NextN
	}
	if ev.Match != nil {
		if out.Match == nil {
			out.Match = &Match{}
		}
		out.Match.Entries += ev.Match.Entries
		out.Match.Named += ev.Match.Named
	}
	return nil
}

// inputFindings warns of inputs that hardly belong together.
func (out *Evidence) inputFindings() {
	phases := map[string]bool{}
	var listed []string
	digests := map[string]string{}
	for _, in := range out.Inputs {
		if in.Phase != "" && !phases[in.Phase] {
			phases[in.Phase] = true
			listed = append(listed, in.Phase)
		}
		if first, ok := digests[in.SHA256]; ok && in.SHA256 != "" {
			out.Find(CodeDuplicateInput, in.Name, "has the same content as %s: its tokens are counted twice", first)
		}
		digests[in.SHA256] = in.Name
	}
	if len(listed) > 1 {
		out.Find(CodeMixedPhases, "", "inputs were collected in different phases (%s), where traffic differs", strings.Join(listed, ", "))
	}
}

// sameLayers reports an error unless all inputs have the same layers, each
// with as many experts.
func sameLayers(inputs []*Evidence) error {
	first := inputs[0]
	for _, ev := range inputs[1:] {
		for i := range max(len(first.Layers), len(ev.Layers)) {
			switch {
			case i >= len(ev.Layers) || i < len(first.Layers) && first.Layers[i].Index < ev.Layers[i].Index:
				return fmt.Errorf("%s: lacks %s, which %s has", ev.name(), first.Layers[i].Name(first.LayerAxis), first.name())
			case i >= len(first.Layers) || first.Layers[i].Index > ev.Layers[i].Index:
				return fmt.Errorf("%s: has %s, which %s lacks", ev.name(), ev.Layers[i].Name(ev.LayerAxis), first.name())
			}
		}
	}
	_, err := groupLayers(inputs)
	return err
}

// A layerGroup holds one layer of the inputs that have it, in their order.
type layerGroup struct {
	inputs []*Evidence
	layers []*Layer
}

// groupLayers brings the inputs' layers together, ascending. It reports an
// error where they differ in their number of experts.
func groupLayers(inputs []*Evidence) ([]layerGroup, error) {
	byIndex := map[int]*layerGroup{}
	for _, ev := range inputs {
		for i := range ev.Layers {
			l := &ev.Layers[i]
			g := byIndex[l.Index]
			if g == nil {
				g = &layerGroup{}
				byIndex[l.Index] = g
			}
			for j, o := range g.layers {
				if a, b := o.Experts(), l.Experts(); a != b && a > 0 && b > 0 {
					return nil, fmt.Errorf("%s: has %d experts in %s, %s has %d", ev.name(), b, l.Name(ev.LayerAxis), g.inputs[j].name(), a)
				}
			}
			g.inputs, g.layers = append(g.inputs, ev), append(g.layers, l)
		}
	}
	groups := make([]layerGroup, 0, len(byIndex))
	for _, n := range slices.Sorted(maps.Keys(byIndex)) {
		groups = append(groups, *byIndex[n])
	}
	return groups, nil
}

// partialLayers warns of layers that only some of the inputs have.
func (out *Evidence) partialLayers(groups []layerGroup, inputs int) {
	n, example := 0, layerGroup{}
	for _, g := range groups {
		if len(g.layers) < inputs {
			if n++; n == 1 {
				example = g
			}
		}
	}
	if n > 0 {
		out.Find(CodePartialLayers, "", "%d of %d layers are in some of the %d inputs only, the first of them %s in %s",
			n, len(groups), inputs, example.layers[0].Name(out.LayerAxis), example.inputs[0].name())
	}
}

// alignExperts gives the layers of inputs that know their experts only as far
// as they were seen as many experts as the others have.
func alignExperts(inputs []*Evidence) []*Evidence {
	width, widest := 0, 0
	for _, ev := range inputs {
		for i := range ev.Layers {
			n := ev.Layers[i].Experts()
			widest = max(widest, n)
			if !ev.OpenExperts {
				width = max(width, n)
			}
		}
	}
	if width == 0 {
		width = widest
	}
	aligned := slices.Clone(inputs)
	for i, ev := range inputs {
		if !ev.OpenExperts {
			continue
		}
		c := *ev
		c.Layers = slices.Clone(ev.Layers)
		for j := range c.Layers {
			l := &c.Layers[j]
			switch n := l.Experts(); {
			case n > 0 && n < width:
				l.extend(width)
			case n > width && !l.trim(width):
				continue // which is for groupLayers to report
			}
			l.Blocks = l.Blocks.fit(l.TopK, l.Experts())
		}
		aligned[i] = &c
	}
	return aligned
}

// addLayers adds up exact inputs, layer by layer. A signal that one of them
// lacks is unknown in the sum.
func (out *Evidence) addLayers(groups []layerGroup) error {
	for _, g := range groups {
		l := cloneLayer(g.layers[0])
		for i, o := range g.layers[1:] {
			if err := l.add(o); err != nil {
				return fmt.Errorf("%s: %s: %w", g.inputs[i+1].name(), l.Name(out.LayerAxis), err)
			}
		}
		out.Layers = append(out.Layers, l)
	}
	return nil
}

// cloneLayer copies what add changes.
func cloneLayer(from *Layer) Layer {
	l := *from
	l.Counts = slices.Clone(l.Counts)
	for _, s := range l.Signals() {
		*s.Values = slices.Clone(*s.Values)
	}
	if l.Tokens != nil {
		tokens := *l.Tokens
		l.Tokens = &tokens
	}
	return l
}

// add adds another input's layer with exact counts.
func (l *Layer) add(o *Layer) error {
	la, lb := l.weight(), o.weight()
	l.Blocks = joinBlocks(l.Blocks, la, o.Blocks, lb)
	if o.Counts == nil || l.Counts == nil {
		if l.Counts == nil { // the one that knows stands for both
			l.Counts, l.Tokens, l.TokensTopK = slices.Clone(o.Counts), o.Tokens, o.TokensTopK
		}
	} else {
		for e, n := range o.Counts {
			sum, carry := bits.Add64(l.Counts[e], n, 0)
			if carry != 0 {
				return fmt.Errorf("counts of expert %d add up to more than 2^64 - 1", e)
			}
			l.Counts[e] = sum
		}
		if _, err := l.Activations(); err != nil {
			return err
		}
		if l.Tokens == nil || o.Tokens == nil {
			l.Tokens = nil
		} else {
			tokens := *l.Tokens + *o.Tokens
			if tokens < *o.Tokens {
				return errors.New("tokens add up to more than 2^64 - 1")
			}
			l.Tokens = &tokens
			if l.TokensTopK != o.TokensTopK {
				l.TokensTopK = 0
			}
		}
	}
	if l.TopK != o.TopK {
		l.TopK = 0
	}
	if l.GateWeightNorm != o.GateWeightNorm {
		l.GateWeightSum, l.GateWeightSqSum, l.GateWeightNorm, l.GatedOutNormSum = nil, nil, "", nil
	}
	theirs := o.Signals()
	for i, s := range l.Signals() {
		a, b := *s.Values, *theirs[i].Values
		switch {
		case s.Values == &l.Weights:
		case a == nil || b == nil:
			*s.Values = nil
		case s.Values == &l.MaxOut:
			for e := range a {
				a[e] = max(a[e], b[e])
			}
		default:
			for e := range a {
				a[e] += b[e]
			}
		}
	}
	return nil
}

// weight is the number of activations as a float64.
func (l *Layer) weight() float64 {
	sum, _ := l.Activations()
	return float64(sum)
}

// joinBlocks joins the block records of two inputs of given activations: the
// design effect is the mean, weighted by them. It is unknown where one is.
func joinBlocks(a *Blocks, weightA float64, b *Blocks, weightB float64) *Blocks {
	switch {
	case weightA == 0:
		return b
	case weightB == 0:
		return a
	case a == nil || b == nil:
		return nil
	}
	sum := float64(a.Deff*weightA) + float64(b.Deff*weightB)
	joined := &Blocks{N: a.N + b.N, Deff: sum / (weightA + weightB)}
	if len(a.HalfCounts[0]) == 0 || len(a.HalfCounts[0]) != len(b.HalfCounts[0]) {
		return joined
	}
	for h := range joined.HalfCounts {
		joined.HalfCounts[h] = slices.Clone(a.HalfCounts[h])
		for e, n := range b.HalfCounts[h] {
			joined.HalfCounts[h][e] += n
		}
	}
	return joined
}

// meanLayers averages the shares of inputs, layer by layer. An input whose
// layer has no traffic does not weigh in there.
func (out *Evidence) meanLayers(groups []layerGroup) {
	for _, g := range groups {
		first := g.layers[0]
		l := Layer{Index: first.Index, Kind: first.Kind, TopK: first.TopK, UnseenKnown: slices.Clone(first.UnseenKnown)}
		n := 0
		for i, o := range g.layers {
			if o.TopK != l.TopK {
				l.TopK = 0
			}
			l.UnseenKnown = slices.DeleteFunc(l.UnseenKnown, func(e int) bool { return !slices.Contains(o.UnseenKnown, e) })
			if o.MaxOut != nil && (i == 0 || l.MaxOut != nil) {
				if l.MaxOut == nil {
					l.MaxOut = make([]float64, len(o.MaxOut))
				}
				for e, v := range o.MaxOut {
					l.MaxOut[e] = max(l.MaxOut[e], v)
				}
			}
			p := Shares(o.Counts, o.Weights)
			if p == nil {
				continue
			}
			if l.Weights == nil {
				l.Weights = make([]float64, len(p))
			}
			n++
			for e, v := range p {
				l.Weights[e] += v
			}
		}
		for e := range l.Weights {
			l.Weights[e] /= float64(n)
		}
		out.Layers = append(out.Layers, l)
	}
}
