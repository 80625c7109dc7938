package ggufio_test

import (
	"bytes"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/quant"
)

// fillPattern gives each row of each tensor bytes of its own, so that a read
// from a wrong place shows.
func fillPattern(b *gguftest.Builder) {
	for i := range b.Tensors {
		t := &b.Tensors[i]
		f, _ := quant.Lookup(t.Type)
		rowBytes, err := f.Layout.EncodedBytes(1, t.Shape[0])
		if err != nil {
			panic(err)
		}
		rows := uint64(1)
		for _, n := range t.Shape[1:] {
			rows *= n
		}
		t.Data = nil
		for r := range rows {
			t.Data = append(t.Data, bytes.Repeat([]byte{byte(7*i + 1), byte(r), byte(r >> 8)}, int(rowBytes))[:rowBytes]...)
		}
	}
}

// Every expert of every tensor, and runs of rows, are the bytes that were
// written, in one file or many.
func TestReadExperts(t *testing.T) {
	for _, shards := range []int{1, 2, 5} {
		for _, typ := range []quant.Type{quant.F32, quant.Q4_K, quant.Q8_0} {
			t.Run(fmt.Sprintf("%d shards of %v", shards, typ), func(t *testing.T) {
				b := gguftest.MoE{Experts: 3, Type: typ, Embd: 256, FF: 512, Sparse: true}.Builder()
				fillPattern(b)
				paths, err := b.WriteShards(t.TempDir(), "m", shards)
				if err != nil {
					t.Fatal(err)
				}
				m, err := ggufio.Open(paths[len(paths)/2])
				if err != nil {
					t.Fatal(err)
				}
				d, err := m.OpenData()
				if err != nil {
					t.Fatal(err)
				}
				defer d.Close()
				experts := 0
				for i := range m.Tensors {
					tensor := &m.Tensors[i]
					want := b.Tensor(tensor.Name).Data
					n := max(1, tensor.Experts())
					for e := range n {
						part := want[e*len(want)/n : (e+1)*len(want)/n]
						got := make([]byte, tensor.ExpertBytes())
						if err := d.ReadExpert(tensor, e, got); err != nil {
							t.Fatal(err)
						}
						if !bytes.Equal(got, part) {
							t.Fatalf("%s: expert %d differs", tensor.Name, e)
						}
						if tensor.ExpertRows() > 3 {
							row := tensor.RowBytes()
							got = make([]byte, 2*row)
							if err := d.ReadRows(tensor, e, 1, 2, got); err != nil {
								t.Fatal(err)
							}
							if !bytes.Equal(got, part[row:3*row]) {
								t.Fatalf("%s: rows 1 and 2 of expert %d differ", tensor.Name, e)
							}
						}
						if tensor.Role.IsExpert() {
							experts++
						}
					}
				}
				if experts != 2*3*3 {
					t.Errorf("read %d experts, want 18", experts)
				}
			})
		}
	}
}

func TestReadOutOfRange(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.gguf")
	if err := (gguftest.MoE{Sparse: true}).Builder().WriteFile(path); err != nil {
		t.Fatal(err)
	}
	m, err := ggufio.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	d, err := m.OpenData()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	x := m.ExpertTensors(0)[0]
	row, size := x.RowBytes(), x.SizeBytes
	for name, err := range map[string]error{
		"expert -1":         d.ReadExpert(x, -1, make([]byte, x.ExpertBytes())),
		"expert 4 of 4":     d.ReadExpert(x, 4, make([]byte, x.ExpertBytes())),
		"short buffer":      d.ReadExpert(x, 0, make([]byte, x.ExpertBytes()-1)),
		"row past the end":  d.ReadRows(x, 0, x.ExpertRows(), 1, make([]byte, row)),
		"rows that wrap":    d.ReadRows(x, 0, 1, 1<<64-1, make([]byte, row)),
		"range past end":    d.ReadRange(x, size-1, make([]byte, 2)),
		"offset past end":   d.ReadRange(x, size+1, nil),
		"offset that wraps": d.ReadRange(x, 1<<64-1, make([]byte, 2)),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := d.ReadRange(x, size-2, make([]byte, 2)); err != nil {
		t.Errorf("the last two bytes: %v", err)
	}
}
