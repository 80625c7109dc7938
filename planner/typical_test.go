package planner

import (
	"encoding/binary"
	cmdflag "flag"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/quant"
)

var updateTypical = cmdflag.Bool("update-typical", false, "measure the typical errors anew and write typical_table.go")

// TestTypicalErrors measures what the table of typical errors holds. Run with
// -update-typical it writes the table; else it checks that the table still says
// what our encoders do.
func TestTypicalErrors(t *testing.T) {
	sample := readTypicalSample(t)
	measured := map[quant.Type]float64{}
	var types []quant.Type
	for _, f := range quant.Formats() {
		if f.Engine != quant.LlamaCpp || !f.Writable || f.Type == quant.F32 || f.Type == quant.F16 {
			continue
		}
		if !quant.CanEncode(f.Type) {
			continue
		}
		r := sample.relativeError(t, f.Type, encoderFor(t, f.Type))
		measured[f.Type] = r
		types = append(types, f.Type)
		if have, ok := typicalErrors[f.Type]; !*updateTypical && (!ok || math.Abs(r-have) > 0.15*have) {
			t.Errorf("%s: relative error %.4g, the table has %.4g: run with -update-typical", f.Name, r, have)
		}
	}
	if *updateTypical {
		writeTypicalTable(t, types, measured)
	}
}

type typicalSample struct {
	rows    [][]float32
	weights [][]float32 // per row's column
}

// readTypicalSample returns the rows of two experts of every expert tensor of
// bytemoe-2x8, with the column weights of its imatrix.
func readTypicalSample(t *testing.T) *typicalSample {
	const dir = "../testdata/bytemoe-2x8/"
	m, err := ggufio.Open(dir + "model-f16.gguf")
	if err != nil {
		t.Fatal(err)
	}
	im, err := ggufio.OpenAny(dir + "mix.imatrix.gguf")
	if err != nil {
		t.Fatal(err)
	}
	data, err := m.OpenData()
	if err != nil {
		t.Fatal(err)
	}
	defer data.Close()
	s := &typicalSample{}
	for i := range m.Tensors {
		x := &m.Tensors[i]
		if !x.Role.IsExpert() {
			continue
		}
		sums, counts := readFloats(t, im, x.Name+".in_sum2"), readFloats(t, im, x.Name+".counts")
		columns := int(x.Shape[0])
		for _, e := range []int{1, 5} {
			raw := make([]byte, x.SizeBytes/x.Shape[2])
			if err := data.ReadExpert(x, e, raw); err != nil {
				t.Fatal(err)
			}
			values := make([]float32, len(raw)/2)
			if err := quant.Decode(x.Type, values, raw); err != nil {
				t.Fatal(err)
			}
			weights := slices.Clone(sums[e*columns : (e+1)*columns])
			for j := range weights {
				weights[j] /= counts[e]
			}
			for i := 0; i < len(values); i += 6 * columns { // every sixth row
				row := values[i : i+columns]
				s.rows = append(s.rows, row)
				s.weights = append(s.weights, weights)
			}
		}
	}
	if len(s.rows) == 0 {
		t.Fatal("no expert rows")
	}
	return s
}

func readFloats(t *testing.T, m *ggufio.Model, name string) []float32 {
	t.Helper()
	data, err := m.OpenData()
	if err != nil {
		t.Fatal(err)
	}
	defer data.Close()
	i := slices.IndexFunc(m.Tensors, func(x ggufio.Tensor) bool { return x.Name == name })
	if i < 0 {
		t.Fatalf("no %s", name)
	}
	raw := make([]byte, m.Tensors[i].SizeBytes)
	if err := data.ReadRange(&m.Tensors[i], 0, raw); err != nil {
		t.Fatal(err)
	}
	out := make([]float32, len(raw)/4)
	for j := range out {
		out[j] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*j:]))
	}
	return out
}

// encoderFor returns our encoder of a type.
func encoderFor(t *testing.T, typ quant.Type) func(row, weights []float32) []byte {
	enc, err := quant.NewEncoder(typ)
	if err != nil {
		t.Fatal(err)
	}
	f, _ := quant.Lookup(typ)
	return func(row, weights []float32) []byte {
		n, err := f.Layout.EncodedBytes(1, uint64(len(row)))
		if err != nil {
			t.Fatal(err)
		}
		dst := make([]byte, n)
		if err := enc.EncodeRow(dst, row, weights); err != nil {
			t.Fatal(err)
		}
		return dst
	}
}

func (s *typicalSample) relativeError(t *testing.T, typ quant.Type, encode func(row, weights []float32) []byte) float64 {
	var errs, norm float64
	for i, row := range s.rows {
		decoded := make([]float32, len(row))
		if err := quant.Decode(typ, decoded, encode(row, s.weights[i])); err != nil {
			t.Fatal(err)
		}
		for j := range row {
			w, d := float64(s.weights[i][j]), float64(row[j])-float64(decoded[j])
			errs += float64(w * float64(d*d))
			norm += float64(w * float64(float64(row[j])*float64(row[j])))
		}
	}
	return errs / norm
}

func writeTypicalTable(t *testing.T, types []quant.Type, measured map[quant.Type]float64) {
	t.Helper()
	var b strings.Builder
	b.WriteString("package planner\n\nimport \"github.com/ggufplan/ggufplan/ggufio/quant\"\n\n")
	b.WriteString("// typicalErrors are relative errors weighted by an imatrix, over expert weights\n// of testdata/bytemoe-2x8. Made by: go test ./planner -run TypicalErrors -update-typical\n")
	b.WriteString("var typicalErrors = map[quant.Type]float64{\n")
	width := 0
	for _, typ := range types {
		width = max(width, len(typ.String()))
	}
	for _, typ := range types {
		fmt.Fprintf(&b, "\tquant.%s:%s%.3g,\n", typ, strings.Repeat(" ", width-len(typ.String())+1), measured[typ])
	}
	b.WriteString("}\n")
	if err := os.WriteFile("typical_table.go", []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}
