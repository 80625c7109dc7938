package llamacpp

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const model = "../../../testdata/bytemoe-2x8/model-f16.gguf"

func TestEncodeDecode(t *testing.T) {
	lib := Load(t)
	row := make([]float32, 256)
	for i := range row {
		row[i] = float32(math.Sin(float64(i)))
	}
	const q8_0, q4K = 8, 12
	for _, typ := range []uint32{q8_0, q4K} {
		enc := lib.Encode(typ, row, len(row), nil)
		back := make([]float32, len(row))
		lib.Decode(typ, enc, back)
		for i := range row {
			if d := math.Abs(float64(row[i] - back[i])); d > 0.1 {
				t.Fatalf("type %d: weight %d came back %v off", typ, i, d)
			}
		}
	}
}

// The loaded model's divergence from itself is 0 and from its own Q2_K copy
// clearly is not: both the quantizer and the evaluator are the real ones.
func TestQuantizeAndEvaluate(t *testing.T) {
	lib := Load(t)
	out := filepath.Join(t.TempDir(), "q2_k.gguf")
	log, err := lib.Quantize(model, out, QuantizeOptions{FileType: 10, Threads: 2, Rules: []Rule{
		{`^blk\.0\.ffn_down_exps\.weight$`, 12},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log, "blk.0.ffn_down_exps.weight") {
		t.Errorf("the log does not list tensors:\n%s", log)
	}
	source, err := lib.LoadModel(model, 128)
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	small, err := lib.LoadModel(out, 128)
	if err != nil {
		t.Fatal(err)
	}
	defer small.Close()
	text, err := os.ReadFile("../../../testdata/bytemoe-2x8/eval.txt")
	if err != nil {
		t.Fatal(err)
	}
	reference, err := source.Predict(string(text[:8192]))
	if err != nil {
		t.Fatal(err)
	}
	same, err := source.KLDivergence(reference)
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(same.Mean) > 1e-9 {
		t.Errorf("divergence from itself is %v", same)
	}
	d, err := small.KLDivergence(reference)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("Q2_K: %+v", d)
	if d.Mean < 0.005 || d.Mean > 0.2 {
		t.Errorf("divergence of Q2_K is %v", d)
	}
}
