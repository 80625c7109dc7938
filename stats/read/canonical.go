package read

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/ggufplan/ggufplan/stats"
	"github.com/ggufplan/ggufplan/stats/internal/strictjson"
)

// The canonical form of evidence: JSON that any tool can write, and that
// `stats -o` writes. Unknown keys are ignored; absent and null mean unknown,
// never 0.

const (
	canonicalSchema  = "ggufplan.expert_stats"
	canonicalVersion = 1

	// The largest models have 100 layers of 1000 experts and some ten numbers
	// each: tens of megabytes.
	maxCanonicalBytes = 256 << 20
	maxCanonicalItems = 1 << 14 // of a list: experts, layers, inputs
)

type canonical struct {
	Schema     string           `json:"schema"`
	Version    *int             `json:"version"`
	Source     canonicalSource  `json:"source"`
	Model      canonicalModel   `json:"model"`
	CountsKind stats.Kind       `json:"counts_kind"`
	Phase      *string          `json:"phase"`
	LayerAxis  stats.LayerAxis  `json:"layer_axis,omitempty"`   // absent: blocks
	Rows       int              `json:"rows,omitempty"`         // of layer_axis rows
	Open       bool             `json:"experts_open,omitempty"` // lists end with the last expert seen
	Layers     []canonicalLayer `json:"layers"`                 // last: see MarshalCanonical
}

type canonicalSource struct {
	Format   string           `json:"format"`
	File     string           `json:"file"`
	SHA256   string           `json:"sha256"`
	Datasets []string         `json:"datasets"`
	Warnings []string         `json:"warnings"`
	Findings []stats.Finding  `json:"findings,omitempty"`
	Inputs   []canonicalInput `json:"inputs,omitempty"`
	Chunks   uint64           `json:"chunks,omitempty"` // of an imatrix: each may lack some rows of the router
}

type canonicalInput struct {
	File       string     `json:"file"`
	Format     string     `json:"format"`
	SizeBytes  uint64     `json:"size_bytes"`
	SHA256     string     `json:"sha256"`
	CountsKind stats.Kind `json:"counts_kind"`
	Phase      *string    `json:"phase"`
}

type canonicalModel struct {
	Arch        *string `json:"arch"`
	BlockCount  *int    `json:"block_count"`
	ExpertCount *int    `json:"expert_count"`
	ExpertUsed  *int    `json:"expert_used_count"`
	NextNLayers *int    `json:"nextn_layers"`
}

type canonicalLayer struct {
	Layer           *int             `json:"layer"`
	Kind            stats.LayerKind  `json:"kind"`
	TopK            *int             `json:"top_k"`
	Tokens          *uint64          `json:"tokens"`
	Counts          []json.Number    `json:"counts"`
	InEnergy        *canonicalEnergy `json:"in_energy"`
	InMeanEnergy    *canonicalEnergy `json:"in_mean_energy,omitempty"`
	GateWeightSum   numbers          `json:"gate_weight_sum"`
	GateWeightSqSum numbers          `json:"gate_weight_sq_sum"`
	GateWeightNorm  *string          `json:"gate_weight_norm"`
	OutNormSum      numbers          `json:"out_norm_sum"`
	GatedOutNormSum numbers          `json:"gated_out_norm_sum"`
	MaxOut          numbers          `json:"max_out"`
	Blocks          *canonicalBlocks `json:"blocks"`
	Flags           canonicalFlags   `json:"flags"`
}

type canonicalEnergy struct {
	GateUp numbers `json:"gate_up"`
	Down   numbers `json:"down"`
}

type canonicalBlocks struct {
	N          int        `json:"n"`
	Deff       float64    `json:"deff"`
	HalfCounts [][]uint64 `json:"half_counts,omitempty"`

	// Where the experts per token are unknown, what the design effect comes
	// from, so that it can be had once a model tells them.
	Moments *canonicalMoments `json:"moments,omitempty"`
}

// canonicalMoments are sums over blocks b: of M_b activations and their
// squares, and per expert of n_eb, n_eb^2 and n_eb*M_b.
type canonicalMoments struct {
	Slots    float64 `json:"slots"`
	SlotsSq  float64 `json:"slots_sq"`
	Sum      numbers `json:"sum"`
	SumSq    numbers `json:"sum_sq"`
	SumCross numbers `json:"sum_cross"`
}

type canonicalFlags struct {
	Unseen []int `json:"unseen"`
	Scarce []int `json:"scarce,omitempty"`
	Low    []int `json:"low"`
}

// numbers is a list without holes: a null within one is not taken for 0.
type numbers []float64

func (n *numbers) UnmarshalJSON(b []byte) error {
	if !bytes.Contains(b, []byte("null")) { // as ever: no pointer for each number
		return json.Unmarshal(b, (*[]float64)(n))
	}
	var list []*float64
	if err := json.Unmarshal(b, &list); err != nil || list == nil {
		return err
	}
	*n = make(numbers, len(list))
	for i, v := range list {
		if v == nil {
			return fmt.Errorf("entry %d of a list is null", i)
		}
		(*n)[i] = *v
	}
	return nil
}

// sniffCanonical looks for the schema among the keys that the head shows. A
// writer that sorts keys puts them after the layers, but "counts_kind" first.
func sniffCanonical(head []byte) bool {
	head = bytes.TrimLeft(bytes.TrimPrefix(head, []byte("\xef\xbb\xbf")), " \t\r\n")
	if !bytes.HasPrefix(head, []byte("{")) {
		return false
	}
	dec := json.NewDecoder(bytes.NewReader(head))
	if _, err := dec.Token(); err != nil {
		return false
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return false
		}
		switch key {
		case "counts_kind":
			return true
		case "schema":
			value, err := dec.Token()
			return err == nil && value == canonicalSchema
		}
		var skip json.RawMessage
		if dec.Decode(&skip) != nil {
			return false
		}
	}
	return false
}

func readCanonical(_ context.Context, src *source, _ Options) (*stats.Evidence, error) {
	content, err := io.ReadAll(io.LimitReader(src, maxCanonicalBytes+1))
	if err != nil {
		return nil, err
	}
	if len(content) > maxCanonicalBytes {
		return nil, fmt.Errorf("is over the limit of %d bytes", maxCanonicalBytes)
	}
	content = bytes.TrimPrefix(content, []byte("\xef\xbb\xbf"))
	var text json.RawMessage
	dec := json.NewDecoder(bytes.NewReader(content))
	if err := dec.Decode(&text); err != nil {
		return nil, jsonError(content, err)
	}
	if rest := bytes.TrimLeft(content[dec.InputOffset():], " \t\r\n"); len(rest) > 0 {
		return nil, fmt.Errorf("byte %d: content after the end of the object", len(content)-len(rest))
	}
	text = content[:dec.InputOffset()] // places in errors are the content's
	if err := strictjson.CheckOpen(text, reflect.TypeFor[canonical](), maxCanonicalItems); err != nil {
		return nil, err
	}
	var c canonical
	if err := json.Unmarshal(text, &c); err != nil {
		return nil, jsonError(content, err)
	}
	return c.evidence()
}

// jsonError places an error of encoding/json.
func jsonError(content []byte, err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("byte %d: %w", syntax.Offset, err)
	case errors.As(err, &kind):
		return fmt.Errorf("byte %d: %s: a JSON %s does not fit here", kind.Offset, kind.Field, kind.Value)
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return fmt.Errorf("byte %d: ends within the object", len(content))
	}
	return err
}

// lacks reports all that must be there and is not, with what it would look
// like.
func (c *canonical) lacks() error {
	var absent []string
	if c.Schema == "" {
		absent = append(absent, fmt.Sprintf("\"schema\": %q", canonicalSchema))
	}
	if c.Version == nil {
		absent = append(absent, fmt.Sprintf("\"version\": %d", canonicalVersion))
	}
	if c.CountsKind == "" {
		absent = append(absent, fmt.Sprintf("\"counts_kind\": %q", stats.KindExact))
	}
	if len(c.Layers) == 0 && len(absent) > 0 {
		absent = append(absent, `"layers": [{"layer": 0, "counts": [12, 0, 7]}]`)
	}
	unnumbered, empty := -1, -1
	for i := range c.Layers {
		if c.Layers[i].Layer == nil && unnumbered < 0 {
			unnumbered = i
		}
		if c.Layers[i].Counts == nil && empty < 0 && c.CountsKind != stats.KindNone && c.CountsKind != "" && c.Layers[i].Kind != stats.LayerShared && c.Layers[i].Kind != stats.LayerHash {
			empty = i
		}
	}
	if unnumbered >= 0 {
		absent = append(absent, fmt.Sprintf(`"layer": 0 in layers[%d]`, unnumbered))
	}
	if len(absent) == 0 {
		return nil
	}
	if empty >= 0 {
		absent = append(absent, fmt.Sprintf(`"counts": [12, 0, 7] in layers[%d]`, empty))
	}
	return fmt.Errorf("lacks %s", strings.Join(absent, ", "))
}

func (c *canonical) evidence() (*stats.Evidence, error) {
	if err := c.lacks(); err != nil {
		return nil, err
	}
	if c.Schema != canonicalSchema {
		return nil, fmt.Errorf("schema: is %q, not %q", c.Schema, canonicalSchema)
	}
	if *c.Version != canonicalVersion {
		return nil, fmt.Errorf("version: is %d; this program reads version %d", *c.Version, canonicalVersion)
	}
	switch c.CountsKind {
	case stats.KindExact, stats.KindScaled, stats.KindRelative, stats.KindRank, stats.KindNone:
	default:
		return nil, fmt.Errorf("counts_kind: %q: want exact, scaled, relative, rank or none", c.CountsKind)
	}
	ev := &stats.Evidence{Kind: c.CountsKind, LayerAxis: stats.AxisBlocks, Datasets: c.Source.Datasets, Chunks: c.Source.Chunks, OpenExperts: c.Open}
	if c.LayerAxis != "" {
		if c.LayerAxis != stats.AxisBlocks && c.LayerAxis != stats.AxisRows {
			return nil, fmt.Errorf("layer_axis: %q: want blocks or rows", c.LayerAxis)
		}
		ev.LayerAxis, ev.Rows = c.LayerAxis, c.Rows
	}
	if err := c.Model.facts(ev); err != nil {
		return nil, err
	}
	ev.Findings = c.Source.Findings
	phase := ""
	if c.Phase != nil {
		phase = *c.Phase
	}
	ev.Inputs = []stats.Input{{Phase: phase}}
	if err := c.addLayers(ev); err != nil {
		return nil, err
	}
	return ev, nil
}

// facts sets what is stated of the model.
func (c *canonicalModel) facts(ev *stats.Evidence) error {
	for _, f := range []struct {
		name string
		from *int
		to   *int
	}{
		{"block_count", c.BlockCount, &ev.BlockCount},
		{"expert_count", c.ExpertCount, &ev.ExpertCount},
		{"expert_used_count", c.ExpertUsed, &ev.TopK},
	} {
		if f.from == nil {
			continue
		}
		if *f.from < 0 || *f.from > 1<<20 {
			return fmt.Errorf("model.%s: %d is out of range", f.name, *f.from)
		}
		*f.to = *f.from
	}
	if n := c.NextNLayers; n != nil {
		if *n < 0 || *n > 1<<16 {
			return fmt.Errorf("model.nextn_layers: %d is out of range", *n)
		}
		ev.NextN = n
	}
	if c.Arch != nil {
		ev.Architecture = *c.Arch
	}
	return nil
}

// addLayers adds the layers in ascending order, each once.
func (c *canonical) addLayers(ev *stats.Evidence) error {
	for i := range c.Layers {
		l, err := c.Layers[i].layer(c.CountsKind, c.Source.Chunks)
		if err == nil && ev.ExpertCount > 0 && l.Kind != stats.LayerShared && l.Experts() > 0 && l.Experts() != ev.ExpertCount {
			err = fmt.Errorf("has %d experts where model.expert_count is %d", l.Experts(), ev.ExpertCount)
		}
		if err == nil && ev.LayerAxis == stats.AxisBlocks && ev.BlockCount > 0 && l.Index >= ev.BlockCount {
			err = fmt.Errorf("layer is %d where model.block_count is %d", l.Index, ev.BlockCount)
		}
		if err == nil && ev.LayerAxis == stats.AxisRows && l.Index >= ev.Rows {
			err = fmt.Errorf("layer is %d where rows is %d", l.Index, ev.Rows)
		}
		if err != nil {
			return fmt.Errorf("layers[%d]: %w", i, err)
		}
		if l.Kind == stats.LayerShared {
			ev.Shared = append(ev.Shared, l)
		} else {
			ev.Layers = append(ev.Layers, l)
		}
	}
	for _, list := range [][]stats.Layer{ev.Layers, ev.Shared} {
		slices.SortStableFunc(list, func(a, b stats.Layer) int { return a.Index - b.Index })
		for i := 1; i < len(list); i++ {
			if list[i].Index == list[i-1].Index {
				return fmt.Errorf("layers: duplicate layer %d", list[i].Index)
			}
		}
	}
	if len(ev.Layers) == 0 {
		return errNoLayers
	}
	return nil
}

func (c *canonicalLayer) layer(kind stats.Kind, chunks uint64) (stats.Layer, error) {
	l := stats.Layer{Kind: c.Kind, Tokens: c.Tokens}
	if l.Index = *c.Layer; l.Index < 0 || l.Index > 1<<16 {
		return l, fmt.Errorf("layer: %d is not a block number", l.Index)
	}
	switch c.Kind {
	case "":
		l.Kind = stats.LayerRouted
	case stats.LayerRouted, stats.LayerShared, stats.LayerHash, stats.LayerNextN:
	default:
		return l, fmt.Errorf("kind: %q: want routed, shared, hash or nextn", c.Kind)
	}
	if err := c.readCounts(&l, kind); err != nil {
		return l, err
	}
	if c.InEnergy != nil {
		l.GateUpEnergy, l.DownEnergy = c.InEnergy.GateUp, c.InEnergy.Down
	}
	if c.InMeanEnergy != nil {
		l.GateUpMeanEnergy, l.DownMeanEnergy = c.InMeanEnergy.GateUp, c.InMeanEnergy.Down
	}
	l.GateWeightSum, l.GateWeightSqSum = c.GateWeightSum, c.GateWeightSqSum
	l.OutNormSum, l.GatedOutNormSum, l.MaxOut = c.OutNormSum, c.GatedOutNormSum, c.MaxOut
	if c.GateWeightNorm != nil {
		switch *c.GateWeightNorm {
		case "raw", "topk_normalized", "scaled":
			l.GateWeightNorm = *c.GateWeightNorm
		default:
			return l, fmt.Errorf("gate_weight_norm: %q: want raw, topk_normalized or scaled", *c.GateWeightNorm)
		}
	}
	experts := l.Experts()
	for _, s := range l.Signals() {
		if *s.Values == nil {
			continue
		}
		if len(*s.Values) == 0 || len(*s.Values) != experts {
			return l, fmt.Errorf("%s: has %d entries where others have %d", s.Name, len(*s.Values), experts)
		}
		for e, v := range *s.Values {
			if v < 0 {
				return l, fmt.Errorf("%s[%d]: is %g", s.Name, e, v)
			}
		}
	}
	if kind != stats.KindExact && kind != stats.KindScaled { // counts show the unseen
		for _, e := range c.Flags.Unseen {
			if e < 0 || experts > 0 && e >= experts {
				return l, fmt.Errorf("flags.unseen: %d is not one of %d experts", e, experts)
			}
			l.UnseenKnown = append(l.UnseenKnown, e)
		}
	}
	if err := c.readBlocks(&l, experts); err != nil {
		return l, err
	}
	if c.TopK != nil {
		if *c.TopK < 1 || experts > 0 && *c.TopK > experts {
			return l, fmt.Errorf("top_k: %d of %d experts", *c.TopK, experts)
		}
		l.TopK = *c.TopK
	}
	if kind != stats.KindExact || l.Kind == stats.LayerShared {
		return l, nil
	}
	stated := l.TopK
	l.TopK = 0
	if err := l.CheckCounts(chunks); err != nil {
		return l, err
	}
	if stated > 0 {
		return l, l.SetTopK(stated, kind, chunks)
	}
	return l, nil
}

func (c *canonicalLayer) readCounts(l *stats.Layer, kind stats.Kind) error {
	if c.Counts == nil {
		return nil
	}
	if kind == stats.KindNone {
		return errors.New("counts: are given where counts_kind is none")
	}
	if len(c.Counts) == 0 {
		return errors.New("counts: are empty")
	}
	if kind == stats.KindRelative || kind == stats.KindRank {
		l.Weights = make([]float64, len(c.Counts))
		for e, n := range c.Counts {
			v, err := strconv.ParseFloat(n.String(), 64)
			if err != nil || v < 0 || math.IsInf(v, 0) || math.IsNaN(v) {
				return fmt.Errorf("counts[%d]: %q is not a weight", e, n)
			}
			l.Weights[e] = v
		}
		return nil
	}
	l.Counts = make([]uint64, len(c.Counts))
	for e, n := range c.Counts {
		v, ok := wholeNumber(n.String())
		if !ok {
			return fmt.Errorf("counts[%d]: %q is not a count, which counts_kind %s asks for", e, n, kind)
		}
		l.Counts[e] = v
	}
	_, err := l.Activations()
	return err
}

func (c *canonicalLayer) readBlocks(l *stats.Layer, experts int) error {
	if c.Blocks == nil {
		return nil
	}
	if c.Blocks.N < 2 || !(c.Blocks.Deff > 0 && c.Blocks.Deff < 1e12) {
		return fmt.Errorf("blocks: %d blocks with a design effect of %g", c.Blocks.N, c.Blocks.Deff)
	}
	l.Blocks = &stats.Blocks{N: c.Blocks.N, Deff: c.Blocks.Deff}
	if m := c.Blocks.Moments; m != nil {
		for _, list := range []numbers{m.Sum, m.SumSq, m.SumCross} {
			if len(list) != experts {
				return errors.New("blocks.moments: are not lists of one number per expert")
			}
			if err := checkSums(list); err != nil {
				return fmt.Errorf("blocks.moments: %w", err)
			}
		}
		if err := checkSums([]float64{m.Slots, m.SlotsSq}); err != nil {
			return fmt.Errorf("blocks.moments: %w", err)
		}
		l.Blocks.Moments = &stats.BlockMoments{Blocks: c.Blocks.N, Slots: m.Slots, SlotsSq: m.SlotsSq, Sum: m.Sum, SumSq: m.SumSq, SumCross: m.SumCross}
	}
	if c.Blocks.HalfCounts == nil {
		return nil
	}
	if len(c.Blocks.HalfCounts) != 2 || len(c.Blocks.HalfCounts[0]) != experts || len(c.Blocks.HalfCounts[1]) != experts {
		return errors.New("blocks.half_counts: are not two lists of one count per expert")
	}
	l.Blocks.HalfCounts = [2][]uint64{c.Blocks.HalfCounts[0], c.Blocks.HalfCounts[1]}
	return nil
}

// checkSums refuses what no sum of whole numbers can be.
func checkSums(list []float64) error {
	for _, v := range list {
		if !(v >= 0 && v < 1e300) {
			return fmt.Errorf("%g is not a sum of counts", v)
		}
	}
	return nil
}
