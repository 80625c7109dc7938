package apply

import (
	"sync"

	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/stats/measure"
	"github.com/ggufplan/ggufplan/stats/pace"
)

// unitCost is what a unit of a slice of a run takes on one core, and of what
// kind that is.
func (l *Layout) unitCost(r *run, slice int, weighted bool) (pace.Kind, pace.Cost) {
	t := r.tensor
	if !t.Changed() {
		return pace.Copying, pace.CopyByte
	}
	through := t.rounding(slice)
	if through == quant.F32 && t.Type == t.Source.Type {
		return pace.Copying, pace.CopyByte * pace.Cost(r.outBytes)
	}
	if through == quant.F32 {
		return pace.Encoding, l.costs.Encode(t.Shape[0], r.outBytes, weighted, t.Type)
	}
	return pace.Encoding, l.costs.Encode(t.Shape[0], r.outBytes, weighted, through, t.Type)
}

// pieceWork is what a piece takes of all processors.
func (l *Layout) pieceWork(x *piece, weighted bool, cores float64) (w pace.Work) {
	kind, cost := l.unitCost(x.run, x.slice, weighted)
	w[kind] = float64(x.units) * cost.Seconds() / cores
	return w
}

// piecesWork is what all pieces take.
func (l *Layout) piecesWork(p *pieces, cores float64) (all pace.Work) {
	for i := range p.runs {
		r := &p.runs[i]
		weighted := r.weighted(l)
		for slice := range r.slices {
			x := piece{run: r, slice: slice, units: r.units}
			all = all.Plus(l.pieceWork(&x, weighted, cores))
		}
	}
	return all
}

// weighted reports whether a run's weights are encoded with column weights.
func (r *run) weighted(l *Layout) bool {
	return r.tensor.Changed() && measure.Covers(l.columns, r.tensor.Source)
}

// checkWork is what it takes to read a file back on one core.
func (l *Layout) checkWork(bytes uint64, o *WriteOptions) (w pace.Work) {
	if !o.NoCheck || o.SHA256 {
		w[pace.Checking] = l.costs.CheckSeconds(bytes, o.SHA256)
	}
	return w
}

// Work is what writing a file takes, reading it back included, where files are
// in memory.
func (l *Layout) Work(file int, o WriteOptions) pace.Work {
	p := cut(l.Files[file].Tensors)
	return l.piecesWork(&p, float64(measure.Cores(o.Workers))).Plus(l.checkWork(l.Files[file].SizeBytes, &o))
}

// rewriteWork is what it takes to write pieces in place and to read them back on
// all processors.
func (l *Layout) rewriteWork(p *pieces, cores float64) pace.Work {
	w := l.piecesWork(p, cores)
	for i := range p.runs {
		w = w.Plus(l.readBackWork(p.runs[i].tensor.SizeBytes, cores))
	}
	return w
}

func (l *Layout) readBackWork(bytes uint64, cores float64) (w pace.Work) {
	w[pace.Checking] = l.costs.CheckSeconds(bytes, false) / cores
	return w
}

// TimeTypes has [Layout.Work] and progress go by what types cost on this machine,
// which takes a moment, instead of by the table.
func (l *Layout) TimeTypes() (err error) {
	var types []quant.Type
	for i := range l.Files {
		for k := range l.Files[i].Tensors {
			if t := &l.Files[i].Tensors[k]; t.Changed() {
				types = append(append(types, t.Type), t.Rounded...)
			}
		}
	}
	l.costs, err = pace.Timed(types, l.columns != nil)
	l.costs.TimedBytes()
	return err
}

// foresee begins the progress of a file: what is left, but for what an earlier
// run did.
func (w *writing) foresee() *progress {
	p := &w.progress
	p.layout, p.cores = w.layout, float64(measure.Cores(w.options.Workers))
	if w.options.Progress == nil {
		return p
	}
	p.tell = func(x pace.Progress) { w.options.Progress("writing", x) }
	p.now = pace.Progress{Total: w.pieces.sourceBytes(), Left: w.layout.piecesWork(&w.pieces, p.cores).Plus(w.layout.checkWork(w.file.SizeBytes, &w.options))}
	for i := range w.pieces.count {
		if w.recorded(i) {
			x := w.pieces.at(i)
			p.now.Done += x.sourceBytes()
			p.now.Left = p.now.Left.Minus(w.layout.pieceWork(&x, x.weighted(w.layout), p.cores)).Plus(w.layout.readBackWork(x.size, p.cores))
		}
	}
	p.tell(p.now)
	return p
}

// foreseeCheck goes on with reading the file back.
func (w *writing) foreseeCheck() *progress {
	p := &w.progress
	p.now.Done, p.now.Total = 0, w.file.SizeBytes
	if w.options.Progress != nil {
		p.tell = func(x pace.Progress) { w.options.Progress("checking", x) }
	}
	return p
}

// A progress adds up what is done of a job.
type progress struct {
	layout *Layout
	tell   func(pace.Progress) // nil for nobody
	cores  float64

	mu  sync.Mutex
	now pace.Progress
}

// made counts a piece that this run made.
func (p *progress) made(x *piece) {
	if p.tell == nil {
		return
	}
	w := p.layout.pieceWork(x, x.weighted(p.layout), p.cores)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now.Done = min(p.now.Done+x.sourceBytes(), p.now.Total) // one that was there may have been damaged
	p.did(w)
}

// readBack counts a piece of the whole file that was read back.
func (p *progress) readBack(x *piece, o *WriteOptions) {
	if p.tell != nil {
		p.now.Done = x.offset + x.size
		p.did(p.layout.checkWork(x.size, o))
	}
}

// checked counts bytes that were read back.
func (p *progress) checked(bytes uint64) {
	if p.tell == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.did(p.layout.readBackWork(bytes, p.cores))
}

// did takes work from what is left, and tells.
func (p *progress) did(w pace.Work) {
	p.now.Spent = p.now.Spent.Plus(w)
	p.now.Left = p.now.Left.Minus(w)
	p.tell(p.now)
}
