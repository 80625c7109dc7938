package probe

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ggufplan/ggufplan/stats/measure"
	"github.com/ggufplan/ggufplan/stats/pace"
)

// An Execution says how runs are run.
type Execution struct {
	Program Program
	Text    string // path; "" with Logits
	Logits  string // path of base logits that are there; "" to make them
	State   string // path of the state; other files are named after it
	Resume  bool
	Workers int // 0 for one per processor

	// Errors measures the model in [Options.ErrorTypes], where the options of the
	// setup have no errors; nil where typical ones will do. It comes after the
	// first runs, which say how long the others take. ErrorsSeconds is what it is
	// expected to take.
	Errors        func(ctx context.Context, progress func(pace.Progress)) (*measure.Result, error)
	ErrorsSeconds float64

	// Progress is told what is being done, and how far the probe is: in tokens
	// scored and in all, as far as it is known. It may be nil.
	Progress func(doing string, p pace.Progress)
}

// control is the run in which nothing changes.
const control = "control"

// An execution is the state of a probe that runs.
type execution struct {
	*Setup
	Execution
	journal *journal
	copy    *standing
	runs    []Run
	results []result
	piece   piece
	logits  *Logits

	copyThere bool
	changing  string
	passes    uint64 // done, of total
	total     uint64
	foresight foresight
}

// Execute runs the probe, or its part, and returns the record. On an error what
// is done stays in the state; on success [Execution.Remove] removes it.
func (s *Setup) Execute(ctx context.Context, e Execution) (*measure.Probe, error) {
	x := &execution{Setup: s, Execution: e, runs: s.Runs()}
	x.foresight.begin(x)
	id, err := x.identity()
	if err != nil {
		return nil, err
	}
	if x.journal, err = openJournal(e.State, id, e.Resume); err != nil {
		return nil, err
	}
	defer x.journal.file.Close()
	x.copy = s.newStanding(e.State, e.Workers)
	if err := x.takeUp(); err != nil {
		return nil, err
	}
	for x.piece.Index = 0; ; x.piece.Index++ {
		more, err := x.scorePiece(ctx)
		if err != nil {
			return nil, err
		}
		if !more {
			return x.record()
		}
	}
}

// Remove removes the state and all files beside it.
func (e *Execution) Remove(s *Setup) {
	s.newStanding(e.State, 0).remove()
	for _, path := range []string{e.State, e.textPath(), e.logitsPath(), e.wholePath(), e.wholePath() + ".new"} {
		os.Remove(path)
	}
}

func (e *Execution) textPath() string   { return e.State + ".txt" }
func (e *Execution) logitsPath() string { return e.State + ".kld" }
func (e *Execution) wholePath() string  { return e.State + ".whole.gguf" }

// Files lists what lies beside the state while a probe runs.
func (e *Execution) Files(s *Setup) []string {
	return append(s.newStanding(e.State, 0).paths, e.State, e.textPath(), e.logitsPath(), e.wholePath())
}

// identity is the digest of what the results follow from.
func (x *execution) identity() (string, error) {
	h := sha256.New()
	if err := json.NewEncoder(h).Encode(x.Record); err != nil {
		return "", err
	}
	fmt.Fprintf(h, "%q %q\n", x.Program.Args, x.Logits)
	paths := []string{}
	for _, f := range slices.Concat(x.options.Model.Files, x.reference.Files) {
		paths = append(paths, f.Path)
	}
	if x.Logits != "" {
		paths = append(paths, x.Logits)
	}
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%d %d\n", info.Size(), info.ModTime().UnixNano())
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// takeUp reads the state of an earlier probe.
func (x *execution) takeUp() error {
	for _, e := range x.journal.entries {
		switch {
		case e.Copy:
			x.copyThere, x.changing = true, ""
		case e.Changing != "":
			x.changing = e.Changing
		case e.Result != nil:
			x.results = append(x.results, *e.Result)
		}
	}
	for _, path := range x.copy.paths {
		if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
			x.copyThere = false
		}
	}
	return nil
}

// pieceEntry returns what the state says of a piece.
func (x *execution) pieceEntry(i int) *piece {
	for k := range x.journal.entries {
		if p := x.journal.entries[k].Piece; p != nil && p.Index == i {
			return p
		}
	}
	return nil
}

func (x *execution) resultOf(run string, piece int) *result {
	for i := range x.results {
		if r := &x.results[i]; r.Run == run && r.Piece == piece {
			return r
		}
	}
	return nil
}

// scorePiece runs what is not known well enough on the piece at hand, and
// reports whether another piece is wanted and to be had.
func (x *execution) scorePiece(ctx context.Context) (more bool, err error) {
	todo, usedUp, err := x.open(ctx)
	if err != nil || usedUp {
		return false, err
	}
	x.foresight.plan(x, todo, true)
	if x.piece.Index == 0 && x.resultOf(control, 0) == nil {
		if err := x.score(ctx, control, x.reference.Files[0].Path); err != nil {
			return false, err
		}
		x.foresight.pass = pace.Work{}
	}
	if err := x.measureErrors(ctx); err != nil {
		return false, err
	}
	for i := range todo {
		x.foresight.plan(x, todo[i:], true)
		if err := x.scoreRun(ctx, &todo[i]); err != nil {
			return false, err
		}
	}
	if x.Logits != "" {
		return false, nil
	}
	return slices.ContainsFunc(x.runs, x.wantsMore), nil
}

// open makes the base logits of the piece at hand, unless they are there or no
// run wants them, and returns the runs to be scored on it; or that the text is
// used up.
func (x *execution) open(ctx context.Context) (todo []Run, usedUp bool, err error) {
	i := x.piece.Index
	for _, r := range x.runs {
		if x.resultOf(r.Name, i) == nil && (i == 0 || x.wantsMore(r)) {
			todo = append(todo, r)
		}
	}
	// The whole file first: it and the copy are not there at once.
	slices.SortStableFunc(todo, func(a, b Run) int { return strings.Compare(b.Kind, a.Kind) })
	if x.Logits != "" {
		l, err := OpenLogits(x.Logits)
		if err != nil {
			return nil, false, err
		}
		x.logits, x.piece.Chunks = l, l.Chunks
		x.count(len(todo), false)
		return todo, false, x.checkLogits()
	}
	known := x.pieceEntry(i)
	if known != nil && len(todo) == 0 {
		x.piece = *known
		return nil, false, nil
	}
	if i > 0 {
		before := x.pieceEntry(i - 1)
		x.piece.OffsetBytes = before.OffsetBytes + before.TextBytes
	}
	x.piece.Chunks = x.expectedChunks()
	x.foresight.plan(x, todo, false)
	if known != nil {
		x.piece = *known
		if l, err := OpenLogits(x.logitsPath()); err == nil && l.Chunks == known.Chunks && LogitsBytes(l.ContextTokens, l.Chunks, l.Vocabulary) == known.LogitsBytes {
			x.logits = l
			x.count(len(todo), false)
			return todo, false, x.checkLogits()
		}
	}
	usedUp, err = x.makeLogits(ctx, len(todo))
	return todo, usedUp, err
}

// count foresees the tokens of the runs of a piece.
func (x *execution) count(runs int, withBase bool) {
	n := uint64(runs)
	if x.piece.Index == 0 && x.resultOf(control, 0) == nil {
		n++
	}
	if withBase {
		n++
	}
	x.total += n * ScoredTokens(x.Record.ContextTokens, max(1, x.piece.Chunks))
}

func (x *execution) checkLogits() error {
	if x.logits.ContextTokens != x.Record.ContextTokens {
		return &ContextError{x.logits.path, x.logits.ContextTokens, x.Record.ContextTokens}
	}
	if v := vocabulary(x.reference); v > 0 && x.logits.Vocabulary != v {
		return fmt.Errorf("%s: is over %d words, the model has %d", x.logits.path, x.logits.Vocabulary, v)
	}
	return nil
}

// A ContextError reports base logits of another context length.
type ContextError struct {
	Path      string
	Got, Want uint64
}

func (e *ContextError) Error() string {
	return fmt.Sprintf("%s: was made with a context of %d tokens, not %d", e.Path, e.Got, e.Want)
}

// ErrTextTooShort reports a text that does not make 100 scored tokens, which
// llama-perplexity wants.
var ErrTextTooShort = errors.New("the text is too short: llama-perplexity wants two contexts of tokens, and 100 of them scored")

// bytesPerToken bounds the text that a token stands for, where the vocabulary
// says how much it is; roughBytes is how much is taken for it else.
const bytesPerToken, roughBytes = 16, 4

// makeLogits cuts the piece at hand out of the text and runs the base on it, or
// reports that the text is used up. runs are to be scored on it.
func (x *execution) makeLogits(ctx context.Context, runs int) (usedUp bool, err error) {
	perToken := uint64(roughBytes)
	if tokenLengths(x.reference) != nil {
		perToken = bytesPerToken
	}
	text, err := cutText(x.Text, x.piece.OffsetBytes, perToken*x.Record.ContextTokens*x.Record.Chunks)
	if err != nil {
		return false, err
	}
	end := func() (bool, error) {
		if x.piece.Index > 0 {
			return true, nil
		}
		return false, fmt.Errorf("%s: %w", x.Text, ErrTextTooShort)
	}
	if uint64(len(text)) < 2*x.Record.ContextTokens {
		return end()
	}
	if err := os.WriteFile(x.textPath(), text, 0o644); err != nil {
		return false, err
	}
	if err := os.Remove(x.logitsPath()); err != nil && !os.IsNotExist(err) {
		return false, err
	}
	before := x.total
	x.piece.Chunks = x.expectedChunks()
	x.count(runs, true)
	x.foresight.beginPass()
	x.tell("base logits")
	args := x.Program.BaseArgs(x.reference.Files[0].Path, x.textPath(), x.logitsPath(), x.Record.ContextTokens, x.Record.Chunks)
	_, message, err := x.Program.start(ctx, "base", args, &watch{
		chunk: func(n uint64) {
			x.foresight.scored(n)
			x.tell("base logits")
		},
		chunks: func(n uint64) {
			x.total, x.piece.Chunks = before, min(n, x.Record.Chunks)
			x.count(runs, true)
			x.foresight.plan(x, x.foresight.todo, false)
		},
	})
	if err != nil {
		return false, err
	}
	l, err := OpenLogits(x.logitsPath())
	if err != nil {
		if info, e := os.Stat(x.logitsPath()); e == nil && info.Size() < logitsHeaderBytes && x.piece.Index > 0 {
			return end() // too few tokens
		}
		return false, &ProgramError{"base", err, message}
	}
	if l.Chunks > x.Record.Chunks {
		return false, &ProgramError{"base", fmt.Errorf("wrote %d chunks of base logits, not %d at most", l.Chunks, x.Record.Chunks), message}
	}
	x.logits = l
	if err := x.checkLogits(); err != nil {
		return false, err
	}
	if l.scored() < 100 {
		return end()
	}
	x.total, x.piece.Chunks = before, l.Chunks
	x.count(runs, true)
	x.passes += l.scored()
	x.foresight.endPass(l.Chunks)
	used, known, err := l.textBytes(x.reference)
	if err != nil {
		return false, err
	}
	if !known || l.Chunks < x.Record.Chunks || used > uint64(len(text)) {
		used = uint64(len(text))
	}
	for used < uint64(len(text)) && !utf8.RuneStart(text[used]) {
		used++
	}
	x.piece.TextBytes = used
	x.piece.LogitsBytes = LogitsBytes(l.ContextTokens, l.Chunks, l.Vocabulary)
	p := x.piece
	return false, x.journal.add(entry{Piece: &p})
}

// cutText returns at most some bytes of a file from an offset on, ending where
// a letter does.
func cutText(path string, offset, most uint64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if _, err := f.Seek(int64(offset), io.SeekStart); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, int64(most)))
	if err != nil {
		return nil, err
	}
	if uint64(len(text)) == most {
		for k := 1; k <= utf8.UTFMax && k < len(text); k++ {
			if at := len(text) - k; utf8.RuneStart(text[at]) {
				if !utf8.FullRune(text[at:]) {
					text = text[:at]
				}
				break
			}
		}
	}
	return text, nil
}

// scoreRun makes a run's file and scores it.
func (x *execution) scoreRun(ctx context.Context, r *Run) error {
	writing := func(p pace.Progress) {
		x.foresight.wrote(p.Spent)
		x.tell("writing " + r.Name)
	}
	if r.Kind == measure.RunWhole {
		x.copy.remove()
		x.copyThere = false
		if err := x.WriteWhole(ctx, x.wholePath(), x.Workers, writing); err != nil {
			return err
		}
		if err := x.score(ctx, r.Name, x.wholePath()); err != nil {
			return err
		}
		return os.Remove(x.wholePath())
	}
	if err := x.clean(ctx, writing); err != nil {
		return err
	}
	if err := x.journal.add(entry{Changing: r.Name}); err != nil {
		return err
	}
	x.changing = r.Name
	if err := x.copy.change(ctx, r, writing); err != nil {
		return err
	}
	if err := x.score(ctx, r.Name, x.copy.paths[0]); err != nil {
		return err
	}
	return x.clean(ctx, writing)
}

// clean makes the copy, or makes it again what the reference is.
func (x *execution) clean(ctx context.Context, progress func(pace.Progress)) error {
	switch {
	case !x.copyThere:
		if err := x.copy.make(ctx, progress); err != nil {
			return err
		}
	case x.changing != "":
		r := x.run(x.changing)
		if err := x.copy.restore(ctx, &r, progress); err != nil {
			return err
		}
	default:
		return nil
	}
	x.copyThere, x.changing = true, ""
	return x.journal.add(entry{Copy: true})
}

// A run whose output has lost its end is tried again: a few times, and many
// times where that is soon done. llama-perplexity prints from a thread that its
// exit does not wait for; on a loaded machine every other short run is cut short.
const (
	attempts      = 5
	quickAttempts = 30
	quick         = 3 * time.Minute
)

// score runs a file against the piece's logits and takes down what it shows.
func (x *execution) score(ctx context.Context, run, model string) error {
	begun := time.Now()
	for attempt := 1; ; attempt++ {
		err := x.scoreOnce(ctx, run, model)
		var fault *LogError
		again := attempt < attempts || attempt < quickAttempts && time.Since(begun) < quick
		if !again || !errors.As(err, &fault) || !fault.CutShort {
			return err
		}
	}
}

func (x *execution) scoreOnce(ctx context.Context, run, model string) error {
	at := x.passes
	each := ScoredTokens(x.Record.ContextTokens, 1)
	x.foresight.beginPass()
	x.tell(run)
	out, message, err := x.Program.start(ctx, run, x.Program.RunArgs(model, x.logits.path, x.Record.ContextTokens), &watch{chunk: func(n uint64) {
		n = min(n, x.logits.Chunks)
		x.passes = at + n*each
		x.foresight.scored(n)
		x.tell(run)
	}})
	x.passes = at
	if err != nil {
		return err
	}
	log, err := ReadLog(out)
	if err == nil && log.Chunks != x.logits.Chunks {
		err = &LogError{What: fmt.Sprintf("is of %d chunks, the base logits of %d", log.Chunks, x.logits.Chunks)}
	}
	if err != nil {
		return &ProgramError{run, fmt.Errorf("its output %w", err), message}
	}
	x.passes = at + x.logits.scored()
	x.foresight.endPass(x.logits.Chunks)
	r := result{run, x.piece.Index, log.Mean, log.StandardError, x.logits.scored()}
	x.results = append(x.results, r)
	return x.journal.add(entry{Result: &r})
}

// combined returns what a run showed over all pieces: means by scored tokens,
// errors as of independent pieces.
func combined(results []result, run string) (mean, standardError float64, tokens uint64) {
	var sum, variance float64
	for i := range results {
		if r := &results[i]; r.Run == run {
			n := float64(r.Tokens)
			sum += float64(n * r.Mean)
			e := float64(n * r.StandardError)
			variance += float64(e * e)
			tokens += r.Tokens
		}
	}
	if tokens == 0 {
		return 0, 0, 0
	}
	return sum / float64(tokens), math.Sqrt(variance) / float64(tokens), tokens
}

// wantsMore reports whether a run is not known well enough: its error is over a
// tenth of what it shows, and it is not so small that it counts as the least
// that a group can have.
func (x *execution) wantsMore(r Run) bool {
	if r.Kind == measure.RunWhole {
		return false // its file is gone
	}
	floor, _, _ := combined(x.results, control)
	mean, e, _ := combined(x.results, r.Name)
	if e <= precision*(mean-floor) {
		return false
	}
	if r.Kind != measure.RunGroup {
		return true
	}
	p := x.measured()
	net, ok := p.NetByGroup()[r.Name]
	return !ok || mean-floor+float64(2*e) > net
}

// measured returns the record with what is known by now.
func (x *execution) measured() *measure.Probe {
	p := x.Record
	p.Runs = nil
	floor, _, _ := combined(x.results, control)
	for _, r := range x.runs {
		mean, e, n := combined(x.results, r.Name)
		if n > 0 {
			p.Runs = append(p.Runs, measure.ProbeRun{Name: r.Name, Kind: r.Kind, KLD: mean, StandardError: e, ScoredTokens: n, Control: floor})
		}
	}
	return &p
}

func (x *execution) record() (*measure.Probe, error) {
	p := x.measured()
	return p, finish(p)
}

// finish fits what can be fitted once all runs are there.
func finish(p *measure.Probe) error {
	if p.Part != nil {
		return nil
	}
	if len(p.NetByGroup()) == 0 {
		return ErrNoEffect
	}
	p.SetFit()
	return nil
}

// ErrNoEffect reports a probe in which no group showed anything.
var ErrNoEffect = errors.New("no run shows more than the control run: were the runs' files used?")
