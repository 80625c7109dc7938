package apply

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/stats/pace"
)

func openModel(t testing.TB, path string) *ggufio.Model {
	t.Helper()
	m, err := ggufio.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// columns is an importance matrix of made-up mean squares.
type columns struct{}

func (columns) MeanSquares(tensor string, expert int, dst []float64) (bool, error) {
	for i := range dst {
		dst[i] = 1 + float64((i*7+expert*13+len(tensor))%11)
	}
	return true, nil
}

func (columns) Complete(string, uint64, uint64) bool { return true }

// writeTyped writes a model with every matrix in a type, and returns its path.
func writeTyped(t *testing.T, m *ggufio.Model, typ quant.Type, name string) string {
	t.Helper()
	l, err := Typed(m, func(x *ggufio.Tensor) quant.Type {
		if len(x.Shape) < 2 || x.Role == ggufio.RoleRouter {
			return x.Type
		}
		return typ
	}, Options{Names: []string{name}, Columns: columns{}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name)
	if _, err := l.Write(context.Background(), 0, WriteOptions{Path: path}); err != nil {
		t.Fatal(err)
	}
	return path
}

func writeMoE(t testing.TB, o gguftest.MoE) *ggufio.Model {
	t.Helper()
	path := filepath.Join(t.TempDir(), "model.gguf")
	if err := o.Builder().WriteFile(path); err != nil {
		t.Fatal(err)
	}
	return openModel(t, path)
}

// A copy gets the group's weights as they come back from the type, and nothing
// else; and is restored to the byte.
func TestRewrite(t *testing.T) {
	m := writeMoE(t, gguftest.MoE{Type: quant.F16})
	path := filepath.Join(t.TempDir(), "copy.gguf")
	if err := gguftest.CopyFile(path, m.Files[0].Path); err != nil {
		t.Fatal(err)
	}
	before := readFile(t, path)
	group := map[string]quant.Type{"blk.1.ffn_down_exps.weight": quant.Q2_K, "blk.1.ffn_gate_exps.weight": quant.IQ2_XXS, "output.weight": quant.Q8_0}
	var there, back []Rounding
	want := bytes.Clone(before)
	for i := range m.Tensors {
		x := &m.Tensors[i]
		typ, ok := group[x.Name]
		if !ok {
			continue
		}
		there = append(there, Rounding{x.Name, typ})
		back = append(back, Rounding{x.Name, x.Type})
		raw := before[x.OffsetBytes:][:x.SizeBytes]
		rows := make([]float32, x.Parameters)
		if err := quant.Decode(x.Type, rows, raw); err != nil {
			t.Fatal(err)
		}
		enc, _ := quant.NewEncoder(typ)
		f16, _ := quant.NewEncoder(quant.F16)
		f, _ := quant.Lookup(typ)
		n := x.Shape[0]
		size, _ := f.Layout.EncodedBytes(1, n)
		mean := make([]float64, n)
		for r := range x.Rows() {
			row := rows[r*n:][:n]
			(columns{}).MeanSquares(x.Name, int(r/x.ExpertRows()), mean)
			weights := make([]float32, n)
			for k := range weights {
				weights[k] = float32(mean[k])
			}
			code := make([]byte, size)
			if err := enc.EncodeRow(code, row, weights); err != nil {
				t.Fatal(err)
			}
			if err := quant.Decode(typ, row, code); err != nil {
				t.Fatal(err)
			}
			if err := f16.EncodeRow(want[x.OffsetBytes+2*r*n:][:2*n], row, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(there) != 3 || bytes.Equal(want, before) {
		t.Fatalf("the test rewrites %d tensors", len(there))
	}
	var last pace.Progress
	o := RewriteOptions{Columns: columns{}, Workers: 3, Progress: func(p pace.Progress) { last = p }}
	if err := Rewrite(context.Background(), openModel(t, path), m, there, o); err != nil {
		t.Fatal(err)
	}
	if got := readFile(t, path); !bytes.Equal(got, want) {
		t.Error("the copy does not hold the weights as they come back from their types")
	}
	if left := last.Left.Seconds(); last.Done != last.Total || last.Total == 0 || left > 1e-9*last.Spent.Seconds() {
		t.Errorf("progress ends at %d of %d, with %v s left", last.Done, last.Total, left)
	}
	if err := Rewrite(context.Background(), openModel(t, path), m, back, o); err != nil {
		t.Fatal(err)
	}
	if got := readFile(t, path); !bytes.Equal(got, before) {
		t.Error("the copy is not what it was")
	}
}

// A quantized copy is restored to what it was.
func TestRewriteQuantized(t *testing.T) {
	m := writeMoE(t, gguftest.MoE{Type: quant.F16})
	path := writeTyped(t, m, quant.Q4_K, "copy.gguf")
	before := readFile(t, path)
	o := RewriteOptions{Columns: columns{}}
	for _, r := range []struct {
		to   quant.Type
		same bool
	}{{quant.Q2_K, false}, {quant.Q4_K, true}, {quant.Q2_K, false}, {quant.F16, true}} {
		if err := Rewrite(context.Background(), openModel(t, path), m, []Rounding{{"blk.0.ffn_up_exps.weight", r.to}}, o); err != nil {
			t.Fatal(err)
		}
		if same := bytes.Equal(readFile(t, path), before); same != r.same {
			t.Errorf("rounded to %v the copy is what it was: %v", r.to, same)
		}
	}
}

func TestRewriteRefuses(t *testing.T) {
	m := writeMoE(t, gguftest.MoE{Type: quant.F16})
	other := writeMoE(t, gguftest.MoE{Type: quant.F16, FF: 512})
	path := filepath.Join(t.TempDir(), "copy.gguf")
	if err := gguftest.CopyFile(path, m.Files[0].Path); err != nil {
		t.Fatal(err)
	}
	hard := filepath.Join(t.TempDir(), "hard.gguf")
	if err := os.Link(m.Files[0].Path, hard); err != nil {
		t.Fatal(err)
	}
	const up = "blk.0.ffn_up_exps.weight"
	for _, x := range []struct {
		target    *ggufio.Model
		roundings []Rounding
		want      string
	}{
		{m, []Rounding{{up, quant.Q2_K}}, "is the source's file"},
		{openModel(t, hard), []Rounding{{up, quant.Q2_K}}, "is the source's file"},
		{openModel(t, path), []Rounding{{"blk.9.ffn_up_exps.weight", quant.Q2_K}}, "does not have it"},
		{openModel(t, path), []Rounding{{up, quant.Q2_K}, {up, quant.Q4_K}}, "duplicate tensor"},
		{openModel(t, path), []Rounding{{up, quant.IQ2_XXS}}, "needs column weights"},
		{openModel(t, path), []Rounding{{up, quant.I32}}, "cannot be encoded"},
		{other, []Rounding{{up, quant.Q2_K}}, "not of its source's shape"},
	} {
		err := Rewrite(context.Background(), x.target, m, x.roundings, RewriteOptions{})
		if err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%v: %v, want %q", x.roundings, err, x.want)
		}
	}
	if !bytes.Equal(readFile(t, path), readFile(t, m.Files[0].Path)) {
		t.Error("a refused call wrote")
	}
}

// A file of a set whose parts are given depends on its own tensors alone.
func TestTypedParts(t *testing.T) {
	m := writeMoE(t, gguftest.MoE{Type: quant.Q8_0})
	names := []string{"m-00001-of-00003.gguf", "m-00002-of-00003.gguf", "m-00003-of-00003.gguf"}
	dir := t.TempDir()
	write := func(i int, typ quant.Type, name string) {
		t.Helper()
		l, err := Typed(m, func(x *ggufio.Tensor) quant.Type {
			if x.Role.IsExpert() && x.Layer == 1 {
				return typ
			}
			return x.Type
		}, Options{Names: names, Columns: columns{}, Part: func(x *ggufio.Tensor) int {
			if !x.Role.IsExpert() {
				return 0
			}
			return 1 + x.Layer
		}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Write(context.Background(), i, WriteOptions{Path: filepath.Join(dir, name)}); err != nil {
			t.Fatal(err)
		}
	}
	for i, name := range names {
		write(i, quant.Q8_0, name)
		write(i, quant.Q2_K, "again-"+name)
		same := bytes.Equal(readFile(t, filepath.Join(dir, name)), readFile(t, filepath.Join(dir, "again-"+name)))
		if want := i != 2; same != want {
			t.Errorf("file %d of another set is the same: %v, want %v", i, same, want)
		}
	}
	set := openModel(t, filepath.Join(dir, names[0]))
	for i := range m.Tensors {
		x := &m.Tensors[i]
		got, ok := set.TensorByName(x.Name)
		if !ok || got.Type != x.Type {
			t.Fatalf("%s: %v", x.Name, ok)
		}
		if !bytes.Equal(readFile(t, set.Files[got.File].Path)[got.OffsetBytes:][:got.SizeBytes], readFile(t, m.Files[0].Path)[x.OffsetBytes:][:x.SizeBytes]) {
			t.Errorf("%s is not the source's", x.Name)
		}
	}
}
