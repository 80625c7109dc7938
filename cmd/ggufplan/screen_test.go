package main

import (
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/planner/review"
)

// Tables and facts fit a terminal of 80 columns, and no word is lost.
func TestScreenFits(t *testing.T) {
	for _, width := range []int{80, 200} {
		var b strings.Builder
		s := &screen{Writer: &b, width: width}
		words := strings.TrimSpace(strings.Repeat("some words of a reason ", 12))
		table := review.NewTable("tensor", ">bytes", "why")
		table.Add("blk.0.ffn_up_exps.weight", "1,234,567", words)
		table.Write(s, "  ")
		if _, err := s.Write([]byte("nearest     " + words + "\n")); err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(b.String(), "\n") {
			if len(line) > width {
				t.Errorf("%d columns where there are %d: %s", len(line), width, line)
			}
		}
		if got := strings.Count(b.String(), "reason"); got != 24 {
			t.Errorf("%d of 24 words are left in\n%s", got, b.String())
		}
	}
}
