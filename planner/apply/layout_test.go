package apply

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/quant"
)

// Files of a set differ by less than two tensors' bytes, none is empty, and
// tensors keep their order.
func TestFilesOfNearlyEqualSize(t *testing.T) {
	m := writeMoE(t, gguftest.MoE{Type: quant.F16, Layers: 5, Sparse: true})
	order := ""
	for count := 1; count <= len(m.Tensors); count++ {
		names := make([]string, count)
		for i := range names {
			names[i] = fmt.Sprint(i)
		}
		l, err := Typed(m, func(x *ggufio.Tensor) quant.Type { return x.Type }, Options{Names: names})
		if err != nil {
			t.Fatalf("%d files: %v", count, err)
		}
		var largest, least, most uint64
		got := ""
		for i := range l.Files {
			sum := uint64(0)
			for _, x := range l.Files[i].Tensors {
				sum += x.SizeBytes
				largest = max(largest, x.SizeBytes)
				got += x.Name + " "
			}
			if len(l.Files[i].Tensors) == 0 {
				t.Errorf("file %d of %d is empty", i, count)
			}
			if i == 0 {
				least = sum
			}
			least, most = min(least, sum), max(most, sum)
		}
		if count <= 5 && most-least >= 2*largest {
			t.Errorf("%d files have %d to %d bytes, a tensor at most %d", count, least, most, largest)
		}
		if order == "" {
			order = got
		}
		if got != order {
			t.Errorf("%d files hold the tensors in another order", count)
		}
	}
	names := make([]string, len(m.Tensors)+1)
	if _, err := Typed(m, func(x *ggufio.Tensor) quant.Type { return x.Type }, Options{Names: names}); err == nil {
		t.Error("more files than tensors")
	}
}

// State is kept for a set, taken off, taken over, and asked for.
func TestWriteKeepsState(t *testing.T) {
	m := writeMoE(t, gguftest.MoE{Type: quant.F16})
	l, err := Typed(m, func(x *ggufio.Tensor) quant.Type { return x.Type }, Options{Names: []string{"copy.gguf"}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "copy.gguf.partial")
	write := func(o WriteOptions) (string, error) {
		o.Path, o.SHA256 = path, true
		return l.Write(context.Background(), 0, o)
	}
	digest, err := write(WriteOptions{KeepState: true, Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	if got := uint64(len(readFile(t, path))); got != l.PartialBytes(0) {
		t.Errorf("%d bytes with the state, want %d", got, l.PartialBytes(0))
	}
	if _, err := write(WriteOptions{}); !errors.Is(err, ErrPartialExists) {
		t.Errorf("a second run: %v", err)
	}
	if _, err := write(WriteOptions{Resume: true, Inputs: []string{"another"}}); !errors.Is(err, ErrOtherRun) {
		t.Errorf("with other inputs: %v", err)
	}
	again, err := write(WriteOptions{Resume: true, KeepState: true, Workers: 3})
	if err != nil || again != digest {
		t.Errorf("resumed: %s, want %s: %v", again, digest, err)
	}
	if err := l.Finish(0, path); err != nil {
		t.Fatal(err)
	}
	if got := uint64(len(readFile(t, path))); got != l.Files[0].SizeBytes {
		t.Errorf("%d bytes without the state, want %d", got, l.Files[0].SizeBytes)
	}
	stopped, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := l.Write(stopped, 0, WriteOptions{Path: path + ".2"}); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}
