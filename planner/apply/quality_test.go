package apply

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/gguftest/llamacpp"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/stats"
	"github.com/ggufplan/ggufplan/stats/measure"
	"github.com/ggufplan/ggufplan/stats/read"
)

const (
	realModel   = "../../testdata/bytemoe-2x8/model-f16.gguf"
	realImatrix = "../../testdata/bytemoe-2x8/mix.imatrix.gguf"
)

// Every tensor of the trained model, in every type, has at most the weighted
// error that llama.cpp's own encoders leave, within half a percent.
func TestNoWorseThanTheLibrary(t *testing.T) {
	lib := llamacpp.Load(t)
	m := openModel(t, realModel)
	ev, err := read.File(context.Background(), realImatrix, read.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer ev.Close()
	for typ := range quant.Type(64) {
		f, ok := quant.Lookup(typ)
		if !ok || !f.Quantized || !quant.CanEncode(typ) {
			continue
		}
		t.Run(f.Name, func(t *testing.T) {
			compareWithLibrary(t, lib, m, typ, ev.Columns)
			if !quant.EncodeNeedsWeights(typ) {
				compareWithLibrary(t, lib, m, typ, nil)
			}
		})
	}
}

func compareWithLibrary(t *testing.T, lib *llamacpp.Library, m *ggufio.Model, typ quant.Type, columns stats.Columns) {
	t.Helper()
	// What takes the library a second or more per million weights is compared
	// on fewer of them.
	slow := quant.EncodeNeedsWeights(typ) || typ == quant.IQ3_XXS || typ == quant.IQ3_S || typ == quant.IQ2_S
	chosen := func(x *ggufio.Tensor) bool {
		return (!slow || x.Layer == 1 && (x.Role == ggufio.RoleAttention || x.Role == ggufio.RoleExpertDown)) && len(x.Shape) > 1 && x.Role != ggufio.RoleRouter && (columns == nil || measure.Covers(columns, x))
	}
	l, err := Typed(m, func(x *ggufio.Tensor) quant.Type {
		if chosen(x) {
			return typ
		}
		return x.Type
	}, Options{Names: []string{"ours.gguf"}, Columns: columns})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "ours.gguf")
	if _, err := l.Write(context.Background(), 0, WriteOptions{Path: path}); err != nil {
		t.Fatal(err)
	}
	ours, raw := openModel(t, path), readFile(t, path)
	source, err := os.ReadFile(realModel)
	if err != nil {
		t.Fatal(err)
	}
	step := uint64(4) // of rows
	if slow {
		step = 16
	}
	compared := 0
	for i := range m.Tensors {
		x := &m.Tensors[i]
		if !chosen(x) {
			continue
		}
		compared++
		y, _ := ours.TensorByName(x.Name)
		n := x.Shape[0]
		row, a, b := make([]float32, n), make([]float32, n), make([]float32, n)
		var weights measure.ColumnWeights
		var given []float32
		var ea, eb float64
		for r := uint64(0); r < x.Rows(); r += step {
			if r%x.ExpertRows() == 0 {
				if _, err := weights.Read(columns, x, int(r/x.ExpertRows())); err != nil {
					t.Fatal(err)
				}
				if given = nil; columns != nil {
					given = measure.EncoderWeights(nil, weights.Of(0))
				}
			}
			for _, d := range []struct {
				typ quant.Type
				dst []float32
				src []byte
			}{{x.Type, row, source[x.OffsetBytes+r*x.RowBytes():][:x.RowBytes()]}, {typ, a, raw[y.OffsetBytes+r*y.RowBytes():][:y.RowBytes()]}} {
				if err := quant.Decode(d.typ, d.dst, d.src); err != nil {
					t.Fatal(err)
				}
			}
			lib.Decode(uint32(typ), lib.Encode(uint32(typ), row, int(n), given), b)
			for k, v := range row {
				w := 1.0
				if given != nil {
					w = float64(given[k])
				}
				da, db := float64(v)-float64(a[k]), float64(v)-float64(b[k])
				ea += w * da * da
				eb += w * db * db
			}
		}
		if ea > 1.005*eb {
			t.Errorf("%s, with an imatrix: %v: error %g is %.2f %% over llama.cpp's %g", x.Name, columns != nil, ea, 100*(ea/eb-1), eb)
		}
	}
	if compared < 4 {
		t.Errorf("%d tensors compared", compared)
	}
}

// llama.cpp computes the same from a set whose parts are given, one of them
// without tensors, as from the single file.
func TestLlamaRunsParts(t *testing.T) {
	lib := llamacpp.Load(t)
	m := writeMoE(t, gguftest.MoE{Type: quant.F16})
	dir := t.TempDir()
	var want []float32
	for _, count := range []int{1, 4} {
		names := []string{"whole.gguf"}
		for i := range count {
			if count > 1 {
				names = append(names[:i], filepath.Base(gguftest.ShardPath(dir, "set", i, count)))
			}
		}
		l, err := Typed(m, func(x *ggufio.Tensor) quant.Type {
			if x.Role.IsExpert() && x.Layer == 1 {
				return quant.Q4_K
			}
			return x.Type
		}, Options{Names: names, Part: func(x *ggufio.Tensor) int {
			if !x.Role.IsExpert() {
				return 0
			}
			return 1 + x.Layer
		}})
		if err != nil {
			t.Fatal(err)
		}
		for i := range names {
			if _, err := l.Write(context.Background(), i, WriteOptions{Path: filepath.Join(dir, names[i])}); err != nil {
				t.Fatal(err)
			}
		}
		model, err := lib.LoadModel(filepath.Join(dir, names[0]), 16)
		if err != nil {
			t.Fatal(err)
		}
		defer model.Close()
		logits, err := model.Logits([]int32{1, 2, 3})
		if err != nil {
			t.Fatal(err)
		}
		if want == nil {
			want = logits[2]
		} else if !slices.Equal(logits[2], want) {
			t.Error("the set computes something else than the file")
		}
	}
}
