package read

import (
	"errors"
	"fmt"
	"math"

	"github.com/ggufplan/ggufplan/stats"
	"github.com/ggufplan/ggufplan/stats/internal/pickle"
)

// evidence reads what the root of a .pt file holds.
func (f *torchFile) evidence(root any, opt Options) (*stats.Evidence, error) {
	switch v := root.(type) {
	case *torchTensor:
		return f.tableEvidence(v, "torch-tensor", stats.KindExact, opt)
	case *pickle.Dict:
		if tensor, is := v.Get("logical_count").(*torchTensor); is {
			// Every rank of a tensor-parallel group adds the same tokens.
			return f.tableEvidence(tensor, "sglang-recorder", stats.KindScaled, opt)
		}
		if records, is := v.Get("records").(*pickle.List); is {
			return f.recordsEvidence(records.Items, v.Get("last_physical_to_logical_map"), opt)
		}
		var names []string
		layers := len(v.Keys) > 0
		for _, key := range v.Keys {
			_, is := key.(int64)
			layers = layers && is
			names = append(names, fmt.Sprintf("%.40v", key))
		}
		if layers {
			return f.reapEvidence(v, opt)
		}
		for _, name := range names {
			if placementKeys[name] {
				return nil, refusePlacement(name)
			}
		}
		return nil, refuseContent("keys", names)
	}
	return nil, refuseContent("content", []string{pickle.TypeName(root)})
}

// tableEvidence reads counts [layers][experts] or [steps][layers][experts].
func (f *torchFile) tableEvidence(t *torchTensor, format string, kind stats.Kind, opt Options) (*stats.Evidence, error) {
	if len(t.shape) != 2 && len(t.shape) != 3 || t.values == 0 {
		return nil, fmt.Errorf("%v: counts are [layers, experts] or [steps, layers, experts]", t)
	}
	m := &matrix{opt: opt, float32: t.storage.kind == 'B' || t.storage.kind == 'f' && t.storage.size <= 4}
	if err := f.addSteps(m, t); err != nil {
		return nil, err
	}
	return m.evidence(format, kind)
}

// addSteps adds the rows of a tensor to a table.
func (f *torchFile) addSteps(m *matrix, t *torchTensor) error {
	layers := int(t.shape[len(t.shape)-2])
	if experts := t.shape[len(t.shape)-1]; layers > maxLayers || experts > maxExperts {
		return fmt.Errorf("%v: want at most %d layers of %d experts", t, maxLayers, maxExperts)
	}
	row := 0
	return f.rows(t, func(values []float64) error {
		if err := m.addRow(values); err != nil {
			return err
		}
		if row++; row%layers == 0 {
			return m.endStep()
		}
		return nil
	})
}

// A physicalMap gives the logical expert of each physical one, -1 where there
// is none.
type physicalMap struct {
	layers  [][]int
	experts int
}

// readPhysicalMap reads last_physical_to_logical_map, [layers][physical].
func (f *torchFile) readPhysicalMap(v any) (*physicalMap, error) {
	t, is := v.(*torchTensor)
	if !is {
		return nil, refusePhysical()
	}
	if len(t.shape) != 2 || t.values == 0 || t.shape[0] > maxLayers || t.shape[1] > maxExperts {
		return nil, fmt.Errorf("last_physical_to_logical_map is %v, want [layers, physical experts]", t)
	}
	m := &physicalMap{}
	err := f.rows(t, func(values []float64) error {
		row := make([]int, len(values))
		for i, v := range values {
			if v != math.Trunc(v) || v < -1 || v >= maxExperts {
				return fmt.Errorf("last_physical_to_logical_map: layer %d, slot %d: expert %v", len(m.layers), i, v)
			}
			row[i] = int(v)
			m.experts = max(m.experts, row[i]+1)
		}
		m.layers = append(m.layers, row)
		return nil
	})
	if err == nil && m.experts == 0 {
		err = errors.New("last_physical_to_logical_map names no expert")
	}
	return m, err
}

// recordsEvidence reads the per_pass and per_token recorders of SGLang.
func (f *torchFile) recordsEvidence(records []any, mapping any, opt Options) (*stats.Evidence, error) {
	physical, err := f.readPhysicalMap(mapping)
	if err != nil {
		return nil, err
	}
	if opt.Experts > 0 && opt.Experts != physical.experts {
		return nil, fmt.Errorf("last_physical_to_logical_map has %d experts, where %d were stated", physical.experts, opt.Experts)
	}
	if opt.Layers > 0 && opt.Layers != len(physical.layers) {
		return nil, fmt.Errorf("last_physical_to_logical_map has %d layers, where %d were stated", len(physical.layers), opt.Layers)
	}
	var passes, tokens []*torchTensor
	for i, item := range records {
		record, is := item.(*pickle.Dict)
		if !is {
			return nil, fmt.Errorf("record %d is not a dict", i)
		}
		if t, is := record.Get("topk_ids_of_layer").(*torchTensor); is {
			tokens = append(tokens, t)
		} else if t, is := record.Get("global_physical_count").(*torchTensor); is {
			passes = append(passes, t)
		} else {
			return nil, fmt.Errorf("record %d has neither topk_ids_of_layer nor global_physical_count", i)
		}
	}
	switch {
	case len(tokens) > 0 && len(passes) > 0:
		return nil, errors.New("records are of two recorders")
	case len(tokens) > 0:
		return f.tokensEvidence(tokens, physical, opt)
	case len(passes) > 0:
		return f.passesEvidence(passes, physical, opt)
	}
	return nil, errNoActivations
}

// passesEvidence adds the counts of each pass; a pass is a block.
func (f *torchFile) passesEvidence(passes []*torchTensor, physical *physicalMap, opt Options) (*stats.Evidence, error) {
	m := &matrix{opt: opt}
	logical := make([]float64, physical.experts)
	for i, t := range passes {
		if len(t.shape) != 2 || t.shape[0] != uint64(len(physical.layers)) || t.shape[1] != uint64(len(physical.layers[0])) {
			return nil, fmt.Errorf("record %d: global_physical_count is %v, last_physical_to_logical_map [%d %d]", i, t, len(physical.layers), len(physical.layers[0]))
		}
		layer := 0
		err := f.rows(t, func(values []float64) error {
			clear(logical)
			for slot, v := range values {
				e := physical.layers[layer][slot]
				if e >= 0 {
					logical[e] += v
				} else if v != 0 {
					return fmt.Errorf("layer %d: slot %d has a count of %v and no logical expert", layer, slot, v)
				}
			}
			layer++
			return m.addRow(logical)
		})
		if err == nil {
			err = m.endStep()
		}
		if err != nil {
			return nil, fmt.Errorf("record %d: %w", i, err)
		}
	}
	return m.evidence("sglang-per-pass", stats.KindScaled)
}

// tokensEvidence counts the ids of each token, [layers][tokens][k]; the width
// is the recorder's, and -1 pads.
func (f *torchFile) tokensEvidence(records []*torchTensor, physical *physicalMap, opt Options) (*stats.Evidence, error) {
	r := &routed{opt: opt, tally: newTally(Options{Experts: physical.experts})}
	slots := len(physical.layers[0])
	for i, t := range records {
		if len(t.shape) != 3 || t.shape[0] != uint64(len(physical.layers)) || t.shape[2] > maxTopK {
			return nil, fmt.Errorf("record %d: topk_ids_of_layer is %v, want [%d layers, tokens, experts per token]", i, t, len(physical.layers))
		}
		if t.values == 0 {
			continue
		}
		row := 0
		ids := make([]int64, t.shape[2])
		err := f.rows(t, func(values []float64) error {
			layer, token := row/int(t.shape[1]), row%int(t.shape[1])
			row++
			for j, v := range values {
				if v != math.Trunc(v) || v < -1 || v >= float64(slots) {
					return fmt.Errorf("layer %d, token %d: physical expert %v of %d", layer, token, v, slots)
				}
				ids[j] = int64(v)
			}
			// Zeros alone are tested before mapping: slot 0 may hold any expert.
			kept, err := r.filter(ids)
			for j, id := range kept {
				e := physical.layers[layer][id]
				if e < 0 && err == nil {
					err = fmt.Errorf("physical expert %d has no logical expert", id)
				}
				kept[j] = uint32(max(e, 0))
			}
			if err == nil && len(kept) > 0 {
				if opt.TopK > 0 && len(kept) > opt.TopK {
					err = fmt.Errorf("%d experts for a token, where %d were stated", len(kept), opt.TopK)
				} else {
					err = r.tally.token(uint64(layer), kept, nil, 1)
				}
			}
			if err != nil {
				return fmt.Errorf("layer %d, token %d: %w", layer, token, err)
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("record %d: %w", i, err)
		}
		r.layers, r.topK = len(physical.layers), len(ids)
	}
	ev, err := r.evidence()
	if err != nil {
		return nil, err
	}
	ev.Inputs[0].Format = "sglang-per-token"
	return ev, nil
}

// reapEvidence reads the observations of REAP: by layer, tensors of what was
// summed over the tokens of each expert.
func (f *torchFile) reapEvidence(root *pickle.Dict, opt Options) (*stats.Evidence, error) {
	layers := make(map[int]*profile)
	for i, key := range root.Keys {
		n := key.(int64)
		if n < 0 || n >= maxLayers {
			return nil, fmt.Errorf("layer %d: must be from 0 to %d", n, maxLayers-1)
		}
		fields, is := root.Values[i].(*pickle.Dict)
		if !is {
			return nil, fmt.Errorf("layer %d is not a dict", n)
		}
		if layers[int(n)] != nil {
			return nil, fmt.Errorf("duplicate layer %d", n)
		}
		p, err := f.reapLayer(fields)
		if err != nil {
			return nil, fmt.Errorf("layer %d: %w", n, err)
		}
		layers[int(n)] = p
	}
	return profileEvidence("reap", layers, false, opt)
}

func (f *torchFile) reapLayer(fields *pickle.Dict) (*profile, error) {
	p := &profile{}
	for i, key := range fields.Keys {
		name, is := key.(string)
		if !is {
			continue
		}
		if name == "total_tokens" {
			v, err := f.scalar(fields.Values[i])
			if err != nil || v < 0 || v > maxCount || v != math.Trunc(v) {
				return nil, fmt.Errorf("total_tokens is not a number of tokens")
			}
			tokens := uint64(v)
			p.tokens = &tokens
			continue
		}
		dst := p.list(name)
		t, is := fields.Values[i].(*torchTensor)
		if dst == nil || !is {
			continue
		}
		values, err := f.vector(t)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		*dst = values
	}
	if p.counts == nil {
		return nil, errors.New("has no expert_frequency")
	}
	return p, nil
}
