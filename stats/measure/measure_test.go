package measure

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/stats"
	"github.com/ggufplan/ggufplan/stats/pace"
)

func openModel(t *testing.T) *ggufio.Model {
	t.Helper()
	m, err := ggufio.Open("../../testdata/bytemoe-2x8/model-f16.gguf")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// waveColumns is an imatrix of made-up column weights with an expert that no
// token reached.
type waveColumns struct{ unseen int }

func (c waveColumns) MeanSquares(tensor string, expert int, dst []float64) (bool, error) {
	for i := range dst {
		dst[i] = 1 + float64((i*7+expert*13+len(tensor))%11)
	}
	return expert != c.unseen, nil
}

func (c waveColumns) Complete(string, uint64, uint64) bool { return true }

func waveEvidence(m *ggufio.Model) *stats.Evidence {
	e := &stats.Evidence{Kind: stats.KindExact, Columns: waveColumns{unseen: 5}, Inputs: []stats.Input{{FileID: stats.FileID{Name: "wave", SHA256: string(bytes.Repeat([]byte("a"), 64))}}}}
	for _, layer := range m.MoELayers() {
		l := stats.Layer{Index: layer}
		for i := range m.ExpertCount(layer) {
			n := uint64(100 * (i + 1))
			if i == 5 {
				n = 0
			}
			l.Counts = append(l.Counts, n)
		}
		e.Layers = append(e.Layers, l)
	}
	return e
}

// measuredTypes are of each kind: a super-block, a codebook that needs weights
// (two bits), and a block of 32.
var measuredTypes = []quant.Type{quant.Q3_K, quant.IQ2_XXS, quant.Q4_0}

func measureBytes(t *testing.T, m *ggufio.Model, e *stats.Evidence, o Options) []byte {
	t.Helper()
	got, err := Run(context.Background(), m, e, o)
	if err != nil {
		t.Fatal(err)
	}
	return encodeErrors(t, got)
}

func encodeErrors(t *testing.T, e *Result) []byte {
	t.Helper()
	b, err := Encode(e)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Full measurement agrees with the definitions, computed here from the bytes.
func TestMeasureFullAgainstTheDefinition(t *testing.T) {
	m := openModel(t)
	e := waveEvidence(m)
	got, err := Run(context.Background(), m, e, Options{Types: measuredTypes, Full: true})
	if err != nil {
		t.Fatal(err)
	}
	data, err := m.OpenData()
	if err != nil {
		t.Fatal(err)
	}
	defer data.Close()
	seen := 0
	for i := range got.Tensors {
		entry := &got.Tensors[i]
		tensor, _ := m.TensorByName(entry.Name)
		columns := int(tensor.Shape[0])
		for j := range entry.Experts {
			if (i+j)%3 != 0 {
				continue // a third of them will do
			}
			x := &entry.Experts[j]
			raw := make([]byte, tensor.ExpertBytes())
			if err := data.ReadExpert(tensor, j, raw); err != nil {
				t.Fatal(err)
			}
			rows := make([]float32, tensor.ExpertRows()*tensor.Shape[0])
			if err := quant.Decode(tensor.Type, rows, raw); err != nil {
				t.Fatal(err)
			}
			weights := make([]float64, columns)
			weighted, _ := e.Columns.MeanSquares(entry.Name, j, weights)
			given := make([]float32, columns)
			for c := range weights {
				if !weighted {
					weights[c] = 1
				}
				given[c] = float32(weights[c])
			}
			if x.Weighted != weighted {
				t.Fatalf("%s expert %d: weighted is %v", entry.Name, j, x.Weighted)
			}
			for k, name := range entry.Types {
				f, _ := quant.ByName(name)
				enc, err := quant.NewEncoder(f.Type)
				if err != nil {
					t.Fatal(err)
				}
				var we, wn, pe float64
				for start := 0; start < len(rows); start += columns {
					row := rows[start:][:columns]
					size, _ := f.Layout.EncodedBytes(1, uint64(columns))
					dst, back := make([]byte, size), make([]float32, columns)
					if err := enc.EncodeRow(dst, row, given); err != nil {
						t.Fatal(err)
					}
					if err := quant.Decode(f.Type, back, dst); err != nil {
						t.Fatal(err)
					}
					for c := range row {
						d := float64(row[c]) - float64(back[c])
						we += weights[c] * d * d
						wn += weights[c] * float64(row[c]) * float64(row[c])
						pe += d * d
					}
				}
				r := x.Types[k]
				for _, v := range [][2]float64{{r.WeightedError, we}, {r.Relative, we / wn}, {r.PlainError, pe}, {x.WeightedNorm, wn}} {
					if math.Abs(v[0]-v[1]) > 1e-9*v[1] {
						t.Fatalf("%s expert %d %s: %v, by definition %v", entry.Name, j, name, v[0], v[1])
					}
				}
				seen++
			}
		}
	}
	if seen < 30 {
		t.Errorf("only %d results were compared", seen)
	}
}

// One weight that is not finite is found wherever it is, in the first expert that
// has one.
func TestMeasureFindsEveryWeightThatIsNotFinite(t *testing.T) {
	for _, row := range []int{0, 77, 255} {
		b := gguftest.MoE{Layers: 1, Experts: 2, Type: quant.BF16}.Builder()
		x := b.Tensor("blk.0.ffn_up_exps.weight")
		columns, rows := int(x.Shape[0]), int(x.Shape[1])
		if rows != 256 {
			t.Fatalf("an expert has %d rows", rows)
		}
		binary.LittleEndian.PutUint16(x.Data[2*((rows+row)*columns+9):], 0x7fc0)
		path := filepath.Join(t.TempDir(), "nan.gguf")
		if err := b.WriteFile(path); err != nil {
			t.Fatal(err)
		}
		m, err := ggufio.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("blk.0.ffn_up_exps.weight: expert 1: row %d: column 9: weight NaN", row)
		if _, err := Run(context.Background(), m, nil, Options{Types: []quant.Type{quant.Q8_0}}); !errors.Is(err, quant.ErrNotFinite) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// An expert without a count has the layer's count-weighted mean as the column
// weights of its output energy, and half a token.
func TestOutputEnergy(t *testing.T) {
	m := openModel(t)
	e := waveEvidence(m)
	got, err := Run(context.Background(), m, e, Options{Types: []quant.Type{quant.Q8_0}, Full: true})
	if err != nil {
		t.Fatal(err)
	}
	for i := range got.Tensors {
		entry := &got.Tensors[i]
		if entry.Role != string(ggufio.RoleExpertDown) {
			if entry.Experts[0].OutputEnergy != nil {
				t.Errorf("%s has an output energy", entry.Name)
			}
			continue
		}
		for j, x := range entry.Experts {
			if x.OutputEnergy == nil {
				t.Fatalf("%s expert %d has no output energy", entry.Name, j)
			}
			want := (float64(*x.Count) + 0.5) * x.WeightedNorm
			if j == 5 {
				// Mean column weights lie between 1 and 11, and here near 6.
				if r := *x.OutputEnergy / (0.5 * x.PlainNorm); r < 4 || r > 8 {
					t.Errorf("%s unseen expert: mean column weight %v", entry.Name, r)
				}
				continue
			}
			if math.Abs(*x.OutputEnergy-want) > 1e-12*want {
				t.Errorf("%s expert %d: energy %v, want %v", entry.Name, j, *x.OutputEnergy, want)
			}
		}
	}
}

func TestMeasureDoesNotDependOnWorkers(t *testing.T) {
	m := openModel(t)
	e := waveEvidence(m)
	one := measureBytes(t, m, e, Options{Types: measuredTypes, Seed: 3, Workers: 1})
	many := measureBytes(t, m, e, Options{Types: measuredTypes, Seed: 3, Workers: 7})
	if !bytes.Equal(one, many) {
		t.Error("one worker and seven give different bytes")
	}
	other := measureBytes(t, m, e, Options{Types: measuredTypes, Seed: 4})
	if bytes.Equal(one, other) {
		t.Error("the seed does not matter")
	}
}

func TestPartsMergeIntoTheWhole(t *testing.T) {
	m := openModel(t)
	e := waveEvidence(m)
	whole := measureBytes(t, m, e, Options{Types: measuredTypes, Seed: 1})
	for _, n := range []int{1, 2, 5, 48, 60} {
		var parts []*Result
		var names []string
		for i := range n {
			p, err := Run(context.Background(), m, e, Options{Types: measuredTypes, Seed: 1, Part: &Part{i + 1, n}})
			if err != nil {
				t.Fatal(err)
			}
			// Through its file, as a job would.
			file := encodeErrors(t, p)
			if err := validateSchema(t, file); err != nil {
				t.Errorf("part %d of %d: schema: %v", i+1, n, err)
			}
			if p, err = Decode(file); err != nil {
				t.Fatal(err)
			}
			if n == 5 && (experts(p) < 8 || experts(p) > 11) {
				t.Errorf("part %d of 5 has %d of 48 experts: shares are not balanced", i+1, experts(p))
			}
			parts, names = append(parts, p), append(names, string(rune('a'+i)))
		}
		slices.Reverse(parts)
		got, err := Merge(parts, names)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(whole, encodeErrors(t, got)) {
			t.Errorf("%d parts merge into other bytes than one run's", n)
		}
		if n == 5 {
			if _, err := Merge(parts[:4], names); err == nil {
				t.Error("4 of 5 parts merge")
			}
			// One part of an older version, whose rows were drawn evenly, and all.
			older := slices.Clone(parts)
			for i := range older {
				part := *parts[i]
				part.FormatVersion = "1.0"
				older[i] = &part
				if i > 0 && i < n-1 {
					continue
				}
				if _, err := Merge(older, names); err == nil || !strings.Contains(err.Error(), "a: is of format 1.0") {
					t.Errorf("%d parts of an older version merge: %v", i+1, err)
				}
			}
			parts[1] = parts[0]
			if _, err := Merge(parts, names); err == nil {
				t.Error("a part given twice merges")
			}
		}
	}
}

func experts(e *Result) (n int) {
	for i := range e.Tensors {
		n += len(e.Tensors[i].Experts)
	}
	return n
}

func TestResumeEndsWithTheSameBytes(t *testing.T) {
	m := openModel(t)
	e := waveEvidence(m)
	options := Options{Types: measuredTypes, Seed: 1}
	whole := measureBytes(t, m, e, options)
	path := filepath.Join(t.TempDir(), "errors.json.partial")

	// Interrupted after a few experts, with a line torn by a crash.
	ctx, cancel := context.WithCancel(context.Background())
	options.Journal, options.Workers = NewJournal(path, false), 2
	options.Progress = func(p pace.Progress) {
		if 2*p.Done > p.Total {
			cancel()
		}
	}
	if _, err := Run(ctx, m, e, options); !errors.Is(err, context.Canceled) {
		t.Fatalf("an interrupted run returns %v", err)
	}
	options.Journal.Close()
	state, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(state, []byte("\n")); n < 10 {
		t.Fatalf("the state holds %d lines", n)
	}
	if err := os.WriteFile(path, state[:len(state)-20], 0o644); err != nil {
		t.Fatal(err)
	}

	// Without being asked to resume, the state is not thrown away.
	options.Journal, options.Progress = NewJournal(path, false), nil
	if _, err := Run(context.Background(), m, e, options); !errors.Is(err, ErrJournalExists) {
		t.Fatalf("a run that finds state returns %v", err)
	}
	// Another version's state is refused, and another measurement's.
	older := strings.Replace(string(state), journalMagic, journalName+"2 ", 1)
	if err := os.WriteFile(path, []byte(older), 0o644); err != nil {
		t.Fatal(err)
	}
	options.Journal = NewJournal(path, true)
	if _, err := Run(context.Background(), m, e, options); err == nil || !strings.Contains(err.Error(), "of another version") {
		t.Fatalf("another version's state is resumed: %v", err)
	}
	options.Journal.Close()
	if err := os.WriteFile(path, state[:len(state)-20], 0o644); err != nil {
		t.Fatal(err)
	}
	options.Journal = NewJournal(path, true)
	options.Seed = 2
	if _, err := Run(context.Background(), m, e, options); err == nil {
		t.Fatal("another seed's state is resumed")
	}
	options.Journal.Close()

	options.Journal, options.Seed = NewJournal(path, true), 1
	var reports []uint64
	options.Progress = func(p pace.Progress) { reports = append(reports, p.Done) }
	if got := measureBytes(t, m, e, options); !bytes.Equal(whole, got) {
		t.Error("a resumed run ends with other bytes")
	}
	if reports[0] == 0 {
		t.Error("the resumed run began from nothing")
	}
	if err := options.Journal.Remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Error("the state is still there")
	}
}

// State of a run that read other weights is not gone on with, whether the files'
// times give them away or only what is measured again.
func TestResumeKnowsTheWeights(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "model.gguf")
	if err := gguftest.CopyFile(file, "../../testdata/bytemoe-2x8/model-f16.gguf"); err != nil {
		t.Fatal(err)
	}
	m, err := ggufio.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "state")
	options := Options{Types: []quant.Type{quant.Q8_0}, Journal: NewJournal(path, false)}
	if _, err := Run(context.Background(), m, nil, options); err != nil {
		t.Fatal(err)
	}
	options.Journal.Close()
	resume := func() error {
		options.Journal = NewJournal(path, true)
		defer options.Journal.Close()
		_, err := Run(context.Background(), m, nil, options)
		return err
	}
	if err := resume(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	// The last bit of every half, wherever the item is that was measured last.
	for i := int(m.Files[0].DataOffsetBytes); i < len(data); i += 2 {
		data[i] ^= 1
	}
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(file, time.Time{}, info.ModTime().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	if err := resume(); !errors.Is(err, ErrModelChanged) || !strings.Contains(err.Error(), "size or time") {
		t.Errorf("resumed after the file was written: %v", err)
	}
	if err := os.Chtimes(file, time.Time{}, info.ModTime()); err != nil {
		t.Fatal(err)
	}
	if err := resume(); !errors.Is(err, ErrModelChanged) || !strings.Contains(err.Error(), "measured again") {
		t.Errorf("resumed with other weights of the same time: %v", err)
	}
}

// A model that is written to while it is measured gives no result.
func TestModelChangesWhileMeasured(t *testing.T) {
	file := filepath.Join(t.TempDir(), "model.gguf")
	if err := gguftest.CopyFile(file, "../../testdata/bytemoe-2x8/model-f16.gguf"); err != nil {
		t.Fatal(err)
	}
	m, err := ggufio.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	touched := false
	_, err = Run(context.Background(), m, nil, Options{Types: []quant.Type{quant.Q8_0}, Progress: func(p pace.Progress) {
		if !touched {
			touched = true
			if err := os.Chtimes(file, time.Time{}, time.Unix(1, 0)); err != nil {
				t.Error(err)
			}
		}
	}})
	if !errors.Is(err, ErrModelChanged) {
		t.Errorf("error %v", err)
	}
}

// Two runs into one file: the later is refused while the first goes on.
func TestOneRunPerJournal(t *testing.T) {
	m := openModel(t)
	path := filepath.Join(t.TempDir(), "state")
	options := Options{Types: []quant.Type{quant.Q8_0}, Workers: 1, Journal: NewJournal(path, false)}
	var later error
	options.Progress = func(p pace.Progress) {
		if later == nil {
			other := Options{Types: options.Types, Journal: NewJournal(path, true)}
			_, later = Run(context.Background(), m, nil, other)
			other.Journal.Close()
		}
	}
	if _, err := Run(context.Background(), m, nil, options); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(later, ErrJournalInUse) {
		t.Errorf("the later run: %v", later)
	}
}

// Whatever a state file holds, what is taken from it could have been measured.
func FuzzJournal(f *testing.F) {
	m, err := ggufio.Open("../../testdata/bytemoe-2x8/model-f16.gguf")
	if err != nil {
		f.Fatal(err)
	}
	options := Options{Types: measuredTypes}
	dir := f.TempDir()
	path := filepath.Join(dir, "state")
	options.Journal = NewJournal(path, false)
	if _, err := Run(context.Background(), m, nil, Options{Types: measuredTypes[:1], Part: &Part{1, 48}, Journal: options.Journal}); err != nil {
		f.Fatal(err)
	}
	options.Journal.Close()
	state, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(state)
	_, items, _ := bytes.Cut(state, []byte("\n"))
	f.Add(items)
	f.Add([]byte("00000000 0 {}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		work, err := newMeasurement(m, nil, options)
		if err != nil {
			t.Fatal(err)
		}
		weights := sha256.Sum256([]byte(work.weights))
		id, err := work.identity()
		if err != nil {
			t.Fatal(err)
		}
		for _, content := range [][]byte{data, append([]byte(journalMagic+id+" "+hex.EncodeToString(weights[:])+"\n"), data...)} {
			path := filepath.Join(t.TempDir(), "state")
			if err := os.WriteFile(path, content, 0o644); err != nil {
				t.Fatal(err)
			}
			j := NewJournal(path, true)
			done := make([]bool, len(work.items))
			if err := j.begin(work, done); err != nil {
				continue
			}
			j.Close()
			for i := range done {
				if it := &work.items[i]; done[i] && (it.place.Expert != it.expert() || it.place.validate(len(it.types)) != nil) {
					t.Errorf("takes %+v", it.place)
				}
			}
		}
	})
}
