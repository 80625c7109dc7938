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
	here, through := pace.Here(), t.rounding(slice)
	if through == quant.F32 && t.Type == t.Source.Type {
		return pace.Copying, pace.CopyByte * pace.Cost(r.outBytes)
	}
	weight := pace.ReadRow + here.RoundTrip(t.Type, weighted)
	if through != quant.F32 {
		weight += here.RoundTrip(through, weighted)
	}
	return pace.Encoding, weight*pace.Cost(t.Shape[0]) + pace.WriteByte*pace.Cost(r.outBytes)
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
func checkWork(bytes uint64, o *WriteOptions) (w pace.Work) {
	cost := pace.CheckByte
	if o.SHA256 {
		cost += pace.HashByte
	}
	if !o.NoCheck || o.SHA256 {
		w[pace.Checking] = float64(bytes) * cost.Seconds()
	}
	return w
}

// Work is what writing a file takes, reading it back included, on a machine as
// fast as the one of the costs.
func (l *Layout) Work(file int, o WriteOptions) pace.Work {
	p := cut(l.Files[file].Tensors)
	return l.piecesWork(&p, float64(measure.Cores(o.Workers))).Plus(checkWork(l.Files[file].SizeBytes, &o))
}

// rewriteWork is what it takes to write pieces in place and to read them back on
// all processors.
func (l *Layout) rewriteWork(p *pieces, cores float64) pace.Work {
	w := l.piecesWork(p, cores)
	for i := range p.runs {
		w = w.Plus(readBackWork(p.runs[i].tensor.SizeBytes, cores))
	}
	return w
}

func readBackWork(bytes uint64, cores float64) (w pace.Work) {
	w[pace.Checking] = float64(bytes) * pace.CheckByte.Seconds() / cores
	return w
}

// Encoded adds up the weights that files encode, or put through a type, by type.
func (l *Layout) Encoded(files []int) (types map[quant.Type]uint64, weighted bool) {
	types = map[quant.Type]uint64{}
	for _, file := range files {
		p := cut(l.Files[file].Tensors)
		for i := range p.runs {
			r := &p.runs[i]
			if !r.tensor.Changed() {
				continue
			}
			weighted = weighted || r.weighted(l)
			types[r.tensor.Type] += r.units * uint64(r.slices) * r.tensor.Shape[0]
			for slice := range r.slices {
				if t := r.tensor.rounding(slice); t != quant.F32 {
					types[t] += r.units * r.tensor.Shape[0]
				}
			}
		}
	}
	return types, weighted
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

// checked counts bytes that were read back.
func (p *progress) checked(bytes uint64) {
	if p.tell == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.did(readBackWork(bytes, p.cores))
}

// did takes work from what is left, and tells.
func (p *progress) did(w pace.Work) {
	p.now.Spent = p.now.Spent.Plus(w)
	p.now.Left = p.now.Left.Minus(w)
	p.tell(p.now)
}
