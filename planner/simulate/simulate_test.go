package simulate

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner/apply"
	"github.com/ggufplan/ggufplan/planner/manifest"
	"github.com/ggufplan/ggufplan/stats"
	"github.com/ggufplan/ggufplan/stats/measure"
	"github.com/ggufplan/ggufplan/stats/pace"
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

// simulated writes the copy into a folder and returns its files.
func simulated(t *testing.T, m *ggufio.Model, plan *manifest.Manifest, o Options, w apply.WriteOptions) []string {
	t.Helper()
	c, err := New(plan, m, named(m, o))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var paths []string
	for i, f := range c.Files {
		w.Path = filepath.Join(dir, f.Name)
		if _, err := c.Write(context.Background(), i, w); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, w.Path)
	}
	return paths
}

// named gives the copy's files the names of the source's.
func named(m *ggufio.Model, o Options) Options {
	for i := range m.Files {
		o.Names = append(o.Names, m.Files[i].Name)
	}
	return o
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
	for _, o := range []Options{{}, {Fused: true}, {ExpertsOnly: true}, {Columns: waveColumns{}}} {
		got := read(t, simulated(t, m, planFor(m), o, apply.WriteOptions{})[0])
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
	got := open(t, simulated(t, m, planFor(m), Options{StoreF32: true, Columns: waveColumns{}}, apply.WriteOptions{})[0])
	if len(got.Tensors) != len(m.Tensors) || len(got.Metadata.Pairs) != len(m.Metadata.Pairs) {
		t.Fatalf("%d tensors and %d keys, the source has %d and %d", len(got.Tensors), len(got.Metadata.Pairs), len(m.Tensors), len(m.Metadata.Pairs))
	}
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
		rows, back := decoded(t, m, was, 1), decoded(t, got, is, 1)
		trip, err := measure.NewRoundTrip(quant.Q4_0)
		if err != nil {
			t.Fatal(err)
		}
		weights := make([]float64, was.Shape[0])
		if _, err := (waveColumns{}).MeanSquares(was.Name, 1, weights); err != nil {
			t.Fatal(err)
		}
		trip.SetWeights(weights)
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

// What is stored has the relative errors of a full measurement, within the
// storage type's rounding.
func TestErrorsAreThoseOfAFullMeasurement(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct {
		source quant.Type
		store  bool
		adds   float64 // mean square of the rounding of what is stored, relative
	}{{quant.F16, false, 5e-8}, {quant.BF16, false, 4e-6}, {quant.F32, false, 0}, {quant.BF16, true, 0}} {
		path := modelPath
		if tt.source != quant.F16 {
			path = filepath.Join(dir, tt.source.String()+".gguf")
			if err := (gguftest.MoE{Type: tt.source}).Builder().WriteFile(path); err != nil {
				t.Fatal(err)
			}
		}
		m, plan := open(t, path), planFor(open(t, path))
		measured, err := measure.Run(context.Background(), m, &stats.Evidence{Columns: waveColumns{}}, measure.Options{Types: []quant.Type{quant.Q8_0, quant.Q4_0}, Full: true})
		if err != nil {
			t.Fatal(err)
		}
		got := open(t, simulated(t, m, plan, Options{Columns: waveColumns{}, ExpertsOnly: true, StoreF32: tt.store}, apply.WriteOptions{})[0])
		compared := 0
		for i := range m.Tensors {
			was, entry := &m.Tensors[i], measured.Tensor(m.Tensors[i].Name)
			for e, name := range plan.Tensors[i].ExpertTypes {
				k := slices.Index(entry.Types, name)
				if k < 0 {
					continue
				}
				a, b := decoded(t, m, was, e), decoded(t, got, &got.Tensors[i], e)
				weights := make([]float64, was.Shape[0])
				if _, err := (waveColumns{}).MeanSquares(was.Name, e, weights); err != nil {
					t.Fatal(err)
				}
				var lost, norm float64
				for x := range a {
					w, d := float64(a[x]), float64(a[x])-float64(b[x])
					lost += weights[x%len(weights)] * d * d
					norm += weights[x%len(weights)] * w * w
				}
				// Rounding adds its mean square, and a cross term that averages
				// out over the expert's weights.
				want := entry.Experts[e].Types[k].Relative
				slack := 1e-12*want + tt.adds + 10*math.Sqrt(want*tt.adds/float64(len(a)))
				if math.Abs(lost/norm-want) > slack {
					t.Errorf("%v: %s expert %d %s: the copy has lost %v, measured %v", tt.source, was.Name, e, name, lost/norm, want)
				}
				compared++
			}
		}
		if compared < 15 {
			t.Errorf("%v: only %d experts were compared", tt.source, compared)
		}
	}
}

// decoded returns the weights of an expert of a tensor.
func decoded(t *testing.T, m *ggufio.Model, x *ggufio.Tensor, expert int) []float32 {
	t.Helper()
	data, err := m.OpenData()
	if err != nil {
		t.Fatal(err)
	}
	defer data.Close()
	raw, values := make([]byte, x.ExpertBytes()), make([]float32, x.ExpertRows()*x.Shape[0])
	if err := data.ReadExpert(x, expert, raw); err != nil {
		t.Fatal(err)
	}
	if err := quant.Decode(x.Type, values, raw); err != nil {
		t.Fatal(err)
	}
	return values
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
		if _, err := New(plan, m, named(m, Options{Columns: columns})); err == nil || !strings.Contains(err.Error(), "blk.1.ffn_up_exps.weight: IQ2_XXS needs column weights") {
			t.Errorf("with columns %v: %v", columns, err)
		}
	}
	simulated(t, m, plan, Options{Columns: waveColumns{}}, apply.WriteOptions{})
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
		written := simulated(t, m, planFor(m), Options{Columns: waveColumns{}}, apply.WriteOptions{Workers: workers})
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

// Reading back finds a byte that changed anywhere, and says where.
func TestReadingBackFindsDamage(t *testing.T) {
	m := open(t, modelPath)
	expert, _ := m.TensorByName("blk.0.ffn_down_exps.weight")
	norm, _ := m.TensorByName("output_norm.weight")
	for name, damage := range map[string]struct {
		offset uint64
		want   string
	}{
		"header":          {40, "model-f16.gguf: byte 0, or one of the "},
		"kept tensor":     {norm.OffsetBytes + 5, "model-f16.gguf: byte "},
		"planned weights": {expert.OffsetBytes, "model-f16.gguf: tensor blk.0.ffn_down_exps.weight does not read back"},
		"kept expert":     {expert.OffsetBytes + 2*expert.ExpertBytes() + 100, "model-f16.gguf: tensor blk.0.ffn_down_exps.weight does not read back"},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := New(planFor(m), m, named(m, Options{}))
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), "damaged.gguf")
			_, err = c.Write(context.Background(), 0, apply.WriteOptions{Path: path, Progress: func(doing string, p pace.Progress) {
				if doing == "writing" && p.Done == p.Total {
					if err := gguftest.Patch(path, int64(damage.offset), []byte{read(t, path)[damage.offset] ^ 0x10}); err != nil {
						t.Error(err)
					}
				}
			}})
			if !errors.Is(err, apply.ErrReadBack) || !strings.HasPrefix(err.Error(), damage.want) {
				t.Errorf("error is %v, want %q", err, damage.want)
			}
		})
	}
}

// A file that ends in bytes of no tensor, and whose padding is not zero, is
// copied as it is.
func TestBytesOfNoTensorAreKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tail.gguf")
	b := gguftest.MoE{Type: quant.F16, Layers: 1, Embd: 96, FF: 64, Vocab: 7}.Builder()
	b.Alignment = 256
	b.Set("general.alignment", uint32(b.Alignment))
	if err := b.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	source := append(read(t, path), "behind the last tensor"...)
	m := open(t, path)
	padding := 0
	for i := range m.Tensors {
		x := &m.Tensors[i]
		for at := x.OffsetBytes + x.SizeBytes; at < ggufio.Padded(x.OffsetBytes+x.SizeBytes, m.Files[0].AlignmentBytes); at++ {
			source[at] = 0x55
			padding++
		}
	}
	if padding == 0 {
		t.Fatal("the model has no padding")
	}
	if err := os.WriteFile(path, source, 0o666); err != nil {
		t.Fatal(err)
	}
	m = open(t, path)
	plan := planFor(m)
	got := read(t, simulated(t, m, plan, Options{ExpertsOnly: true}, apply.WriteOptions{})[0])
	for i := range m.Tensors {
		if x := &m.Tensors[i]; x.Role.IsExpert() {
			if bytes.Equal(source[x.OffsetBytes:][:x.SizeBytes], got[x.OffsetBytes:][:x.SizeBytes]) {
				t.Errorf("%s is not changed", x.Name)
			}
			copy(source[x.OffsetBytes:][:x.SizeBytes], got[x.OffsetBytes:])
		}
	}
	if !bytes.Equal(got, source) {
		t.Error("bytes outside of planned tensors changed")
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
			if _, err := New(plan, m, named(m, Options{})); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error is %v, want one with %q", err, tt.want)
			}
		})
	}
	other := filepath.Join(t.TempDir(), "iq2_k.gguf")
	if err := (gguftest.MoE{Type: quant.IQ2_K, Sparse: true}).Builder().WriteFile(other); err != nil {
		t.Fatal(err)
	}
	q := open(t, other)
	if _, err := New(planFor(q), q, named(q, Options{})); err == nil || !strings.Contains(err.Error(), "its source is IQ2_K, which cannot be decoded") {
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
	c, err := New(planFor(m), m, named(m, Options{}))
	if err != nil {
		t.Fatal(err)
	}
	const want = "m-00002-of-00002.gguf: tensor blk.1.ffn_down_exps.weight: expert 1: row 17: "
	if _, err := c.Write(context.Background(), 1, apply.WriteOptions{Path: filepath.Join(t.TempDir(), "out.gguf")}); err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("error is %v, want %q", err, want)
	}
}

func TestInterrupted(t *testing.T) {
	m := open(t, modelPath)
	ctx, cancel := context.WithCancel(context.Background())
	c, err := New(planFor(m), m, named(m, Options{}))
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Write(ctx, 0, apply.WriteOptions{Path: filepath.Join(t.TempDir(), "out.gguf"), Progress: func(string, pace.Progress) { cancel() }})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("an interrupted copy returns %v", err)
	}
}
