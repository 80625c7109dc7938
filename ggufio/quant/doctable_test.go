package quant_test

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ggufplan/ggufplan/ggufio/gguftest/llamacpp"
	"github.com/ggufplan/ggufplan/ggufio/quant"
)

const docTableHead = "//\ttype     bits    error     speed\n"

// TestDocTable holds the errors in the documentation of Encoder to what the
// encoders do. With -update it writes the table, and measures speeds, which
// are not tested.
func TestDocTable(t *testing.T) {
	samples, err := realSamples()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("codec.go")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile(`(?m)^//\t([A-Z]\S+) +(\S+) +(\S+) +(\S+)\n`)
	speeds := map[string]string{}
	for _, m := range row.FindAllStringSubmatch(string(doc), -1) {
		speeds[m[1]] = m[4]
	}
	var table strings.Builder
	for _, f := range encodable() {
		enc, err := quant.NewEncoder(f.Type)
		if err != nil {
			t.Fatal(err)
		}
		e, norm := 0.0, 0.0
		for _, s := range vectorSamples(samples, true) {
			_, got := roundTrip(t, f, enc, s.rows, s.weights)
			e += weightedError(s, got)
			norm += weightedError(s, make([]float32, len(s.rows)))
		}
		if *update {
			speeds[f.Name] = fmt.Sprintf("%.2g", encodeSpeed(t, f, enc, samples[0]))
		}
		fmt.Fprintf(&table, "//\t%-8s %-7.4g %-9.2g %s\n", f.Name, f.Layout.BitsPerWeight(), e/norm, speeds[f.Name])
	}
	at := strings.Index(string(doc), docTableHead)
	if at < 0 {
		t.Fatal("codec.go has no table")
	}
	want := string(doc[:at]) + docTableHead + table.String() + row.ReplaceAllString(string(doc[at+len(docTableHead):]), "")
	if *update {
		if err := os.WriteFile("codec.go", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	// Two digits of an error do not change with every refinement of a search.
	printed := row.FindAllStringSubmatch(string(doc), -1)
	wanted := row.FindAllStringSubmatch(want, -1)
	if len(printed) != len(wanted) {
		t.Fatalf("codec.go lists %d types of %d: run go test ./ggufio/quant -run DocTable -update", len(printed), len(wanted))
	}
	for i, w := range wanted {
		p := printed[i]
		a, errA := strconv.ParseFloat(p[3], 64)
		b, errB := strconv.ParseFloat(w[3], 64)
		if p[1] != w[1] || p[2] != w[2] || errA != nil || errB != nil || a > 1.25*b || b > 1.25*a {
			t.Errorf("codec.go says %q, the encoder does %q: run go test ./ggufio/quant -run DocTable -update", p[0], w[0])
		}
	}
}

// encodeSpeed returns how many times as fast as the library an encoder is, in
// alternating runs, the fastest of each.
func encodeSpeed(t *testing.T, f quant.Format, enc *quant.Encoder, s sample) float64 {
	t.Helper()
	lib := llamacpp.Load(t)
	rows := s.rows                                         // enough for branches not to be learnt by heart
	lib.Encode(uint32(f.Type), rows, s.columns, s.weights) // makes its tables
	dst := make([]byte, lib.RowBytes(uint32(f.Type), s.columns))
	ours, theirs := time.Hour, time.Hour
	for range 15 {
		start := time.Now()
		for at := 0; at < len(rows); at += s.columns {
			if err := enc.EncodeRow(dst, rows[at:at+s.columns], s.weights); err != nil {
				t.Fatal(err)
			}
		}
		ours = min(ours, time.Since(start))
		start = time.Now()
		lib.Encode(uint32(f.Type), rows, s.columns, s.weights)
		theirs = min(theirs, time.Since(start))
	}
	return float64(theirs) / float64(ours)
}
