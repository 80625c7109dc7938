package probe

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"os"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/stats/measure"
	"github.com/ggufplan/ggufplan/stats/pace"
)

// A foresight foresees what is left of a probe. A pass of the program over a
// piece of the text is a start, up to its first chunk, and the other chunks; how
// long either takes, passes tell. Further pieces follow from the standard errors
// of runs that are known: they fall with the root of the tokens.
type foresight struct {
	costs pace.Costs
	cores float64
	text  uint64 // bytes of it

	todo   []Run     // of the piece
	ahead  pace.Work // from the run at hand on, as was foreseen when it began
	spent  pace.Work
	pass   pace.Work // what of it is this pass's
	writes pace.Work // and what the writing of the run at hand
	file   pace.Work // and what that of a file
	based  bool      // the piece has its base logits

	begun, ended float64 // passes: on a loaded machine many are run again, see attempts
	errors       float64 // seconds that errors still take
}

func (f *foresight) begin(x *execution) {
	f.cores = float64(measure.Cores(x.Workers))
	if x.Errors != nil {
		f.errors = x.ErrorsSeconds
	}
	if info, err := os.Stat(x.Text); err == nil {
		f.text = uint64(info.Size())
	}
}

// plan foresees the runs that are left of the piece at hand, the first of which
// begins, and pieces to come, each with base logits.
func (f *foresight) plan(x *execution, todo []Run, based bool) {
	f.todo = todo
	f.ahead, f.based, f.pass, f.writes, f.file = pace.Work{}, based, pace.Work{}, pace.Work{}, pace.Work{}
	if x.Progress == nil {
		return
	}
	add := func(w pace.Work, times float64) {
		for k := range w {
			f.ahead[k] += float64(w[k] * times)
		}
	}
	pass := x.passWork()
	for k := range pass {
		pass[k] *= max(1, (f.begun+1)/(f.ended+1))
	}
	for i := range todo {
		add(f.runWork(x, &todo[i]).Plus(pass), 1)
	}
	most := 0.0
	for i := range x.runs {
		more := x.piecesToCome(&x.runs[i])
		most = max(most, more)
		add(f.runWork(x, &x.runs[i]), math.Ceil(more))
		add(pass, more)
	}
	add(pass, most)
}

func (f *foresight) beginPass() {
	f.pass = pace.Work{}
	f.begun++
}

// scored counts the chunks of the pass that are scored.
func (f *foresight) scored(n uint64) { f.did(&f.pass, passWork(n)) }

// endPass counts all of a pass.
func (f *foresight) endPass(chunks uint64) {
	f.did(&f.pass, passWork(chunks))
	f.ended++
}

// passWork is that of a pass over some chunks.
func passWork(chunks uint64) (w pace.Work) {
	w[pace.Starting], w[pace.Scoring] = 1, float64(max(1, chunks)-1)
	return w
}

// passWork is that of a pass over the piece at hand.
func (x *execution) passWork() pace.Work { return passWork(cmp.Or(x.piece.Chunks, x.expectedChunks())) }

// expectedChunks foresees the chunks of the piece at hand, before its base logits.
func (x *execution) expectedChunks() uint64 {
	perChunk := roughBytes * x.Record.ContextTokens
	if before := x.pieceEntry(x.piece.Index - 1); before != nil && before.TextBytes > 0 {
		perChunk = max(1, before.TextBytes/max(1, before.Chunks))
	}
	left := x.foresight.text - min(x.foresight.text, x.piece.OffsetBytes)
	return min(x.Record.Chunks, max(1, left/perChunk))
}

// wrote counts what the writing of a file has taken so far.
func (f *foresight) wrote(so pace.Work) {
	if so.Seconds() < f.file.Seconds() {
		f.file = pace.Work{} // another file
	}
	grown := so.Minus(f.file)
	f.file, f.writes, f.spent = so, f.writes.Plus(grown), f.spent.Plus(grown)
}

// did brings a part of what is spent to some work.
func (f *foresight) did(part *pace.Work, to pace.Work) {
	grown := to.Minus(*part)
	*part, f.spent = part.Plus(grown), f.spent.Plus(grown)
}

// left foresees what is left.
func (f *foresight) left(x *execution) pace.Work {
	left, pass := f.ahead, x.passWork()
	if !f.based {
		left = left.Plus(pass)
	}
	if x.piece.Index == 0 && x.resultOf(control, 0) == nil {
		left = left.Plus(pass)
	}
	left = left.Minus(f.pass).Minus(f.writes)
	left[pace.Encoding] += f.errors
	return left
}

// usualDeviation is what the standard error of a KL divergence is of its mean,
// times the root of the tokens, before any run says so.
const usualDeviation = 4

// piecesToCome foresees how many pieces of the text after the one at hand a run
// is scored on, the last of which may be a part of one: as many as it needs, or
// as those need that are known.
func (x *execution) piecesToCome(r *Run) float64 {
	if x.Logits != "" || r.Kind == measure.RunWhole {
		return 0
	}
	textBytes := x.piece.TextBytes
	if textBytes == 0 {
		textBytes = roughBytes * x.Record.ContextTokens * x.Record.Chunks
	}
	done := x.piece.OffsetBytes + textBytes
	there := float64(x.foresight.text-min(x.foresight.text, done)) / float64(textBytes)
	if last := there - math.Floor(there); last*float64(cmp.Or(x.piece.Chunks, x.Record.Chunks)) < 2 {
		there = math.Floor(there) // see ErrTextTooShort
	}
	ahead := func(pieces float64) float64 { return min(there, max(0, pieces-float64(x.piece.Index+1))) }
	if pieces, known := x.piecesNeeded(r); known {
		return ahead(pieces)
	}
	sum, n := 0.0, 0.0
	for i := range x.runs {
		if pieces, known := x.piecesNeeded(&x.runs[i]); known && x.runs[i].Kind != measure.RunWhole {
			sum += ahead(pieces)
			n++
		}
	}
	if n == 0 {
		tokens := ScoredTokens(x.Record.ContextTokens, cmp.Or(x.piece.Chunks, x.Record.Chunks))
		return ahead(math.Ceil(usualDeviation * usualDeviation / (precision * precision) / float64(tokens)))
	}
	return sum / n
}

// piecesNeeded foresees on how many pieces a run is known well enough, from those
// that it was scored on.
func (x *execution) piecesNeeded(r *Run) (pieces float64, known bool) {
	for i := range x.results {
		if x.results[i].Run == r.Name {
			pieces++
		}
	}
	if pieces == 0 {
		return 0, false
	}
	if !x.wantsMore(*r) {
		return pieces, true
	}
	floor, _, _ := combined(x.results, control)
	mean, e, _ := combined(x.results, r.Name)
	enough := precision * (mean - floor)
	if r.Kind == measure.RunGroup {
		// Or, see wantsMore, where it is less than counts.
		enough = max(enough, (x.measured().NetByGroup()[r.Name]-(mean-floor))/2)
	}
	if enough <= 0 {
		return math.Inf(1), true
	}
	return math.Ceil(pieces * (e / enough) * (e / enough)), true
}

// runWork is what it takes to write the files of a run, and the reference's again.
func (f *foresight) runWork(x *execution, r *Run) (w pace.Work) {
	for i := range x.tensors {
		t := x.tensors[i].Tensor
		typ, changed := r.types[t.Name]
		if !changed {
			continue
		}
		reference, _ := x.reference.TensorByName(t.Name)
		w = w.Plus(f.tensorWork(t, reference, typ, x.simulated && r.Kind != measure.RunWhole, measure.Covers(x.columns(), t)))
	}
	if r.Kind == measure.RunWhole {
		w[pace.Copying] += float64(float64(x.reference.FileBytes()) * pace.CopyByte.Seconds() / f.cores)
		w[pace.Checking] += f.costs.CheckSeconds(x.reference.FileBytes(), false)
	}
	return w
}

// tensorWork is what it takes to write a tensor in a type, or simulated in its
// own, and then as it was.
func (f *foresight) tensorWork(t, reference *ggufio.Tensor, typ quant.Type, simulated, weighted bool) (w pace.Work) {
	through := []quant.Type{typ}
	format, _ := quant.Lookup(typ)
	size, _ := format.Layout.EncodedBytes(t.Rows(), t.Shape[0])
	if simulated {
		through, size = append(through, reference.Type), reference.SizeBytes
	}
	w[pace.Encoding] = f.costs.Encode(t.Parameters, size, weighted, through...).Seconds() / f.cores
	w[pace.Copying] = float64(reference.SizeBytes) * pace.CopyByte.Seconds() / f.cores
	w[pace.Checking] = f.costs.CheckSeconds(size+reference.SizeBytes, false)
	if simulated {
		w[pace.Checking] /= f.cores // see apply.Rewrite
	}
	return w
}

// tell reports how far the probe is.
func (x *execution) tell(doing string) {
	if x.Progress != nil {
		x.Progress(doing, pace.Progress{Done: x.passes, Total: max(x.passes, x.total), Spent: x.foresight.spent, Left: x.foresight.left(x)})
	}
}

// measureErrors measures the model, unless that is done.
func (x *execution) measureErrors(ctx context.Context) error {
	if x.Errors == nil {
		return nil
	}
	f := &x.foresight
	before := f.spent
	var progress func(pace.Progress)
	if x.Progress != nil {
		progress = func(p pace.Progress) {
			f.spent, f.errors = before.Plus(p.Spent), p.Left.Seconds()
			x.tell(fmt.Sprintf("measuring errors (%.0f %%)", 100*float64(p.Done)/float64(max(1, p.Total))))
		}
	}
	errors, err := x.Errors(ctx, progress)
	if err != nil {
		return err
	}
	x.Errors, f.errors = nil, 0
	x.Setup, err = x.withErrors(errors)
	return err
}
