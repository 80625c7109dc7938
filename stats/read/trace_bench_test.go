package read

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/stats"
)

// traceShape is a model whose traces the benchmarks make: Qwen3-30B-A3B.
const (
	traceLayers  = 48
	traceExperts = 128
	traceTopK    = 8
)

// drawExperts fills ids with distinct experts, low ones more often.
func drawExperts(rng *rand.Rand, ids []int) {
	for i := range ids {
	again:
		e := int(float64(traceExperts) * rng.Float64() * rng.Float64())
		for _, other := range ids[:i] {
			if other == e {
				goto again
			}
		}
		ids[i] = e
	}
}

// makeTrace writes tokens of a trace, each line by line.
func makeTrace(tokens int, line func(b *bytes.Buffer, layer, token int, ids []int, rng *rand.Rand)) []byte {
	rng := rand.New(rand.NewPCG(1, 2))
	var b bytes.Buffer
	ids := make([]int, traceTopK)
	for token := range tokens {
		for layer := range traceLayers {
			drawExperts(rng, ids)
			line(&b, layer, token, ids, rng)
		}
	}
	return b.Bytes()
}

func jsonLine(b *bytes.Buffer, layer, token int, ids []int, rng *rand.Rand) {
	weights := make([]string, len(ids))
	for i := range weights {
		weights[i] = strconv.FormatFloat(rng.Float64(), 'f', 4, 64)
	}
	fmt.Fprintf(b, `{"layer": %d, "experts": %s, "weights": [%s], "seq": %d, "pos": %d}`+"\n",
		layer, strings.ReplaceAll(fmt.Sprint(ids), " ", ", "), strings.Join(weights, ", "), token/512, token%512)
}

func bareJSONLine(b *bytes.Buffer, layer, token int, ids []int, _ *rand.Rand) {
	fmt.Fprintf(b, `{"layer":%d,"experts":%s}`+"\n", layer, strings.ReplaceAll(fmt.Sprint(ids), " ", ","))
}

func listLine(b *bytes.Buffer, layer, _ int, ids []int, _ *rand.Rand) {
	fmt.Fprintf(b, "%d,%s\n", layer, strings.Trim(fmt.Sprint(ids), "[]"))
}

func pairLines(b *bytes.Buffer, layer, _ int, ids []int, _ *rand.Rand) {
	for _, e := range ids {
		fmt.Fprintf(b, "%d,%d\n", layer, e)
	}
}

func wideLines(b *bytes.Buffer, layer, _ int, ids []int, rng *rand.Rand) {
	for slot, e := range ids {
		fmt.Fprintf(b, "decode,%d,%d,%d,%.4f\n", layer, slot, e, rng.Float64())
	}
}

func benchmarkReader(b *testing.B, data []byte, read func(context.Context, *source, Options) (*stats.Evidence, error)) {
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := read(context.Background(), memorySource(bytes.NewReader(data)), Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTraceJSONL(b *testing.B) {
	weighted := makeTrace(2000, jsonLine)
	bare := makeTrace(4000, bareJSONLine)
	b.Run("weights", func(b *testing.B) { benchmarkReader(b, weighted, readTraceJSONL) })
	b.Run("bare", func(b *testing.B) { benchmarkReader(b, bare, readTraceJSONL) })
	// What decoding line by line with the standard library reaches.
	b.Run("encoding-json", func(b *testing.B) {
		b.SetBytes(int64(len(weighted)))
		for b.Loop() {
			var counts [traceLayers][traceExperts]uint64
			lines := bufio.NewScanner(bytes.NewReader(weighted))
			for lines.Scan() {
				var line struct {
					Layer   int       `json:"layer"`
					Experts []int     `json:"experts"`
					Weights []float64 `json:"weights"`
				}
				if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
					b.Fatal(err)
				}
				for _, e := range line.Experts {
					counts[line.Layer][e]++
				}
			}
		}
	})
}

var streamBytes = flag.Int("stream-bytes", 32<<20, "length of the trace that BenchmarkTraceStream reads")

// BenchmarkTraceStream reads one generated trace of any length, and reports
// the memory in use at its end: the same for 10 GB as for 32 MB.
//
//	go test ./stats -run '^$' -bench TraceStream -benchtime 1x -stream-bytes 10000000000
func BenchmarkTraceStream(b *testing.B) {
	text := makeTrace(500, jsonLine)
	n := *streamBytes/len(text) + 1
	b.SetBytes(int64(n * len(text)))
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		ev, err := readTraceJSONL(context.Background(), memorySource(&repeated{text: text, n: n}), Options{})
		if err != nil {
			b.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc), "allocated-B")
		runtime.KeepAlive(ev)
	}
}

func BenchmarkTraceCSV(b *testing.B) {
	lists := append([]byte("layer_id,expert_ids\n"), makeTrace(8000, listLine)...)
	pairs := append([]byte("layer,expert\n"), makeTrace(8000, pairLines)...)
	b.Run("lists", func(b *testing.B) { benchmarkReader(b, lists, readTraceCSV) })
	b.Run("pairs", func(b *testing.B) { benchmarkReader(b, pairs, readTraceCSV) })
	b.Run("pairs-crlf", func(b *testing.B) {
		benchmarkReader(b, bytes.ReplaceAll(pairs, []byte("\n"), []byte("\r\n")), readTraceCSV)
	})
	wide := append([]byte("phase,layer,slot,expert,weight\n"), makeTrace(2000, wideLines)...)
	b.Run("wide", func(b *testing.B) { benchmarkReader(b, wide, readTraceCSV) })
	b.Run("encoding-csv", func(b *testing.B) {
		b.SetBytes(int64(len(pairs)))
		for b.Loop() {
			var counts [traceLayers][traceExperts]uint64
			rows := csv.NewReader(bytes.NewReader(pairs))
			rows.ReuseRecord = true
			for n := 0; ; n++ {
				row, err := rows.Read()
				if err == io.EOF {
					break
				}
				if err != nil {
					b.Fatal(err)
				}
				layer, _ := strconv.Atoi(row[0])
				expert, _ := strconv.Atoi(row[1])
				counts[layer][expert]++
			}
		}
	})
}
