package apply

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"slices"

	"github.com/ggufplan/ggufplan/ggufio"
	"github.com/ggufplan/ggufplan/ggufio/quant"
	"github.com/ggufplan/ggufplan/stats"
	"github.com/ggufplan/ggufplan/stats/measure"
	"github.com/ggufplan/ggufplan/stats/pace"
)

// A Rounding says which type a tensor's weights are rounded to.
type Rounding struct {
	Tensor string
	To     quant.Type // the source's type leaves the weights as they are
}

// RewriteOptions say how tensors are written anew.
type RewriteOptions struct {
	Columns stats.Columns // nil for none
	Workers int           // 0 for one per processor

	// Progress is told how far the writing is, in bytes of the source; what is
	// left counts reading back. It may be nil.
	Progress func(pace.Progress)
}

// Rewrite writes tensors of a model on disk anew, in place: the weights of
// source's tensors of the same names and shapes, rounded to a type and stored
// in the type that target has them in, so that no other byte of target changes.
// Rounding to the source's type writes what the tensor is unrounded, which for
// a copy of source restores it. It reads back what it wrote.
//
// It checks everything that can be checked before it writes. After an error
// later on, or when interrupted, some of the tensors are written and others are
// not: calling it again, or with the types of source, mends that.
func Rewrite(ctx context.Context, target, source *ggufio.Model, roundings []Rounding, o RewriteOptions) (err error) {
	l := &Layout{model: source, columns: o.Columns}
	files := make([][]Tensor, len(target.Files))
	seen := map[string]bool{}
	for _, r := range roundings {
		if seen[r.Tensor] {
			return fmt.Errorf("duplicate tensor %s", r.Tensor)
		}
		seen[r.Tensor] = true
		file, t, err := l.rewritten(target, r)
		if err != nil {
			return fmt.Errorf("tensor %s: %w", r.Tensor, err)
		}
		files[file] = append(files[file], t)
	}
	if err := distinctFiles(target, source); err != nil {
		return err
	}
	data, err := source.OpenData()
	if err != nil {
		return err
	}
	defer data.Close()
	r := rewriting{layout: l, data: data, options: o}
	r.progress = progress{layout: l, tell: o.Progress, cores: float64(measure.Cores(o.Workers))}
	for i := range files {
		p := cut(files[i])
		r.progress.now.Total += p.sourceBytes()
		r.progress.now.Left = r.progress.now.Left.Plus(l.rewriteWork(&p, r.progress.cores))
	}
	if o.Progress != nil {
		o.Progress(r.progress.now)
	}
	for i := range files {
		if len(files[i]) == 0 {
			continue
		}
		if err := r.file(ctx, target.Files[i].Path, cut(files[i])); err != nil {
			return err
		}
	}
	return nil
}

// rewritten returns a tensor of target as it is to be written, and its file.
func (l *Layout) rewritten(target *ggufio.Model, r Rounding) (file int, t Tensor, err error) {
	source, ok := l.model.TensorByName(r.Tensor)
	if !ok {
		return 0, t, fmt.Errorf("%s does not have it", l.model.Files[0].Name)
	}
	there, ok := target.TensorByName(r.Tensor)
	if !ok {
		return 0, t, fmt.Errorf("%s does not have it", target.Files[0].Name)
	}
	t = Tensor{Name: there.Name, Type: there.Type, Shape: there.Shape, Source: source}
	t.Rounded = slices.Repeat([]quant.Type{r.To}, t.slices())
	if err := l.check(&t); err != nil {
		return 0, t, err
	}
	t.offset = there.OffsetBytes
	return there.File, t, nil
}

// distinctFiles refuses to write a file that is read.
func distinctFiles(target, source *ggufio.Model) error {
	for i := range target.Files {
		a, err := os.Stat(target.Files[i].Path)
		if err != nil {
			return err
		}
		for k := range source.Files {
			b, err := os.Stat(source.Files[k].Path)
			if err != nil {
				return err
			}
			if os.SameFile(a, b) {
				return fmt.Errorf("%s: is the source's file", target.Files[i].Path)
			}
		}
	}
	return nil
}

type rewriting struct {
	layout   *Layout
	data     *ggufio.Data
	options  RewriteOptions
	progress progress
}

// file writes the pieces of a file and reads them back.
func (r *rewriting) file(ctx context.Context, path string, p pieces) (err error) {
	out, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	sums := make([]uint32, p.count)
	err = measure.Parallel(ctx, p.count, r.options.Workers, r.worker, func(w *worker, i int) error {
		x := p.at(i)
		if err := w.make(&x); err != nil {
			return err
		}
		sums[i] = crc32.Checksum(w.out, castagnoli)
		if _, err := out.WriteAt(w.out, int64(x.offset)); err != nil {
			return err
		}
		r.progress.made(&x)
		return nil
	})
	if err != nil {
		return err
	}
	return measure.Parallel(ctx, p.count, r.options.Workers, r.worker, func(w *worker, i int) error {
		x := p.at(i)
		w.out = measure.Sized(w.out, x.size)
		if _, err := out.ReadAt(w.out, int64(x.offset)); err != nil {
			return err
		}
		if crc32.Checksum(w.out, castagnoli) != sums[i] {
			return fmt.Errorf("%s: tensor %s %w", path, x.tensor.Name, ErrReadBack)
		}
		r.progress.checked(x.size)
		return nil
	})
}

func (r *rewriting) worker() *worker {
	return newWorker(r.layout, r.data)
}
