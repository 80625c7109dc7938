package measure

import (
	"bytes"
	"container/heap"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/gguftest"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/stats/pace"
	"github.com/ggufplan/ggufplan/stats/pace/pacetest"
)

// tookNanoseconds are what a weight with column weights took one core to go
// through a type and to be compared, with AVX2, whatever the table says now.
var tookNanoseconds = map[quant.Type]float64{
	quant.Q1_0: 2.7, quant.IQ1_S: 125, quant.TQ1_0: 2.6, quant.IQ1_M: 105, quant.TQ2_0: 1.8, quant.IQ2_XXS: 83, quant.Q2_0: 2.7,
	quant.IQ2_XS: 116, quant.IQ2_S: 91, quant.Q2_K: 41, quant.IQ3_XXS: 134, quant.Q3_K: 24, quant.IQ3_S: 90, quant.MXFP4: 3.1,
	quant.IQ4_XS: 61, quant.Q4_0: 13.7, quant.Q4_K: 23.3, quant.IQ4_NL: 48, quant.NVFP4: 4.1, quant.Q4_1: 22.7, quant.Q5_0: 14,
	quant.Q5_K: 23.3, quant.Q5_1: 23.1, quant.Q6_K: 15.9, quant.Q8_0: 3.4, quant.BF16: 9.2, quant.F16: 9.7, quant.F32: 9.3,
}

// A fakeRun measures nothing: it says what each group would take.
type fakeRun struct {
	m      *measurement
	rows   func(t *ggufio.Tensor) float64 // that samples need, as a multiple of what is expected
	differ float64                        // between experts: the standard deviation of the multiple's logarithm
	seed   uint64
}

// times returns what the groups take by the costs, and what on the clock: each
// type takes up to a quarter more or less than in the table here.
func (f *fakeRun) times() (costs []work, seconds []float64) {
	random := rand.New(rand.NewPCG(f.seed, 1))
	types := map[quant.Type]float64{}
	for _, t := range f.m.options.Types {
		types[t] = math.Exp(0.22 * (2*random.Float64() - 1))
	}
	for _, g := range f.m.groups {
		it := &f.m.items[g.first]
		factor := 1.0
		if !f.m.options.Full {
			factor = f.rows(it.tensor) * math.Exp(f.differ*random.NormFloat64()/math.Sqrt(float64(g.count)))
		}
		cost := g.expected
		cost.weights = uint64(float64(cost.weights) * factor)
		norms := pace.Cost(0) // which samples do not need more of
		for i := range f.m.items[g.first:][:g.count] {
			it := &f.m.items[g.first+i]
			norms += it.summed(f.m.normRows(it.target, it.tensor.ExpertRows())).here
		}
		norms = min(norms, cost.here)
		cost.here = norms + pace.Cost(float64(cost.here-norms)*factor)
		mean, all := 0.0, 0.0
		for k, t := range it.types {
			cost := 1e9 * it.works[k].here.Seconds()
			took := cost / 4 // by the table, on a machine with so much faster cores
			if quant.HasVectors() {
				took = tookNanoseconds[t]
			}
			mean += took * types[t]
			all += cost
		}
		costs = append(costs, cost)
		seconds = append(seconds, cost.seconds()*mean/all*math.Exp(0.1*random.NormFloat64()))
	}
	all := 0.0
	for _, s := range seconds {
		all += s
	}
	for i := range seconds {
		seconds[i] *= max(1, 200/all) // on a slow machine, where it would soon be done
	}
	return costs, seconds
}

// run runs the groups on some workers in the order in which they are handed out.
func (f *fakeRun) run(t *testing.T, done []bool) {
	costs, seconds := f.times()
	l := newLedger(f.m, done)
	order := f.m.order(l.todo())
	var run pacetest.Run
	run.At(0, l.progress())
	end := 0.0
	var events fakeEvents
	steps := func(group int) int { return 1 + int(seconds[group]/0.5) } // each is told
	begin := func(now float64) {
		if len(order) > 0 {
			g := order[0]
			heap.Push(&events, fakeEvent{now + seconds[g]/float64(steps(g)), g, 1})
			order = order[1:]
		}
	}
	for range Cores(f.m.options.Workers) {
		begin(0)
	}
	shown := 0.0
	for len(events) > 0 {
		e := heap.Pop(&events).(fakeEvent)
		c, part, n := costs[e.group], work{}, steps(e.group)
		part.weights = c.weights*uint64(e.step)/uint64(n) - c.weights*uint64(e.step-1)/uint64(n)
		part.here = c.here*pace.Cost(e.step)/pace.Cost(n) - c.here*pace.Cost(e.step-1)/pace.Cost(n)
		l.spend(e.group, part)
		if end = e.at; e.step == n {
			l.finish(e.group)
			begin(e.at)
		} else {
			heap.Push(&events, fakeEvent{e.at + seconds[e.group]/float64(n), e.group, e.step + 1})
		}
		if e.at > shown+max(0.2, shown/1000) {
			shown = e.at
			run.At(e.at, l.progress())
		}
	}
	run.Check(t, end)
	if p := l.progress(); p.Done != p.Total || p.Left.Seconds() != 0 {
		t.Errorf("it ends at %d of %d weights, with %v s left", p.Done, p.Total, p.Left.Seconds())
	}
}

type fakeEvent struct {
	at    float64
	group int
	step  int
}

type fakeEvents []fakeEvent

func (e fakeEvents) Len() int           { return len(e) }
func (e fakeEvents) Less(i, k int) bool { return e[i].at < e[k].at }
func (e fakeEvents) Swap(i, k int)      { e[i], e[k] = e[k], e[i] }
func (e *fakeEvents) Push(x any)        { *e = append(*e, x.(fakeEvent)) }
func (e *fakeEvents) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

// asExpected and withOutliers say how many times the rows samples need that are
// expected. With outliers it differs by kind, and the first layers need more
// than the last.
func asExpected(*ggufio.Tensor) float64 { return 1 }

func withOutliers(t *ggufio.Tensor) float64 {
	h := fnv.New64a()
	h.Write([]byte(kindOf(t)))
	kind := math.Pow(8, float64(h.Sum64()%1000)/1000) // 1 to 8
	return kind * math.Exp(0.8*(0.5-float64(t.Layer)/48))
}

// usualColumns are those of an imatrix of llama-imatrix, which has neither the
// token embedding nor the output: they are measured in fewer types.
type usualColumns struct{ waveColumns }

func (c usualColumns) Complete(name string, columns, matrices uint64) bool {
	return name != "token_embd.weight" && name != "output.weight" && c.waveColumns.Complete(name, columns, matrices)
}

// The time left is right within a factor of 1.5 after ten seconds, however much
// the samples of some kinds of tensors need, whatever types cost here, and after
// an interruption.
func TestTimeLeft(t *testing.T) {
	kTypes := []quant.Type{quant.Q2_K, quant.Q3_K, quant.Q4_K, quant.Q5_K, quant.Q6_K, quant.Q8_0}
	sets := map[string][]quant.Type{"k": kTypes, "all": nil,
		"k+iq": append([]quant.Type{quant.IQ1_S, quant.IQ1_M, quant.IQ2_XXS, quant.IQ2_XS, quant.IQ2_S, quant.IQ3_XXS, quant.IQ3_S, quant.IQ4_XS, quant.IQ4_NL}, kTypes...)}
	for _, model := range []struct {
		name string
		sets []string
	}{{"qwen3-30b-a3b", []string{"k", "k+iq", "all"}}, {"mixtral-8x7b", []string{"k+iq"}}, {"deepseek-v3", []string{"k+iq"}}} {
		m := gguftest.OpenHeader(t, "../../testdata/llama-quantize/"+model.name+"-bf16.gguf")
		e := waveEvidence(m)
		e.Columns = usualColumns{}
		for _, set := range model.sets {
			for name, precision := range map[string]float64{"default": DefaultPrecision, "quick": QuickPrecision, "full": 0} {
				for k, rows := range []func(*ggufio.Tensor) float64{asExpected, withOutliers} {
					if name == "full" && k > 0 {
						continue // no samples
					}
					t.Run(fmt.Sprintf("%s/%s/%s/%d", model.name, set, name, k), func(t *testing.T) {
						work, err := newMeasurement(m, e, Options{Types: sets[set], Full: name == "full", Precision: precision, Workers: 2,
							Quantizable: func(t *ggufio.Tensor) bool { return len(t.Shape) > 1 }})
						if err != nil {
							t.Fatal(err)
						}
						f := &fakeRun{m: work, rows: rows, differ: 0.2 + 0.1*float64(k), seed: 1}
						done := make([]bool, len(work.items))
						f.run(t, done)
						for i := range done[:len(done)/3] {
							done[i] = true
						}
						f.run(t, done)
					})
				}
			}
		}
	}
}

// What is measured first is not what is named: of several faults it is the first
// in the file.
func TestFirstFaultInTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "model.gguf")
	if err := gguftest.CopyFile(path, "../../testdata/bytemoe-2x8/model-f16.gguf"); err != nil {
		t.Fatal(err)
	}
	m, err := ggufio.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	options := Options{Types: measuredTypes, Precision: FinestPrecision, Workers: 1}
	work, err := newMeasurement(m, waveEvidence(m), options)
	if err != nil {
		t.Fatal(err)
	}
	early := work.early(newLedger(work, make([]bool, len(work.items))).todo())
	if len(early) == 0 || early[0] == 0 {
		t.Fatalf("groups %v come first", early)
	}
	notFinite := bytes.Repeat([]byte{0, 0x7e}, 64) // in a row of F16
	for _, group := range []int{early[0], 0} {
		it := &work.items[work.groups[group].first]
		at := it.tensor.OffsetBytes + uint64(it.slice)*it.tensor.ExpertBytes()
		if err := gguftest.Patch(path, int64(at), notFinite); err != nil {
			t.Fatal(err)
		}
		if _, err := Run(t.Context(), m, waveEvidence(m), options); err == nil || !strings.HasPrefix(err.Error(), it.describe()+": row 0: ") {
			t.Errorf("a fault in group %d: %v", group, err)
		}
	}
}

// TestJournalFault: a group whose errors could not be kept ends the run, also
// where all groups are taken early.
func TestJournalFault(t *testing.T) {
	path := filepath.Join(t.TempDir(), "model.gguf")
	if err := (gguftest.MoE{Layers: 1, Experts: 4, Type: quant.BF16}).Builder().WriteFile(path); err != nil {
		t.Fatal(err)
	}
	m, err := ggufio.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	journal := NewJournal(filepath.Join(t.TempDir(), "state"), false)
	defer journal.Close()
	options := Options{Types: []quant.Type{quant.Q8_0}, Workers: 1, Journal: journal}
	work, err := newMeasurement(m, nil, options)
	if err != nil {
		t.Fatal(err)
	}
	if early := work.early(newLedger(work, make([]bool, len(work.items))).todo()); len(early) != len(work.groups) {
		t.Fatalf("%d of %d groups come first", len(early), len(work.groups))
	}
	options.Progress = func(p pace.Progress) {
		if p.Done > 0 {
			journal.file.Close()
		}
	}
	if _, err := Run(t.Context(), m, nil, options); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a state that cannot be written: %v", err)
	}
}
