package read

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"unicode"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/stats"
)

// Options says what a file cannot say of itself. The zero value reads any
// file that is complete in itself.
type Options struct {
	Format string // reader to use, one of [Formats]; "" detects by content

	// CountColumn names the column, or key, that says how often an expert was
	// used, where names leave that open; [NoCountColumn] says that none does.
	CountColumn string

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
	name string // as Input.Format and Options.Format spell it
	// sniff reports whether content that starts with head is of the format.
	// head is up to 64 KiB, the whole content where that is shorter.
	sniff func(head []byte) bool
	// read reads the content. It sets everything but Evidence.Inputs, and in
	// its errors names the place within the source.
	read func(ctx context.Context, src *source, opt Options) (*stats.Evidence, error)
}

// readers lists the formats in the order of detection: the first that
// recognises the content reads it.
func readers() []reader {
	return []reader{
		{stats.FormatImatrixGGUF, sniffGGUF, readImatrixGGUF},
		{"pickle", sniffPickle, refusePickle},
		{"npz", sniffNPZ, readNPZ},
		{"torch", sniffTorch, readTorch},
		{"npy", sniffNPY, readNPY},
		{"canonical-json", sniffCanonical, readCanonical},
		{"trace-jsonl", sniffTraceJSONL, readTraceJSONL},
		{"routed-experts", sniffResponses, readTableJSON},
		{"json-table", sniffJSON, readTableJSON},
		{"trace-csv", sniffCSV, readTraceCSV},
		{stats.FormatImatrixDat, sniffLegacy, readImatrixDat}, // has no magic: last
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

// File reads the statistics in the file at path. The format is told by the
// content, never by the name; gzip and zstd are unwrapped.
//
// The evidence's Columns, if any, read the file on demand: it must stay as it
// is while they are in use.
func File(ctx context.Context, path string, opt Options) (*stats.Evidence, error) {
	src, err := openFile(ctx, path, opt)
	return evidence(ctx, src, err, opt)
}

// Reader reads the statistics in a stream, which errors and [stats.Input] call
// by name.
func Reader(ctx context.Context, r io.Reader, name string, opt Options) (*stats.Evidence, error) {
	src, err := newSource(ctx, r, name, opt)
	return evidence(ctx, src, err, opt)
}

// evidence reads a source, if it could be opened, and closes it.
func evidence(ctx context.Context, src *source, err error, opt Options) (ev *stats.Evidence, _ error) {
	if err == nil {
		defer src.close()
		if opt.Format != "" && !slices.Contains(Formats(), opt.Format) {
			return nil, stats.Hintf("use one of "+strings.Join(Formats(), ", "), "%q is not a statistics format", opt.Format)
		}
		ev, err = src.read(ctx, opt)
	}
	if err != nil && ctx.Err() != nil {
		return nil, ctx.Err() // whatever it was reported as
	}
	return ev, src.named(err)
}

// named names the input in an error that does not.
func (src *source) named(err error) error {
	var format *ggufio.FormatError
	var file *fs.PathError
	if err == nil || errors.As(err, &format) || errors.As(err, &file) && file.Op == "open" {
		return err
	}
	return fmt.Errorf("%s: %w", src.path, err)
}

func (src *source) read(ctx context.Context, opt Options) (*stats.Evidence, error) {
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
	// Datasets may hold anything: those of an imatrix are paths as a program was
	// given them, and the canonical form keeps them.
	for _, text := range []string{in.Phase, ev.Architecture} {
		if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
			return nil, fmt.Errorf("%.40q holds characters that do not print", text)
		}
	}
	ev.Inputs = []stats.Input{in}
	if err := assume(ev, opt); err != nil {
		return nil, err
	}
	agreeTopK(ev)
	ev.FlagOverused()
	stats.MarkSuperExperts(ev.Layers)
	return ev, nil
}

// agreeTopK takes the experts per token from the layers if they agree.
func agreeTopK(ev *stats.Evidence) {
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

// detect returns the reader of a format, or of the content.
func (s *source) detect(format string) (*reader, error) {
	if format == "" && len(s.head) == 0 {
		return nil, errors.New("is empty")
	}
	for _, r := range readers() {
		if r.name == format || format == "" && r.sniff(s.head) {
			return &r, nil
		}
	}
	return nil, stats.Curable(stats.NameFormat, "not a statistics file of a known format")
}

// assume applies what the caller states about the model, and checks it.
func assume(ev *stats.Evidence, opt Options) error {
	if opt.Layers > 0 {
		n := len(ev.Layers)
		if ev.LayerAxis == stats.AxisRows {
			n = ev.Rows
		} else if n > 0 && ev.Layers[n-1].Index < opt.Layers {
			n = opt.Layers // blocks may be absent
		}
		if n != opt.Layers {
			return fmt.Errorf("has %d layers, not the %d stated", n, opt.Layers)
		}
	}
	for i := range ev.Layers {
		l := &ev.Layers[i]
		if e := l.Experts(); opt.Experts > 0 && e > 0 && e != opt.Experts {
			return fmt.Errorf("%s: has %d experts, not the %d stated", l.Name(ev.LayerAxis), e, opt.Experts)
		}
		if opt.TopK > 0 {
			if err := l.SetTopK(opt.TopK, ev.Kind, ev.Chunks); err != nil {
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
