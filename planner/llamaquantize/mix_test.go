package llamaquantize

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/quant"
)

const recorded = "../../testdata/llama-quantize"

// TestMixRecorded compares with what llama-quantize --dry-run printed: every
// tensor's type and bytes, every total, and the order of the tensors.
func TestMixRecorded(t *testing.T) {
	cases := 0
	for _, model := range []string{"qwen3-30b-a3b", "mixtral-8x7b", "deepseek-v3", "olmoe-1b-7b"} {
		m := gguftest.OpenHeader(t, filepath.Join(recorded, model+"-bf16.gguf"))
		files, err := filepath.Glob(filepath.Join(recorded, "expected", model+".*.tsv"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), model+"."), ".tsv")
			cases++
			t.Run(model+"/"+name, func(t *testing.T) { checkRecorded(t, m, name, file) })
		}
	}
	if cases != 4*22 {
		t.Errorf("%d recorded cases, want 4 models × 22 file types", cases)
	}
}

func checkRecorded(t *testing.T, m *ggufio.Model, name, file string) {
	ft, ok := FileTypeByName(name)
	if !ok {
		t.Fatalf("%s is not a file type", name)
	}
	types, err := Mix(m, ft)
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	total := uint64(0)
	for _, i := range LoaderOrder(m) {
		size := encodedBytes(t, &m.Tensors[i], types[i])
		total += size
		fmt.Fprintf(&got, "%s\t%s\t%d\n", m.Tensors[i].Name, spelling(types[i]), size)
	}
	fmt.Fprintf(&got, "#total\t%s\t%d\n", name, total)
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	diffLines(t, got.String(), string(want))
}

func encodedBytes(t *testing.T, tensor *ggufio.Tensor, typ quant.Type) uint64 {
	t.Helper()
	f, _ := quant.Lookup(typ)
	size, err := f.Layout.EncodedBytes(tensor.Parameters/tensor.Shape[0], tensor.Shape[0])
	if err != nil {
		t.Fatalf("%s as %v: %v", tensor.Name, typ, err)
	}
	return size
}

func spelling(t quant.Type) string {
	f, _ := quant.Lookup(t)
	return f.Spelling()
}

// diffLines reports the first few lines that differ.
func diffLines(t *testing.T, got, want string) {
	t.Helper()
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	if len(g) != len(w) {
		t.Errorf("%d lines, want %d", len(g), len(w))
	}
	for i, shown := 0, 0; i < min(len(g), len(w)) && shown < 8; i++ {
		if g[i] != w[i] {
			t.Errorf("line %d: got  %s\n\twant %s", i+1, strconv.Quote(g[i]), strconv.Quote(w[i]))
			shown++
		}
	}
}
