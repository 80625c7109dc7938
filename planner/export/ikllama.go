package export

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner/llamaquantize"
	"github.com/ggufplan/ggufplan/planner/manifest"
	"github.com/ggufplan/ggufplan/planner/review"
	"github.com/ggufplan/ggufplan/stats"
)

// maxArgumentBytes is what Linux lets one argument of a command have: 32 pages
// (MAX_ARG_STRLEN), a final zero byte included.
const maxArgumentBytes = 32*4096 - 1

// IKLlama returns the plan as the one argument of --custom-q that
// ik_llama.cpp's llama-quantize takes. Where a rule per tensor would make it
// too long for an argument, rules that differ only in the block or expert
// number are joined.
func IKLlama(m *manifest.Manifest, paths Paths) (*Quantization, error) {
	imatrix := ""
	for _, in := range inputs(m) {
		if in.Format == stats.FormatImatrixDat && imatrix == "" {
			imatrix = in.Name
		}
	}
	g := &target{name: "ik_llama.cpp's llama-quantize", engine: quant.IKLlama, fit: func(t *manifest.Tensor, f quant.Format) string {
		return ikUnfit(t, f, imatrix != "")
	}}
	rules, err := g.rules(m)
	if err != nil {
		return nil, err
	}
	if err := ikExpertTypes(m); err != nil {
		return nil, err
	}
	argument := customQ(rules)
	if len(argument) > maxArgumentBytes {
		argument = customQ(joinRules(rules))
	}
	if len(argument) > maxArgumentBytes {
		return nil, fmt.Errorf("%s takes its rules as one argument: %d bytes are needed, the limit is %d", g.name, len(argument), maxArgumentBytes)
	}
	line, err := quantizeLine(m, paths, imatrix, "--custom-q", argument)
	if err != nil {
		return nil, err
	}
	q := &Quantization{Rules: []byte(argument + "\n"), Commands: []string{line}, Losses: review.Losses(m)}
	var left []string
	for _, in := range inputs(m) {
		if llamaquantize.IsImatrix(in.Format) && in.Name != imatrix {
			left = append(left, in.Name)
		}
	}
	if len(left) > 0 {
		q.Notes = append(q.Notes, "ik_llama.cpp reads one importance matrix, of the old .dat format only, so the command line leaves out "+strings.Join(left, ", "))
	}
	return q, nil
}

// ikUnfit returns why ik_llama.cpp would give a tensor another type than f.
func ikUnfit(t *manifest.Tensor, f quant.Format, imatrix bool) string {
	if got := quant.ShapeFallbackIK(f.Type, t.Shape[0]); got != f.Type {
		return fmt.Sprintf("rows of %d weights do not divide into blocks of %s: ik_llama.cpp would write %s", t.Shape[0], f.Name, got)
	}
	if n := interleavedRows(f); n > 1 {
		switch {
		case quant.IsTokenEmbedding(t.Name):
			return fmt.Sprintf("token embeddings cannot have %s, which interleaves rows", f.Name)
		case len(t.Shape) < 2 || t.Shape[1]%uint64(n) != 0:
			return fmt.Sprintf("%s interleaves %d rows, which %d do not divide into", f.Name, n, t.Shape[1])
		}
	}
	if quant.NeedsImatrix(t.Name, f.Type) && !imatrix {
		return fmt.Sprintf("%s needs an importance matrix, and the plan's statistics are not an imatrix of the old .dat format", f.Name)
	}
	return ""
}

// interleavedRows reads the number after a name's last "_R", 1 without one.
func interleavedRows(f quant.Format) int {
	if i := strings.LastIndex(f.Name, "_R"); i >= 0 {
		if n, err := strconv.Atoi(f.Name[i+2:]); err == nil {
			return n
		}
	}
	return 1
}

// ikExpertTypes checks that tensors of one expert each share a type within
// their layer and projection: ik_llama.cpp goes by expert 0's.
func ikExpertTypes(m *manifest.Manifest) error {
	type place struct {
		layer int
		role  string
	}
	first := map[place]*manifest.Tensor{}
	for i := range m.Tensors {
		t := &m.Tensors[i]
		if t.Expert == nil || t.Layer == nil {
			continue
		}
		at := place{*t.Layer, t.Role}
		switch f := first[at]; {
		case f == nil:
			first[at] = t
		case f.PlannedType != t.PlannedType:
			return &UnfitError{Target: "ik_llama.cpp", Tensor: t.Name,
				Reason: fmt.Sprintf("planned as %s, but it loads a layer's experts as one type, and %s is %s", t.PlannedType, f.Name, f.PlannedType)}
		}
	}
	return nil
}

// An ikRule is a pattern and a type. parts are the pattern's pieces between
// the numbers that stand free between dots, numbers the alternatives for each.
type ikRule struct {
	parts   []string
	numbers [][]string
	typ     string
}

// customQ writes rules as --custom-q takes them.
func customQ[R interface{ custom() string }](rules []R) string {
	items := make([]string, len(rules))
	for i, r := range rules {
		items[i] = r.custom()
	}
	return strings.Join(items, ",")
}

func (r rule) custom() string { return pattern(r.tensor.Name) + "=" + r.format.Spelling() }

func (r ikRule) custom() string {
	var b strings.Builder
	b.WriteByte('^')
	for i, part := range r.parts {
		if i > 0 {
			b.WriteString(`\.`)
		}
		if n := r.numbers[i]; len(n) > 1 {
			b.WriteString("(" + strings.Join(n, "|") + ")")
		} else if len(n) == 1 {
			b.WriteString(n[0])
		} else {
			b.WriteString(escape(part))
		}
	}
	return b.String() + "$=" + r.typ
}

// joinRules makes one rule of those that differ in one free number alone,
// first in the block's, then in the expert's. Every name keeps its type and no
// other name is matched, because the alternatives are all there are.
func joinRules(rules []rule) []ikRule {
	joined := make([]ikRule, len(rules))
	for i, r := range rules {
		parts := strings.Split(r.tensor.Name, ".")
		joined[i] = ikRule{parts: parts, numbers: make([][]string, len(parts)), typ: r.format.Spelling()}
		for k, part := range parts {
			if isNumber(part) {
				joined[i].numbers[k] = []string{part}
			}
		}
	}
	for k := range 8 { // no name has more free numbers that vary
		joined = joinAt(joined, k)
	}
	return joined
}

// joinAt joins rules that are alike but for part k.
func joinAt(rules []ikRule, k int) []ikRule {
	var out []ikRule
	at := map[string]int{}
	for _, r := range rules {
		if k >= len(r.parts) || r.numbers[k] == nil {
			out = append(out, r)
			continue
		}
		rest := r
		rest.numbers = slices.Clone(r.numbers)
		rest.numbers[k] = []string{"N"}
		key := rest.custom()
		if i, ok := at[key]; ok {
			out[i].numbers[k] = append(slices.Clip(out[i].numbers[k]), r.numbers[k]...)
			continue
		}
		at[key] = len(out)
		out = append(out, r)
	}
	return out
}

func isNumber(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}
