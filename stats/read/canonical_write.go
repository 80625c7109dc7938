package read

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/ggufplan/ggufplan/stats"
)

// MarshalCanonical returns evidence in canonical form: JSON, one line per
// layer, with a final newline. Reading it back loses nothing that a frequency
// policy uses; column mean squares stay in their imatrix.
func MarshalCanonical(ev *stats.Evidence) ([]byte, error) {
	c := canonical{
		Schema: canonicalSchema, Version: ref(canonicalVersion),
		CountsKind: ev.Kind, Phase: nonEmpty(ev.Phase()),
		Source: canonicalSource{Datasets: append([]string{}, ev.Datasets...), Warnings: []string{}, Chunks: ev.Chunks},
		Model: canonicalModel{
			Arch: nonEmpty(ev.Architecture), BlockCount: nonZero(ev.BlockCount),
			ExpertCount: nonZero(ev.ExpertCount), ExpertUsed: nonZero(ev.TopK), NextNLayers: ev.NextN,
		},
	}
	c.Open = ev.OpenExperts
	if ev.LayerAxis == stats.AxisRows {
		c.LayerAxis, c.Rows = stats.AxisRows, ev.Rows
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
	c.Source.Findings = ev.Findings
	for _, f := range ev.Findings {
		message := f.Message
		if f.Subject != "" {
			message = f.Subject + ": " + message
		}
		c.Source.Warnings = append(c.Source.Warnings, message)
	}
	layers := make([]canonicalLayer, 0, len(ev.Layers)+len(ev.Shared))
	for _, list := range [][]stats.Layer{ev.Layers, ev.Shared} {
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

func canonicalOf(l *stats.Layer) canonicalLayer {
	c := canonicalLayer{
		Layer: &l.Index, Kind: l.Kind, TopK: nonZero(l.TopK), Tokens: l.Tokens,
		GateWeightSum: l.GateWeightSum, GateWeightSqSum: l.GateWeightSqSum, GateWeightNorm: nonEmpty(l.GateWeightNorm),
		OutNormSum: l.OutNormSum, GatedOutNormSum: l.GatedOutNormSum, MaxOut: l.MaxOut,
		Flags: canonicalFlags{Unseen: append([]int{}, l.UnseenKnown...), Scarce: []int{}, Low: []int{}},
	}
	if sum, _ := l.Activations(); l.TokensTopK > 0 && sum%uint64(l.TokensTopK) != 0 {
		c.Tokens = nil // rounded down from the counts, as any reader may do again
	}
	for e, n := range l.Counts {
		c.Counts = append(c.Counts, json.Number(strconv.FormatUint(n, 10)))
		switch stats.FlagOf(n, l.Deff()) {
		case stats.FlagUnseen:
			if !slices.Contains(l.UnseenKnown, e) {
				c.Flags.Unseen = append(c.Flags.Unseen, e)
			}
		case stats.FlagScarce:
			c.Flags.Scarce = append(c.Flags.Scarce, e)
		case stats.FlagLow:
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
		if m := b.Moments; m != nil && l.TopK == 0 {
			n := l.Experts()
			c.Blocks.Moments = &canonicalMoments{m.Slots, m.SlotsSq, pad(m.Sum, n), pad(m.SumSq, n), pad(m.SumCross, n)}
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
