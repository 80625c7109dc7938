package apply

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/quant"
)

// Whatever became of a partial file, a resumed run writes the right bytes or
// says that the file is another run's.
func FuzzResume(f *testing.F) {
	m := writeMoE(f, gguftest.MoE{Type: quant.F16, Layers: 1, Embd: 64, FF: 64})
	l, err := Typed(m, func(x *ggufio.Tensor) quant.Type {
		if x.Role.IsExpert() {
			return quant.Q4_0
		}
		return x.Type
	}, Options{Names: []string{"copy.gguf"}})
	if err != nil {
		f.Fatal(err)
	}
	path := filepath.Join(f.TempDir(), "copy.gguf.partial")
	write := func(o WriteOptions) (string, error) {
		o.Path, o.SHA256, o.KeepState, o.Workers = path, true, true, 1
		return l.Write(context.Background(), 0, o)
	}
	want, err := write(WriteOptions{})
	if err != nil {
		f.Fatal(err)
	}
	whole := readFile(f, path)
	size := uint32(len(whole))
	state := uint32(l.Files[0].SizeBytes)
	f.Add(size, uint32(0), []byte("GGUF"))               // the header is another's
	f.Add(size, uint32(state), []byte("other"))          // so is the state
	f.Add(size, state+40, bytes.Repeat([]byte{255}, 24)) // pieces that were never written
	f.Add(size, state/2, []byte{1})                      // a damaged piece
	f.Add(state, uint32(0), []byte{})                    // no state
	f.Add(state/3, uint32(0), []byte{})
	f.Add(uint32(0), uint32(0), []byte{})
	f.Add(size+4096, size, []byte("more"))
	f.Fuzz(func(t *testing.T, length, at uint32, data []byte) {
		partial := bytes.Clone(whole)
		if length %= 2 * size; length > size {
			partial = append(partial, make([]byte, length-size)...)
		}
		partial = partial[:length]
		if at < length {
			copy(partial[at:], data)
		}
		if err := os.WriteFile(path, partial, 0o666); err != nil {
			t.Fatal(err)
		}
		switch got, err := write(WriteOptions{Resume: true}); {
		case errors.Is(err, ErrOtherRun):
		case err != nil:
			t.Fatal(err)
		case got != want:
			t.Fatalf("sha256 %s, want %s", got, want)
		default:
			if !bytes.Equal(readFile(t, path)[:state], whole[:state]) {
				t.Fatal("the bytes differ from what their sha256 says")
			}
		}
	})
}
