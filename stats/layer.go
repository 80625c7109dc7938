package stats

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
)

// A LayerKind says who chooses a layer's experts, in the words of the
// canonical form.
type LayerKind string

const (
	LayerRouted LayerKind = "routed"
	LayerShared LayerKind = "shared" // shared experts: every token passes through them
	LayerHash   LayerKind = "hash"   // experts chosen by the token's id alone
	LayerNextN  LayerKind = "nextn"  // multi-token prediction, after the trunk
)

// WholeTolerance is how far a count may lie from a whole number and still be
// one: averages and float32 sums of counts leave such crumbs.
const WholeTolerance = 1e-3

// Float32Whole is the largest whole number up to which float32 counts one by
// one.
const Float32Whole = 1 << 24

// Name names the layer in messages: "blk.3", or "row 3" where the source's
// numbers are rows of unknown meaning.
func (l *Layer) Name(axis LayerAxis) string {
	if axis == AxisRows {
		return fmt.Sprintf("row %d", l.Index)
	}
	return fmt.Sprintf("blk.%d", l.Index)
}

// Experts returns the number of experts that the layer's signals have entries
// for, 0 where it has none.
func (l *Layer) Experts() int {
	if l.Counts != nil {
		return len(l.Counts)
	}
	for _, v := range l.Signals() {
		if *v.Values != nil {
			return len(*v.Values)
		}
	}
	return 0
}

// A Signal is one of a layer's per-expert numbers and its name in the
// canonical form.
type Signal struct {
	Name   string
	Values *[]float64
}

// Signals lists every per-expert number but the counts, in a fixed order.
func (l *Layer) Signals() []Signal {
	return []Signal{
		{"weights", &l.Weights},
		{"in_energy.gate_up", &l.GateUpEnergy},
		{"in_energy.down", &l.DownEnergy},
		{"in_mean_energy.gate_up", &l.GateUpMeanEnergy},
		{"in_mean_energy.down", &l.DownMeanEnergy},
		{"gate_weight_sum", &l.GateWeightSum},
		{"gate_weight_sq_sum", &l.GateWeightSqSum},
		{"out_norm_sum", &l.OutNormSum},
		{"gated_out_norm_sum", &l.GatedOutNormSum},
		{"max_out", &l.MaxOut},
	}
}

// Activations returns the sum of the counts. The error is of a sum beyond
// 2^64 - 1.
func (l *Layer) Activations() (uint64, error) {
	var sum uint64
	for _, n := range l.Counts {
		next, carry := bits.Add64(sum, n, 0)
		if carry != 0 {
			return 0, errors.New("counts sum to more than 2^64 - 1")
		}
		sum = next
	}
	return sum, nil
}

// SetTopK states how many experts each token is routed to, and derives the
// tokens from it where the source does not give them. Exact counts and tokens
// that contradict it are an error.
func (l *Layer) SetTopK(k int, kind Kind, chunks uint64) error {
	if k < 1 {
		return fmt.Errorf("%d experts per token", k)
	}
	if e := l.Experts(); e > 0 && k > e {
		return fmt.Errorf("%d experts per token, of %d", k, e)
	}
	if l.Counts != nil && kind == KindExact {
		sum, err := l.Activations()
		if err != nil {
			return err
		}
		if l.Tokens == nil {
			tokens := sum / uint64(k)
			l.Tokens, l.TokensTopK = &tokens, k
		} else if l.TokensTopK == k {
			// They are what the counts and k make them.
		} else if *l.Tokens == 0 && sum > 0 {
			return fmt.Errorf("counts sum to %d over no tokens", sum)
		} else if sum > 0 && !l.fitsTopK(uint64(k), sum, chunks) {
			return &topKError{observed: l.observedTopK(sum), stated: k, sum: sum, tokens: *l.Tokens}
		}
	}
	l.TopK = k
	return nil
}

// StateTokens sets the tokens of a layer whose counts are topK for each.
func (l *Layer) StateTokens(tokens uint64, topK int) error {
	if l.TopK != 0 && l.TopK != topK {
		return fmt.Errorf("layer %d: %d experts per token, where %d were stated", l.Index, topK, l.TopK)
	}
	l.Tokens, l.TopK = &tokens, topK
	return nil
}

// A topKError reports counts that contradict the experts per token.
type topKError struct {
	observed    int // nearest whole number
	stated      int
	sum, tokens uint64
}

func (e *topKError) Error() string {
	return fmt.Sprintf("counts sum to %d over %d tokens, which is %.10g experts per token, not %d",
		e.sum, e.tokens, float64(e.sum)/float64(e.tokens), e.stated)
}

// observedTopK is the whole number of experts per token nearest to the sum of
// the counts over the tokens, 0 where it is unknown.
func (l *Layer) observedTopK(sum uint64) int {
	if l.Tokens == nil || *l.Tokens == 0 {
		return 0
	}
	k := sum / *l.Tokens
	if sum%*l.Tokens > *l.Tokens/2 {
		k++
	}
	return int(min(k, math.MaxInt32))
}

// fitsTopK reports whether the counts, which sum to sum, are those of k
// experts per token. Tokens may be short: llama-imatrix skips the router in
// batches of fewer than 16 rows, never the experts. Above 2^24, float32 has
// rounded counts by up to half a unit in the last place.
func (l *Layer) fitsTopK(k, sum, chunks uint64) bool {
	tokens := *l.Tokens
	if sum%tokens == 0 && sum/tokens <= uint64(len(l.Counts)) && tokens <= Float32Whole {
		return sum/tokens == k // nothing was skipped
	}
	slack := tokenSlack(tokens, chunks)
	rounding := halfUlp(tokens) * k
	for _, n := range l.Counts {
		rounding += halfUlp(n)
	}
	hi, low := bits.Mul64(k, tokens)
	if hi != 0 || low > math.MaxUint64/4 || sum > math.MaxUint64/4 {
		return false
	}
	return sum+rounding >= low && sum <= low+rounding+k*slack
}

// tokenSlack returns how many tokens the router's count may be short of those
// that went through the experts: fewer than 16 rows per chunk. Where the
// chunks are unknown they are taken to have 512 tokens.
func tokenSlack(tokens, chunks uint64) uint64 {
	if chunks == 0 || chunks > tokens {
		chunks = tokens/512 + 1
	}
	return min(16*chunks, max(tokens/8, 16))
}

// halfUlp is the most by which float32 rounds a whole number: 0 up to 2^24.
func halfUlp(n uint64) uint64 {
	if n <= Float32Whole {
		return 0
	}
	return 1 << (bits.Len64(n) - 25)
}

// CheckCounts checks what must hold between counts and tokens in any file
// whose tokens were counted apart from the experts, and derives the experts
// per token.
func (l *Layer) CheckCounts(chunks uint64) error {
	sum, err := l.Activations()
	if err != nil || l.Tokens == nil || *l.Tokens == 0 || sum == 0 {
		return err
	}
	tokens := *l.Tokens
	for e, n := range l.Counts {
		if n > tokens+tokenSlack(tokens, chunks)+halfUlp(n)+halfUlp(tokens) {
			return fmt.Errorf("expert %d has count %d of %d tokens: the counts are not those of one run", e, n, tokens)
		}
	}
	for k := sum / tokens; k > 0 && k+1 >= sum/tokens; k-- {
		if l.fitsTopK(k, sum, chunks) {
			l.TopK = int(min(k, math.MaxInt32))
			return nil
		}
	}
	if k := sum/tokens + 1; l.fitsTopK(k, sum, chunks) {
		l.TopK = int(min(k, math.MaxInt32))
		return nil
	}
	return fmt.Errorf("counts sum to %d over %d tokens, which is %.10g experts per token, not a whole number: the counts are not those of one run",
		sum, tokens, float64(sum)/float64(tokens))
}
