package main

import (
	"fmt"
	"io"
	"slices"

	"github.com/spf13/pflag"

	"github.com/ggufplan/ggufplan/planner"
	"github.com/ggufplan/ggufplan/planner/manifest"
	"github.com/ggufplan/ggufplan/planner/review"
)

// An explanation is what the user asked about, with measured errors also what
// every type would cost there.
type explanation struct {
	review.Explanation
	Choices []planner.Choice `json:"alternatives,omitempty"`
}

// ofTensor selects a tensor and, for a routed expert's, its layer.
func (x *explanation) ofTensor(m *manifest.Manifest, name string) error {
	x.Expert = -1
	i := slices.IndexFunc(m.Tensors, func(t manifest.Tensor) bool { return t.Name == name })
	if i < 0 {
		return hinted(fmt.Errorf("no tensor %q", name), "ggufplan show PLAN --layer 0 lists the names")
	}
	t := m.Tensors[i]
	x.Tensors = append(x.Tensors, t)
	if t.ExpertTypes != nil && t.Layer != nil {
		for _, l := range m.Layers {
			if l.Layer == *t.Layer {
				x.Layers = append(x.Layers, l)
			}
		}
	}
	return nil
}

// ofLayers selects one layer or all of them, with their expert tensors.
func (x *explanation) ofLayers(m *manifest.Manifest, layer int, one bool) error {
	x.Expert = -1
	for _, l := range m.Layers {
		if !one || l.Layer == layer {
			x.Layers = append(x.Layers, l)
		}
	}
	for _, t := range m.Tensors {
		if t.Layer != nil && (one && *t.Layer == layer || !one && t.ExpertTypes != nil) {
			x.Tensors = append(x.Tensors, t)
		}
	}
	if one && len(x.Tensors) == 0 {
		return hinted(fmt.Errorf("no block %d", layer), "--layer 0")
	}
	return nil
}

// onlyExpert drops what is not about one expert.
func (x *explanation) onlyExpert(expert int) error {
	x.Expert = expert
	largest := -1
	layers := []manifest.Layer{}
	for _, l := range x.Layers {
		largest = max(largest, len(l.Experts)-1)
		if expert >= 0 && expert < len(l.Experts) {
			l.Experts = l.Experts[expert : expert+1]
			layers = append(layers, l)
		}
	}
	if len(layers) == 0 {
		if largest < 0 {
			return fmt.Errorf("no expert %d: nothing there is a routed expert's", expert)
		}
		return hinted(fmt.Errorf("no expert %d", expert), fmt.Sprintf("--expert %d is the last", largest))
	}
	x.Layers = layers
	tensors := []manifest.Tensor{}
	for _, t := range x.Tensors {
		if t.ExpertTypes == nil || t.Expert != nil && *t.Expert != expert {
			continue
		}
		if t.Expert == nil {
			if expert >= len(t.ExpertTypes) {
				continue
			}
			t.ExpertTypes = t.ExpertTypes[expert : expert+1]
		}
		tensors = append(tensors, t)
	}
	if len(tensors) == 0 && len(x.Tensors) == 1 && x.Tensors[0].Expert != nil {
		t := &x.Tensors[0]
		return hinted(fmt.Errorf("no expert %d: %s holds expert %d alone", expert, t.Name, *t.Expert), fmt.Sprintf("--expert %d", *t.Expert))
	}
	x.Tensors = tensors
	return nil
}

func (x *explanation) write(w io.Writer, m *manifest.Manifest, flags *pflag.FlagSet, limit review.Limit) {
	switch {
	case flags.Changed("tensor"):
		x.WriteTensor(w)
		if len(x.Layers) > 0 {
			fmt.Fprintln(w)
			x.WriteExperts(w)
		}
	case flags.Changed("expert"):
		x.WriteExperts(w)
		fmt.Fprintln(w)
		x.WriteTensors(w)
	default:
		for i := range x.Layers {
			fmt.Fprintln(w, x.Thresholds(&x.Layers[i]))
			fmt.Fprintln(w)
			x.WriteExperts(w)
			fmt.Fprintln(w)
		}
		x.WriteTensors(w)
	}
	x.WriteFindings(w, m, limit)
}
