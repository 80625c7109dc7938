package read

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/stats"
)

// A pickler writes pickles for tests, and the storages of their tensors.
type pickler struct {
	bytes.Buffer
	storages [][]byte
}

func newPickler() *pickler {
	p := &pickler{}
	p.WriteString("\x80\x02")
	return p
}

func (p *pickler) text(s string) *pickler {
	p.WriteByte('X')
	p.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(s))))
	p.WriteString(s)
	return p
}

func (p *pickler) int(n int) *pickler {
	p.WriteByte('J')
	p.Write(binary.LittleEndian.AppendUint32(nil, uint32(int32(n))))
	return p
}

func (p *pickler) raw(s string) *pickler {
	p.WriteString(s)
	return p
}

func (p *pickler) tuple(values ...int) *pickler {
	p.WriteByte('(')
	for _, v := range values {
		p.int(v)
	}
	return p.raw("t")
}

// tensor writes an int32 tensor in row-major order.
func (p *pickler) tensor(shape []int, values ...int) *pickler {
	strides := make([]int, len(shape))
	n := 1
	for i := len(shape) - 1; i >= 0; i-- {
		strides[i] = n
		n *= shape[i]
	}
	return p.strided(0, shape, strides, values...)
}

func (p *pickler) strided(offset int, shape, strides []int, values ...int) *pickler {
	var data []byte
	for _, v := range values {
		data = binary.LittleEndian.AppendUint32(data, uint32(int32(v)))
	}
	p.storages = append(p.storages, data)
	p.raw("ctorch._utils\n_rebuild_tensor_v2\n((").text("storage").raw("ctorch\nIntStorage\n").text(fmt.Sprint(len(p.storages) - 1)).text("cuda:0").int(len(values)).raw("tQ")
	return p.int(offset).tuple(shape...).tuple(strides...).raw("\x89ccollections\nOrderedDict\n)RtR")
}

// file ends the pickle and packs it as torch.save does.
func (p *pickler) file(t testing.TB) []byte {
	t.Helper()
	entries := []any{"archive/data.pkl", slices.Concat(p.Bytes(), []byte(".")), "archive/byteorder", []byte("little")}
	for i, data := range p.storages {
		entries = append(entries, fmt.Sprintf("archive/data/%d", i), data)
	}
	return zipOf(t, zip.Store, append(entries, "archive/version", []byte("3\n"))...)
}

func TestTorchTables(t *testing.T) {
	// A transposed view that does not start at the storage's start.
	p := newPickler().strided(1, []int{2, 3}, []int{1, 2}, 99, 4, 2, 1, 2, 3, 4)
	ev := mustRead(t, string(p.file(t)), Options{})
	if ev.Kind != stats.KindExact || !slices.Equal(ev.Layers[0].Counts, []uint64{4, 1, 3}) || !slices.Equal(ev.Layers[1].Counts, []uint64{2, 2, 4}) {
		t.Errorf("view: kind %s, %+v", ev.Kind, ev.Layers)
	}
	// A circular buffer with unused steps and a leading dense layer.
	p = newPickler().raw("}(").text("rank").int(0).text("logical_count").tensor([]int{3, 2, 2}, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 3, 0).raw("u")
	ev = mustRead(t, string(p.file(t)), Options{TopK: 1})
	if ev.Kind != stats.KindScaled || ev.Rows != 2 || len(ev.Layers) != 1 || !slices.Equal(ev.Layers[0].Counts, []uint64{4, 2}) || ev.Layers[0].Tokens != nil {
		t.Errorf("recorder: kind %s, %d rows, %+v", ev.Kind, ev.Rows, ev.Layers)
	}
	if b := ev.Layers[0].Blocks; b == nil || b.N != 2 {
		t.Errorf("recorder: blocks %+v", b)
	}
	// A view that repeats a row.
	p = newPickler().strided(0, []int{2, 3}, []int{0, 1}, 4, 1, 3)
	if ev = mustRead(t, string(p.file(t)), Options{}); len(ev.Layers) != 2 || !slices.Equal(ev.Layers[1].Counts, []uint64{4, 1, 3}) {
		t.Errorf("expanded: %+v", ev.Layers)
	}
	// Protocol 4 spells names and the memo in another way.
	q := &pickler{}
	q.raw("\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00\x8c\x0ctorch._utils\x8c\x12_rebuild_tensor_v2\x93\x94").
		raw("((\x8c\x07storage\x8c\x05torch\x8c\x0bCharStorage\x93\x8c\x010\x8c\x03cpuK\x02tQK\x00K\x01K\x02\x86K\x02K\x01\x86\x89\x8c\x0bcollections\x8c\x0bOrderedDict\x93)RtR")
	q.storages = [][]byte{{5, 7}}
	if ev = mustRead(t, string(q.file(t)), Options{}); !slices.Equal(ev.Layers[0].Counts, []uint64{5, 7}) {
		t.Errorf("protocol 4: %+v", ev.Layers)
	}
}

// records writes an SGLang per-pass or per-token dump.
func records(t *testing.T, mapping bool, write func(p *pickler)) string {
	p := newPickler().raw("}(").text("records").raw("](")
	write(p)
	p.raw("e")
	if mapping {
		// Layer 1 keeps expert 1 twice; slot 3 of layer 0 is empty.
		p.text("last_physical_to_logical_map").tensor([]int{2, 4}, 0, 1, 2, -1, 1, 0, 2, 1)
	}
	return string(p.raw("u").file(t))
}

func TestSGLangRecords(t *testing.T) {
	pass := func(values ...int) func(p *pickler) {
		return func(p *pickler) {
			p.raw("}(").text("forward_pass_id").int(1).text("global_physical_count").tensor([]int{2, 4}, values...).raw("u")
		}
	}
	ev := mustRead(t, records(t, true, func(p *pickler) {
		pass(0, 0, 0, 0, 4, 1, 2, 3)(p)
		pass(0, 0, 0, 0, 1, 0, 0, 5)(p)
		pass(0, 0, 0, 0, 0, 0, 0, 0)(p)
	}), Options{})
	if ev.Kind != stats.KindScaled || ev.Rows != 2 || ev.ExpertCount != 3 || len(ev.Layers) != 1 || !slices.Equal(ev.Layers[0].Counts, []uint64{1, 13, 2}) {
		t.Errorf("per pass: %+v", ev)
	}
	if b := ev.Layers[0].Blocks; b == nil || b.N != 2 {
		t.Errorf("per pass: blocks %+v", b)
	}

	token := func(p *pickler) {
		// Two tokens and one of padding; the dense layer 0 is zeros.
		p.raw("}(").text("input_ids").tensor([]int{3}, 5, 6, 7).
			text("topk_ids_of_layer").tensor([]int{2, 3, 3}, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 1, -1, 2, 0, -1, -1, -1, -1).raw("u")
	}
	idle := func(p *pickler) { // a pass without tokens
		p.raw("}(").text("topk_ids_of_layer").tensor([]int{2, 0, 3}).raw("u")
	}
	ev = mustRead(t, records(t, true, func(p *pickler) { idle(p); token(p) }), Options{})
	if ev.Kind != stats.KindExact || ev.Rows != 2 || len(ev.Layers) != 1 || !slices.Equal(ev.Layers[0].Counts, []uint64{1, 2, 1}) || *ev.Layers[0].Tokens != 2 || ev.Layers[0].TopK != 2 {
		t.Errorf("per token: %+v", ev)
	}

	for name, content := range map[string]string{"per pass": records(t, false, pass(0, 0, 0, 0, 4, 1, 2, 3)), "per token": records(t, false, token)} {
		_, _, err := readContent(t, []byte(content), Options{})
		if err == nil || !strings.Contains(err.Error(), "no last_physical_to_logical_map") || cureOf(err).Text == "" {
			t.Errorf("%s without a map: %v (advice %q)", name, err, cureOf(err).Text)
		}
	}
	if got := errorOf(t, records(t, true, pass(0, 0, 0, 7, 4, 1, 2, 3)), Options{}); got != "record 0: layer 0: slot 3 has a count of 7 and no logical expert" {
		t.Error(got)
	}
}

func TestREAPSignals(t *testing.T) {
	ev, _, err := readContent(t, sample(t, "reap-observations.pt"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range ev.Layers {
		for name, values := range map[string][]float64{"gate mass": l.GateWeightSum, "output norm": l.OutNormSum, "saliency": l.GatedOutNormSum, "maximum": l.MaxOut} {
			if len(values) != 8 {
				t.Errorf("layer %d: %s has %d values", l.Index, name, len(values))
			}
		}
	}
}

// Pickles that would run something when Python loads them. Had any been run,
// the file would be there.
func TestMaliciousPickles(t *testing.T) {
	proof := filepath.Join(t.TempDir(), "ran")
	command := "touch " + proof
	for _, tt := range []struct {
		name   string
		pickle *pickler
		want   string
	}{
		{"os.system", newPickler().raw("cos\nsystem\n(").text(command).raw("tR"), `names "os.system"`},
		{"posix.system below a tensor", newPickler().tensor([]int{1, 1}, 1).raw("0cposix\nsystem\n(").text(command).raw("tR"), `names "posix.system"`},
		{"builtins.eval by the stack", newPickler().text("builtins").text("eval").raw("\x93(").text("1").raw("tR"), `names "builtins.eval"`},
		{"a name hidden in a module", newPickler().raw("ctorch\n_utils._rebuild_tensor_v2\n)R"), "arguments"},
		{"a name with a dot", newPickler().text("torch").text("serialization.load").raw("\x93"), `names "torch.serialization.load"`},
		{"torch.load", newPickler().raw("ctorch\nload\n(").text(proof).raw("tR"), `names "torch.load"`},
		{"INST", newPickler().raw("(").text(command).raw("ios\nsystem\n"), "instruction 0x69"},
		{"OBJ", newPickler().raw("(cos\nsystem\n").text(command).raw("o"), `names "os.system"`},
		{"NEWOBJ", newPickler().raw("ccollections\nOrderedDict\n)\x81"), "instruction 0x81"},
		{"BUILD of a name", newPickler().raw("ccollections\nOrderedDict\n}(").text("__setstate__").text("x").raw("ub"), "not a dict; nothing was run"},
		{"BUILD of a tensor", newPickler().tensor([]int{1, 1}, 1).raw("}(").text("__class__").text("x").raw("ub"), "not a dict; nothing was run"},
		{"a call of a value", newPickler().text("os.system").raw("(").text(command).raw("tR"), "nothing was run"},
		{"a call of a storage type", newPickler().raw("ctorch\nIntStorage\n)R"), "cannot be called; nothing was run"},
		{"extension", newPickler().raw("\x82\x01"), "instruction 0x82"},
		{"protocol 0", (&pickler{}).raw("cos\nsystem\n(S'" + command + "'\ntR"), `names "os.system"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := errorOf(t, string(tt.pickle.file(t)), Options{}); !strings.Contains(got, tt.want) {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
	bare := slices.Concat(newPickler().raw("cos\nsystem\n(").text(command).raw("tR.").Bytes())
	_, _, err := readContent(t, bare, Options{})
	if err == nil || !strings.Contains(err.Error(), "bare pickle") || cureOf(err).Text == "" {
		t.Errorf("bare pickle: %v", err)
	}
	if _, err := os.Stat(proof); !os.IsNotExist(err) {
		t.Fatal("something was run")
	}
}

// Lengths and shapes that lie must cost nothing.
func TestLyingTensors(t *testing.T) {
	huge := "\xff\xff\xff\xff\xff\xff\xff\x7f"
	for _, tt := range []struct {
		name   string
		pickle *pickler
		want   string
	}{
		{"long text", newPickler().raw("\x8d" + huge), "needs 9223372036854775807 bytes"},
		{"long bytes", newPickler().raw("\x8e" + huge), "needs 9223372036854775807 bytes"},
		{"a shape beyond the storage", newPickler().strided(0, []int{1 << 30, 1 << 30}, []int{1 << 30, 1}, 1, 2), "does not lie in a storage of 2 values"},
		{"strides beyond the storage", newPickler().strided(0, []int{2, 2}, []int{2, 1}, 1, 2, 3), "does not lie in a storage"},
		{"an offset beyond the storage", newPickler().strided(1, []int{1, 2}, []int{2, 1}, 1, 2), "does not lie in a storage"},
		{"one value many times", newPickler().strided(0, []int{500, 4000}, []int{0, 0}, 1, 2), "more values than the file"},
		{"negative stride", newPickler().strided(0, []int{1, 2}, []int{2, -1}, 1, 2), "not a storage, an offset, a shape and strides"},
		{"four axes", newPickler().tensor([]int{1, 1, 1, 2}, 1, 2), "counts are [layers, experts]"},
		{"empty stack", newPickler().raw("0"), "nothing on the stack"},
		{"no mark", newPickler().raw("t"), "no mark on the stack"},
		{"a mark for a value", newPickler().raw("(\x85"), "a mark where a value must be"},
		{"memo", newPickler().raw("h\x07"), "memo 7 is empty"},
		{"number", newPickler().int(7), "holds no known activation statistics"},
		{"no end", newPickler().raw("("), "a mark where a value must be"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := errorOf(t, string(tt.pickle.file(t)), Options{}); !strings.Contains(got, tt.want) {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
	// One tensor named by every record costs more than the file.
	p := newPickler().tensor([]int{400, 400}, make([]int, 160000)...).raw("q\x000}(").text("records").raw("](")
	for range 50 {
		p.raw("}").text("global_physical_count").raw("h\x00s")
	}
	p.raw("e").text("last_physical_to_logical_map").tensor([]int{400, 400}, make([]int, 160000)...).raw("u")
	if got := errorOf(t, string(p.file(t)), Options{}); !strings.Contains(got, "more values than the file") {
		t.Error(got)
	}
	for name, tt := range map[string]struct {
		content []byte
		want    string
	}{
		"compressed": {zipOf(t, zip.Deflate, "a/data.pkl", slices.Concat(newPickler().int(1).Bytes(), []byte("."))), "is compressed"},
		"big-endian": {zipOf(t, zip.Store, "a/data.pkl", []byte("\x80\x02N."), "a/byteorder", []byte("big")), `byte order "big"`},
		"no pickle":  {zipOf(t, zip.Store, "a/b", []byte("x")), "zip archive without data.pkl"},
		"placement":  {newPickler().raw("}").text("physical_to_logical_map").tensor([]int{1, 2}, 0, 1).raw("s").file(t), "places experts on devices"},
		"truth":      {truths(t), "truth values"},
		"other dict": {newPickler().raw("}").text("model").int(1).raw("s").file(t), "its keys: model"},
	} {
		if got := errorOf(t, string(tt.content), Options{}); !strings.Contains(got, tt.want) {
			t.Errorf("%s: got %s, want %s", name, got, tt.want)
		}
	}
}

// truths is a file of a tensor of truth values.
func truths(t *testing.T) []byte {
	p := newPickler().tensor([]int{1, 2}, 0, 1)
	text := strings.Replace(p.String(), "IntStorage", "BoolStorage", 1)
	p.Reset()
	return p.raw(text).file(t)
}
