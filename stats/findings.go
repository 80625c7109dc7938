package stats

import (
	"fmt"
	"slices"
)

// A Finding is a doubt about the evidence, phrased for a person and coded for
// a program.
type Finding struct {
	Code    string `json:"code"`    // one of [FindingCodes]
	Subject string `json:"subject"` // "blk.3", an input's name, or a tensor's
	Message string `json:"message"`
}

// The codes of findings.
const (
	CodeDuplicateInput = "duplicate-input"
	CodeEnergyMismatch = "energy-mismatch"
	CodeImatrixSize    = "imatrix-size"
	CodeKMismatch      = "k-mismatch"
	CodeMixedPhases    = "mixed-phases"
	CodeMTPBlock       = "mtp-block"
	CodeNoTraffic      = "no-traffic"
	CodePartialLayers  = "partial-layers"
	CodeRelativeCounts = "relative-counts"
	CodeRoundedCounts  = "rounded-counts"
)

// FindingCodes lists the codes in alphabetical order.
func FindingCodes() []string {
	return []string{CodeDuplicateInput, CodeEnergyMismatch, CodeImatrixSize, CodeKMismatch, CodeMixedPhases, CodeMTPBlock, CodeNoTraffic, CodePartialLayers, CodeRelativeCounts, CodeRoundedCounts}
}

// FlagOverused notes experts that were used more often than there were tokens,
// where the sum of the counts is that of the tokens exactly: no router does
// that.
func (ev *Evidence) FlagOverused() {
	for i := range ev.Layers {
		l := &ev.Layers[i]
		sum, err := l.Activations()
		if err != nil || l.Tokens == nil || *l.Tokens == 0 || *l.Tokens > Float32Whole || sum%*l.Tokens != 0 {
			continue
		}
		for e, n := range l.Counts {
			if n > *l.Tokens {
				ev.Find(CodeKMismatch, l.Name(ev.LayerAxis), "expert %d has a count of %d in %d tokens, and an expert is used once a token at most", e, n, *l.Tokens)
			}
		}
	}
}

// Find notes a finding, once.
func (ev *Evidence) Find(code, subject, format string, args ...any) {
	f := Finding{code, subject, fmt.Sprintf(format, args...)}
	if !slices.Contains(ev.Findings, f) {
		ev.Findings = append(ev.Findings, f)
	}
}
