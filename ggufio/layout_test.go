package ggufio_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/quant"
)

// A single file may have any alignment; its tensors are found where they are.
func TestAlignment(t *testing.T) {
	for _, alignment := range []uint64{1, 8, 32, 64, 4096, 1 << 20} {
		b := gguftest.MoE{Embd: 32, FF: 32, Sparse: true}.Builder()
		b.Alignment = alignment
		b.Set("general.alignment", uint32(alignment))
		fillPattern(b)
		m := openBuilt(t, b)
		d, err := m.OpenData()
		if err != nil {
			t.Fatal(err)
		}
		if f := m.Files[0]; f.AlignmentBytes != alignment || f.DataOffsetBytes%alignment != 0 {
			t.Errorf("alignment %d: read %d, data at %d", alignment, f.AlignmentBytes, f.DataOffsetBytes)
		}
		for i := range m.Tensors {
			x := &m.Tensors[i]
			got := make([]byte, x.SizeBytes)
			if err := d.ReadRange(x, 0, got); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, b.Tensors[i].Data) {
				t.Fatalf("alignment %d: %s has other bytes", alignment, x.Name)
			}
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestHeaderDigest(t *testing.T) {
	b := gguftest.MoE{Embd: 64, FF: 32, Sparse: true}.Builder()
	sum := sha256.Sum256(b.Header())
	if got, want := openBuilt(t, b).Files[0].HeaderSHA256, hex.EncodeToString(sum[:]); got != want {
		t.Errorf("digest %s, want %s", got, want)
	}
}

// A file of metadata alone is a model without weights, whether or not its end
// is padded.
func TestNoTensors(t *testing.T) {
	b := model()
	b.Tensors = nil
	b.Set("odd", uint8(1))
	whole := b.Bytes()
	used := len(bytes.TrimRight(whole, "\x00"))
	for _, n := range []int{used, len(whole)} {
		path := writeBuilt(t, b)
		if err := os.Truncate(path, int64(n)); err != nil {
			t.Fatal(err)
		}
		m, err := ggufio.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if m.Files[0].DataOffsetBytes != uint64(n) || len(m.Tensors) != 0 {
			t.Errorf("%d bytes: data at %d, %d tensors", n, m.Files[0].DataOffsetBytes, len(m.Tensors))
		}
	}
}

// The last tensor's padding may be missing.
func TestUnpaddedEnd(t *testing.T) {
	path := writeBuilt(t, model())
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, info.Size()-16); err != nil {
		t.Fatal(err)
	}
	if _, err := ggufio.Open(path); err != nil {
		t.Error(err)
	}
}

// Types that only ik_llama.cpp has are sized by the type table, row headers
// included, and their files may have gaps, but no overlap.
func TestForeignTypes(t *testing.T) {
	const rows, weights = 3, 512
	var ik quant.Format
	for _, f := range quant.Formats() {
		if f.Engine == quant.IKLlama && f.Layout.RowHeaderBytes > 0 && weights%f.Layout.WeightsPerBlock == 0 {
			ik = f
			break
		}
	}
	if ik.Name == "" {
		t.Fatal("the type table has no type with a row header")
	}
	build := func(second uint64) *gguftest.Builder {
		b := model()
		b.Tensors = nil
		b.Add("blk.0.ffn_up_exps.weight", ik.Type, []uint64{weights, rows, 2}, nil)
		b.AddF32("output_norm.weight", []uint64{4}, []float32{1, 2, 3, 4})
		if second != 0 {
			b.Tensors[1].DeclaredOffset = &second
		}
		return b
	}
	m := openBuilt(t, build(0))
	x := &m.Tensors[0]
	row := ik.Layout.RowHeaderBytes + weights/ik.Layout.WeightsPerBlock*ik.Layout.BytesPerBlock
	if x.SizeBytes != 2*rows*row || x.RowBytes() != row || x.ExpertBytes() != rows*row {
		t.Errorf("%s: %d bytes, %d a row, %d an expert; rows have %d", ik.Name, x.SizeBytes, x.RowBytes(), x.ExpertBytes(), row)
	}
	end := (x.SizeBytes + 31) &^ 31

	gap := build(end + 64)
	path := writeBuilt(t, gap)
	if err := os.Truncate(path, int64(uint64(len(gap.Header()))+end+64+16)); err != nil {
		t.Fatal(err)
	}
	if _, err := ggufio.Open(path); err != nil {
		t.Errorf("a gap: %v", err)
	}
	for _, tt := range []struct {
		offset uint64
		want   string
	}{
		{end - 32, "lies inside the tensor before it, which ends at"},
		{end + 1, "is not a multiple of the alignment, 32"},
		{1 << 62, "is over the limit of"},
		{end + 1<<20, "the tensor data is missing"},
	} {
		if _, err := ggufio.Open(writeBuilt(t, build(tt.offset))); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("offset %d: error %v does not say %q", tt.offset, err, tt.want)
		}
	}
}

// A model that changes between its opening and its reading is noticed.
func TestDataOfChangedFile(t *testing.T) {
	path := writeBuilt(t, model())
	m, err := ggufio.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	d, err := m.OpenData()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := os.Truncate(path, int64(m.Files[0].DataOffsetBytes)+8); err != nil {
		t.Fatal(err)
	}
	var format *ggufio.FormatError
	err = d.ReadRange(&m.Tensors[0], 0, make([]byte, 32))
	if !errors.As(err, &format) || !strings.Contains(err.Error(), "tensor token_embd.weight: the file became shorter while it was read") {
		t.Errorf("a read past the new end: %v", err)
	}
	if _, err := m.OpenData(); err == nil || !strings.Contains(err.Error(), "when it was opened") {
		t.Errorf("opening a file of another size: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := m.OpenData(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("opening a removed file: %v", err)
	}
}

// One Data serves many goroutines.
func TestReadConcurrently(t *testing.T) {
	b := gguftest.MoE{Embd: 256, FF: 256, Type: quant.Q8_0, Sparse: true}.Builder()
	fillPattern(b)
	m := openBuilt(t, b)
	d, err := m.OpenData()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	x := m.ExpertTensors(1)[2]
	want := b.Tensor(x.Name).Data
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			e := g % x.Experts()
			got := make([]byte, x.ExpertBytes())
			if err := d.ReadExpert(x, e, got); err != nil {
				t.Error(err)
			} else if !bytes.Equal(got, want[e*len(got):(e+1)*len(got)]) {
				t.Errorf("expert %d differs", e)
			}
		})
	}
	wg.Wait()
}
