package review

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/ggufplan/ggufplan/planner/manifest"
)

// anyText is text that Markdown, HTML or a terminal could take for something
// else, of up to n characters.
func anyText(r *rand.Rand, n int) string {
	alphabet := []string{"a", "b", ".", "_", "*", "|", "&", "<", ">", "`", "[", "]", "#", "@", "~", "\\", "é", "語", " ", "blk."}
	var b strings.Builder
	for range r.IntN(n) + 1 {
		b.WriteString(alphabet[r.IntN(len(alphabet))])
	}
	return b.String()
}

// anyPlan is a plan of up to 200 layers with many findings, pins and statistics
// files, whose texts are hostile.
func anyPlan(r *rand.Rand) *manifest.Manifest {
	m := manifest.New()
	m.Model.Name = anyText(r, 2000)
	m.Policy.Base = anyText(r, 20)
	for range r.IntN(60) {
		m.Policy.Pins = append(m.Policy.Pins, manifest.Pin{Pattern: anyText(r, 500), Type: "Q8_0"})
	}
	m.Statistics = &manifest.Statistics{CountsKind: "exact"}
	for range r.IntN(60) {
		m.Statistics.Inputs = append(m.Statistics.Inputs, manifest.Input{Name: anyText(r, 300)})
	}
	for range r.IntN(300) {
		m.Totals.Baselines = append(m.Totals.Baselines, manifest.Baseline{Name: anyText(r, 60), TensorBytes: r.Uint64N(1 << 40)})
	}
	types := []string{"Q2_K", "IQ4_XS", "Q8_0", anyText(r, 400)}
	for layer := range r.IntN(200) {
		m.Layers = append(m.Layers, manifest.Layer{Layer: layer})
		for _, role := range manifest.Roles {
			t := manifest.Tensor{Name: fmt.Sprintf("blk.%d.%s", layer, anyText(r, 200)), Role: role, Layer: &layer, Shape: []uint64{256, 256, 2},
				PlannedType: types[r.IntN(len(types))], Reason: anyText(r, 300)}
			if strings.HasPrefix(role, "expert_") {
				t.ExpertTypes = []string{types[r.IntN(len(types))], types[r.IntN(len(types))]}
			}
			m.Tensors = append(m.Tensors, t)
		}
	}
	for i := range r.IntN(3000) {
		m.Findings = append(m.Findings, manifest.Finding{Code: fmt.Sprintf("%s-%d", anyText(r, 40), i/50), Subject: anyText(r, 200), Message: anyText(r, 600)})
	}
	return m
}

// Whatever the plans, a comment has room for their review and for what changed
// between them; it is not cut in the middle, and the verdict stands first.
func TestAnyCommentFits(t *testing.T) {
	for seed := range uint64(12) {
		r := rand.New(rand.NewPCG(seed, 1))
		before, after := anyPlan(r), anyPlan(r)
		var gates []Gate
		for range r.IntN(80) {
			gates = append(gates, Gate{Name: anyText(r, 100), Wanted: anyText(r, 200), Got: anyText(r, 200)})
		}
		documents := map[string]func(*strings.Builder) error{
			"plan": func(b *strings.Builder) error { return Markdown(b, after, Options{Gates: gates}) },
			"difference": func(b *strings.Builder) error {
				return MarkdownDifference(b, before, after, manifest.Diff(before, after))
			},
		}
		for name, write := range documents {
			var b strings.Builder
			if err := write(&b); err != nil {
				t.Fatal(err)
			}
			text := b.String()
			if n := utf8.RuneCountInString(text); n > MaxComment {
				t.Errorf("%s, seed %d: %d characters", name, seed, n)
			}
			if open, closed := strings.Count(text, "<details>"), strings.Count(text, "</details>"); open != closed || strings.Count(text, "<summary>") != open {
				t.Errorf("%s, seed %d: %d details, %d ends", name, seed, open, closed)
			}
			if verdict, table := strings.Index(text, "\n- **Size:** "), strings.Index(text, "\n| "); verdict < 0 || table >= 0 && table < verdict {
				t.Errorf("%s, seed %d: the verdict is at %d, a table at %d", name, seed, verdict, table)
			}
			if len(gates) > 0 && name == "plan" && !strings.Contains(text, "| gate | wanted | got | result |\n") {
				t.Errorf("seed %d: no gates", seed)
			}
		}
	}
}
