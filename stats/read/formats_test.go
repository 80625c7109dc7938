package read

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/stats"
)

const samples = "../../testdata/statistics/"

// readContent reads content as Read does, from memory.
func readContent(t testing.TB, content []byte, opt Options) (*stats.Evidence, string, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sample")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	ev, err := File(context.Background(), path, opt)
	if err != nil {
		return nil, "", err
	}
	return ev, ev.Inputs[0].Format, nil
}

func mustRead(t testing.TB, content string, opt Options) *stats.Evidence {
	t.Helper()
	ev, _, err := readContent(t, []byte(content), opt)
	if err != nil {
		t.Fatal(err)
	}
	return ev
}

// errorOf reads content that must be refused, and returns the error without
// the path.
func errorOf(t testing.TB, content string, opt Options) string {
	t.Helper()
	ev, _, err := readContent(t, []byte(content), opt)
	if err == nil {
		t.Fatalf("%.80q was read: %+v", content, ev)
	}
	_, message, _ := strings.Cut(err.Error(), "sample: ")
	return message
}

// cureOf returns what would cure an error, the zero one if nothing is known.
func cureOf(err error) stats.HintError {
	var hinted *stats.HintError
	if errors.As(err, &hinted) {
		return *hinted
	}
	return stats.HintError{}
}

type expectedCounts struct {
	Tokens     uint64              `json:"tokens"`
	TopK       int                 `json:"top_k"`
	Experts    int                 `json:"experts"`
	BlockCount int                 `json:"block_count"`
	Layers     map[string][]uint64 `json:"layers"`
}

func readExpected(t *testing.T) expectedCounts {
	t.Helper()
	data, err := os.ReadFile(samples + "expected.json")
	if err != nil {
		t.Fatal(err)
	}
	var want expectedCounts
	if err := json.Unmarshal(data, &want); err != nil {
		t.Fatal(err)
	}
	return want
}

func sample(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(samples + name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// Every sample holds the same routing history, so all of them must give the
// same counts to the last token.
func TestSamplesGiveExpectedCounts(t *testing.T) {
	want := readExpected(t)
	stated := Options{Layers: want.BlockCount, Experts: want.Experts, TopK: want.TopK}
	for _, tt := range []struct {
		name   string
		format string
		kind   stats.Kind
		axis   stats.LayerAxis
		topK   bool // the file alone tells experts per token
	}{
		{"matrix.json", "json-table", stats.KindExact, stats.AxisRows, false},
		{"by-layer.json", "json-table", stats.KindExact, stats.AxisBlocks, false},
		{"expert-profile.json", "json-table", stats.KindExact, stats.AxisBlocks, true},
		{"sglang-stat.json", "json-table", stats.KindScaled, stats.AxisRows, false},
		{"trace.jsonl", "trace-jsonl", stats.KindExact, stats.AxisBlocks, true},
		{"vllm-patch.jsonl", "trace-jsonl", stats.KindExact, stats.AxisBlocks, true},
		{"moe-trace.csv", "trace-csv", stats.KindExact, stats.AxisBlocks, false},
		{"layer-expert-ids.csv", "trace-csv", stats.KindExact, stats.AxisBlocks, true},
		{"sglang-response.json", "routed-experts", stats.KindExact, stats.AxisRows, false},
		{"vllm-response.json", "routed-experts", stats.KindExact, stats.AxisRows, true},
		{"counts-2d.npy", "npy", stats.KindExact, stats.AxisRows, false},
		{"moe-infinity-3d.npy", "npy", stats.KindExact, stats.AxisRows, false},
		{"counts.npz", "npz", stats.KindExact, stats.AxisRows, false},
		{"bare-tensor.pt", "torch", stats.KindExact, stats.AxisRows, false},
		{"sglang-stat.pt", "torch", stats.KindScaled, stats.AxisRows, false},
		{"reap-observations.pt", "torch", stats.KindExact, stats.AxisBlocks, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			content := sample(t, tt.name)
			for _, opt := range []Options{stated, {}} {
				if tt.name == "sglang-response.json" && opt.Layers == 0 {
					continue // its ids have no shape
				}
				ev, format, err := readContent(t, content, opt)
				if err != nil {
					t.Fatal(err)
				}
				if format != tt.format || ev.Kind != tt.kind || ev.LayerAxis != tt.axis {
					t.Errorf("format %s, kind %s, axis %s; want %s, %s, %s", format, ev.Kind, ev.LayerAxis, tt.format, tt.kind, tt.axis)
				}
				if rows := 0; tt.axis == stats.AxisRows {
					if rows = len(want.Layers); ev.Rows != rows {
						t.Errorf("%d rows, want %d", ev.Rows, rows)
					}
				}
				checkCounts(t, ev, want, opt, tt.topK)
			}
		})
	}
}

func checkCounts(t *testing.T, ev *stats.Evidence, want expectedCounts, opt Options, topK bool) {
	t.Helper()
	if len(ev.Layers) != len(want.Layers) {
		t.Fatalf("%d layers, want %d", len(ev.Layers), len(want.Layers))
	}
	for _, l := range ev.Layers {
		counts := want.Layers[fmt.Sprint(l.Index)]
		if opt.Experts == 0 {
			// The last expert is never used, so ids alone do not show it.
			counts = counts[:len(l.Counts)]
		}
		if !slices.Equal(l.Counts, counts) {
			t.Errorf("layer %d: counts %v, want %v", l.Index, l.Counts, counts)
		}
		if opt.TopK == 0 && !topK || ev.Kind == stats.KindScaled {
			if l.Tokens != nil {
				t.Errorf("layer %d: %d tokens, which the file does not tell", l.Index, *l.Tokens)
			}
			continue
		}
		if l.TopK != want.TopK || l.Tokens == nil || *l.Tokens != want.Tokens {
			t.Errorf("layer %d: top-k %d, tokens %v; want %d, %d", l.Index, l.TopK, l.Tokens, want.TopK, want.Tokens)
		}
	}
}

// Placements say where experts lie; taken for counts they would be nonsense.
func TestPlacementsAreRefused(t *testing.T) {
	for _, tt := range []struct{ name, content, key string }{
		{"sglang", string(sample(t, "refuse-physical-map.json")), "physical_to_logical_map"},
		{"vllm-ascend", string(sample(t, "refuse-vllm-ascend-map.json")), "moe_layer_count"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := readContent(t, []byte(tt.content), Options{})
			if err == nil {
				t.Fatal("was read")
			}
			if !strings.Contains(err.Error(), "places experts on devices") {
				t.Errorf("error %q does not say what the file is", err)
			}
			if advice := cureOf(err).Text; !strings.Contains(advice, "logical_count") {
				t.Errorf("advice %q does not say what to export", advice)
			}
		})
	}
}

// A copy of a sample whose every byte in turn is missing its successors must
// be refused or read, and never panic.
func TestTruncatedSamples(t *testing.T) {
	entries, err := os.ReadDir(samples)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		content := sample(t, entry.Name())
		for _, n := range []int{1, 2, 7, 40, 100, len(content) / 3, len(content) / 2, len(content) - 1} {
			if n > len(content) {
				continue
			}
			_, _, err := readContent(t, bytes.Clone(content[:n]), Options{Layers: 2, TopK: 2, Experts: 8})
			binary := strings.HasSuffix(entry.Name(), ".pt") || strings.Contains(entry.Name(), ".np")
			if whole := strings.HasSuffix(entry.Name(), ".json"); (whole || binary) && err == nil {
				t.Errorf("%s: the first %d of %d bytes were read without error", entry.Name(), n, len(content))
			}
		}
	}
}

// memorySource is a source that reads from r.
func memorySource(r io.Reader) *source { return &source{path: "memory", content: bufio.NewReader(r)} }
