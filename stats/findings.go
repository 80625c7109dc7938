package stats

import (
	"fmt"
	"slices"
)

// A Finding is a doubt about the evidence, phrased for a person and coded for
// a program.
type Finding struct {
	Code    string // one of [FindingCodes]
	Subject string // "blk.3", an input's name, or a tensor's
	Message string
}

// The codes of findings.
const (
	CodeDuplicateInput = "duplicate-input"
	CodeEnergyMismatch = "energy-mismatch"
	CodeKMismatch      = "k-mismatch"
	CodeMTPBlock       = "mtp-block"
	CodeMixedPhases    = "mixed-phases"
	CodeNoTraffic      = "no-traffic"
	CodePartialLayers  = "partial-layers"
	CodeRelativeCounts = "relative-counts"
	CodeRoundedCounts  = "rounded-counts"
)

// FindingCodes lists the codes in alphabetical order.
func FindingCodes() []string {
	return []string{CodeDuplicateInput, CodeEnergyMismatch, CodeKMismatch, CodeMTPBlock, CodeMixedPhases, CodeNoTraffic, CodePartialLayers, CodeRelativeCounts, CodeRoundedCounts}
}

// Find notes a finding, once.
func (ev *Evidence) Find(code, subject, format string, args ...any) {
	f := Finding{code, subject, fmt.Sprintf(format, args...)}
	if !slices.Contains(ev.Findings, f) {
		ev.Findings = append(ev.Findings, f)
	}
}
