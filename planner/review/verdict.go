package review

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/ggufplan/ggufplan/planner/manifest"
)

// splitFact names the fact of a verdict that is about the split plan.
const splitFact = "split plan"

// Verdict says in at most seven facts what a plan comes to: what heads every
// review of it. Names are not made printable here.
func Verdict(m *manifest.Manifest) [][2]string {
	t := &m.Totals
	var facts [][2]string
	fact := func(name, format string, args ...any) {
		facts = append(facts, [2]string{name, fmt.Sprintf(format, args...)})
	}
	file := ""
	if t.PlannedFileBytes != nil {
		file = ", a file of " + Count(*t.PlannedFileBytes) + " bytes"
	}
	fact("size", "%s of %s, saves %s, %s bits per weight%s", Size(t.PlannedBytes), Size(t.SourceBytes),
		SignedPercent(t.SavedBytes, t.SourceBytes), BitsPerWeight(t.PlannedBytes, m.Model.Parameters), file)
	if n := Nearest(m); n != nil {
		fact("nearest", "%s, %s: the plan is %s", n.Name, Size(n.TensorBytes), besideNearest(m, n))
	}
	b := m.Policy.Budget
	split := fmt.Sprintf("%s, saves %s, %s bits per weight", Size(t.SplitPlannedBytes),
		SignedPercent(t.SplitSavedBytes, t.SourceBytes), BitsPerWeight(t.SplitPlannedBytes, m.Model.Parameters))
	if t.Damage != nil {
		text := damageInWords(*t.Damage)
		if b != nil {
			text += nearTheLeast(b)
		}
		fact("damage", "%s", text)
	}
	if t.SplitDamage != nil {
		split += ", damage " + Damage(*t.SplitDamage)
	}
	if p := t.SplitPredictedKLD; p != nil {
		split += ", KL divergence about " + KLD(p.KLD)
	}
	if text := divergence(m); text != "" {
		fact("divergence", "%s", text)
	}
	fact(splitFact, "%s", split+splitWorth(m))
	if run := RunFact(m); run != "" {
		fact("run", "%s", run)
	}
	if len(t.Tiers) > 0 && len(facts) < MaxFacts-1 {
		var parts []string
		for _, tier := range t.Tiers {
			parts = append(parts, Count(tier.Experts)+" "+tier.Tier)
		}
		fact("experts", "%s", strings.Join(parts, ", "))
	}
	if codes := countFindings(m.Findings); codes != "" {
		fact("findings", "%s", codes)
	}
	return facts
}

// MaxFacts is how many facts a verdict has at most: with the next command eight
// lines.
const MaxFacts = 7

// worthwhileSplit is how many times the split plan's damage the fused plan must
// have for the split plan to be worth a special runtime.
const worthwhileSplit = 1.15

// splitWorth says whether the split plan is worth what it needs.
func splitWorth(m *manifest.Manifest) string {
	r := m.Totals.SplitRatio
	if r == nil {
		return ""
	}
	text := "; the fused plan has " + times(*r) + " times its damage"
	if m.Policy.Budget == nil {
		text = "; a fused plan of its bytes has " + times(*r) + " times its damage"
	}
	if *r < worthwhileSplit {
		return text + ": not worth a special runtime"
	}
	return text + ", for a runtime with expert tiers"
}

// Nearest returns the file type, among the baselines made of K and IQ types,
// that is nearest to the plan in bytes, the smaller of equals; nil if there is
// none.
func Nearest(m *manifest.Manifest) *manifest.Baseline {
	var best *manifest.Baseline
	planned := m.Totals.PlannedBytes
	off := func(b *manifest.Baseline) uint64 {
		return max(b.TensorBytes, planned) - min(b.TensorBytes, planned)
	}
	for i := range m.Totals.Baselines {
		b := &m.Totals.Baselines[i]
		if !strings.HasPrefix(b.Name, "IQ") && !strings.Contains(b.Name, "_K") {
			continue
		}
		if best == nil || off(b) < off(best) || off(b) == off(best) && b.TensorBytes < best.TensorBytes {
			best = b
		}
	}
	return best
}

// besideNearest says how the plan stands to a file type.
func besideNearest(m *manifest.Manifest, n *manifest.Baseline) string {
	text := difference(m.Totals.PlannedBytes, n.TensorBytes)
	if part := max(m.Totals.PlannedBytes, n.TensorBytes) - min(m.Totals.PlannedBytes, n.TensorBytes); part > 0 {
		text += " (" + Percent(part, n.TensorBytes) + ")"
	}
	switch d := m.Totals.Damage; {
	case d != nil && n.Damage != nil && *n.Damage > 0:
		return text + ", at " + times(*d / *n.Damage) + " times its predicted damage"
	case d != nil:
		return text + "; the file type's damage is not known"
	}
	return text + "; the plan's damage is not known"
}

func damageInWords(damage float64) string {
	if damage == 0 {
		return "none is predicted"
	}
	return Damage(damage) + " predicted"
}

// nearTheLeast says how near to the least damage at its size a budget's plan is.
func nearTheLeast(b *manifest.Budget) string {
	switch {
	case b.Damage == 0:
		return ""
	case b.Gap == 0:
		return ", the least at this size"
	}
	return fmt.Sprintf(", within %.2g %% of the least at this size", 100*b.Gap)
}

// Damage writes a predicted damage.
func Damage(v float64) string { return strconv.FormatFloat(v, 'g', 4, 64) }

// times writes a factor.
func times(v float64) string { return strconv.FormatFloat(v, 'f', 2, 64) }

// countFindings writes how often each code occurs.
func countFindings(findings []manifest.Finding) string {
	var parts []string
	for i := 0; i < len(findings); {
		j := i
		for j < len(findings) && findings[j].Code == findings[i].Code {
			j++
		}
		part := findings[i].Code
		if j-i > 1 {
			part += fmt.Sprintf(" x %d", j-i)
		}
		parts = append(parts, part)
		i = j
	}
	return strings.Join(parts, ", ")
}
