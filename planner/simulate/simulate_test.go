package simulate

import (
	"bytes"
	"context"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner/manifest"
	"github.com/ggufplan/ggufplan/stats"
	"github.com/ggufplan/ggufplan/stats/measure"
)

const modelPath = "../../testdata/bytemoe-2x8/model-f16.gguf"

func open(t *testing.T, path string) *ggufio.Model {
	t.Helper()
	m, err := ggufio.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// planFor is a manifest that gives expert e of every expert tensor a type of
// its own, fused Q4_0, and attention Q8_0. Only what simulate reads is set.
func planFor(m *ggufio.Model) *manifest.Manifest {
	p := manifest.New()
	for _, f := range m.Files {
		p.Model.Files = append(p.Model.Files, manifest.File{Name: f.Name, SizeBytes: f.SizeBytes, HeaderSHA256: f.HeaderSHA256})
	}
	for i := range m.Tensors {
		t := &m.Tensors[i]
		entry := manifest.Tensor{Name: t.Name, Shape: t.Shape, SourceType: t.Type.String(), PlannedType: t.Type.String()}
		switch {
		case t.Role.IsExpert():
			entry.PlannedType = "Q4_0"
			for e := range t.Experts() {
				entry.ExpertTypes = append(entry.ExpertTypes, []string{"Q8_0", "Q4_0", t.Type.String()}[e%3])
			}
		case t.Role == ggufio.RoleAttention && len(t.Shape) > 1:
			entry.PlannedType = "Q8_0"
		}
		p.Tensors = append(p.Tensors, entry)
	}
	return p
}

// waveColumns is an imatrix of made-up column weights.
type waveColumns struct{}

func (waveColumns) MeanSquares(tensor string, expert int, dst []float64) (bool, error) {
	for i := range dst {
		dst[i] = 1 + float64((i*7+expert*13+len(tensor))%11)
	}
	return true, nil
}

func (waveColumns) Complete(string, uint64, uint64) bool { return true }

// write writes the copy into dir and checks it.
func write(t *testing.T, c *Copy, dir string) []string {
	t.Helper()
	var paths []string
	var outputs []Output
	for _, f := range c.Files {
		path := filepath.Join(dir, f.Name)
		out, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		paths, outputs = append(paths, path), append(outputs, out)
	}
	if err := c.Write(context.Background(), outputs); err != nil {
		t.Fatal(err)
	}
	if err := c.Check(context.Background(), outputs); err != nil {
		t.Fatal(err)
	}
	return paths
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestOnlyPlannedTensorsChange(t *testing.T) {
	m := open(t, modelPath)
	for _, o := range []Options{{}, {Fused: true}, {ExpertsOnly: true}, {Columns: waveColumns{}, Workers: 1}} {
		c, err := New(planFor(m), m, o)
		if err != nil {
			t.Fatal(err)
		}
		got := read(t, write(t, c, t.TempDir())[0])
		source := read(t, modelPath)
		if len(got) != len(source) {
			t.Fatalf("%d bytes, the source has %d", len(got), len(source))
		}
		want := bytes.Clone(source)
		for i := range m.Tensors {
			tensor := &m.Tensors[i]
			a, b := source[tensor.OffsetBytes:][:tensor.SizeBytes], got[tensor.OffsetBytes:][:tensor.SizeBytes]
			planned := tensor.Role.IsExpert() || !o.ExpertsOnly && tensor.Role == ggufio.RoleAttention && len(tensor.Shape) > 1
			if planned == bytes.Equal(a, b) {
				t.Errorf("%+v: %s: planned is %v, changed is %v", o, tensor.Name, planned, !planned)
			}
			if planned {
				copy(want[tensor.OffsetBytes:], b)
			}
			if tensor.Role.IsExpert() && !o.Fused { // expert 2 keeps its type
				step := tensor.ExpertBytes()
				if !bytes.Equal(a[2*step:3*step], b[2*step:3*step]) {
					t.Errorf("%s: expert 2 changed", tensor.Name)
				}
			}
		}
		if !bytes.Equal(want, got) {
			t.Errorf("%+v: bytes outside of planned tensors changed", o)
		}
	}
}

// Stored as F32 the copy holds exactly what the types decode to.
func TestStoreF32(t *testing.T) {
	m := open(t, modelPath)
	c, err := New(planFor(m), m, Options{StoreF32: true, Columns: waveColumns{}})
	if err != nil {
		t.Fatal(err)
	}
	got := open(t, write(t, c, t.TempDir())[0])
	if len(got.Tensors) != len(m.Tensors) || len(got.Metadata.Pairs) != len(m.Metadata.Pairs) {
		t.Fatalf("%d tensors and %d keys, the source has %d and %d", len(got.Tensors), len(got.Metadata.Pairs), len(m.Tensors), len(m.Metadata.Pairs))
	}
	data, err := got.OpenData()
	if err != nil {
		t.Fatal(err)
	}
	defer data.Close()
	source, err := m.OpenData()
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	for i := range m.Tensors {
		was, is := &m.Tensors[i], &got.Tensors[i]
		switch {
		case was.Name != is.Name:
			t.Fatalf("tensor %d is %s, was %s", i, is.Name, was.Name)
		case !was.Role.IsExpert():
			continue
		case is.Type != quant.F32:
			t.Fatalf("%s is %s", is.Name, is.Type)
		}
		raw, rows := make([]byte, was.ExpertBytes()), make([]float32, was.ExpertRows()*was.Shape[0])
		if err := source.ReadExpert(was, 1, raw); err != nil {
			t.Fatal(err)
		}
		if err := quant.Decode(was.Type, rows, raw); err != nil {
			t.Fatal(err)
		}
		trip, err := measure.NewRoundTrip(quant.Q4_0)
		if err != nil {
			t.Fatal(err)
		}
		weights := make([]float64, was.Shape[0])
		if _, err := (waveColumns{}).MeanSquares(was.Name, 1, weights); err != nil {
			t.Fatal(err)
		}
		trip.SetWeights(weights)
		raw = make([]byte, is.ExpertBytes())
		if err := data.ReadExpert(is, 1, raw); err != nil {
			t.Fatal(err)
		}
		back := make([]float32, len(rows))
		if err := quant.Decode(quant.F32, back, raw); err != nil {
			t.Fatal(err)
		}
		columns := int(was.Shape[0])
		for start := 0; start < len(rows); start += columns {
			if _, err := trip.Row(rows[start:][:columns]); err != nil {
				t.Fatal(err)
			}
			for k, v := range trip.Decoded() {
				if back[start+k] != v {
					t.Fatalf("%s expert 1: weight %d is %v, decodes to %v", was.Name, start+k, back[start+k], v)
				}
			}
		}
	}
}

// The relative errors are those of a full measurement, and what is stored has
// them within the storage type's rounding.
func TestErrorsAreThoseOfAFullMeasurement(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct {
		source quant.Type
		adds   float64 // mean square of the rounding of what is stored, relative
	}{{quant.F16, 5e-8}, {quant.BF16, 4e-6}, {quant.F32, 1e-14}} {
		path := modelPath
		if tt.source != quant.F16 {
			path = filepath.Join(dir, tt.source.String()+".gguf")
			if err := (gguftest.MoE{Type: tt.source}).Builder().WriteFile(path); err != nil {
				t.Fatal(err)
			}
		}
		m := open(t, path)
		measured, err := measure.Run(context.Background(), m, &stats.Evidence{Columns: waveColumns{}}, measure.Options{Types: []quant.Type{quant.Q8_0, quant.Q4_0}, Full: true})
		if err != nil {
			t.Fatal(err)
		}
		c, err := New(planFor(m), m, Options{Columns: waveColumns{}, ExpertsOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		write(t, c, t.TempDir())
		compared := 0
		for i := range c.changes {
			ch := &c.changes[i]
			entry := measured.Tensor(ch.tensor.Name)
			for e, x := range ch.experts {
				for k, name := range entry.Types {
					if ch.types[e] == ch.tensor.Type || name != ch.types[e].String() {
						continue
					}
					want := entry.Experts[e].Types[k].Relative
					if got := stats.Relative(x.planned, x.norm); math.Abs(got-want) > 1e-12*want {
						t.Errorf("%v: %s expert %d %s: relative error %v, measured %v", tt.source, ch.tensor.Name, e, name, got, want)
					}
					// Rounding adds its mean square, and a cross term that
					// averages out over the expert's weights.
					slack := tt.adds + 10*math.Sqrt(want*tt.adds/float64(ch.tensor.ExpertRows()*ch.tensor.Shape[0]))
					if got := stats.Relative(x.stored, x.norm); math.Abs(got-want) > slack {
						t.Errorf("%v: %s expert %d %s: reads back with %v, measured %v", tt.source, ch.tensor.Name, e, name, got, want)
					}
					compared++
				}
			}
		}
		if compared < 15 {
			t.Errorf("%v: only %d experts were compared", tt.source, compared)
		}
	}
}

// What cannot be encoded without column weights is refused before anything is
// written, where the imatrix lacks them for the tensor.
func TestTypesThatNeedWeights(t *testing.T) {
	m := open(t, modelPath)
	plan := planFor(m)
	for i := range plan.Tensors {
		if plan.Tensors[i].Name == "blk.1.ffn_up_exps.weight" {
			plan.Tensors[i].ExpertTypes[3] = "IQ2_XXS"
		}
	}
	for _, columns := range []stats.Columns{nil, lackingColumns{}} {
		if _, err := New(plan, m, Options{Columns: columns}); err == nil || !strings.Contains(err.Error(), "blk.1.ffn_up_exps.weight: IQ2_XXS needs column weights") {
			t.Errorf("with columns %v: %v", columns, err)
		}
	}
	c, err := New(plan, m, Options{Columns: waveColumns{}})
	if err != nil {
		t.Fatal(err)
	}
	write(t, c, t.TempDir())
}

// lackingColumns has no tensor in full.
type lackingColumns struct{ waveColumns }

func (lackingColumns) Complete(string, uint64, uint64) bool { return false }

func TestShardsAndWorkers(t *testing.T) {
	dir := t.TempDir()
	b := gguftest.MoE{Type: quant.BF16, Layers: 3, Experts: 5}.Builder()
	paths, err := b.WriteShards(dir, "model", 4)
	if err != nil {
		t.Fatal(err)
	}
	m := open(t, paths[0])
	var first [][]byte
	for _, workers := range []int{1, 8} {
		c, err := New(planFor(m), m, Options{Workers: workers, Columns: waveColumns{}})
		if err != nil {
			t.Fatal(err)
		}
		written := write(t, c, t.TempDir())
		if got := open(t, written[2]); len(got.Tensors) != len(m.Tensors) {
			t.Fatalf("the copy has %d tensors, the source %d", len(got.Tensors), len(m.Tensors))
		}
		for i, path := range written {
			content := read(t, path)
			if workers == 1 {
				first = append(first, content)
			} else if !bytes.Equal(first[i], content) {
				t.Errorf("%s differs with %d workers", path, workers)
			}
		}
	}
}

// Check finds a byte that changed anywhere.
func TestCheckFindsDamage(t *testing.T) {
	m := open(t, modelPath)
	c, err := New(planFor(m), m, Options{})
	if err != nil {
		t.Fatal(err)
	}
	path := write(t, c, t.TempDir())[0]
	expert, _ := m.TensorByName("blk.0.ffn_down_exps.weight")
	norm, _ := m.TensorByName("output_norm.weight")
	for name, damage := range map[string]struct {
		offset uint64
		data   []byte
	}{
		"header":          {40, []byte{0xff}},
		"kept tensor":     {norm.OffsetBytes + 5, []byte{0xff}},
		"planned weights": {expert.OffsetBytes, bytes.Repeat([]byte{0x3c}, 4096)},
		"kept expert":     {expert.OffsetBytes + 2*expert.ExpertBytes() + 100, []byte{0xff}},
	} {
		t.Run(name, func(t *testing.T) {
			damaged := filepath.Join(t.TempDir(), "damaged.gguf")
			if err := gguftest.CopyFile(damaged, path); err != nil {
				t.Fatal(err)
			}
			if err := gguftest.Patch(damaged, int64(damage.offset), damage.data); err != nil {
				t.Fatal(err)
			}
			f, err := os.OpenFile(damaged, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := c.Check(context.Background(), []Output{f}); err == nil {
				t.Error("is not found")
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	m := open(t, modelPath)
	for _, tt := range []struct {
		name  string
		spoil func(*manifest.Manifest)
		want  string
	}{
		{"another header", func(p *manifest.Manifest) { p.Model.Files[0].HeaderSHA256 = strings.Repeat("0", 64) }, "another model"},
		{"another size", func(p *manifest.Manifest) { p.Model.Files[0].SizeBytes++ }, "another model"},
		{"another file count", func(p *manifest.Manifest) { p.Model.Files = append(p.Model.Files, p.Model.Files[0]) }, "1 files, want 2"},
		{"declared type", func(p *manifest.Manifest) { p.Tensors[0].PlannedType = "PiQ3" }, "PiQ3 is not a type of GGML's"},
		{"no change", func(p *manifest.Manifest) {
			for i := range p.Tensors {
				p.Tensors[i].PlannedType, p.Tensors[i].ExpertTypes = p.Tensors[i].SourceType, nil
			}
		}, "changes no tensor"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			plan := planFor(m)
			tt.spoil(plan)
			if _, err := New(plan, m, Options{}); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error is %v, want one with %q", err, tt.want)
			}
		})
	}
	other := filepath.Join(t.TempDir(), "iq2_k.gguf")
	if err := (gguftest.MoE{Type: quant.IQ2_K, Sparse: true}).Builder().WriteFile(other); err != nil {
		t.Fatal(err)
	}
	q := open(t, other)
	if _, err := New(planFor(q), q, Options{}); err == nil || !strings.Contains(err.Error(), "its source is IQ2_K, which cannot be decoded") {
		t.Errorf("a source that cannot be decoded: %v", err)
	}
}

// A weight that cannot be encoded is named, with the shard that it is in.
func TestWriteNamesBadWeights(t *testing.T) {
	b := gguftest.MoE{Type: quant.F32}.Builder()
	const columns, rows = 256, 256
	binary.LittleEndian.PutUint32(b.Tensor("blk.1.ffn_down_exps.weight").Data[4*((1*rows+17)*columns+5):], math.Float32bits(float32(math.NaN())))
	shards, err := b.WriteShards(t.TempDir(), "m", 2)
	if err != nil {
		t.Fatal(err)
	}
	m := open(t, shards[0])
	c, err := New(planFor(m), m, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var outputs []Output
	for _, f := range c.Files {
		out, err := os.Create(filepath.Join(t.TempDir(), f.Name))
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		outputs = append(outputs, out)
	}
	const want = "m-00002-of-00002.gguf: tensor blk.1.ffn_down_exps.weight: expert 1: row 17: "
	if err := c.Write(context.Background(), outputs); err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("error is %v, want %q", err, want)
	}
}

func TestInterrupted(t *testing.T) {
	m := open(t, modelPath)
	ctx, cancel := context.WithCancel(context.Background())
	c, err := New(planFor(m), m, Options{Progress: func(done, total uint64) { cancel() }})
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "out.gguf"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := c.Write(ctx, []Output{f}); err != context.Canceled {
		t.Errorf("an interrupted copy returns %v", err)
	}
}
