package review

import (
	"fmt"
	"strconv"

	"github.com/ggufplan/ggufplan/planner/manifest"
)

// KLD writes a KL divergence.
func KLD(v float64) string { return strconv.FormatFloat(v, 'g', 3, 64) }

// PredictedKLD writes a predicted KL divergence with its band, "-" for none.
func PredictedKLD(p *manifest.PredictedKLD) string {
	if p == nil {
		return "-"
	}
	return fmt.Sprintf("%s (%s to %s)", KLD(p.KLD), KLD(p.Low), KLD(p.High))
}

// measuredKLD writes a measured KL divergence.
func measuredKLD(m *manifest.Measured) string {
	if m == nil {
		return "-"
	}
	return fmt.Sprintf("%s ± %s", KLD(m.KLD), KLD(m.StandardError))
}

// divergence says what KL divergence the fused plan's file was predicted and
// measured to have, "" where neither is known.
func divergence(m *manifest.Manifest) string {
	text := ""
	if p := m.Totals.PredictedKLD; p != nil {
		text = "about " + PredictedKLD(p) + " predicted"
	}
	if x := m.Measured; x != nil {
		if text != "" {
			text += ", "
		}
		text += measuredKLD(x) + " measured"
		if x.TextSHA256 != nil {
			text += " on text " + (*x.TextSHA256)[:min(8, len(*x.TextSHA256))]
		}
	}
	if text != "" {
		text = "KL divergence " + text
	}
	return text
}
