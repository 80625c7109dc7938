package stats

import (
	"math"
)

// DefaultDeff is the design effect assumed where a source has no block
// records: tokens of a text are correlated, so a count is worth less than as
// many independent draws. It is a guess.
const DefaultDeff = 10

// Deff returns the layer's design effect: measured, or [DefaultDeff].
func (l *Layer) Deff() float64 {
	if l.Blocks != nil {
		return l.Blocks.Deff
	}
	return DefaultDeff
}

// A Flag says how far the count of an expert can be trusted.
type Flag string

// The flags, by effective count: the count over the design effect.
const (
	FlagUnseen Flag = "unseen" // no count
	FlagScarce Flag = "scarce" // below 10
	FlagLow    Flag = "low"    // below 100
	FlagOK     Flag = "ok"     // at least 100
	FlagGood   Flag = "good"   // at least 400
)

// Effective counts at which the flags begin.
const (
	ScarceBelow = 10
	LowBelow    = 100
	GoodFrom    = 400
)

// FlagOf grades a count under a design effect.
func FlagOf(count uint64, deff float64) Flag {
	switch n := float64(count) / deff; {
	case count == 0:
		return FlagUnseen
	case n < ScarceBelow:
		return FlagScarce
	case n < LowBelow:
		return FlagLow
	case n < GoodFrom:
		return FlagOK
	}
	return FlagGood
}

// An Interval holds a share with stated confidence.
type Interval struct{ Low, High float64 }

// z95 is the normal quantile that leaves 2.5 % on either side.
const z95 = 1.959963984540054

// Wilson returns the 95 % interval of a share of which hits of trials draws
// were seen. Both may be fractions, as effective sizes are.
//
//	centre = (p + z^2/2T) / (1 + z^2/T)
//	half   = z sqrt(p(1-p)/T + z^2/4T^2) / (1 + z^2/T)
//
// With no trials it is [0, 1].
func Wilson(hits, trials float64) Interval {
	if !(trials > 0) {
		return Interval{0, 1}
	}
	p := min(max(hits/trials, 0), 1)
	z2 := float64(z95 * z95)
	scale := 1 + z2/trials
	centre := (p + z2/(2*trials)) / scale
	variance := float64(p*(1-p))/trials + z2/float64(4*float64(trials*trials))
	half := float64(z95*math.Sqrt(variance)) / scale
	iv := Interval{max(centre-half, 0), min(centre+half, 1)}
	// Rounding must not keep an end that is exact in theory.
	if p == 0 {
		iv.Low = 0
	}
	if p == 1 {
		iv.High = 1
	}
	return iv
}

// ShareInterval returns the 95 % interval of an expert's share of its layer's
// tokens, corrected for the design effect: [Wilson] of count/deff hits in
// tokens/deff draws. It reports false where counts or tokens are unknown.
func (l *Layer) ShareInterval(expert int) (Interval, bool) {
	if l.Counts == nil || l.Tokens == nil || *l.Tokens == 0 {
		return Interval{}, false
	}
	deff := l.Deff()
	return Wilson(float64(l.Counts[expert])/deff, float64(*l.Tokens)/deff), true
}

// EffectiveTokens returns the number of independent tokens that the layer's
// tokens are worth, and false where they are unknown.
func (l *Layer) EffectiveTokens() (float64, bool) {
	if l.Tokens == nil {
		return 0, false
	}
	return float64(*l.Tokens) / l.Deff(), true
}

// TokensNeeded returns how many tokens more would bring an expert to an
// effective count at the rate seen so far, 0 where it is there. An unseen
// expert may be used as often as 3 times in the effective tokens (the rule of
// three), so for it this is the least that could do. It reports false where
// counts or tokens are unknown.
func (l *Layer) TokensNeeded(expert int, effectiveCount float64) (uint64, bool) {
	if l.Counts == nil || l.Tokens == nil || *l.Tokens == 0 {
		return 0, false
	}
	effective := float64(l.Counts[expert]) / l.Deff()
	if effective >= effectiveCount {
		return 0, true
	}
	if l.Counts[expert] == 0 {
		effective = 3
	}
	tokens := float64(*l.Tokens)
	more := math.Ceil(float64(tokens*(effectiveCount/effective)) - tokens)
	return uint64(min(max(more, 0), 1<<62)), true
}

// A Verdict says whether more tokens would change the picture.
type Verdict string

// The verdicts on a layer.
const (
	VerdictStable   Verdict = "stable"
	VerdictUnstable Verdict = "unstable"
	VerdictUnknown  Verdict = "unknown" // no block records to split
)

// A layer is stable if its two halves agree this far.
const (
	stableCorrelation = 0.95
	stableDistance    = 0.05
)

// Stability compares the two halves of a layer's blocks: how far traffic
// moved between them, and the verdict. The comparison is zero where the
// verdict is unknown.
func (l *Layer) Stability() (Shift, Verdict) {
	if l.Blocks == nil || l.Blocks.HalfCounts[0] == nil || l.Blocks.HalfCounts[1] == nil {
		return Shift{}, VerdictUnknown
	}
	s, ok := shiftBetween(Shares(l.Blocks.HalfCounts[0], nil), Shares(l.Blocks.HalfCounts[1], nil))
	switch {
	case !ok:
		return Shift{}, VerdictUnknown
	case s.Spearman != nil && *s.Spearman >= stableCorrelation && s.JensenShannon <= stableDistance:
		return s, VerdictStable
	}
	return s, VerdictUnstable
}
