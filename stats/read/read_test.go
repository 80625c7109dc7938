package read

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/stats"
)

func read(t *testing.T, path string) *stats.Evidence {
	t.Helper()
	ev, err := File(context.Background(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return ev
}

// The state of each of these files, and the counts of the run that all come
// from, are in testdata/imatrix/README.md.
func TestImatrixFixtures(t *testing.T) {
	first := []uint64{1038, 492, 756, 1486, 853, 755, 764, 0}
	double := []uint64{2076, 984, 1512, 2972, 1706, 1510, 1528, 0}
	for _, tt := range []struct {
		file, format string
		kind         stats.Kind
		counts       []uint64 // of layer 0
		tokens       uint64   // 0 for unknown
		unseen       []int
		wantErr      string
	}{
		{"moe8.imatrix.gguf", "imatrix-gguf", stats.KindExact, first, 3072, nil, ""},
		{"moe8.rechunked-256.gguf", "imatrix-gguf", stats.KindExact, first, 3072, nil, ""},
		{"moe8.merged-gguf+gguf.gguf", "imatrix-gguf", stats.KindExact, double, 6144, nil, ""},
		{"moe8.dat-to-gguf.gguf", "imatrix-gguf", stats.KindNone, nil, 0, []int{7}, ""},
		{"moe8.legacy.dat", "imatrix-dat", stats.KindNone, nil, 0, []int{7}, ""},
		{"moe8.merged.dat", "imatrix-dat", stats.KindNone, nil, 0, []int{7}, ""},
		{"moe8.merged-gguf+dat.gguf", "", "", nil, 0, nil, "blk.0: every sum of squares of expert 7 equals its count"},
	} {
		t.Run(tt.file, func(t *testing.T) {
			ev, err := File(context.Background(), "../../testdata/imatrix/"+tt.file, Options{})
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Fatalf("error %v, want %q", err, tt.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if ev.Kind != tt.kind || ev.Inputs[0].Format != tt.format || len(ev.Layers) != 2 {
				t.Fatalf("kind %s, format %s, %d layers", ev.Kind, ev.Inputs[0].Format, len(ev.Layers))
			}
			l := ev.Layers[0]
			if !slices.Equal(l.Counts, tt.counts) || !slices.Equal(l.UnseenKnown, tt.unseen) {
				t.Errorf("counts %v, unseen %v", l.Counts, l.UnseenKnown)
			}
			if got := l.Tokens; (got == nil) != (tt.tokens == 0) || got != nil && *got != tt.tokens {
				t.Errorf("tokens %v, want %d", got, tt.tokens)
			}
		})
	}
}
