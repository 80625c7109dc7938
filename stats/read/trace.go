package read

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// A traceRecord is one line of a trace: a token (or n alike) in one layer with
// the experts it was routed to, a block of tokens with the count of every
// expert, or the header. Its slices are reused from line to line.
type traceRecord struct {
	has     uint32 // the fields that are there
	layer   uint64
	experts []uint32
	weights []float64
	counts  []uint64
	tokens  uint64
	n       uint64
	phase   string

	schema     string
	version    uint64
	expertsNum uint64
	topK       uint64
	layerIndex string

	keys   []traceKey // how the last line spelled its keys
	spaced bool       // lists have spaces after the commas
}

// The fields of a traceRecord, as bits of has.
const (
	hasLayer = 1 << iota
	hasExperts
	hasWeights
	hasCounts
	hasTokens
	hasN
	hasPhase
	hasSchema
	hasVersion
	hasExpertCount
	hasTopK
	hasLayerIndex
)

// traceSchema marks the header of a trace.
const traceSchema = "ggufplan.expert_trace"

// traceField returns the field that a key stands for, 0 for keys that do not
// matter.
func traceField(key string) uint32 {
	switch key {
	case "layer", "layer_id", "layer_idx":
		return hasLayer
	case "experts", "topk_ids", "expert_ids":
		return hasExperts
	case "weights", "topk_weights":
		return hasWeights
	case "counts", "tokens_per_expert":
		return hasCounts
	case "tokens":
		return hasTokens
	case "n":
		return hasN
	case "phase":
		return hasPhase
	case "schema":
		return hasSchema
	case "version":
		return hasVersion
	case "expert_count":
		return hasExpertCount
	case "top_k":
		return hasTopK
	case "layer_index":
		return hasLayerIndex
	}
	return 0
}

func (r *traceRecord) knows(key string) bool { return traceField(key) != 0 }

// reset empties the record, keeping its memory.
func (r *traceRecord) reset() {
	r.has = 0
	r.experts, r.weights, r.counts = r.experts[:0], r.weights[:0], r.counts[:0]
}

// complete reports whether the record counts anything.
func (r *traceRecord) complete() bool {
	return r.has&hasLayer != 0 && r.has&(hasExperts|hasCounts) != 0
}

// field reads the value of a key.
func (r *traceRecord) field(s *jsonScanner, key string) (err error) {
	bit := traceField(key)
	if bit == 0 {
		return s.skip()
	}
	if null, err := s.null(); null || err != nil {
		return err
	}
	if r.has&bit != 0 {
		return fmt.Errorf("%q comes twice", key)
	}
	r.has |= bit
	switch bit {
	case hasLayer:
		r.layer, err = s.whole()
	case hasExperts:
		r.experts = r.experts[:0]
		err = s.array(func(i int) error {
			if i >= maxTopK {
				return fmt.Errorf("more than %d experts for one token", maxTopK)
			}
			e, err := s.whole()
			if err == nil && e >= maxExperts {
				err = fmt.Errorf("expert %d is over the limit of %d experts", e, maxExperts)
			}
			r.experts = append(r.experts, uint32(e))
			return err
		})
	case hasWeights:
		r.weights, err = s.numbers(r.weights, maxTopK)
	case hasCounts:
		r.counts = r.counts[:0]
		err = s.array(func(i int) error {
			if i >= maxExperts {
				return fmt.Errorf("more than %d experts", maxExperts)
			}
			n, err := s.whole()
			r.counts = append(r.counts, n)
			return err
		})
	case hasTokens:
		r.tokens, err = s.whole()
	case hasN:
		r.n, err = s.whole()
	case hasPhase:
		r.phase, err = s.str()
	case hasSchema:
		r.schema, err = s.str()
	case hasVersion:
		r.version, err = s.whole()
	case hasExpertCount:
		r.expertsNum, err = s.whole()
	case hasTopK:
		r.topK, err = s.whole()
	case hasLayerIndex:
		r.layerIndex, err = s.str()
	}
	return err
}

// count adds the record to a tally.
func (r *traceRecord) count(t *tally) error {
	if r.has&hasLayer == 0 {
		return errors.New("no layer")
	}
	switch r.has & (hasExperts | hasCounts) {
	case 0:
		return errors.New("neither experts nor counts")
	case hasExperts | hasCounts:
		return errors.New("both experts and counts")
	case hasCounts:
		if len(r.counts) == 0 {
			return errors.New("counts is empty")
		}
		tokens := r.tokens
		if r.has&hasTokens == 0 {
			tokens = 0
		}
		return t.block(r.layer, r.counts, tokens, r.has&hasTokens != 0)
	}
	if len(r.experts) == 0 {
		return errors.New("experts is empty")
	}
	n := uint64(1)
	if r.has&hasN != 0 {
		n = r.n
		if n == 0 {
			return nil
		}
	}
	weights := r.weights
	if r.has&hasWeights == 0 {
		weights = nil
	} else if len(weights) != len(r.experts) {
		return fmt.Errorf("%d weights for %d experts", len(weights), len(r.experts))
	}
	for i, w := range weights {
		if math.IsInf(w, 0) || math.Abs(w) > math.MaxFloat32 {
			return fmt.Errorf("weight %v of expert %d is out of range", w, r.experts[i])
		}
	}
	return t.token(r.layer, r.experts, weights, n)
}

// phases gathers what the records of a trace say of their phase.
type phases struct {
	seen []string
}

// note takes the phase of one more record.
func (p *phases) note(phase string) {
	if len(p.seen) < 2 && !slices.Contains(p.seen, phase) {
		p.seen = append(p.seen, phase)
	}
}

// common is the phase of all records, "" where they differ or do not say.
func (p *phases) common() string {
	if len(p.seen) == 1 {
		return p.seen[0]
	}
	return ""
}
