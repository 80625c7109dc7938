package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/ggufplan/ggufplan/planner/review"
	"github.com/ggufplan/ggufplan/stats"
)

// write prints the report for a person.
func (r *statsReport) write(w io.Writer, limit review.Limit) {
	files := review.NewTable("file", "format", "traffic", "phase", ">size", "sha256")
	for _, in := range r.Inputs {
		files.Add(review.Printable(in.Name), in.Format, in.Kind, review.ValueOr(in.Phase, "-"), review.Size(in.SizeBytes), in.SHA256[:min(16, len(in.SHA256))])
	}
	files.Write(w, "")
	fmt.Fprintln(w)
	r.writeFacts(w)
	fmt.Fprintln(w)
	r.writeLayers(w)
	if r.Deff != nil {
		fmt.Fprintln(w)
		r.writeConfidence(w)
	}
	if r.Diff != nil {
		fmt.Fprintln(w)
		r.Diff.write(w)
	}
	var lines []string
	for _, f := range r.Findings {
		subject := ""
		if f.Subject != "" {
			subject = review.Printable(f.Subject) + ": "
		}
		lines = append(lines, fmt.Sprintf("%s: %s%s", f.Code, subject, review.Printable(f.Message)))
	}
	if len(lines) > 0 {
		fmt.Fprintln(w)
		review.WriteFirst(w, lines, limit)
	}
}

func (r *statsReport) writeFacts(w io.Writer) {
	fact := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-9s%s\n", name, fmt.Sprintf(format, args...))
	}
	traffic := map[string]string{
		"exact":    "exact counts",
		"scaled":   "counts times an unknown number: only their ratios mean something",
		"relative": "shares without counts",
		"rank":     "an order without counts",
		"none":     "none: the source does not tell how often experts were used",
	}[r.CountsKind]
	if r.Tokens != nil && r.CountsKind == "exact" {
		traffic += fmt.Sprintf(" of %s tokens", review.Count(*r.Tokens))
	}
	if r.TopK != nil {
		noun := "experts"
		if *r.TopK == 1 {
			noun = "expert"
		}
		traffic += fmt.Sprintf(", %d %s per token", *r.TopK, noun)
	}
	noun := "layers"
	if r.LayerAxis == "rows" {
		noun = "rows"
	}
	if len(r.Layers) == 1 {
		noun = strings.TrimSuffix(noun, "s")
	}
	fact("traffic", "%s, %d %s", traffic, len(r.Layers), noun)
	if r.Match != nil {
		fact("match", "%d of %d entries name a tensor of the model and have its size; finetunes of the same shapes look alike", r.Match.Named, r.Match.Entries)
	}
	if len(r.Datasets) > 0 {
		fact("datasets", "%s", review.Printable(strings.Join(r.Datasets, ", ")))
	}
	if len(r.Signals) > 0 {
		fact("signals", "%s", strings.Join(r.Signals, ", "))
	}
	if len(r.Shared) > 0 {
		var layers []int
		for _, s := range r.Shared {
			layers = append(layers, s.Layer)
		}
		fact("shared", "experts that every token uses, in layers %s", review.Ranges(layers))
	}
}

func (r *statsReport) writeLayers(w io.Writer) {
	first := ">layer"
	if r.LayerAxis == "rows" {
		first = ">row"
	}
	t := review.NewTable(first, ">tokens", ">effective", ">gini", "hottest", "coldest", ">unseen", "busiest first")
	for i := range r.Layers {
		l := &r.Layers[i]
		cells := []string{strconv.Itoa(l.Layer), "-", "-", "-", "-", "-", "-"}
		if l.Tokens != nil {
			cells[1] = review.Count(*l.Tokens)
		}
		if s := l.Summary; s != nil {
			cells[2] = fmt.Sprintf("%.2f of %d", s.EffectiveExperts, len(l.Experts))
			cells[3] = fmt.Sprintf("%.3f", s.Gini)
			cells[4], cells[5] = l.shareOf(s.Hottest), l.shareOf(s.Coldest)
		}
		if l.UnseenExperts != nil {
			cells[6] = strconv.Itoa(len(l.UnseenExperts))
		}
		if bars := sparkLine(l.distribution); bars != "" {
			cells = append(cells, bars)
		}
		t.Add(cells...)
	}
	t.Write(w, "")
	for i := range r.Layers {
		if l := &r.Layers[i]; len(l.SuperExperts) > 0 {
			fmt.Fprintf(w, "layer %d: super experts by their largest output: %s\n", l.Layer, review.Ranges(l.SuperExperts))
		}
	}
}

// shareOf writes an expert and its share.
func (l *statsLayer) shareOf(expert int) string {
	return fmt.Sprintf("%-3d %5.1f %%", expert, 100**l.Experts[expert].Share)
}

// sparkWidth is the number of bars: more experts share a bar.
const sparkWidth = 32

// sparkLine draws shares as bars, the busiest first and of full height. With
// many experts a bar is the mean of several. Only what is 0 has no bar.
func sparkLine(shares []float64) string {
	if len(shares) == 0 {
		return ""
	}
	sorted := slices.Clone(shares)
	slices.SortFunc(sorted, func(a, b float64) int { return cmp.Compare(b, a) })
	bars := []rune("▁▂▃▄▅▆▇█")
	n := min(len(sorted), sparkWidth)
	var heights []float64
	for i := range n {
		from, to := i*len(sorted)/n, (i+1)*len(sorted)/n
		sum := 0.0
		for _, v := range sorted[from:to] {
			sum += v
		}
		heights = append(heights, sum/float64(to-from))
	}
	line := make([]rune, n)
	for i, h := range heights {
		line[i] = '·'
		if h > 0 {
			line[i] = bars[min(int(h/heights[0]*float64(len(bars))), len(bars)-1)]
		}
	}
	return string(line)
}

func (r *statsReport) writeConfidence(w io.Writer) {
	columns := []string{">layer", ">design effect", ">effective tokens", ">hottest", ">coldest", ">scarce", ">low", ">more tokens"}
	halves := slices.ContainsFunc(r.Layers, func(l statsLayer) bool { return l.Deff != nil && l.Verdict != string(stats.VerdictUnknown) })
	if halves {
		columns = append(columns, "halves")
	}
	t := review.NewTable(columns...)
	for i := range r.Layers {
		l := &r.Layers[i]
		if l.Deff == nil {
			continue
		}
		cells := []string{strconv.Itoa(l.Layer), fmt.Sprintf("%d (guess)", stats.DefaultDeff), "-", "-", "-", strconv.Itoa(len(l.ScarceExperts)), strconv.Itoa(len(l.LowExperts)), "-"}
		if halves {
			cells = append(cells, l.Verdict)
		}
		if l.DeffMeasured {
			cells[1] = fmt.Sprintf("%.3g (%d blocks)", *l.Deff, l.Blocks)
		}
		if l.EffectiveTokens != nil {
			cells[2] = review.Count(uint64(*l.EffectiveTokens))
			cells[3], cells[4] = l.interval(l.Summary.Hottest), l.interval(l.Summary.Coldest)
		}
		if l.TokensNeeded != nil {
			cells[7] = review.Count(*l.TokensNeeded)
		}
		t.Add(cells...)
	}
	t.Write(w, "")
	fmt.Fprintln(w, "hottest, coldest: 95 % intervals of the share of tokens that use the expert")
	switch {
	case r.TokensNeeded != nil && *r.TokensNeeded > 0:
		fmt.Fprintf(w, "about %s more tokens would leave no expert scarce; one never seen may need many times as many\n", review.Count(*r.TokensNeeded))
	case r.TokensNeeded != nil:
		fmt.Fprintln(w, "no expert is scarce")
	}
	switch r.Verdict {
	case "stable":
		fmt.Fprintln(w, "stable: the two halves of every layer's blocks agree")
	case "unstable":
		fmt.Fprintln(w, "unstable: the two halves of some layer's blocks differ; collect more text")
	default:
		fmt.Fprintln(w, "stability unknown: there are no block records to halve (llama-imatrix --save-frequency leaves some)")
	}
}

// interval writes the share of tokens that an expert gets.
func (l *statsLayer) interval(expert int) string {
	iv := l.Experts[expert].TokenShareRange
	if iv == nil {
		return "-"
	}
	return fmt.Sprintf("%.1f-%.1f %%", 100*iv[0], 100*iv[1])
}

func (d *statsDiff) write(w io.Writer) {
	var names []string
	for _, in := range d.Inputs {
		names = append(names, review.Printable(in.Name))
	}
	fmt.Fprintf(w, "compared with %s:\n", strings.Join(names, ", "))
	t := review.NewTable(">layer", ">distance", ">rank correlation", ">tier changes", "experts")
	for _, s := range d.Layers {
		correlation := "-"
		if s.Spearman != nil {
			correlation = fmt.Sprintf("%.3f", *s.Spearman)
		}
		t.Add(strconv.Itoa(s.Layer), fmt.Sprintf("%.4f", s.JensenShannon), correlation, strconv.Itoa(len(s.Moved)), s.moves())
	}
	t.Write(w, "")
	if len(d.OnlyFirst) > 0 {
		fmt.Fprintf(w, "layers only in the first: %s\n", review.Ranges(d.OnlyFirst))
	}
	if len(d.OnlySecond) > 0 {
		fmt.Fprintf(w, "layers only in the second: %s\n", review.Ranges(d.OnlySecond))
	}
}

// moves lists tier changes, at most a handful.
func (s *statsShift) moves() string {
	const shown = 6
	var list []string
	for _, m := range s.Moved[:min(shown, len(s.Moved))] {
		list = append(list, fmt.Sprintf("%d %s>%s", m.Expert, m.From, m.To))
	}
	if more := len(s.Moved) - shown; more > 0 {
		list = append(list, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(list, ", ")
}
