package read

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/stats"
)

// npyFile builds a .npy file of version 1.0.
func npyFile(descr string, fortran bool, shape string, data []byte) []byte {
	order := "False"
	if fortran {
		order = "True"
	}
	return npyHeaderFile(fmt.Sprintf("{'descr': '%s', 'fortran_order': %s, 'shape': %s, }\n", descr, order, shape), data)
}

func npyHeaderFile(header string, data []byte) []byte {
	b := append([]byte("\x93NUMPY\x01\x00"), byte(len(header)), byte(len(header)>>8))
	return append(append(b, header...), data...)
}

func zipOf(t testing.TB, method uint16, entries ...any) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i := 0; i < len(entries); i += 2 {
		w, err := z.CreateHeader(&zip.FileHeader{Name: entries[i].(string), Method: method})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(entries[i+1].([]byte)); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestNPYTypesAndOrders(t *testing.T) {
	values := []float64{4, 1, 3, 2, 2, 4}
	encode := func(kind byte, size int, order binary.ByteOrder, values []float64) []byte {
		var b []byte
		for _, v := range values {
			bits := uint64(v)
			switch {
			case kind == 'f' && size == 8:
				bits = math.Float64bits(v)
			case kind == 'f' && size == 4:
				bits = uint64(math.Float32bits(float32(v)))
			case kind == 'f':
				bits = map[float64]uint64{1: 0x3c00, 2: 0x4000, 3: 0x4200, 4: 0x4400}[v]
			}
			var wide [8]byte
			if order == binary.BigEndian {
				binary.BigEndian.PutUint64(wide[:], bits)
				b = append(b, wide[8-size:]...)
			} else {
				binary.LittleEndian.PutUint64(wide[:], bits)
				b = append(b, wide[:size]...)
			}
		}
		return b
	}
	for _, kind := range "iuf" {
		for _, size := range []int{1, 2, 4, 8} {
			for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
				if kind == 'f' && size == 1 {
					continue
				}
				mark := "<"
				if order == binary.BigEndian {
					mark = ">"
				}
				descr := fmt.Sprintf("%s%c%d", mark, kind, size)
				content := npyFile(descr, false, "(2, 3)", encode(byte(kind), size, order, values))
				ev, format, err := readContent(t, content, Options{})
				if err != nil {
					t.Fatalf("%s: %v", descr, err)
				}
				if format != "npy" || ev.Kind != stats.KindExact || ev.Rows != 2 ||
					!slices.Equal(ev.Layers[0].Counts, []uint64{4, 1, 3}) || !slices.Equal(ev.Layers[1].Counts, []uint64{2, 2, 4}) {
					t.Errorf("%s: %s %s %+v", descr, format, ev.Kind, ev.Layers)
				}
			}
		}
	}
	// Column-major, two axes and three.
	ev := mustRead(t, string(npyFile("|u1", true, "(2, 3)", []byte{4, 2, 1, 2, 3, 4})), Options{})
	if !slices.Equal(ev.Layers[0].Counts, []uint64{4, 1, 3}) || !slices.Equal(ev.Layers[1].Counts, []uint64{2, 2, 4}) {
		t.Errorf("column-major: %+v", ev.Layers)
	}
	// [2][2][2]: element (s, l, e) = 1 + s + 2l + 4e at s + 2l + 4e.
	ev = mustRead(t, string(npyFile("|u1", true, "(2, 2, 2)", []byte{1, 2, 3, 4, 5, 6, 7, 8})), Options{})
	if !slices.Equal(ev.Layers[0].Counts, []uint64{1 + 2, 5 + 6}) || !slices.Equal(ev.Layers[1].Counts, []uint64{3 + 4, 7 + 8}) {
		t.Errorf("column-major steps: %+v", ev.Layers)
	}
	// Other spellings of the header.
	header := `{"shape":(1,2L),'fortran_order':False , 'descr':"<i2"}`
	if ev = mustRead(t, string(npyHeaderFile(header, []byte{1, 0, 2, 0})), Options{}); !slices.Equal(ev.Layers[0].Counts, []uint64{1, 2}) {
		t.Errorf("%+v", ev.Layers)
	}
	// Leading dense layers stay rows.
	ev = mustRead(t, string(npyFile("|u1", false, "(3, 2)", []byte{0, 0, 1, 2, 3, 4})), Options{})
	if ev.Rows != 3 || len(ev.Layers) != 2 || ev.Layers[0].Index != 1 {
		t.Errorf("%d rows, layers %+v", ev.Rows, ev.Layers)
	}
	// Floats beyond 2^24 were rounded.
	var big []byte
	big = binary.LittleEndian.AppendUint32(big, math.Float32bits(1<<25))
	big = binary.LittleEndian.AppendUint32(big, math.Float32bits(8))
	ev = mustRead(t, string(npyFile("<f4", false, "(1, 2)", big)), Options{})
	if ev.Kind != stats.KindExact || len(ev.Findings) != 1 || ev.Findings[0].Code != "rounded-counts" {
		t.Errorf("kind %s, findings %v", ev.Kind, ev.Findings)
	}
}

func TestNPYErrors(t *testing.T) {
	data := []byte{1, 2, 3, 4}
	for _, tt := range []struct {
		name    string
		content []byte
		want    string
	}{
		{"a giant", npyFile("|u1", false, "(9000000000000000000, 2, 2)", data), "shape [9000000000000000000 2 2] is too large"},
		{"a large one", npyFile("|u1", false, "(1000000000, 2, 2)", data), "ends after 4 of 4000000000 values"},
		{"a large one by columns", npyFile("|u1", true, "(1000000000, 2, 2)", data), "ends after 4 of 4000000000 bytes"},
		{"wide", npyFile("|u1", false, "(1, 1000000000)", data), "at most 512 layers of 4096 experts"},
		{"short", npyFile("|u1", false, "(2, 3)", data), "ends after 3 of 6 values"},
		{"long", npyFile("|u1", false, "(1, 3)", data), "data follow it"},
		{"one axis", npyFile("|u1", false, "(4,)", data), "|u1 [4]: counts are [layers, experts]"},
		{"empty", npyFile("|u1", false, "(0, 4)", nil), "|u1 [0, 4]: counts are"},
		{"objects", npyFile("|O", false, "(2, 2)", data), "pickled objects, which are not run"},
		{"complex", npyFile("<c8", false, "(2, 2)", data), `descr "<c8"`},
		{"truth values", npyFile("|b1", false, "(2, 2)", data), `descr "|b1"`},
		{"records", npyHeaderFile("{'descr': [('a', '<i4')], 'fortran_order': False, 'shape': (2,), }", data), "descr is a structure"},
		{"negative shape", npyFile("|u1", false, "(-1, 2)", data), "shape (-1, 2)"},
		{"no shape", npyHeaderFile("{'descr': '<i4', 'fortran_order': False}", data), "is missing"},
		{"twice", npyHeaderFile("{'descr': '<i4', 'descr': '<i4'}", data), "want a new key"},
		{"no dict", npyHeaderFile("hello", data), "is not a dict"},
		{"no newline and no end", npyHeaderFile("{", data), "is not a dict"},
		{"version", append([]byte("\x93NUMPY\x09\x00"), data...), "npy version 9.0"},
		{"long header", append([]byte("\x93NUMPY\x02\x00"), 0xff, 0xff, 0xff, 0xff), "npy header of 4294967295 bytes, over the limit"},
		{"cut", []byte("\x93NUMPY\x01"), "npy header: unexpected EOF"},
		{"NaN", npyFile("<f4", false, "(1, 1)", []byte{0, 0, 0xc0, 0x7f}), "layer 0, expert 0: NaN is not a count"},
		{"negative", npyFile("|i1", false, "(1, 2)", []byte{1, 0xff}), "layer 0, expert 1: -1 is negative"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := errorOf(t, string(tt.content), Options{}); !strings.Contains(got, tt.want) {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestNPZ(t *testing.T) {
	counts := npyFile("|u1", false, "(1, 2)", []byte{1, 2})
	other := npyFile("|u1", false, "(1, 2)", []byte{9, 9})
	for name, content := range map[string][]byte{
		"alone":        zipOf(t, zip.Store, "anything.npy", counts),
		"compressed":   zipOf(t, zip.Deflate, "arr_0.npy", counts),
		"among others": zipOf(t, zip.Store, "positions.npy", other, "counts.npy", counts),
	} {
		ev, format, err := readContent(t, content, Options{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if format != "npz" || !slices.Equal(ev.Layers[0].Counts, []uint64{1, 2}) {
			t.Errorf("%s: %s %+v", name, format, ev.Layers)
		}
	}
	if got := errorOf(t, string(zipOf(t, zip.Store, "a.npy", counts, "b.npy", other)), Options{}); got != "holds the arrays a, b: which of them are counts is not known" {
		t.Error(got)
	}
	if got := errorOf(t, string(zipOf(t, zip.Store, "physical_to_logical_map.npy", counts)), Options{}); !strings.Contains(got, "places experts") {
		t.Error(got)
	}
	if got := errorOf(t, string(zipOf(t, zip.Deflate, "a.npy", npyFile("|u1", false, "(1000000000000, 2, 2)", make([]byte, 1<<20)))), Options{}); !strings.Contains(got, "ends after") {
		t.Error(got)
	}
}
