package probe

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/planner/llamaquantize"
	"github.com/ggufplan/ggufplan/stats/measure"
	"github.com/ggufplan/ggufplan/stats/pace"
)

// This test's own program stands in for llama-perplexity where fakeEnv names
// the reference: a token is a byte, and a model's divergence follows from the
// tensors that differ from the reference's.
const fakeEnv, fakeFaultEnv = "GGUFPLAN_FAKE_REFERENCE", "GGUFPLAN_FAKE_FAULT"

func TestMain(m *testing.M) {
	if reference := os.Getenv(fakeEnv); reference != "" {
		if err := fakePerplexity(reference, os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, "0.00.020.745 E fake: "+err.Error())
			os.Exit(3)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const fakeVocabulary = 64

func fakePerplexity(reference string, args []string) error {
	value := func(name string) string {
		if i := slices.Index(args, name); i >= 0 {
			return args[i+1]
		}
		return ""
	}
	model, logits := value("-m"), value("--kl-divergence-base")
	context, _ := strconv.ParseUint(value("-c"), 10, 64)
	if value("-b") != value("-c") || args[0] != "--extra" {
		return fmt.Errorf("arguments: %q", args)
	}
	if !slices.Contains(args, "--kl-divergence") {
		text, err := os.ReadFile(value("-f"))
		if err != nil {
			return err
		}
		chunks, _ := strconv.ParseUint(value("--chunks"), 10, 64)
		chunks = min(chunks, uint64(len(text))/context)
		out := []byte(logitsMagic)
		for _, n := range []uint64{context, fakeVocabulary, chunks} {
			out = binary.LittleEndian.AppendUint32(out, uint32(n))
		}
		if uint64(len(text)) < 2*context {
			return os.WriteFile(logits, out[:12], 0o644)
		}
		for _, c := range text[:context*chunks] {
			out = binary.LittleEndian.AppendUint32(out, uint32(c)%fakeVocabulary)
		}
		out = append(out, make([]byte, LogitsBytes(context, chunks, fakeVocabulary)-uint64(len(out)))...)
		fmt.Fprintf(os.Stderr, "0.00.644.641 I perplexity: calculating perplexity over %d chunks, n_ctx=%d, batch_size=%d, n_seq=1\n", chunks, context, context)
		time.Sleep(20 * time.Millisecond) // so that what is read of the one pipe first is not left to chance
		fmt.Print("0.43 minutes\n")
		for i := range chunks {
			fmt.Printf("[%d]%.4f,", i+1, 9.1870)
		}
		fmt.Print("\n")
		return os.WriteFile(logits, out, 0o644)
	}
	l, err := OpenLogits(logits)
	if err != nil {
		return err
	}
	mean, err := fakeDivergence(reference, model)
	if err != nil {
		return err
	}
	for i := range l.Chunks {
		fmt.Printf("%4d       1.6753 ±    0.1523       0.00000 ±    0.00001      -0.00000 ±    0.00000     0.000 ±  0.000 %%    100.000 ±  0.000 %%\n", i+1)
	}
	fault, which, _ := strings.Cut(os.Getenv(fakeFaultEnv), ":")
	hit := which == "" || fmt.Sprintf("%.6f", mean) == which
	switch {
	case fault == "fail" && hit && mean > 0:
		return errors.New("no GPU left")
	case fault == "silent" && hit && mean > 0:
		return nil
	case fault == "once" && mean > 0: // silent the first time
		if os.Remove(logits+".once") == nil {
			return nil
		}
	}
	fmt.Printf("\n%s\nMean    KLD: %10.6f ± %10.6f\nMaximum KLD: %10.6f\n", statisticsTitle, mean, mean*4/math.Sqrt(float64(l.scored())), 10*mean)
	return nil
}

// fakeDivergence adds up a thousandth for each tensor that differs, and a tenth
// of that for a type that is not the reference's.
func fakeDivergence(reference, model string) (float64, error) {
	a, err := ggufio.Open(reference)
	if err != nil {
		return 0, err
	}
	b, err := ggufio.Open(model)
	if err != nil {
		return 0, err
	}
	if len(a.Tensors) != len(b.Tensors) {
		return 0, fmt.Errorf("%d tensors, want %d", len(b.Tensors), len(a.Tensors))
	}
	x, err := a.OpenData()
	if err != nil {
		return 0, err
	}
	defer x.Close()
	y, err := b.OpenData()
	if err != nil {
		return 0, err
	}
	defer y.Close()
	sum := 0.0
	for i := range a.Tensors {
		t := &a.Tensors[i]
		own, ok := b.TensorByName(t.Name)
		if !ok {
			return 0, fmt.Errorf("no tensor %s", t.Name)
		}
		if own.Type != t.Type {
			sum += 0.0011
			continue
		}
		p, q := make([]byte, t.SizeBytes), make([]byte, t.SizeBytes)
		if err := errors.Join(x.ReadRange(t, 0, p), y.ReadRange(own, 0, q)); err != nil {
			return 0, err
		}
		if !bytes.Equal(p, q) {
			sum += 0.001
		}
	}
	return sum, nil
}

// A bench is a small model with a text beside it.
type bench struct {
	*Setup
	Execution
	dir string
}

func newBench(t *testing.T, o gguftest.MoE, options Options, textBytes int) *bench {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "model.gguf")
	words := make([]string, fakeVocabulary) // a letter each, so that pieces of the text are exact
	for i := range words {
		words[i] = string(rune('A' + i))
	}
	if err := o.Builder().Set("tokenizer.ggml.model", "gpt2").Set("tokenizer.ggml.tokens", words).WriteFile(path); err != nil {
		t.Fatal(err)
	}
	var err error
	if options.Model, err = ggufio.Open(path); err != nil {
		t.Fatal(err)
	}
	reference := path
	if options.Reference != nil {
		reference = options.Reference.Files[0].Path
	}
	t.Setenv(fakeEnv, reference)
	text := filepath.Join(dir, "text.txt")
	if err := os.WriteFile(text, bytes.Repeat([]byte("a"), textBytes), 0o644); err != nil {
		t.Fatal(err)
	}
	options.ProbeType, options.ContextTokens, options.Chunks = quant.Q2_K, 128, 8
	if options.Bands == "" {
		options.Bands = "2"
	}
	options.Generator = "test"
	if options.Errors, err = measure.Run(context.Background(), options.Model, nil, measure.Options{Types: options.ErrorTypes(), Quantizable: llamaquantize.Quantizable}); err != nil {
		t.Fatal(err)
	}
	s, err := New(options)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return &bench{s, Execution{Program: Program{self, []string{"--extra"}}, Text: text, State: filepath.Join(dir, "out.json.partial")}, dir}
}

func (b *bench) execute(ctx context.Context) (*measure.Probe, error) {
	return b.Setup.Execute(ctx, b.Execution)
}

// deferErrors returns the bench with a setup without errors: they come when the
// first runs are done.
func (b *bench) deferErrors(t *testing.T) *bench {
	t.Helper()
	own, options := *b, b.options
	options.Errors = nil
	var err error
	if own.Setup, err = New(options); err != nil {
		t.Fatal(err)
	}
	own.Errors = func(context.Context, func(pace.Progress)) (*measure.Result, error) { return b.options.Errors, nil }
	return &own
}

// encode is a record's bytes.
func encode(t *testing.T, p *measure.Probe) string {
	t.Helper()
	data, err := measure.EncodeProbe(p)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

var f16 = gguftest.MoE{Type: quant.F16}

// Each run shows its group's tensors and no more, pieces of the text are
// combined, and nothing is left behind. When errors come makes no difference.
func TestExecute(t *testing.T) {
	given := newBench(t, f16, Options{}, 3*8*128+300)
	b := given.deferErrors(t)
	p, err := b.execute(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int{}
	for i := range p.Tensors {
		want[p.Tensors[i].Group]++
	}
	if len(want) != 6 || want["experts.1"] != 3 || want["mix.0"] != 4 || want["output"] != 1 {
		t.Fatalf("groups %v", want)
	}
	for _, r := range p.Runs {
		if n, ok := want[r.Name]; ok && math.Abs(r.KLD-0.001*float64(n)) > 1e-9 {
			t.Errorf("%s: %v for %d tensors", r.Name, r.KLD, n)
		}
		// The fake's error is 4 / sqrt(tokens) of the mean: 10 % at 1600 tokens,
		// four pieces of 504; the text has two and a third after the first.
		if tokens := uint64(63 * (8*3 + 2)); r.Kind != measure.RunWhole && r.ScoredTokens != tokens {
			t.Errorf("%s: %d tokens, want %d", r.Name, r.ScoredTokens, tokens)
		}
		if e := r.KLD * 4 / math.Sqrt(float64(r.ScoredTokens)); math.Abs(r.StandardError-e) > 2e-6 {
			t.Errorf("%s: standard error %v, want %v", r.Name, r.StandardError, e)
		}
	}
	if whole := p.Run(measure.RunWhole); whole == nil || math.Abs(whole.KLD-0.0011*16) > 1e-9 {
		t.Errorf("whole: %+v", whole)
	}
	if f := p.Fit; f == nil || f.K == nil || f.Y0 == nil || len(f.Ratios) != 3 {
		t.Errorf("fit: %+v", f)
	}
	if again, err := measure.DecodeProbe([]byte(encode(t, p))); err != nil || encode(t, again) != encode(t, p) {
		t.Errorf("the record does not read back: %v", err)
	}
	b.Remove(b.Setup)
	entries, err := os.ReadDir(b.dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	if want, err := given.execute(context.Background()); err != nil || encode(t, p) != encode(t, want) {
		t.Errorf("with errors from the start: %v, or another record", err)
	}
}

// However often a probe is killed, and whatever it was doing, it ends with the
// same record, from the same setup too.
func TestResume(t *testing.T) {
	b := newBench(t, f16, Options{Bands: "1"}, 8*128+300)
	want, err := b.execute(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	b.Remove(b.Setup)
	var steps []string
	seen := map[string]bool{}
	b.Progress = func(doing string, p pace.Progress) {
		if !seen[doing] {
			seen[doing] = true
			steps = append(steps, doing)
		}
		if p.Done > p.Total {
			t.Errorf("%s: %d of %d tokens", doing, p.Done, p.Total)
		}
	}
	if _, err := b.execute(context.Background()); err != nil {
		t.Fatal(err)
	}
	b.Remove(b.Setup)
	if len(steps) < 12 {
		t.Fatalf("steps %v", steps)
	}
	for i, stop := range steps {
		if gguftest.RaceDetector && i%4 != 0 {
			continue
		}
		b := b.deferErrors(t)
		ctx, cancel := context.WithCancel(context.Background())
		b.Progress = func(doing string, p pace.Progress) {
			if doing == stop {
				cancel()
			}
		}
		if _, err := b.execute(ctx); !errors.Is(err, context.Canceled) {
			t.Fatalf("%s: %v", stop, err)
		}
		if _, err := b.execute(context.Background()); !errors.Is(err, ErrStateExists) {
			t.Fatalf("%s: without resume: %v", stop, err)
		}
		b.Progress, b.Resume = nil, true
		got, err := b.execute(context.Background())
		if err != nil || encode(t, got) != encode(t, want) {
			t.Fatalf("%s: %v, or another record", stop, err)
		}
		b.Remove(b.Setup)
	}
}

// State that a crash cut short, or of another probe.
func TestState(t *testing.T) {
	b := newBench(t, f16, Options{Bands: "1"}, 8*128+300)
	want, err := b.execute(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	state, err := os.ReadFile(b.State)
	if err != nil {
		t.Fatal(err)
	}
	b.Resume = true
	for _, n := range []int{0, 10, len(journalMagic) + 65, len(state) / 2, len(state) - 1} {
		if err := os.WriteFile(b.State, state[:n], 0o644); err != nil {
			t.Fatal(err)
		}
		got, err := b.execute(context.Background())
		if err != nil || encode(t, got) != encode(t, want) {
			t.Errorf("the first %d bytes: %v", n, err)
		}
	}
	b.Program.Args = append(b.Program.Args, "-ngl")
	if _, err := b.execute(context.Background()); !errors.Is(err, ErrStateElsewhere) {
		t.Errorf("with other arguments: %v", err)
	}
}

func TestProgramFaults(t *testing.T) {
	for _, tt := range []struct{ fault, want string }{
		{"fail", "llama-perplexity: exit status 3: fake: no GPU left"},
		{"silent", "its output ends after 8 chunks, without KL divergence statistics"},
	} {
		b := newBench(t, f16, Options{Bands: "1"}, 8*128)
		t.Setenv(fakeFaultEnv, tt.fault)
		if _, err := b.execute(context.Background()); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.fault, err)
		}
	}
	// A run whose last lines were lost is run again.
	b := newBench(t, f16, Options{Bands: "1"}, 8*128)
	t.Setenv(fakeFaultEnv, "once")
	lost := false
	b.Progress = func(doing string, p pace.Progress) {
		if doing == "output" && !lost {
			lost = true
			if err := os.WriteFile(b.State+".kld.once", nil, 0o644); err != nil {
				t.Error(err)
			}
		}
	}
	if _, err := b.execute(context.Background()); err != nil || !lost {
		t.Error(lost, err)
	}
	b = newBench(t, f16, Options{Bands: "1"}, 200)
	if _, err := b.execute(context.Background()); !errors.Is(err, ErrTextTooShort) {
		t.Errorf("a short text: %v", err)
	}
	b.Program.Path = filepath.Join(b.dir, "none")
	b.Resume = true
	if err := os.WriteFile(b.Text, bytes.Repeat([]byte("a"), 2000), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := b.execute(context.Background()); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("no program: %v", err)
	}
}

// A run whose group is at the probe type already changes nothing.
func TestEqualFiles(t *testing.T) {
	b := newBench(t, gguftest.MoE{Type: quant.F16, Sparse: true}, Options{Bands: "1"}, 8*128)
	_, err := b.execute(context.Background())
	var fault *EqualError
	if !errors.As(err, &fault) {
		t.Errorf("weights that are all 0: %v", err)
	}
}

// Runs from a quantized reference hold the probe type's own tensors, in shards.
func TestQuantizedReference(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "q8_0.gguf")
	if err := (gguftest.MoE{Type: quant.Q8_0}).Builder().WriteFile(path); err != nil {
		t.Fatal(err)
	}
	reference, err := ggufio.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t, f16, Options{Reference: reference}, 8*128)
	p, err := b.execute(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int{}
	for i := range p.Tensors {
		want[p.Tensors[i].Group]++
	}
	for _, r := range p.Runs {
		if n, ok := want[r.Name]; ok && math.Abs(r.KLD-0.0011*float64(n)) > 1e-9 {
			t.Errorf("%s: %v for %d tensors", r.Name, r.KLD, n)
		}
	}
	if p.Copies != measure.CopiesQuantized {
		t.Errorf("copies: %s", p.Copies)
	}
}

// Models of several files, of a tensor per expert, with shared experts and
// leading dense layers, and without experts.
func TestOtherModels(t *testing.T) {
	for name, tt := range map[string]struct {
		model  gguftest.MoE
		bands  string
		groups int
	}{
		"a tensor per expert":  {gguftest.MoE{Type: quant.F16, Separate: true, Experts: 2}, "tensor", 16},
		"shared, dense, tied":  {gguftest.MoE{Type: quant.BF16, Layers: 3, Dense: 1, Shared: 1, Tied: true}, "3", 9},
		"prediction layers":    {gguftest.MoE{Type: quant.F32, MTP: 1}, "1", 4},
		"gate and up together": {gguftest.MoE{Type: quant.F16, GateUp: true}, "1", 4},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, tt.model, Options{Bands: tt.bands}, 8*128)
			p, err := b.execute(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			tensors := map[string]int{}
			for i := range p.Tensors {
				tensors[p.Tensors[i].Group]++
			}
			if len(tensors) != tt.groups {
				t.Errorf("%d groups: %v", len(tensors), tensors)
			}
			for _, r := range p.Runs {
				if n, ok := tensors[r.Name]; ok && math.Abs(r.KLD-0.001*float64(n)) > 1e-9 {
					t.Errorf("%s: %v for %d tensors", r.Name, r.KLD, n)
				}
			}
			encode(t, p)
		})
	}
}

// Parts of a probe join into what one run would have found; outputs of the same
// runs made elsewhere say the same.
func TestPartsAndRead(t *testing.T) {
	b := newBench(t, f16, Options{}, 8*128)
	want, err := b.execute(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	b.Remove(b.Setup)
	var parts []*measure.Probe
	for i := range 3 {
		own := *b
		options := b.Setup.options
		options.Part = &measure.Part{Index: i + 1, Of: 3}
		if own.Setup, err = New(options); err != nil {
			t.Fatal(err)
		}
		part, err := own.execute(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		own.Remove(own.Setup)
		if part, err = measure.DecodeProbe([]byte(encode(t, part))); err != nil {
			t.Fatal(err)
		}
		parts = append(parts, part)
	}
	whole, err := measure.MergeProbes([]*measure.Probe{parts[2], parts[0], parts[1]}, []string{"c", "a", "b"})
	if err != nil || encode(t, whole) != encode(t, want) {
		t.Errorf("the parts joined: %v, or another record", err)
	}
	if _, err := measure.MergeProbes(parts[:2], []string{"a", "b"}); err == nil || !strings.Contains(err.Error(), "is in no part: 2 of 3 parts are given") {
		t.Errorf("two of three parts: %v", err)
	}
	if _, err := measure.MergeProbes([]*measure.Probe{parts[0], parts[0]}, []string{"a", "b"}); err == nil || !strings.Contains(err.Error(), "is in another part too") {
		t.Errorf("one part twice: %v", err)
	}
	b.read(t, want)
}

// read makes the runs' files one by one, as the printed commands do.
func (b *bench) read(t *testing.T, want *measure.Probe) {
	ctx := context.Background()
	logits := filepath.Join(b.dir, "base.kld")
	model := b.options.Model.Files[0].Path
	if _, _, err := b.Program.start(ctx, "base", b.Program.BaseArgs(model, b.Text, logits, 128, 8), nil); err != nil {
		t.Fatal(err)
	}
	score := func(name, path string) NamedLog {
		out, _, err := b.Program.start(ctx, name, b.Program.RunArgs(path, logits, 128), nil)
		if err != nil {
			t.Fatal(err)
		}
		return NamedLog{name + ".log", name, out}
	}
	logs := []NamedLog{score(ControlRun, model)}
	for _, r := range b.Runs() {
		path := filepath.Join(b.dir, "run.gguf")
		if err := b.WriteRun(ctx, r.Name, path, 0, func(pace.Progress) {}); err != nil {
			t.Fatal(err)
		}
		logs = append(logs, score(r.Name, path))
	}
	got, err := b.Read(logs)
	if err != nil || encode(t, got) != encode(t, want) {
		t.Errorf("outputs read: %v, or another record", err)
	}
	if _, err := b.Read(logs[1:]); err == nil || !strings.Contains(err.Error(), "no output of control: a run's output is a file of its name, such as control.log") {
		t.Errorf("without the control: %v", err)
	}
	same := slices.Clone(logs)
	same[1].Data = logs[0].Data
	if _, err := b.Read(same); err == nil || !strings.Contains(err.Error(), same[1].Name+": shows no difference from the base at all") {
		t.Errorf("a run of the base: %v", err)
	}
	if _, err := b.Read(append(same, logs[0])); err == nil {
		t.Error("two outputs of one run pass")
	}
	if _, err := b.Read([]NamedLog{{"x.log", "x", nil}}); err == nil || !strings.Contains(err.Error(), `there is no run "x": the runs are control, embedding`) {
		t.Errorf("an unknown run: %v", err)
	}
}

// Base logits that are there are used as they are, and held against the model
// and the context.
func TestGivenLogits(t *testing.T) {
	b := newBench(t, f16, Options{}, 8*128)
	logits := filepath.Join(b.dir, "base.kld")
	args := b.Program.BaseArgs(b.options.Model.Files[0].Path, b.Text, logits, 128, 8)
	if _, _, err := b.Program.start(context.Background(), "base", args, nil); err != nil {
		t.Fatal(err)
	}
	b.Text, b.Logits = "", logits
	if _, err := b.execute(context.Background()); err != nil {
		t.Fatal(err)
	}
	b.Remove(b.Setup)
	if _, err := os.Stat(logits); err != nil {
		t.Error("the given logits are gone")
	}
	b.Record.ContextTokens = 512
	var fault *ContextError
	if _, err := b.execute(context.Background()); !errors.As(err, &fault) {
		t.Errorf("of another context: %v", err)
	}
	data, err := os.ReadFile(logits)
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{"empty": nil, "its head": data[:12], "cut short": data[:len(data)-1],
		"counts without end": slices.Concat([]byte(logitsMagic), bytes.Repeat([]byte{0xff}, 12), data[20:])} {
		path := filepath.Join(b.dir, "bad.kld")
		if err := os.WriteFile(path, bad, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenLogits(path); err == nil {
			t.Errorf("%s: passes", name)
		}
	}
}
