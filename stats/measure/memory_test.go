package measure

import (
	"context"
	"io"
	"runtime"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/stats"
)

// heapBytes is the live heap.
func heapBytes() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A measurement of DeepSeek-V3 in all types stays below 512 MB: its result, the
// memory of 64 workers on its longest rows, and writing it.
func TestMeasureMemory(t *testing.T) {
	const MB = 1 << 20
	dir := t.TempDir()
	path, err := gguftest.ExtendHeader(dir, "../../testdata/llama-quantize/deepseek-v3-bf16.gguf")
	if err != nil {
		t.Fatal(err)
	}
	model, err := ggufio.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	start := heapBytes()
	m, err := newMeasurement(model, waveEvidence(model), Options{
		Quantizable: func(x *ggufio.Tensor) bool { return quant.Quantizable(x.Name, x.Shape) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(m.items) < 44544 {
		t.Fatalf("%d experts and whole tensors", len(m.items))
	}
	for i := range m.items {
		x := m.items[i].place
		*x = ExpertLoss{Expert: m.items[i].slice, RowsTotal: 1, Count: new(uint64), OutputEnergy: new(float64), Types: make([]TypeLoss, len(m.items[i].types))}
		for k := range x.Types {
			x.Types[k] = TypeLoss{0.0123456789, 0.0123, 0.0124, 1234.56789, 123.456789}
		}
	}
	result := heapBytes() - start

	// One worker on a row as long as the model has, in every type.
	b := &gguftest.Builder{}
	b.Set("general.architecture", "deepseek2")
	const columns = 18432
	half, err := quant.NewEncoder(quant.BF16)
	if err != nil {
		t.Fatal(err)
	}
	row, raw := make([]float32, columns), make([]byte, 2*columns)
	for i := range row {
		row[i] = float32(i%97) - 48
	}
	if err := half.EncodeRow(raw, row, nil); err != nil {
		t.Fatal(err)
	}
	b.Add("blk.0.ffn_down.weight", quant.BF16, []uint64{columns, 2}, append(raw, raw...))
	if err := b.WriteFile(dir + "/row.gguf"); err != nil {
		t.Fatal(err)
	}
	small, err := ggufio.Open(dir + "/row.gguf")
	if err != nil {
		t.Fatal(err)
	}
	one, err := newMeasurement(small, &stats.Evidence{Columns: waveColumns{unseen: -1}}, Options{
		Quantizable: func(x *ggufio.Tensor) bool { return true },
	})
	if err != nil {
		t.Fatal(err)
	}
	if one.data, err = small.OpenData(); err != nil {
		t.Fatal(err)
	}
	defer one.data.Close()
	// What all workers share is made once.
	if _, err := newMeasureWorker(one).measureGroup(context.Background(), one.items[:1]); err != nil {
		t.Fatal(err)
	}
	start = heapBytes()
	w := newMeasureWorker(one)
	if _, err := w.measureGroup(context.Background(), one.items[:1]); err != nil {
		t.Fatal(err)
	}
	worker := heapBytes() - start
	runtime.KeepAlive(w)

	// Writing a tenth of it: the file grows, memory does not.
	tenth := *m.result
	tenth.Tensors = tenth.Tensors[:len(tenth.Tensors)/10]
	grown := growthMeter{base: heapBytes()}
	if err := Write(&grown, &tenth); err != nil {
		t.Fatal(err)
	}
	t.Logf("result %d MB, worker %.1f MB, %d MB written in %.1f MB", result/MB, float64(worker)/MB, grown.written/MB, float64(grown.most)/MB)
	if grown.written < 5*MB || grown.most > 2*MB {
		t.Errorf("writing %d bytes takes %d of memory", grown.written, grown.most)
	}
	if worker > 5*MB {
		t.Errorf("a worker takes %d bytes", worker)
	}
	if total := result + maxWorkers*worker + grown.most; total > 480*MB {
		t.Errorf("all take %d MB", total/MB)
	}
	runtime.KeepAlive(m)
}

// A growthMeter watches the heap while it is written to.
type growthMeter struct {
	base, most, written int64
	calls               int
}

func (g *growthMeter) Write(p []byte) (int, error) {
	g.written += int64(len(p))
	if g.calls++; g.calls%64 == 0 {
		g.most = max(g.most, heapBytes()-g.base)
	}
	return io.Discard.Write(p)
}
