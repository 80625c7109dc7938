package main

import (
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/ggufplan/ggufplan/planner"
	"github.com/ggufplan/ggufplan/planner/frequency"
	"github.com/ggufplan/ggufplan/planner/manifest"
	"github.com/ggufplan/ggufplan/planner/review"
)

// gateFlags are what a plan must keep for a pipeline to go on.
type gateFlags struct {
	flags                                  *pflag.FlagSet
	maxSize, maxBPW, minSaved, minCoverage string
	failOn                                 []string
}

func addGateFlags(flags *pflag.FlagSet) *gateFlags {
	g := &gateFlags{flags: flags}
	flags.StringVar(&g.maxSize, "max-size", "", "exit 1 if the planned file is larger than `SIZE`, such as 12GiB")
	flags.StringVar(&g.maxBPW, "max-bpw", "", "exit 1 if the plan has more than `N` bits per weight")
	flags.StringVar(&g.minSaved, "min-saved", "", "exit 1 if the plan saves less than `AMOUNT`, a size such as 4GiB or a share such as 60%")
	flags.StringVar(&g.minCoverage, "min-coverage", "", "exit 1 if less than `SHARE` of the MoE layers have counts, 0 to 1 or such as 90%")
	flags.StringSliceVar(&g.failOn, "fail-on", nil, "exit 1 on a finding with `CODE`; several with commas, repeatable")
	oneOf(flags, "fail-on", planner.FindingCodes()...)
	return g
}

// A gate is a condition on a plan. check says what the plan has, and by how
// much it misses the gate or "".
type gate struct {
	name, wanted string
	check        gateCheck
}

type gateCheck func(m *manifest.Manifest) (got, missed string)

// checkGates holds a plan against gates. missed says what is missed, and by how
// much.
func checkGates(gates []gate, m *manifest.Manifest) (results []review.Gate, missed []string) {
	for _, g := range gates {
		got, miss := g.check(m)
		results = append(results, review.Gate{Name: g.name, Wanted: g.wanted, Got: got, Passed: miss == ""})
		if miss != "" {
			missed = append(missed, miss)
		}
	}
	return results, missed
}

// gates reads the flags.
func (g *gateFlags) gates() ([]gate, error) {
	var list []gate
	for _, f := range []struct {
		flag, text, bound string
		parse             func(string) (gateCheck, error)
	}{
		{"max-size", g.maxSize, "at most ", maxSizeGate},
		{"max-bpw", g.maxBPW, "at most ", maxBPWGate},
		{"min-saved", g.minSaved, "at least ", minSavedGate},
		{"min-coverage", g.minCoverage, "at least ", minCoverageGate},
	} {
		if !g.flags.Changed(f.flag) {
			continue
		}
		check, err := f.parse(f.text)
		if err != nil {
			return nil, flagError(f.flag, err)
		}
		list = append(list, gate{"--" + f.flag, f.bound + f.text, func(m *manifest.Manifest) (got, missed string) {
			if got, missed = check(m); missed != "" {
				missed = "--" + f.flag + " " + f.text + ": " + missed
			}
			return got, missed
		}})
	}
	for _, code := range g.failOn {
		if codes := planner.FindingCodes(); !slices.Contains(codes, code) {
			return nil, flagError("fail-on", didYouMean(fmt.Errorf("%q is not a finding code", code), code, codes, "--fail-on ", "use one of "+strings.Join(codes, ", ")))
		}
		list = append(list, gate{"--fail-on " + code, "none", func(m *manifest.Manifest) (got, missed string) { return failOn(m, code) }})
	}
	return list, nil
}

func maxSizeGate(text string) (gateCheck, error) {
	limit, err := parseSize(text)
	return func(m *manifest.Manifest) (got, missed string) {
		if m.Totals.PlannedFileBytes == nil {
			return "unknown", "the size of the planned file is not known"
		}
		n := *m.Totals.PlannedFileBytes
		got = fmt.Sprintf("%s bytes", review.Count(n))
		if n > limit {
			return got, fmt.Sprintf("the planned file has %d bytes, %d too many", n, n-limit)
		}
		return got, ""
	}, err
}

func maxBPWGate(text string) (gateCheck, error) {
	limit, err := frequency.ParseFraction(text)
	if err != nil {
		return nil, hinted(fmt.Errorf("%q is not a number of bits", text), "--max-bpw 4.5")
	}
	return func(m *manifest.Manifest) (got, missed string) {
		// 8·bytes/weights > limit, in exact numbers.
		bits := new(big.Rat).Mul(big.NewRat(8, 1), ratOf(m.Totals.PlannedBytes))
		allowed := new(big.Rat).Mul(limit.Rat(), ratOf(m.Model.Parameters))
		got = round4(m.Totals.PlannedBitsPerWeight)
		if bits.Cmp(allowed) <= 0 {
			return got, ""
		}
		over, _ := new(big.Rat).Quo(bits.Sub(bits, allowed), ratOf(max(1, m.Model.Parameters))).Float64()
		return got, fmt.Sprintf("the plan has %s bits per weight, %s too many", round4(m.Totals.PlannedBitsPerWeight), round4(over))
	}, nil
}

func minSavedGate(text string) (gateCheck, error) {
	if share, ok := strings.CutSuffix(text, "%"); ok {
		want, err := parseShare(share, 100)
		if err != nil {
			return nil, hinted(fmt.Errorf("%q is neither a size nor a percentage", text), "--min-saved 60%")
		}
		return func(m *manifest.Manifest) (got, missed string) {
			got = round4(100*m.Totals.SavedFraction) + " %"
			saved := new(big.Rat).SetInt64(m.Totals.SavedBytes)
			if saved.Cmp(new(big.Rat).Mul(want, ratOf(m.Totals.SourceBytes))) >= 0 {
				return got, ""
			}
			target, _ := want.Float64()
			return got, fmt.Sprintf("the plan saves %s %%, %s percentage points too few",
				round4(100*m.Totals.SavedFraction), round4(100*(target-m.Totals.SavedFraction)))
		}, nil
	}
	want, err := parseSize(text)
	var unitless *unitlessError
	if errors.As(err, &unitless) {
		return nil, err
	}
	if err != nil {
		return nil, hinted(fmt.Errorf("%q is neither a size nor a percentage", text), "--min-saved 4GiB\n--min-saved 60%")
	}
	return func(m *manifest.Manifest) (got, missed string) {
		got = fmt.Sprintf("%d bytes", m.Totals.SavedBytes)
		if m.Totals.SavedBytes >= int64(want) { // a size is at most 2^62
			return got, ""
		}
		return got, fmt.Sprintf("the plan saves %d bytes, %d too few", m.Totals.SavedBytes, int64(want)-m.Totals.SavedBytes)
	}, nil
}

func minCoverageGate(text string) (gateCheck, error) {
	number, percent := strings.CutSuffix(text, "%")
	divisor := int64(1)
	if percent {
		divisor = 100
	}
	want, err := parseShare(number, divisor)
	if err != nil {
		return nil, hinted(fmt.Errorf("%q is not a share: want 0 to 1, or 0%% to 100%%", text), "--min-coverage 90%")
	}
	return func(m *manifest.Manifest) (got, missed string) {
		layers, with := uint64(len(m.Layers)), uint64(0)
		if m.Statistics != nil {
			with = m.Statistics.LayersWithCounts
		}
		need := new(big.Rat).Mul(want, ratOf(layers))
		got = fmt.Sprintf("%d of %d layers", with, layers)
		if ratOf(with).Cmp(need) >= 0 {
			return got, ""
		}
		missing := new(big.Int).Quo(new(big.Int).Add(need.Num(), new(big.Int).Sub(need.Denom(), big.NewInt(1))), need.Denom())
		return got, fmt.Sprintf("%d of %d MoE layers have counts, %d too few", with, layers, missing.Uint64()-with)
	}, nil
}

func failOn(m *manifest.Manifest, code string) (got, missed string) {
	n, first := 0, manifest.Finding{}
	for _, f := range m.Findings {
		if f.Code == code {
			if n == 0 {
				first = f
			}
			n++
		}
	}
	switch n {
	case 0:
		return "none", ""
	case 1:
		return "1 finding", fmt.Sprintf("--fail-on %s: %s: %s", code, first.Subject, first.Message)
	}
	return fmt.Sprintf("%d findings", n), fmt.Sprintf("--fail-on %s: %d findings, the first %s: %s", code, n, first.Subject, first.Message)
}

// parseShare reads a number from 0 to divisor and divides by it.
func parseShare(text string, divisor int64) (*big.Rat, error) {
	f, err := frequency.ParseFraction(text)
	if err != nil {
		return nil, err
	}
	r := f.Rat()
	r.Quo(r, big.NewRat(divisor, 1))
	if r.Cmp(big.NewRat(1, 1)) > 0 {
		return nil, fmt.Errorf("%q is over %d", text, divisor)
	}
	return r, nil
}

func ratOf(n uint64) *big.Rat { return new(big.Rat).SetInt(new(big.Int).SetUint64(n)) }

// round4 writes a number for a person: four significant digits, or all digits
// before the point.
func round4(v float64) string {
	s := strconv.FormatFloat(v, 'g', 4, 64)
	if strings.ContainsAny(s, "e") {
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return s
}
