package stats

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/ggufplan/ggufplan/ggufio"
)

// ReadOptions says what a file cannot say of itself. The zero value reads any
// file that is complete in itself.
type ReadOptions struct {
	Format string    // reader to use, one of [Formats]; "" detects by content
	Stdin  io.Reader // what the path "-" reads

	// Facts that some formats lack, 0 where not stated. A file that says
	// otherwise is refused.
	Layers, Experts, TopK int

	// Model, if set, gives a shape to ids that come without one. Whether
	// statistics are the model's is for [Evidence.Fit] to say.
	Model *ggufio.Model

	// Progress, if set, is called as the input is read; totalBytes is 0 where
	// the size is unknown.
	Progress func(doneBytes, totalBytes int64)
}

// A reader reads one format.
type reader struct {
	name string // as Input.Format and ReadOptions.Format spell it
	// sniff reports whether content that starts with head is of the format.
	// head is up to 64 KiB, the whole content where that is shorter.
	sniff func(head []byte) bool
	// read reads the content. It sets everything but Evidence.Inputs, and in
	// its errors names the source (source.errorf) and the place within.
	read func(ctx context.Context, src *source, opt ReadOptions) (*Evidence, error)
}

// readers lists the formats in the order of detection: the first that
// recognises the content reads it.
func readers() []reader {
	return []reader{
		{"imatrix-gguf", sniffGGUF, readImatrixGGUF},
		{"pickle", sniffPickle, refusePickle},
		{"npz", sniffNPZ, readNPZ},
		{"torch", sniffTorch, readTorch},
		{"npy", sniffNPY, readNPY},
		{"canonical-json", sniffCanonical, readCanonical},
		{"trace-jsonl", sniffTraceJSONL, readTraceJSONL},
		{"routed-experts", sniffResponses, readTableJSON},
		{"json-table", sniffJSON, readTableJSON},
		{"trace-csv", sniffCSV, readTraceCSV},
		{"imatrix-dat", sniffLegacy, readImatrixDat}, // has no magic: last
	}
}

// Formats lists the names of the formats that can be read, in the order of
// detection.
func Formats() []string {
	var names []string
	for _, r := range readers() {
		names = append(names, r.name)
	}
	return names
}

// Read reads the statistics in the file at path, or in opt.Stdin for "-". The
// format is told by the content, never by the name; gzip and zstd are
// unwrapped.
//
// The evidence's Columns, if any, read the file on demand: it must stay as it
// is while they are in use.
func Read(ctx context.Context, path string, opt ReadOptions) (*Evidence, error) {
	ev, err := readPath(ctx, path, opt)
	if err != nil && ctx.Err() != nil {
		return nil, ctx.Err() // whatever it was reported as
	}
	return ev, err
}

func readPath(ctx context.Context, path string, opt ReadOptions) (*Evidence, error) {
	src, err := openSource(ctx, path, opt)
	if err != nil {
		return nil, err
	}
	defer src.close()
	r, err := src.detect(opt.Format)
	if err != nil {
		return nil, err
	}
	ev, err := r.read(ctx, src, opt)
	if err != nil {
		return nil, err
	}
	in, err := src.input()
	if err != nil {
		return nil, err
	}
	in.Format = r.name
	in.Kind = ev.Kind
	if len(ev.Inputs) == 1 {
		in.Phase, in.Imatrix = ev.Inputs[0].Phase, ev.Inputs[0].Imatrix
	}
	ev.Inputs = []Input{in}
	if err := ev.assume(opt); err != nil {
		return nil, src.errorf("%w", err)
	}
	ev.agreeTopK()
	markSuperExperts(ev.Layers)
	return ev, nil
}

// agreeTopK takes the experts per token from the layers if they agree.
func (ev *Evidence) agreeTopK() {
	if ev.TopK > 0 || len(ev.Layers) == 0 {
		return
	}
	for _, l := range ev.Layers {
		if l.TopK != ev.Layers[0].TopK {
			return
		}
	}
	ev.TopK = ev.Layers[0].TopK
}

func (s *source) detect(format string) (*reader, error) {
	if format != "" {
		for _, r := range readers() {
			if r.name == format {
				return &r, nil
			}
		}
		return nil, hintf("use one of "+strings.Join(Formats(), ", "), "%q is not a statistics format", format)
	}
	if len(s.head) == 0 {
		return nil, s.errorf("is empty")
	}
	for _, r := range readers() {
		if r.sniff(s.head) {
			return &r, nil
		}
	}
	return nil, s.withHint("collect statistics with llama-imatrix -o imatrix.gguf, or name the format: --stats-format FORMAT",
		"not a statistics file of a format that is known here")
}

// A HintError is an error with a line that would work.
type HintError struct {
	Err  error
	Text string
}

func (e *HintError) Error() string { return e.Err.Error() }
func (e *HintError) Unwrap() error { return e.Err }

// Hint returns what to do instead.
func (e *HintError) Hint() string { return e.Text }

func hintf(hint, format string, args ...any) error {
	return &HintError{fmt.Errorf(format, args...), hint}
}

// withHint is errorf with a hint.
func (s *source) withHint(hint, format string, args ...any) error {
	return &HintError{s.errorf(format, args...), hint}
}

// assume applies what the caller states about the model, and checks it.
func (ev *Evidence) assume(opt ReadOptions) error {
	if opt.Layers > 0 {
		n := len(ev.Layers)
		if ev.LayerAxis == AxisRows {
			n = ev.Rows
		} else if n > 0 && ev.Layers[n-1].Index < opt.Layers {
			n = opt.Layers // blocks may be absent
		}
		if n != opt.Layers {
			return fmt.Errorf("has %d layers, not the %d that --layers states", n, opt.Layers)
		}
	}
	for i := range ev.Layers {
		l := &ev.Layers[i]
		if e := l.Experts(); opt.Experts > 0 && e > 0 && e != opt.Experts {
			return fmt.Errorf("%s: has %d experts, not the %d that --experts states", l.Name(ev.LayerAxis), e, opt.Experts)
		}
		if opt.TopK > 0 {
			if err := l.setTopK(opt.TopK, ev.Kind, ev.chunks); err != nil {
				return fmt.Errorf("%s: %w", l.Name(ev.LayerAxis), err)
			}
		}
	}
	if opt.Experts > 0 {
		ev.ExpertCount = opt.Experts
	}
	if opt.TopK > 0 {
		ev.TopK = opt.TopK
	}
	return nil
}

var errNoLayers = errors.New("holds statistics of no layer")
