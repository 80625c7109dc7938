package quant_test

import (
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio/quant"
)

// What the library gave, so that decoders and encoders are held to it where
// the library is missing. `go test ./ggufio/quant -run Vectors -update` asks
// it again.
var update = flag.Bool("update", false, "write testdata/quant anew from the library")

const vectors = "../../testdata/quant"

// TestDecodeVectors decodes blocks to the bits that GGML decoded them to.
func TestDecodeVectors(t *testing.T) {
	path := filepath.Join(vectors, "decode.tsv")
	if *update {
		writeDecodeVectors(t, path)
	}
	seen := map[string]bool{}
	for _, fields := range readTSV(t, path, 3) {
		f, ok := quant.ByName(fields[0])
		if !ok {
			t.Fatalf("%s: no type %q", path, fields[0])
		}
		seen[f.Name] = true
		src, bits := unhex(t, fields[1]), unhex(t, fields[2])
		want := make([]float32, len(bits)/4)
		for i := range want {
			want[i] = math.Float32frombits(binary.BigEndian.Uint32(bits[4*i:]))
		}
		got := make([]float32, len(want))
		if err := quant.Decode(f.Type, got, src); err != nil {
			t.Fatal(err)
		}
		reportDecode(t, f, src, got, want)
	}
	for _, f := range decodable() {
		if !seen[f.Name] {
			t.Errorf("%s: no vector of %s", path, f.Name)
		}
	}
}

func writeDecodeVectors(t *testing.T, path string) {
	t.Helper()
	var out strings.Builder
	for _, f := range decodable() {
		size := int(f.Layout.BytesPerBlock)
		// Random blocks, from behind those of one byte value.
		src := decodeBlocks(f)[3*size:][:max(2, 32/int(f.Layout.WeightsPerBlock))*size]
		want, err := oracleDecode(t, f, src)
		if err != nil {
			t.Fatal(err)
		}
		var bits []byte
		for _, v := range want {
			bits = binary.BigEndian.AppendUint32(bits, math.Float32bits(v))
		}
		fmt.Fprintf(&out, "%s\t%x\t%x\n", f.Name, src, bits)
	}
	if err := os.WriteFile(path, []byte(out.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestEncodeVectors holds the error on real weights to what the library left.
func TestEncodeVectors(t *testing.T) {
	path := filepath.Join(vectors, "encode.tsv")
	samples, err := realSamples()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		writeEncodeVectors(t, path, samples)
	}
	seen := map[string]bool{}
	for _, fields := range readTSV(t, path, 3) {
		f, ok := quant.ByName(fields[0])
		if !ok {
			t.Fatalf("%s: no type %q", path, fields[0])
		}
		seen[f.Name] = true
		enc, err := quant.NewEncoder(f.Type)
		if err != nil {
			t.Fatal(err)
		}
		for i, weighted := range []bool{true, false} {
			if fields[1+i] == "-" {
				continue
			}
			theirs, err := strconv.ParseFloat(fields[1+i], 64)
			if err != nil {
				t.Fatalf("%s: %s: %v", path, f.Name, err)
			}
			ours := 0.0
			for _, s := range vectorSamples(samples, weighted) {
				_, got := roundTrip(t, f, enc, s.rows, s.weights)
				ours += weightedError(s, got)
			}
			if !(ours <= 1.02*theirs) {
				t.Errorf("%s, importance %v: error %g, the library's %g", f.Name, weighted, ours, theirs)
			}
		}
	}
	for _, f := range encodable() {
		if !seen[f.Name] {
			t.Errorf("%s: no vector of %s", path, f.Name)
		}
	}
}

func writeEncodeVectors(t *testing.T, path string, samples []sample) {
	t.Helper()
	var out strings.Builder
	for _, f := range encodable() {
		fmt.Fprint(&out, f.Name)
		for _, weighted := range []bool{true, false} {
			if !weighted && quant.EncodeNeedsWeights(f.Type) {
				fmt.Fprint(&out, "\t-")
				continue
			}
			sum := 0.0
			for _, s := range vectorSamples(samples, weighted) {
				wire, err := oracleEncode(t, f, s.rows, s.columns, s.weights)
				if err != nil {
					t.Fatal(err)
				}
				got := make([]float32, len(s.rows))
				if err := quant.Decode(f.Type, got, wire); err != nil {
					t.Fatal(err)
				}
				sum += weightedError(s, got)
			}
			fmt.Fprintf(&out, "\t%.6g", sum)
		}
		fmt.Fprintln(&out)
	}
	if err := os.WriteFile(path, []byte(out.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// vectorSamples returns four rows of each sample, as samples of one row.
func vectorSamples(samples []sample, weighted bool) []sample {
	var list []sample
	for _, s := range samples {
		for r := range 4 {
			one := sample{rows: s.rows[r*s.columns : (r+1)*s.columns], columns: s.columns}
			if weighted {
				one.weights = s.weights
			}
			list = append(list, one)
		}
	}
	return list
}

func weightedError(s sample, got []float32) float64 {
	sum := 0.0
	for i, x := range s.rows {
		w, d := 1.0, float64(x)-float64(got[i])
		if s.weights != nil {
			w = float64(s.weights[i%s.columns])
		}
		sum += w * d * d
	}
	return sum
}

func readTSV(t *testing.T, path string, columns int) [][]string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var rows [][]string
	for i, line := range strings.Split(strings.TrimSuffix(string(data), "\n"), "\n") {
		fields := strings.Split(line, "\t")
		if len(fields) != columns {
			t.Fatalf("%s:%d: %d columns, want %d", path, i+1, len(fields), columns)
		}
		rows = append(rows, fields)
	}
	return rows
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
