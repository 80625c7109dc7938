package stats

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
)

// MarshalCanonical returns the evidence in canonical form: JSON, one line per
// layer, with a final newline. Reading it back loses nothing that a frequency
// policy uses; column mean squares stay in their imatrix.
func (ev *Evidence) MarshalCanonical() ([]byte, error) {
	c := canonical{
		Schema: canonicalSchema, Version: ref(canonicalVersion),
		CountsKind: ev.Kind, Phase: nonEmpty(ev.phase()),
		Source: canonicalSource{Datasets: append([]string{}, ev.Datasets...), Warnings: []string{}, Chunks: ev.chunks},
		Model: canonicalModel{
			Arch: nonEmpty(ev.Architecture), BlockCount: nonZero(ev.BlockCount),
			ExpertCount: nonZero(ev.ExpertCount), ExpertUsed: nonZero(ev.TopK), NextNLayers: ev.NextN,
		},
	}
	c.Open = ev.openExperts
	if ev.LayerAxis == AxisRows {
		c.LayerAxis, c.Rows = AxisRows, ev.Rows
	}
	for _, in := range ev.Inputs {
		c.Source.Inputs = append(c.Source.Inputs, canonicalInput{in.Name, in.Format, in.SizeBytes, in.SHA256, in.Kind, nonEmpty(in.Phase)})
	}
	if len(ev.Inputs) == 1 {
		in := ev.Inputs[0]
		c.Source.Format, c.Source.File, c.Source.SHA256 = in.Format, in.Name, in.SHA256
	} else {
		c.Source.Format = "merged"
	}
	for _, f := range ev.Findings {
		c.Source.Findings = append(c.Source.Findings, canonicalFinding(f))
		message := f.Message
		if f.Subject != "" {
			message = f.Subject + ": " + message
		}
		c.Source.Warnings = append(c.Source.Warnings, message)
	}
	layers := make([]canonicalLayer, 0, len(ev.Layers)+len(ev.Shared))
	for _, list := range [][]Layer{ev.Layers, ev.Shared} {
		for i := range list {
			layers = append(layers, canonicalOf(&list[i]))
		}
	}

	// Everything but the layers is indented; a layer is a line.
	head, err := marshal(c, "  ")
	if err != nil {
		return nil, err
	}
	const noLayers = "\"layers\": null\n}\n"
	head, ok := bytes.CutSuffix(head, []byte(noLayers))
	if !ok {
		panic("stats: internal error: layers are not the last key of the canonical form")
	}
	out := bytes.NewBuffer(head)
	out.WriteString("\"layers\": [")
	for i := range layers {
		line, err := marshal(layers[i], "")
		if err != nil {
			return nil, fmt.Errorf("layer %d: %w", *layers[i].Layer, err)
		}
		if i > 0 {
			out.WriteByte(',')
		}
		out.WriteString("\n    ")
		out.Write(bytes.TrimSuffix(line, []byte("\n")))
	}
	out.WriteString("\n  ]\n}\n")
	return out.Bytes(), nil
}

func marshal(v any, indent string) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	err := enc.Encode(v)
	return b.Bytes(), err
}

// phase is the phase that all inputs share, "" where they differ.
func (ev *Evidence) phase() string {
	if len(ev.Inputs) == 0 {
		return ""
	}
	phase := ev.Inputs[0].Phase
	for _, in := range ev.Inputs {
		if in.Phase != phase {
			return ""
		}
	}
	return phase
}

func canonicalOf(l *Layer) canonicalLayer {
	c := canonicalLayer{
		Layer: &l.Index, Kind: l.Kind, TopK: nonZero(l.TopK), Tokens: l.Tokens,
		GateWeightSum: l.GateWeightSum, GateWeightSqSum: l.GateWeightSqSum, GateWeightNorm: nonEmpty(l.GateWeightNorm),
		OutNormSum: l.OutNormSum, GatedOutNormSum: l.GatedOutNormSum, MaxOut: l.MaxOut,
		Flags: canonicalFlags{Unseen: append([]int{}, l.UnseenKnown...), Scarce: []int{}, Low: []int{}},
	}
	if sum, _ := l.Activations(); l.tokensTopK > 0 && sum%uint64(l.tokensTopK) != 0 {
		c.Tokens = nil // rounded down from the counts, as any reader may do again
	}
	for e, n := range l.Counts {
		c.Counts = append(c.Counts, json.Number(strconv.FormatUint(n, 10)))
		switch FlagOf(n, l.Deff()) {
		case FlagUnseen:
			if !slices.Contains(l.UnseenKnown, e) {
				c.Flags.Unseen = append(c.Flags.Unseen, e)
			}
		case FlagScarce:
			c.Flags.Scarce = append(c.Flags.Scarce, e)
		case FlagLow:
			c.Flags.Low = append(c.Flags.Low, e)
		}
	}
	if l.Counts == nil {
		for _, w := range l.Weights {
			c.Counts = append(c.Counts, json.Number(formatNumber(w)))
		}
	}
	if l.GateUpEnergy != nil || l.DownEnergy != nil {
		c.InEnergy = &canonicalEnergy{l.GateUpEnergy, l.DownEnergy}
	}
	if l.GateUpMeanEnergy != nil || l.DownMeanEnergy != nil {
		c.InMeanEnergy = &canonicalEnergy{l.GateUpMeanEnergy, l.DownMeanEnergy}
	}
	if b := l.Blocks; b != nil {
		c.Blocks = &canonicalBlocks{N: b.N, Deff: b.Deff}
		if b.HalfCounts[0] != nil && b.HalfCounts[1] != nil {
			c.Blocks.HalfCounts = [][]uint64{b.HalfCounts[0], b.HalfCounts[1]}
		}
		if m := b.moments; m != nil && l.TopK == 0 {
			n := l.Experts()
			c.Blocks.Moments = &canonicalMoments{m.slots, m.slotsSq, pad(m.sum, n), pad(m.sumSq, n), pad(m.sumCross, n)}
		}
	}
	return c
}

// formatNumber writes the shortest decimal that reads back as the same
// float64, as encoding/json does.
func formatNumber(v float64) string {
	b, err := json.Marshal(v)
	if err != nil {
		return strconv.FormatFloat(math.MaxFloat64, 'g', -1, 64) // infinities are refused when they are read
	}
	return string(b)
}

func ref[T any](v T) *T { return &v }

func nonZero(n int) *int {
	if n == 0 {
		return nil
	}
	return &n
}

func nonEmpty(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
