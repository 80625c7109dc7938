package read

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
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

	expert  uint64   // of a record of one expert
	amounts []amount // of a record of one expert
	total   float64  // of its layer
	block   string
	mtp     string
	chosen  string   // the key that counts, whatever its name; "" for none
	unknown []string // keys of numbers that are not known, of any record of one expert
	tags    []tag    // what else the record says in one word

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
	hasExpert
	hasAmount
	hasTotal
	hasBlock
	hasMTP
)

// An amount is a number that may say how often an expert was used.
type amount struct {
	key   string
	role  role
	value float64
}

// maxTags bounds the keys of a record that are told apart by their values.
const maxTags = 32

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
	case "counts", "tokens_per_expert":
		return hasCounts
	}
	if countsKey(key) && roleOf(key) != roleCount {
		return hasCounts
	}
	switch roleOf(key) {
	case roleLayer:
		return hasLayer
	case roleExpert:
		return hasExpert
	case roleExperts:
		return hasExperts
	case roleCount, roleShare, roleWeight:
		return hasAmount
	case roleTotal:
		return hasTotal
	case roleBlock:
		return hasBlock
	case roleMTP:
		return hasMTP
	}
	return 0
}

// reset empties the record, keeping its memory.
func (r *traceRecord) reset() {
	r.has = 0
	r.experts, r.weights, r.counts = r.experts[:0], r.weights[:0], r.counts[:0]
	r.amounts, r.tags, r.block, r.mtp = r.amounts[:0], r.tags[:0], "", ""
}

// complete reports whether the record counts anything.
func (r *traceRecord) complete() bool {
	return r.has&hasLayer != 0 && r.has&(hasExpert|hasExperts|hasCounts) != 0
}

// field reads the value of a key.
func (r *traceRecord) field(s *jsonScanner, key string) (err error) {
	bit := traceField(key)
	if r.chosen != "" && strings.EqualFold(key, r.chosen) && bit != hasLayer && bit != hasExpert && bit != hasExperts {
		bit = hasAmount
	}
	if bit == 0 {
		c, err := s.peek()
		if err != nil || c != '"' && !isLiteral(c) || isFact(key) || len(r.tags) >= maxTags {
			return s.skip()
		}
		t := tag{name: key, role: roleOf(key)}
		if t.role == roleUnknown && c != '"' && c != 'n' && c != 't' && c != 'f' && r.chosen != NoCountColumn && len(r.unknown) < 4 && !slices.Contains(r.unknown, key) {
			r.unknown = append(r.unknown, key)
		}
		t.value, err = s.word()
		r.tags = append(r.tags, t)
		return err
	}
	if null, err := s.null(); null || err != nil {
		return err
	}
	if r.has&bit != 0 && bit != hasAmount {
		return fmt.Errorf("duplicate key %q", key)
	}
	if bit == hasAmount || bit == hasWeights {
		c, err := s.peek()
		if err != nil {
			return err
		}
		switch scalar := c == '-' || c >= '0' && c <= '9'; {
		case scalar:
			bit = hasAmount
		case bit == hasWeights:
		case (c == '[' || c == '{') && countsKey(key) && r.has&hasCounts == 0:
			bit = hasCounts // "expert_counts": a list
		default:
			return s.skip()
		}
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
		r.counts, err = s.counts(r.counts[:0])
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
	case hasExpert:
		r.expert, err = s.whole()
	case hasAmount:
		a := amount{key: key, role: roleOf(key)}
		a.value, err = s.number()
		r.amounts = append(r.amounts, a)
	case hasTotal:
		r.total, err = s.number()
	case hasBlock:
		r.block, err = s.word()
	case hasMTP:
		r.mtp, err = s.word()
	}
	return err
}

// count adds the record to a tally, or, if it is of one expert, to a table.
func (r *traceRecord) count(t *tally, table *countTable, chosen string) error {
	if n, ok := smallInt([]byte(r.block)); ok && r.has&hasLayer == 0 && n >= 0 {
		r.layer, r.has, r.block = uint64(n), r.has|hasLayer, ""
	}
	if r.has&hasLayer == 0 {
		return errors.New("no layer")
	}
	if r.block != "" || r.mtp != "" {
		if left, err := mtpRow(r.block, r.mtp); left || err != nil {
			table.mtpRows++
			return err
		}
	}
	if r.has&hasExpert != 0 {
		if r.has&(hasExperts|hasCounts) != 0 {
			return errors.New("both expert and a list")
		}
		return r.countOne(t, table, chosen)
	}
	if r.has&hasAmount != 0 && r.has&hasExperts != 0 {
		if len(r.experts) != 1 {
			return fmt.Errorf("%q of a list of experts says nothing of each", r.amounts[0].key)
		}
		r.expert = uint64(r.experts[0])
		return r.countOne(t, table, chosen)
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
		if slices.ContainsFunc(r.tags, func(t tag) bool { return t.role == roleRank }) {
			table.note(r.layer, 0, 1, append(r.tags, tag{"counts", fmt.Sprint(r.counts), roleNone}))
		}
		return t.block(r.layer, r.counts, tokens, r.has&hasTokens != 0)
	}
	if len(r.experts) == 0 {
		return errors.New("experts is empty")
	}
	if len(r.experts) == 1 && len(r.unknown) > 0 { // whether it is a table shows at the end
		table.bare++
		if err := table.add(r.layer, int(r.experts[0]), 0, math.NaN()); err != nil {
			return err
		}
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

// countOne adds a record of one expert.
func (r *traceRecord) countOne(t *tally, table *countTable, chosen string) error {
	if r.expert >= maxExperts {
		return fmt.Errorf("expert %d is over the limit of %d experts", r.expert, maxExperts)
	}
	if t.experts > 0 && r.expert >= uint64(t.experts) {
		return fmt.Errorf("expert %d: the %s is %d", r.expert, t.stated, t.experts)
	}
	if r.has&hasTokens != 0 {
		r.amounts = append(r.amounts, amount{"tokens", roleCount, float64(r.tokens)})
	}
	if r.has&hasN != 0 {
		r.amounts = append(r.amounts, amount{"n", roleCount, float64(r.n)})
	}
	names := make([]string, len(r.amounts))
	for i, a := range r.amounts {
		names[i] = a.key
	}
	h, err := settle(names, chosen)
	if err != nil {
		return err
	}
	total := math.NaN()
	if r.has&hasTotal != 0 {
		total = r.total
	}
	if h.amount < 0 {
		if r.has&hasExpertCount != 0 && !slices.Contains(r.unknown, "expert_count") {
			r.unknown = append(r.unknown, "expert_count")
		}
		table.bare++
		if err := table.add(r.layer, int(r.expert), 0, total); err != nil {
			return err
		}
		return t.activation(r.layer, uint32(r.expert), nil)
	}
	table.amounts++
	table.share = table.share || h.share
	v := r.amounts[h.amount].value
	if !(v >= 0 && v <= maxCount) {
		return fmt.Errorf("%q %v is not a number from 0 to %d", names[h.amount], v, uint64(maxCount))
	}
	for i, role := range h.roles {
		if role == roleTotal {
			total = r.amounts[i].value
		}
	}
	for _, t := range r.tags {
		if t.role == roleUnknown || t.role == roleRank {
			table.note(r.layer, int(r.expert), v, append(r.tags, tag{"phase", r.phase, rolePhase}))
			break
		}
	}
	return table.add(r.layer, int(r.expert), v, total)
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
